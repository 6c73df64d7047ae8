// The page over a link that becomes narrow and wide again: the bitrate of Opus follows, and no block is lost on the way from one
// to the other.

import assert from "node:assert";
import { after, before, test } from "node:test";

import { LIVE, REMOTE_HOST, Tab, openBrowser } from "./support/browser.js";
import { Server, eventually, freePort } from "./support/program.js";
import { Relay } from "./support/relay.js";

const NARROW = 13_000; // bytes a second: 104 kbit/s, which does not carry Opus at 96 with its headers, but at 64

let server, browser, figures;

before(async () => {
  // The page's figures, which would take their part of the link, are to be had elsewhere.
  figures = `http://127.0.0.1:${await freePort()}/`;
  server = await Server.start(["--source", "tone:440", "--allow-host", REMOTE_HOST, "--admin-listen", new URL(figures).host]);
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** Opens the page through a relay, as from another machine. */
async function open(payload) {
  const relay = await Relay.to(server.port);
  const tab = await Tab.open(browser, `http://${REMOTE_HOST}:${relay.port}/?payload=${payload}`);
  await tab.play();
  await tab.until(LIVE);
  return { relay, tab };
}

const line = (tab) => tab.value("document.getElementById('link').checkVisibility() ? document.getElementById('link').textContent : ''");

test("Opus's bitrate goes down on a narrow link and up again, and no block is lost by that", async () => {
  const { relay, tab } = await open("opus");
  assert.equal(await tab.value("aircheck.player.bitrate"), 96_000);
  assert.equal(await line(tab), "");
  const bitrates = [96_000];
  const watch = setInterval(async () => {
    const bitrate = await tab.value("aircheck.player.bitrate").catch(() => null);
    if (bitrate && bitrate !== bitrates.at(-1)) bitrates.push(bitrate);
    console.log(bitrate, JSON.stringify(await tab.value("(({figures, listener}) => [listener, figures?.stages?.ear, figures?.target_seconds, figures?.counts])(aircheck.player)").catch(() => null)), (await (await fetch(figures + 'api/v1/listeners')).json()).map((r) => [r.id, r.lag_seconds, r.lost].join(":")).join(" "));
  }, 1000);
  relay.narrow(NARROW);
  await tab.until("aircheck.player.bitrate < 96000");
  console.log(await line(tab));
  await tab.until(LIVE);
  relay.narrow(Infinity);
  await tab.until("aircheck.player.bitrate === 96000");
  clearInterval(watch);
  console.log(bitrates, await tab.value("aircheck.player.figures.counts"));
  await tab.close();
  relay.end();
});
