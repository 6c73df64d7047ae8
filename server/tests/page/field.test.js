// What the page says where something on its way is not as it should be, and that it is live again afterwards.

import assert from "node:assert";
import { after, before, test } from "node:test";

import { LIVE, PLAIN_HOST, REMOTE_HOST, Tab, openBrowser } from "./support/browser.js";
import { Server, pause } from "./support/program.js";
import { Relay } from "./support/relay.js";

const PAUSE_MS = 6000; // longer than a silence of which nothing is said

let server, browser;

before(async () => {
  server = await Server.start(["--source", "tone:440", "--allow-host", REMOTE_HOST, "--allow-host", PLAIN_HOST]);
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

async function playLive(url) {
  const tab = await Tab.open(browser, url);
  await tab.play();
  await tab.until(LIVE);
  return tab;
}

/** Waits until live sound is heard that was captured after now. */
async function untilLiveAnew(tab) {
  const { capture } = await server.json("api/v1/status");
  await tab.until(`${LIVE} && aircheck.player.figures.begun.sequence >= ${capture.blocks}`);
}

const LINE = "document.getElementById('player-line').textContent";
/** The seconds without sound that the page tells. */
const AWAY = `Number(/^Live again, after (\\d+) s without sound\\.$/.exec(${LINE})?.[1])`;

test("by plain http from another machine it plays by the browser's own player, and says why and what would work", async () => {
  const tab = await Tab.open(browser, `http://${PLAIN_HOST}:${server.port}/`);
  assert.equal(await tab.value("isSecureContext"), false);
  await tab.untilText("obstacle", "Not live: this page came by plain http");
  await tab.untilText("obstacle", "--tls-self-signed");
  await tab.page.click("#play");
  await tab.until("document.getElementById('audio').currentTime > 1");
  await tab.untilText("player-line", "Playing Opus with the browser's own player.");
  assert.deepEqual(tab.errors, []);
  await tab.close();
});

test("a proxy that buffers is named, with how late it makes the sound, until it stops that", async () => {
  const relay = await Relay.to(server.port);
  const tab = await playLive(relay.url);
  assert.equal(await tab.value("document.getElementById('gathered').checkVisibility()"), false);
  relay.gather(700);
  await tab.until("document.getElementById('gathered').checkVisibility()");
  const [, told] = /passes it on every ([\d.]+) s\. So you hear it up to \1 s later\./.exec(await tab.text("gathered"));
  assert(told >= 0.6 && told < 3, `every ${told} s`);
  assert.equal(await tab.text("link"), "", "a link that carries all is not called narrow");
  relay.gather(0);
  await tab.until("!document.getElementById('gathered').checkVisibility()");
  await untilLiveAnew(tab);
  assert.deepEqual(tab.errors, []);
  await tab.close();
  relay.end();
});

test("a device without a network is told, and how long there was no sound", async () => {
  const relay = await Relay.to(server.port);
  const tab = await playLive(`http://${REMOTE_HOST}:${relay.port}/`);
  relay.cut();
  await tab.page.context().setOffline(true);
  await tab.until(`${LINE} === 'This device has no network. The sound comes back with it.'`);
  await pause(PAUSE_MS);
  relay.mend();
  await tab.page.context().setOffline(false);
  await tab.until(`${AWAY} >= 5`);
  await untilLiveAnew(tab);
  await tab.close();
  relay.end();
});

test("a tab that the browser freezes in the background is live again afterwards, and says how long it was silent", async () => {
  const tab = await playLive(server.url);
  const devtools = await tab.page.context().newCDPSession(tab.page);
  const frozen_at = Date.now();
  await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
  await pause(PAUSE_MS);
  await devtools.send("Page.setWebLifecycleState", { state: "active" });
  await untilLiveAnew(tab);
  const told = await tab.value(LINE);
  // Chromium goes on with the sound of some frozen pages. Then there is nothing to tell.
  console.log(told);
  if (told !== "Live.") assert((await tab.value(AWAY)) <= (Date.now() - frozen_at) / 1000, told);
  const row = await server.rowWhen("page", ({ lag_seconds }) => lag_seconds < 0.5);
  assert.equal(await tab.value("aircheck.player.listener"), row.id);
  assert.deepEqual(tab.errors, []);
  await tab.close();
});

test("a device that slept says how long, after hours too", async () => {
  const tab = await playLive(server.url);
  // The audio thread stands still while the wall clock goes on.
  await tab.value("aircheck.live.context.suspend()");
  await pause(PAUSE_MS);
  await tab.value("aircheck.live.context.resume()");
  await tab.until(`${AWAY} >= 6`);
  await untilLiveAnew(tab);
  await tab.close();
});

test("a hidden page plays on without its figures, and has the newest ones when it is seen again", async () => {
  const tab = await playLive(server.url);
  const hide = (hidden) => tab.value(`(() => {
    Object.defineProperty(document, "hidden", { configurable: true, value: ${hidden} });
    document.dispatchEvent(new Event("visibilitychange"));
  })()`);
  await hide(true);
  const before = await tab.text("blocks");
  await untilLiveAnew(tab);
  await pause(PAUSE_MS);
  assert.equal(await tab.text("blocks"), before);
  await hide(false);
  const { capture } = await server.json("api/v1/status");
  await tab.until(`Number(document.getElementById('blocks').textContent.replaceAll(',', '')) >= ${capture.blocks}`);
  await untilLiveAnew(tab);
  await tab.close();
});
