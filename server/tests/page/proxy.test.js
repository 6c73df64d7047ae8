// The page behind nginx: plain, as its default is, and with WebSockets passed on later.

import assert from "node:assert";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { LIVE, Tab, openBrowser } from "./support/browser.js";
import { Process, Server, eventually, freePort } from "./support/program.js";

const directory = mkdtempSync(join(tmpdir(), "aircheck-page-"));
let browser;

before(async () => (browser = await openBrowser()));

after(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true });
});

/** nginx names the server as the host, and takes `Upgrade` off, unless it is told otherwise. */
const PLAIN = "";
const HOST = "proxy_set_header Host $http_host;";
// A WebSocket always tells where its page came from, which must be the host that the server sees.
const UPGRADES =
  `${HOST} proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $upgrade;`;

/** Writes the configuration of an nginx at `port` before the server at `url`. */
function configure(port, url, lines) {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path temp;`);
  const text = `daemon off; pid pid; error_log error.log; user root; worker_processes 1; events {}
    http {
      access_log off; ${temporary.join(" ")}
      map $http_upgrade $upgrade { default upgrade; "" ""; }
      server { listen 127.0.0.1:${port}; location / { proxy_pass ${url}; ${lines} } }
    }`;
  writeFileSync(join(directory, "config"), text);
}

describe("the page behind nginx", () => {
  test("plays by the browser's own player where no WebSocket gets through, says why, and live once one does", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const port = await freePort();
    configure(port, server.url, PLAIN);
    const nginx = new Process("nginx", ["-p", directory, "-c", "config", "-e", "error.log"]);
    const url = `http://127.0.0.1:${port}/`;
    await eventually("nginx", () => fetch(url).then(({ ok }) => ok, () => false));
    const tab = await Tab.open(browser, url);
    await tab.until("aircheck.live.node !== undefined");
    await tab.page.click("#play");
    await tab.until("document.getElementById('audio').currentTime > 1");
    await tab.untilText("obstacle", `Not live: the proxy before this server changes Host to ${new URL(server.url).host}. `);
    await tab.untilText("player-line", "Opus");
    assert.equal(await tab.value("document.getElementById('payload').checkVisibility()"), false);
    await server.rowWhen("page", ({ format }) => format === "opus");

    // Then it passes Host on, and no WebSocket.
    configure(port, server.url, HOST);
    nginx.signal("SIGHUP");
    const other = await Tab.open(browser, url);
    await eventually("the host", async () => {
      await other.go(url);
      return (await other.value("fetch('/api/v1/session').then((answer) => answer.json())")).host === new URL(url).host;
    });
    await other.page.click("#play");
    await other.untilText("obstacle", "Not live: the proxy before this server does not pass WebSockets on.");
    await other.close();

    configure(port, server.url, UPGRADES);
    nginx.signal("SIGHUP");
    await tab.until(LIVE);
    assert.equal(await tab.value("document.getElementById('obstacle').checkVisibility()"), false);
    assert.equal(await tab.value("document.getElementById('payload').checkVisibility()"), true);
    await eventually("one listener", async () => (await server.rows()).map(({ format }) => format).join() === "ws");
    assert.deepEqual(tab.errors, []);
    await tab.close();
    nginx.signal("SIGTERM");
    await nginx.exit();
    await server.end();
  });
});
