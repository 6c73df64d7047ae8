// The badges of the source, and the fallback to the browser's own player where the page can't play live.

import assert from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Tab, openBrowser } from "./support/browser.js";
import { TonePipe } from "./support/pipe.js";
import { TIMEOUT_MS, Server, eventually } from "./support/program.js";
import { wav } from "./support/wav.js";

const directory = mkdtempSync(join(tmpdir(), "aircheck-page-"));
let browser;

before(async () => (browser = await openBrowser()));

after(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true });
});

/** Writes a second of a square wave. */
const square = (name, level) =>
  wav(join(directory, name), 48_000, (frame) => (Math.floor(frame / 50) % 2 ? -level : level));

const BADGES =
  "[...document.querySelectorAll('.badges .badge')].filter((badge) => !badge.hidden).map(({ id }) => id).join()";

/** Makes the page show a source whose clock is far off, which takes a real one some time. */
const DRIFT = `(() => {
  const drifting = ({ capture, source, ...others }) => ({
    ...others,
    source: { ...source, kind: "stdin" },
    capture: { ...capture, drift_ppm: -3012.4, drift_error_ppm: 8.2, waiting_seconds: 0.25 },
  });
  window.EventSource = class extends EventSource {
    addEventListener(type, take) {
      const taken = type !== "status" ? take : ({ data }) => take({ data: JSON.stringify(drifting(JSON.parse(data))) });
      super.addEventListener(type, taken);
    }
  };
})()`;

/** Waits until a server with `flags` shows the badge `shown` and no other. */
async function untilOnlyBadge(flags, shown, options) {
  const server = await Server.start(flags, options);
  const tab = await Tab.open(browser, server.url);
  // On a busy machine a source may seem lost for a moment.
  await tab.until(`${BADGES} === '${shown}'`);
  await tab.close();
  await server.end();
}

