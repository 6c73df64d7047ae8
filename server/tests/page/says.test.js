// The page says plainly what it plays when that is not a live microphone, and how it plays when that is not live.

import assert from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Tab, launch } from "./with/browser.js";
import { PATIENCE_MS, Server, eventually } from "./with/program.js";
import { wav } from "./with/wav.js";

const directory = mkdtempSync(join(tmpdir(), "aircheck-page-"));
let browser;

before(async () => (browser = await launch()));

after(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true });
});

/** A second of a square wave. */
const square = (name, level) =>
  wav(join(directory, name), 48_000, (frame) => (Math.floor(frame / 50) % 2 ? -level : level));

/** The badges that a server with some flags shows, once one of them does. */
async function badges(flags, shown, options) {
  const server = await Server.start(flags, options);
  const tab = await Tab.open(browser, server.url);
  await tab.until(`document.getElementById('${shown}').checkVisibility()`);
  const all = await tab.value("[...document.querySelectorAll('.badges .badge')].filter((badge) => !badge.hidden).map(({ id }) => id)");
  await tab.close();
  await server.end();
  return all;
}

test("what is clipped", async () => {
  assert.deepEqual(await badges(["--source", square("loud.wav", 32_767), "--loop"], "clipped"), ["clipped"]);
});

test("what is silent", async () => {
  assert.deepEqual(await badges(["--source", square("quiet.wav", 10), "--loop"], "silent"), ["silent"]);
});

test("what is the demo", async () => {
  assert.deepEqual(await badges(["--source", "auto"], "demo"), ["demo"]);
});

test("what is gone", async () => {
  // A pipe that is open, and through which nothing comes.
  assert.deepEqual(await badges(["--source", "stdin"], "gone", { stdin: "pipe" }), ["gone"]);
});

test("a browser that can't play live plays Opus by its own player, or else WAV", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const tab = await Tab.open(browser, null, { before: "delete window.AudioWorkletNode" });
  await tab.go(server.url);
  await tab.untilText("obstacle", "AudioWorklet");
  await tab.page.click("#play");
  await tab.until("document.getElementById('audio').currentTime > 1");
  await tab.untilText("player-line", "Opus");
  await server.rowWhen("page", ({ format }) => format === "opus");

  await tab.page.click("#play");
  await eventually("the end of the page's stream", async () => (await server.rows()).length === 0);
  await tab.value("void (HTMLMediaElement.prototype.canPlayType = (type) => type.includes('wav') ? 'maybe' : '')");
  await tab.page.click("#play");
  await tab.until("document.getElementById('audio').currentTime > 1");
  await server.rowWhen("page", ({ format }) => format === "wav");
  assert.deepEqual(tab.errors, []);
  await tab.close();
  await server.end();
});

test("every format that a browser knows is heard in it, with its pitch", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const tab = await Tab.open(browser, server.url);
  await tab.page.click("#play"); // so that the page may sound
  for (const format of ["flac", "opus", "wav"]) {
    const hz = await tab.page.evaluate(async ([path, patience_ms]) => {
      const context = new AudioContext();
      const audio = new Audio(path);
      const analyser = new AnalyserNode(context, { fftSize: 8192 });
      context.createMediaElementSource(audio).connect(analyser);
      await Promise.all([audio.play(), context.resume()]);
      const bins = new Float32Array(analyser.frequencyBinCount).fill(-Infinity);
      // Not until its time is a second: that of FLAC begins where its frames' numbers do, before anything has sounded.
      for (const end = Date.now() + patience_ms; Math.max(...bins) < -40 && Date.now() < end; ) {
        await new Promise((done) => setTimeout(done, 50));
        analyser.getFloatFrequencyData(bins);
      }
      audio.pause();
      audio.removeAttribute("src");
      audio.load();
      return (bins.indexOf(Math.max(...bins)) * context.sampleRate) / analyser.fftSize;
    }, [`/stream.${format}`, PATIENCE_MS]);
    assert(Math.abs(hz - 440) < 10, `${format}: ${hz} Hz`);
  }
  await tab.close();
  await server.end();
});
