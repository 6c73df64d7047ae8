// Whatever keeps the page from playing for a while: afterwards it is back, and as close to live as before.

import assert from "node:assert";
import { after, before, test } from "node:test";

import { LIVE, Tab, launch, processes } from "./with/browser.js";
import { Server, pause } from "./with/program.js";
import { Relay } from "./with/relay.js";

const PAUSE_MS = 3000; // longer than what LIVE takes for live
const TONE_SOURCE = ["--source", "tone:440"];

let server, browser, tab;

before(async () => {
  server = await Server.start(TONE_SOURCE);
  browser = await launch();
  tab = await Tab.open(browser, server.url);
  await tab.play();
  await tab.until(LIVE);
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** Waits until what is heard is live, and was captured after now: nothing that was heard or known before counts. */
async function untilLiveAnew(tab) {
  const { capture } = await server.json("api/v1/status");
  await tab.until(`${LIVE} && aircheck.player.figures.begun.sequence >= ${capture.blocks}`);
}

/** Lets processes stand still for a while; their memory and their connections stay. */
async function stall(ids) {
  for (const id of ids) process.kill(id, "SIGSTOP");
  await pause(PAUSE_MS);
  for (const id of ids) process.kill(id, "SIGCONT");
}

test("the browser takes the sound away, as in a call", async () => {
  await tab.value("aircheck.live.context.suspend()");
  await pause(PAUSE_MS);
  await tab.value("aircheck.live.context.resume()");
  await untilLiveAnew(tab);
  assert.equal((await server.rows()).length, 1);
});

test("the tab is frozen: its process stands still", async () => {
  await stall(await processes(browser, "renderer"));
  await untilLiveAnew(tab);
});

test("the machine sleeps, as far as the browser can tell", async () => {
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

test("the network is cut, without a word, and comes back", async () => {
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

test("the server ends, and later there is another one", async () => {
  const listen = ["--listen", `127.0.0.1:${server.port}`];
  await server.end();
  await tab.until("document.body.classList.contains('unreachable')");
  server = await Server.start([...TONE_SOURCE, ...listen]);
  await tab.until("!document.body.classList.contains('unreachable')");
  await server.rowWhen("page", (row) => row.delivered > 0);
  await untilLiveAnew(tab);
  await tab.until("document.getElementById('player-line').textContent === 'Live.'");
  assert.deepEqual(tab.errors, []);
});

