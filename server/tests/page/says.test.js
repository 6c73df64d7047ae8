// The page says plainly what it plays when that is not a live microphone, and how it plays when that is not live.

import assert from "node:assert";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Tab, launch } from "./with/browser.js";
import { Server, eventually } from "./with/program.js";

const directory = mkdtempSync(join(tmpdir(), "aircheck-page-"));
let browser;

before(async () => (browser = await launch()));

after(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true });
});

/** A second of a square wave, as a WAV file. */
function square(name, level) {
  const frames = 48_000;
  const file = Buffer.alloc(44 + 2 * frames);
  file.write("RIFF");
  file.writeUInt32LE(36 + 2 * frames, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20);
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(48_000, 24);
  file.writeUInt32LE(96_000, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(2 * frames, 40);
  for (let frame = 0; frame < frames; frame += 1) {
    file.writeInt16LE(Math.floor(frame / 50) % 2 ? -level : level, 44 + 2 * frame);
  }
  const path = join(directory, name);
  writeFileSync(path, file);
  return `wav:${path}`;
}

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
