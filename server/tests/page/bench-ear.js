// How long sound takes from the microphone to the ear: clicks are written into a sound server's microphone at known
// times, go through the real server and a real browser, and are found in what the page puts out, and once more at the
// loudspeaker. Beside it, what the page itself says, and how long it takes from a press of Play to the first sound.

import { readFileSync } from "node:fs";

import { Tab, launch } from "./support/browser.js";
import { Clicks, delays, loudspeaker } from "./support/clicks.js";
import { Server, eventually, pause } from "./support/program.js";
import { SoundServer } from "./support/sound.js";

const RECORDER = readFileSync(new URL("support/recorder.js", import.meta.url), "utf8");
const CLICKS = 50;
const PLAYS = 25;
const SETTLE_SECONDS = 6; // the timeline of captured sound needs two windows of two seconds

const sorted = (values) => values.toSorted?.((a, b) => a - b) ?? [...values].sort((a, b) => a - b);
const median = (values) => sorted(values)[values.length >> 1];
const ms = (value) => (Number.isFinite(value) ? value.toFixed(1) : "-").padStart(7);

/** Puts the recorder behind the player; what it finds is kept on the page in ms of Unix time. */
async function record(tab) {
  await tab.until("aircheck.live.node !== undefined");
  await tab.value(`(async () => {
    const { context, gain } = aircheck.live;
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([${JSON.stringify(RECORDER)}], { type: "text/javascript" })));
    const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    gain.connect(recorder);
    const found = (window.found = { clicks: [], sounds: [] });
    const offsets = [];
    // When a frame of the context is heard: the middle of many answers, since each jumps by a period of the sound card.
    const offset = () => {
      const { contextTime, performanceTime } = context.getOutputTimestamp();
      if (contextTime > 0) offsets.push(performance.timeOrigin + performanceTime - 1000 * contextTime);
      if (offsets.length > 50) offsets.shift();
      return offsets.toSorted((a, b) => a - b)[offsets.length >> 1];
    };
    setInterval(() => context.state === "running" && offset(), 20);
    context.addEventListener("statechange", () => (offsets.length = 0));
    recorder.port.onmessage = ({ data: { click, sound } }) => setTimeout(() => {
      if (click !== undefined) found.clicks.push(1000 * click + offset());
      if (sound !== undefined) found.sounds.push(1000 * sound + offset());
    }, 300);
    window.arm = () => recorder.port.postMessage(null);
    document.getElementById("play").addEventListener("pointerdown", () => (window.pressed_at = performance.timeOrigin + performance.now()), true);
  })()`);
}

/** From the press of Play to the first sound, in ms, for each of some plays. */
async function firstSounds(tab, server) {
  const taken = [];
  for (let play = 0; play < PLAYS; play += 1) {
    await tab.value("void (window.found.sounds.length = 0)");
    await tab.value("arm()");
    await tab.page.click("#play");
    await tab.until("window.found.sounds.length > 0");
    taken.push(await tab.value("window.found.sounds[0] - window.pressed_at"));
    await tab.page.click("#play");
    await eventually("the end of the page's stream", async () => (await server.rows()).length === 0);
    await tab.until("aircheck.live.context.state === 'suspended'");
  }
  return taken;
}

/** All figures for one way of sending. */
async function measure(browser, sound, server, clicks, payload) {
  // The page takes scripts from its server only, and the recorder is none of them.
  const tab = await Tab.open(browser, `${server.url}?payload=${payload}`, { bypassCSP: true });
  await record(tab);
  const first_sounds = await firstSounds(tab, server);

  const speaker = loudspeaker(sound);
  await tab.page.click("#play");
  await tab.until("aircheck.player.figures?.stages");
  await pause(1000 * SETTLE_SECONDS);
  clicks.at_frame.clear();
  await tab.value("void (window.found.clicks.length = 0)");
  clicks.begin(CLICKS);
  const stages = [];
  while (clicks.next < Infinity || clicks.at_frame.size < CLICKS) {
    await pause(250);
    stages.push(await tab.value(`(({ player }) =>
      ({ ...player.figures.stages, ...player.server, target: player.figures.target_seconds }))(aircheck)`));
  }
  await pause(1500);
  const { counts, clock_error } = await tab.value("aircheck.player.figures");
  const heard = delays(clicks.times, await tab.value("window.found.clicks"));
  const at_speaker = delays(clicks.times, speaker.found);
  speaker.end();
  await tab.close();
  const stage = (name) => 1000 * median(stages.map((each) => each[name]).filter(Number.isFinite));
  return { payload, first_sounds, heard, at_speaker, stage, counts, clock_error };
}

function report(all) {
  const row = (title, value) => console.log(`${title.padEnd(52)}${all.map((each) => ms(value(each))).join("  ")}`);
  console.log(`\n${"milliseconds, sent as".padEnd(52)}${all.map(({ payload }) => payload.padStart(7)).join("  ")}`);
  // No percentiles: one needs at least ten values beyond it.
  row("microphone to ear, min", ({ heard }) => Math.min(...heard));
  row("microphone to ear, median", ({ heard }) => median(heard));
  row("microphone to ear, max", ({ heard }) => Math.max(...heard));
  row(`clicks found of ${CLICKS}`, ({ heard }) => heard.length);
  row("the same at the loudspeaker's monitor, median", ({ at_speaker }) => median(at_speaker));
  row("parts: device, until it is captured", ({ heard, stage }) => median(heard) - stage("ear"));
  row("       server: a block, and until dispatched", ({ stage }) => stage("ring"));
  row("       server: until it is in the socket", ({ stage }) => stage("queue"));
  row("       network, and the browser", ({ stage }) => stage("arrival") - stage("ring") - stage("queue"));
  row("       codec", ({ stage }) => stage("codec"));
  row("       buffer", ({ stage }) => stage("buffer"));
  row("       output", ({ stage }) => stage("output"));
  row("the buffer's target", ({ stage }) => stage("target"));
  row("what the page says", ({ stage }) => stage("ear"));
  row("what was measured, beyond what the page says", ({ heard, stage }) => median(heard) - stage("ear"));
  row("error of the page's clock, at most", ({ clock_error }) => 1000 * clock_error);
  row("Play to the first sound, min", ({ first_sounds }) => Math.min(...first_sounds));
  row(`Play to the first sound, median of ${PLAYS}`, ({ first_sounds }) => median(first_sounds));
  row("Play to the first sound, max", ({ first_sounds }) => Math.max(...first_sounds));
  for (const { payload, counts } of all) console.log(`${payload}: ${JSON.stringify(counts)}`);
}

const sound = await SoundServer.start();
const clicks = new Clicks();
clicks.microphone = sound.hear(clicks.sampleAt);
const server = await Server.start(["--source", "mic", "--block", "10ms"], { env: sound.env });
clicks.microphone.recorded();
const browser = await launch({ env: sound.env, ignoreDefaultArgs: ["--mute-audio"] });
try {
  const all = [];
  for (const payload of process.argv[2]?.split(",") ?? ["f32", "opus"]) {
    all.push(await measure(browser, sound, server, clicks, payload));
  }
  report(all);
} finally {
  await browser.close();
  await server.end();
  await sound.end();
}
