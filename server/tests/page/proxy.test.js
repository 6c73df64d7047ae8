// The page behind a proxy that sends requests on under another host, as nginx does with a plain `proxy_pass`.

import assert from "node:assert";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { after, before, test } from "node:test";

import { LIVE, REMOTE_HOST, Tab, openBrowser } from "./support/browser.js";
import { Server } from "./support/program.js";

let browser;

before(async () => (browser = await openBrowser()));

after(() => browser?.close());

/** Starts a proxy for `server`, which passes on everything but the host. Returns its port. */
async function proxy({ port }) {
  const host = `127.0.0.1:${port}`;
  const proxy = createServer((asked, answer) => {
    const headers = { ...asked.headers, host };
    const passed = request({ port, host: "127.0.0.1", method: asked.method, path: asked.url, headers }, (response) => {
      answer.writeHead(response.statusCode, response.headers);
      response.pipe(answer);
    });
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    asked.pipe(passed);
  });
  proxy.on("upgrade", (asked, socket, head) => {
    const far = connect(port, "127.0.0.1", () => {
      const fields = Object.entries({ ...asked.headers, host }).map(([name, value]) => `${name}: ${value}\r\n`);
      far.write(`GET ${asked.url} HTTP/1.1\r\n${fields.join("")}\r\n`);
      far.write(head);
      far.pipe(socket).pipe(far);
    });
    for (const end of [far, socket]) end.on("error", () => [far, socket].forEach((each) => each.destroy()));
  });
  await new Promise((listens) => proxy.listen(0, "127.0.0.1", listens).unref());
  return proxy.address().port;
}

test("the page shows and plays behind a proxy that changes its host", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const tab = await Tab.open(browser, `http://${REMOTE_HOST}:${await proxy(server)}/`);
  await tab.until("document.getElementById('facts').textContent !== ''");
  await tab.page.click("#play");
  await tab.until(LIVE);
  assert.deepEqual(tab.errors, []);
  await tab.close();
  await server.end();
});
