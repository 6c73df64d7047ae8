// From the microphone to the ear: the page plays the sound of a microphone and shows its level and latency. Mouse and
// keyboard both suffice, and listeners can be disconnected.

import assert from "node:assert";
import { after, before, test } from "node:test";

import { Tab, openBrowser } from "./support/browser.js";
import { eventually, Server } from "./support/program.js";
import { SoundServer, tone } from "./support/sound.js";

let sound, server, browser;

before(async () => {
  browser = await openBrowser();
  sound = await SoundServer.start();
  const microphone = sound.hear(tone);
  server = await Server.start(["--source", "mic"], { env: sound.env });
  microphone.recorded();
});

after(async () => {
  await browser?.close();
  await server?.end();
  await sound?.end();
});

test("a press of Play plays the microphone", async () => {
  const tab = await Tab.open(browser, server.url);
  await tab.until("document.getElementById('state').textContent === 'ON AIR'");
  await tab.untilText("source", "icrophone");
  await tab.play();
  await tab.until("document.getElementById('player-line').textContent === 'Live.'");
  await tab.untilText("rows", "page");
  await tab.untilText("meters", "12.0");
  await tab.until("document.getElementById('ear').textContent.endsWith('ms')");
  await tab.until("document.getElementById('clock-error').textContent.startsWith('±')");
  const first = await tab.value("aircheck.player.figures.first_sound_seconds");
  console.log(`from the press of Play to the first sound: ${(1000 * first).toFixed(0)} ms`);

  // The page reports to the server the latency that it shows.
  const row = await server.rowWhen("page", ({ latency_seconds }) => latency_seconds.ear?.p50 > 0);
  const told = row.latency_seconds.ear.max;
  assert(told > 0.04 && told < 10, `heard ${told} s after it was captured`);
  const stages = await tab.value("aircheck.player.figures.stages");
  const { arrival, buffer, output, ear } = stages;
  console.log(`stages in seconds: ${JSON.stringify(stages)}`);
  assert(Math.abs(arrival + buffer + output - ear) < 1e-6 && arrival > 0 && output >= 0, JSON.stringify(stages));

  await tab.page.click("#play");
  await eventually("the end of the page's stream", async () => (await server.rows()).length === 0);
  await tab.until("aircheck.live.context.state === 'suspended'");
  assert.deepEqual(tab.errors, []);
  await tab.close();
});

test("the page can be used by keyboard alone", async () => {
  const tab = await Tab.open(browser, server.url);
  const focused = () => tab.value("document.activeElement.id || document.activeElement.dataset.field");
  const tabTo = (id) => eventually(`the focus on ${id}`, async () => {
    if ((await focused()) === id) return true;
    await tab.page.keyboard.press("Tab");
    return false;
  });
  await tab.until("aircheck.live.node !== undefined");
  await tabTo("play");
  await tab.page.keyboard.press("Enter");
  await tab.until("document.getElementById('player-line').textContent === 'Live.'");

  await tabTo("buffer");
  const before = await tab.text("buffer-ms");
  await tab.page.keyboard.press("ArrowRight");
  assert.notEqual(await tab.text("buffer-ms"), before);
  await tab.until("aircheck.player.figures.target_seconds >= 0.05");

  const other = await server.listener("other");
  await tab.untilText("rows", "other");
  await tab.page.focus("#rows tr:has-text('other') button");
  await tab.page.keyboard.press("Enter");
  assert.equal(await other.exit(), 0);
  // The focus moves to the heading when its row disappears.
  await tab.until("!document.getElementById('rows').textContent.includes('other')");
  assert.equal(await focused(), "listeners-title");

  await tabTo("play");
  await tab.page.keyboard.press("Space");
  await eventually("the end of the page's stream", async () => (await server.rows()).length === 0);
  await tab.close();
});

test("a listener's name is never markup", async () => {
  const tab = await Tab.open(browser, server.url);
  const listener = await server.listener("<img src=x onerror=document.title=1>");
  await tab.untilText("rows", "onerror");
  await tab.page.click("#rows tr:has-text('onerror') button");
  assert.equal(await listener.exit(), 0);
  assert.notEqual(await tab.value("document.title"), "1");
  await tab.close();
});