describe("badges and the fallback", { concurrency: true }, () => {
  test("a clipped source", async () => {
    await untilOnlyBadge(["--source", square("loud.wav", 32_767), "--loop"], "clipped");
  });

  test("a silent source", async () => {
    await untilOnlyBadge(["--source", square("quiet.wav", 10), "--loop"], "silent");
  });

  test("the demo sound", async () => {
    await untilOnlyBadge(["--source", "auto"], "demo");
  });

  test("a lost source", async () => {
    // An open pipe without data.
    await untilOnlyBadge(["--source", "stdin"], "source-lost", { stdin: "pipe" });
  });

  test("a fallback, and the source again", async () => {
    const pipe = TonePipe.start(join(directory, "pipe"));
    const flags = ["--source", "stdin", "--fallback", "demo", "--fallback-after", "0s"];
    const server = await Server.start(flags, { stdin: pipe.fd });
    const tab = await Tab.open(browser, server.url);
    await tab.until(`${BADGES} === '' && document.getElementById('state').textContent === 'ON AIR'`);

    pipe.pause();
    await tab.until(`${BADGES} === 'source-lost'`);
    await tab.untilText("failure", "Source lost for ");
    await tab.untilText("state", "FALLBACK");
    // It is heard, and so it has a level and a loudness.
    for (const id of ["momentary", "short-term"]) {
      await tab.until(`/^−?\\d/.test(document.getElementById('${id}').textContent)`);
    }
    await tab.until("/^−?\\d/.test(document.querySelector('#meters [data-field=peak]').textContent)");

    pipe.resume();
    await tab.until(`${BADGES} === ''`);
    await tab.untilText("state", "ON AIR");
    assert.equal(await tab.value("document.getElementById('failure').checkVisibility()"), false);
    assert.notEqual(await tab.text("lost-source"), "0");
    assert.deepEqual(tab.errors, []);
    await tab.close();
    await server.end();
    await pipe.end();
  });

  test("the drift of a source's clock with its error, and what waits in its pipe", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const tab = await Tab.open(browser, server.url, { before: DRIFT });
    await tab.untilText("drift", "−3,012 ± 8 ppm");
    await tab.untilText("waiting", "250 ms");
    for (const id of ["clock", "pipe"]) {
      assert.equal(await tab.value(`document.getElementById('${id}').checkVisibility()`), true);
    }
    await tab.close();
    const other = await Tab.open(browser, server.url);
    await other.until("document.getElementById('facts').textContent !== ''");
    for (const id of ["clock", "pipe"]) {
      assert.equal(await other.value(`document.getElementById('${id}').checkVisibility()`), false);
    }
    await other.close();
    await server.end();
  });

  test("notifications, and a receiver that refuses them", async () => {
    let status = 503;
    const taken = [];
    const receiver = createServer(async (request, response) => {
      const body = Buffer.concat(await request.toArray()).toString();
      if (status === 200) taken.push(body);
      response.writeHead(status).end();
    });
    await new Promise((listens) => receiver.listen(0, "127.0.0.1", listens).unref());
    const { port } = receiver.address();
    const server = await Server.start(["--source", square("silent.wav", 0), "--loop", "--silence-after", "3s"], {
      env: { AIRCHECK_NOTIFY: `http://127.0.0.1:${port}/s3cret` },
    });
    const tab = await Tab.open(browser, server.url);
    // The start, the silence, and on a busy machine what that has cost.
    await tab.until("/^0 notifications delivered · [2-9] waiting$/.test(document.getElementById('notified').textContent)");
    await eventually("the last notification", async () => {
      const { last_notification: last } = await server.json("api/v1/status");
      return (await tab.text("last-notification")).endsWith(`: ${last.text}`);
    });
    await tab.untilText("notification-trouble", `127.0.0.1:${port}: HTTP 503, next try in `);
    status = 200;
    await tab.until("!document.getElementById('notification-trouble').checkVisibility()");
    await eventually("the silence", () => taken.some((body) => body.includes("no sound above")));
    await eventually("as many as were taken", async () =>
      (await tab.text("notified")) === `${taken.length} notifications delivered`);
    assert(!(await tab.value("document.documentElement.outerHTML")).includes("s3cret"));
    await tab.close();
    await server.end();
    receiver.close();

    const without = await Server.start(["--source", "tone:440"]);
    const other = await Tab.open(browser, without.url);
    await other.until("document.getElementById('facts').textContent !== ''");
    assert.equal(await other.value("document.getElementById('notifications').checkVisibility()"), false);
    await other.close();
    await without.end();
  });

  test("without AudioWorklet the browser's own player plays Opus, or WAV", async () => {
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

  test("the browser's own player plays FLAC, Opus and WAV at the right pitch", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const tab = await Tab.open(browser, server.url);
    await tab.page.click("#play"); // so that the browser allows sound
    for (const format of ["flac", "opus", "wav"]) {
      const hz = await tab.page.evaluate(async ([path, timeout_ms]) => {
        const context = new AudioContext();
        const audio = new Audio(path);
        const analyser = new AnalyserNode(context, { fftSize: 8192 });
        context.createMediaElementSource(audio).connect(analyser);
        await Promise.all([audio.play(), context.resume()]);
        const bins = new Float32Array(analyser.frequencyBinCount).fill(-Infinity);
        // Its time does not show that it sounds: that of FLAC begins at its frames' numbers.
        for (const end = Date.now() + timeout_ms; Math.max(...bins) < -40 && Date.now() < end; ) {
          await new Promise((done) => setTimeout(done, 50));
          analyser.getFloatFrequencyData(bins);
        }
        audio.pause();
        audio.removeAttribute("src");
        audio.load();
        return (bins.indexOf(Math.max(...bins)) * context.sampleRate) / analyser.fftSize;
      }, [`/stream.${format}`, TIMEOUT_MS]);
      assert(Math.abs(hz - 440) < 10, `${format}: ${hz} Hz`);
    }
    await tab.close();
    await server.end();
  });
});
