// After every kind of interruption the page plays again, as close to live as before.

import assert from "node:assert";
import { after, before, test } from "node:test";

import { LIVE, Tab, openBrowser, processes } from "./support/browser.js";
import { Server, TIMEOUT_MS, pause } from "./support/program.js";
import { Relay } from "./support/relay.js";

const PAUSE_MS = 3000; // longer than what LIVE takes for live
const TONE_SOURCE = ["--source", "tone:440"];

let server, browser, tab;

before(async () => {
  server = await Server.start(TONE_SOURCE);
  browser = await openBrowser();
  tab = await Tab.open(browser, server.url);
  await tab.play();
  await tab.until(LIVE);
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** Waits until live sound is heard that was captured after now. */
async function untilLiveAnew(tab) {
  const { capture } = await server.json("api/v1/status");
  await tab.until(`${LIVE} && aircheck.player.figures.begun.sequence >= ${capture.blocks}`);
}

/** Stops processes for a while. They keep their memory and their connections. */
async function stall(ids) {
  for (const id of ids) process.kill(id, "SIGSTOP");
  await pause(PAUSE_MS);
  for (const id of ids) process.kill(id, "SIGCONT");
}

test("the browser suspends the sound, as in a call", async () => {
  await tab.value("aircheck.live.context.suspend()");
  await pause(PAUSE_MS);
  await tab.value("aircheck.live.context.resume()");
  await untilLiveAnew(tab);
  assert.equal((await server.rows()).length, 1);
});

test("the process of the tab is stopped", async () => {
  await stall(await processes(browser, "renderer"));
  await untilLiveAnew(tab);
});

test("all processes of the browser are stopped, as when a machine sleeps", async () => {
  await stall(await processes(browser));
  await untilLiveAnew(tab);
});

test("the connection is lost", async () => {
  const { id } = await server.rowWhen("page");
  await server.disconnect(id);
  await server.rowWhen("page", (row) => row.id !== id);
  await tab.until(`aircheck.player.listener > ${id}`);
  await untilLiveAnew(tab);
});

test("the network is cut and comes back", async () => {
  const relay = await Relay.to(server.port);
  const away = await Tab.open(browser, relay.url);
  await away.play();
  await away.until(LIVE);
  const listener = await away.value("aircheck.player.listener");
  relay.cut();
  await away.until("document.body.classList.contains('unreachable')");
  await away.until("aircheck.sound().rms === 0");
  await away.until("document.getElementById('player-line').textContent === 'Connection lost, trying again…'");
  relay.mend();
  await away.until(`aircheck.player.listener > ${listener}`);
  await away.until("!document.body.classList.contains('unreachable')");
  await untilLiveAnew(away);
  await away.close();
  relay.end();
});

test("the server is replaced by a new one", async () => {
  const listen = ["--listen", `127.0.0.1:${server.port}`];
  await server.end();
  await tab.until("document.body.classList.contains('unreachable')");
  server = await Server.start([...TONE_SOURCE, ...listen]);
  await tab.until("!document.body.classList.contains('unreachable')");
  await server.rowWhen("page", (row) => row.delivered > 0);
  await untilLiveAnew(tab);
  // Where the new server took longer than two seconds to be heard, the page says so for a minute.
  await tab.until("document.getElementById('player-line').textContent === 'Live.'", 2 * TIMEOUT_MS);
  assert.deepEqual(tab.errors, []);
});

