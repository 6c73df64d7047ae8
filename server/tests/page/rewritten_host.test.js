// The page behind a proxy that sends requests on under another host, as nginx does with a plain `proxy_pass`.

import assert from "node:assert";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { after, before, test } from "node:test";

import { LIVE, REMOTE_HOST, Tab, openBrowser } from "./support/browser.js";
import { Server, eventually } from "./support/program.js";

let browser;

before(async () => (browser = await openBrowser()));

after(() => browser?.close());

/** Starts a proxy for `server`, which passes on everything but the host, adds fields, and keeps those of upgrades. Returns its port. */
async function proxy({ port }, upgrades, added = {}) {
  const host = `127.0.0.1:${port}`;
  const proxy = createServer((asked, answer) => {
    const headers = { ...asked.headers, host, ...added };
    const passed = request({ port, host: "127.0.0.1", method: asked.method, path: asked.url, headers }, (response) => {
      answer.writeHead(response.statusCode, response.headers);
      response.pipe(answer);
    });
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    asked.pipe(passed);
  });
  proxy.on("upgrade", (asked, socket, head) => {
    upgrades.push(asked.headers);
    const far = connect(port, "127.0.0.1", () => {
      const fields = Object.entries({ ...asked.headers, host, ...added }).map(([name, value]) => `${name}: ${value}\r\n`);
      far.write(`GET ${asked.url} HTTP/1.1\r\n${fields.join("")}\r\n`);
      far.write(head);
      far.pipe(socket).pipe(far);
    });
    for (const end of [far, socket]) end.on("error", () => [far, socket].forEach((each) => each.destroy()));
  });
  await new Promise((listens) => proxy.listen(0, "127.0.0.1", listens).unref());
  return proxy.address().port;
}

test("the page loads and may sign in behind a proxy that changes its host, and its WebSocket is not known to be its own", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const upgrades = [];
  const tab = await Tab.open(browser, `http://${REMOTE_HOST}:${await proxy(server, upgrades)}/`);
  // The proxy names no far end, so that the figures are those of a program of this machine.
  await tab.until("document.getElementById('facts').textContent !== ''");
  assert.equal(await tab.value("fetch('/api/v1/session', { method: 'POST' }).then(({ status }) => status)"), 409);
  await tab.page.click("#play");
  const fields = await eventually("a WebSocket", () => upgrades[0]);
  // Chromium says nothing else of where it comes from, and a foreign page's has the same form.
  assert.deepEqual([fields.origin.includes(REMOTE_HOST), fields["sec-fetch-site"]], [true, undefined]);
  // So it is refused, and the browser's own player takes over.
  await tab.until("document.getElementById('audio').currentTime > 0");
  await tab.untilText("obstacle", `changes Host to ${new URL(server.url).host}. Live sound needs a proxy that passes on Host`);
  assert.deepEqual(tab.errors, []);
  await tab.close();
  await server.end();
});

test("live sound comes through a trusted proxy that changes the host and tells which one it was", async () => {
  const server = await Server.start(["--source", "tone:440", "--trusted-proxy", "127.0.0.1", "--allow-host", REMOTE_HOST]);
  const upgrades = [];
  const added = { "x-forwarded-host": REMOTE_HOST };
  const port = await proxy(server, upgrades, added);
  added["x-forwarded-host"] = `${REMOTE_HOST}:${port}`;
  const tab = await Tab.open(browser, `http://${REMOTE_HOST}:${port}/`);
  await tab.play();
  await tab.until(LIVE);
  await tab.close();
  await server.end();
});
