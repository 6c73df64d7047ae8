// HLS in Chromium, by hls.js on the page of another site that is allowed to play it.

import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";

import { openBrowser } from "./support/browser.js";
import { Server, eventually, freePort } from "./support/program.js";

const SCRIPT = readFileSync(createRequire(import.meta.url).resolve("hls.js/dist/hls.min.js"));

const PAGE = `<!doctype html><title>Another site</title><button id="play">Play</button><audio id="audio"></audio>
<script src="/hls.js"></script><script>
  const audio = document.getElementById("audio");
  const errors = [];
  const hls = new Hls();
  hls.on(Hls.Events.ERROR, (_, { type, details, fatal, error }) => errors.push({ type, details, fatal, why: String(error) }));
  hls.loadSource(new URLSearchParams(location.search).get("url"));
  hls.attachMedia(audio);
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 8192 });
  context.createMediaElementSource(audio).connect(analyser).connect(context.destination);
  document.getElementById("play").onclick = () => Promise.all([context.resume(), audio.play()]);
  /** The strongest frequency of what is heard now, in Hz, and how loud it is, in dB. */
  function heard() {
    const bins = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(bins);
    const level = Math.max(...bins);
    return { hz: (bins.indexOf(level) * context.sampleRate) / analyser.fftSize, level };
  }
  const isTone = () => { const { hz, level } = heard(); return level > -40 && Math.abs(hz - 440) < 10; };
</script>`;

let browser, site, origin;

before(async () => {
  browser = await openBrowser();
  site = createServer(({ url }, response) => {
    const is_script = url === "/hls.js";
    response.writeHead(200, { "Content-Type": is_script ? "text/javascript" : "text/html; charset=utf-8" });
    response.end(is_script ? SCRIPT : PAGE);
  });
  await new Promise((listens) => site.listen(0, "127.0.0.1", listens));
  origin = `http://127.0.0.1:${site.address().port}`;
});

after(async () => {
  await browser?.close();
  site?.close();
});

/** Opens the site's page with the HLS at `url`, and plays it. */
async function play(url) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${origin}/?url=${encodeURIComponent(url)}`);
  await page.click("#play");
  const until = (expression) =>
    eventually(expression, () => page.evaluate(expression)).catch(async (error) => {
      throw new Error(`${error.message}; ${JSON.stringify(await page.evaluate("errors"))}`);
    });
  return { page, until, close: () => context.close() };
}

describe("HLS by hls.js", () => {
  for (const path of ["index.m3u8", "opus/index.m3u8", "flac/index.m3u8"]) {
    test(`${path} is heard at the right pitch, without a break, and as old as it is said to be`, async () => {
      const server = await Server.start(["--source", "tone:440", "--allow-origin", origin]);
      const player = await play(`${server.url}mounts/main/hls/${path}`);
      await player.until("isTone()");
      // Over several segments, the clock of the player goes on with the sound.
      const begin = await player.page.evaluate("audio.currentTime");
      await player.until(`audio.currentTime > ${begin + 6} && isTone()`);
      assert.equal(await player.page.evaluate("audio.buffered.length"), 1, "there is no hole in it");
      const age = await player.page.evaluate("(Date.now() - hls.playingDate) / 1000");
      const { latency } = await player.page.evaluate("({ latency: hls.latency })");
      console.log(`${path}: sound of ${age.toFixed(2)} s ago; by hls.js's own estimate ${latency.toFixed(2)} s`);
      // Three segments behind the end of the playlist, and what the last one takes until it is whole.
      assert(age > 2 && Math.abs(age - latency) < 3, `${age} s, and ${latency} s`);
      assert.deepEqual(await player.page.evaluate("errors.filter(({ fatal }) => fatal)"), []);
      await player.close();
      await server.end();
    });
  }

  test("a player hears the new stream after a restart", async () => {
    const port = await freePort();
    const start = () => Server.start(["--source", "tone:440", "--allow-origin", origin, "--listen", `127.0.0.1:${port}`]);
    const before = await start();
    const player = await play(`${before.url}hls/opus/index.m3u8`);
    await player.until("isTone()");
    await before.end();
    const restarted_at = Date.now();
    const server = await start();
    await player.until(`hls.playingDate > ${restarted_at} && isTone()`);
    const begin = await player.page.evaluate("audio.currentTime");
    await player.until(`audio.currentTime > ${begin + 4} && isTone()`);
    assert.deepEqual(await player.page.evaluate("errors.filter(({ fatal }) => fatal)"), []);
    await player.close();
    await server.end();
  });

  test("a site that is not allowed hears nothing", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const player = await play(`${server.url}hls/index.m3u8`);
    await player.until("errors.some(({ details }) => details === 'manifestLoadError')");
    await player.close();
    await server.end();
  });
});
