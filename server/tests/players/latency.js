// How long sound takes from its capture to what comes out of a player: `latency.js [WORD…]` measures the commands below that
// have one of the words. Bursts are written into a sound server's microphone at known times, go through the real server and
// the real player, and are found again at the loudspeaker's monitor. Each command is started several times, because the
// latency of most players is decided at their start. The way through the sound server counts: up to 15 ms.

import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Server, eventually, pause } from "../page/support/program.js";
import { RATE_HZ, SoundServer } from "../page/support/sound.js";
import { PLAYERS, SDL, vlc } from "./players.js";
import { Player, runAhead } from "./processes.js";

const RUNS = 3;
const BURSTS = 6;
const SETTLE_MS = 4000;
const MAX_LATENCY_MS = 9000;
const BURST_FRAMES = RATE_HZ / 10;
/** Frames between two bursts. They are told apart by pitch, so a delay may be longer. */
const SPACING_FRAMES = 1.3 * RATE_HZ;
const PITCHES = 8;
/** Far above the tone between the bursts, and reached within a tenth of a period of a burst. */
const LOUD = 0.1;
const pitch = (burst) => 400 + 150 * (burst % PITCHES);

const wallMs = () => performance.timeOrigin + performance.now();
const sorted = (values) => [...values].sort((a, b) => a - b);

/** What the microphone hears: bursts, each of another pitch, and a quiet tone between them. */
class Bursts {
  constructor() {
    this.at_ms = [];
    this.next = Infinity;
  }

  sampleAt = (frame) => {
    if (frame >= this.next + BURST_FRAMES) {
      // At no fixed place of a block.
      this.next = this.at_ms.length < BURSTS ? this.next + Math.floor(SPACING_FRAMES * (1 + 0.3 * Math.random())) : Infinity;
    }
    if (frame < this.next) return 0.01 * Math.sin((2 * Math.PI * 440 * frame) / RATE_HZ);
    if (frame === this.next) this.at_ms.push(performance.timeOrigin + this.microphone.began_at + (1000 * frame) / RATE_HZ);
    return 0.8 * Math.sin((2 * Math.PI * pitch(this.at_ms.length - 1) * (frame - this.next)) / RATE_HZ);
  };

  begin() {
    this.at_ms = [];
    this.next = this.microphone.frame + RATE_HZ / 10;
  }
}

/** Listens to the loudspeaker: what it finds has a time and the number of a pitch. */
function loudspeaker(sound) {
  const found = [];
  const flags = ["--device=loudspeaker.monitor", "--latency-msec=5", "--raw", "--format=s16le", `--rate=${RATE_HZ}`, "--channels=1"];
  const recorder = spawn("parec", flags, { env: { ...process.env, ...sound.env }, stdio: ["ignore", "pipe", "ignore"] });
  let [quiet, burst] = [RATE_HZ, undefined];
  recorder.stdout.on("data", (bytes) => {
    const now = wallMs();
    const frames = bytes.length >> 1;
    for (let frame = 0; frame < frames; frame += 1) {
      const sample = bytes.readInt16LE(2 * frame) / 32_768;
      if (Math.abs(sample) > LOUD && quiet > RATE_HZ / 20) {
        burst = { at: now - (1000 * (frames - frame)) / RATE_HZ, frames: 0, crossings: 0, last: sample };
      }
      quiet = Math.abs(sample) > LOUD ? 0 : quiet + 1;
      if (!burst) continue;
      if (sample * burst.last < 0) burst.crossings += 1;
      burst.last = sample || burst.last;
      burst.frames += 1;
      if (burst.frames === RATE_HZ / 25) {
        const hz = burst.crossings / 2 / 0.04;
        found.push({ at: burst.at, pitch: Math.round((hz - 400) / 150) });
        burst = undefined;
      }
    }
  });
  return { found, end: () => recorder.kill() };
}

/** A command that is one program with its words. */
const command = (label, words, path) => ({
  label,
  path,
  start: (url, { env }) => {
    const [file, ...flags] = words(url);
    return new Player(file, flags, { env: { ...env, ...SDL } });
  },
});
/** One of the players of the table, as it is there. */
const player = (name, path) => ({ label: `${name}: ${path}`, path, start: PLAYERS.find((each) => each.name === name).start });

const mpv = (...flags) => (url) => ["mpv", "--no-config", "--no-terminal", ...flags, url];
const ffplay = (...flags) => (url) => ["ffplay", "-v", "quiet", "-nodisp", ...flags, url];
const control = () => process.env.AIRCHECKCTL_PROGRAM ?? "aircheckctl";

const COMMANDS = [
  command("aircheckctl listen --play", (url) => [control(), "listen", new URL(url).origin, "--play"], ""),
  ...["opus", "wav", "flac", "mp3"].map((name) => command(`mpv ${name}`, mpv(), `stream.${name}`)),
  ...["opus", "wav", "flac", "mp3", "opus?gather=0ms"].map((name) =>
    command(`mpv --profile=low-latency ${name}`, mpv("--profile=low-latency"), `stream.${name}`)),
  command("mpv --profile=low-latency --audio-buffer=0 opus", mpv("--profile=low-latency", "--audio-buffer=0"), "stream.opus"),
  command("mpv --cache=no opus", mpv("--cache=no"), "stream.opus"),
  ...["opus", "wav", "flac"].map((name) => command(`vlc ${name}`, (url) => vlc(url), `stream.${name}`)),
  ...["opus", "wav"].map((name) =>
    command(`vlc --network-caching=200 ${name}`, (url) => vlc(url, "--network-caching=200"), `stream.${name}`)),
  ...["opus", "wav", "flac"].map((name) => command(`ffplay ${name}`, ffplay(), `stream.${name}`)),
  ...["opus", "opus?gather=0ms", "wav", "flac", "mp3"].map((name) =>
    command(`ffplay -fflags nobuffer ${name}`, ffplay("-fflags", "nobuffer"), `stream.${name}`)),
  ...["wav", "opus"].map((name) =>
    command(`ffplay -probesize 32 ${name}`, ffplay("-fflags", "nobuffer", "-probesize", "32", "-analyzeduration", "0"), `stream.${name}`)),
  ...["opus", "mp3"].map((name) => player("mplayer", `stream.${name}`)),
  ...["opus", "wav"].map((name) => command(`mplayer -nocache ${name}`, (url) =>
    ["mplayer", "-really-quiet", "-noconsolecontrols", "-nolirc", "-ao", "pulse", "-nocache", url], `stream.${name}`)),
  player("GStreamer (playbin)", "stream.opus"),
  player("MPD", "stream.opus"),
  player("Liquidsoap", "stream.opus"),
  player("Icecast's relay", "stream.opus"),
  ...["opus", "wav", "mp3"].map((name) => player("Chromium", `stream.${name}`)),
  player("Firefox ESR", "stream.opus"),
];

/** Starts a command once, and returns the delays of the bursts that came out of it, in ms. */
async function run({ path, start }, server, sound, bursts) {
  const directory = mkdtempSync(join(tmpdir(), "aircheck-player-"));
  chmodSync(directory, 0o777);
  const speaker = loudspeaker(sound);
  const started = await start(`${server.url}${path}`, { env: sound.env, directory, path: path.split("?")[0] });
  try {
    await eventually("a listener", async () => (await server.rows()).length > 0, 15_000);
    await pause(SETTLE_MS);
    speaker.found.length = 0;
    bursts.begin();
    await eventually("all bursts", () => bursts.next === Infinity);
    const delays = () => bursts.at_ms.map((at, burst) =>
      speaker.found.find((heard) => heard.at > at && heard.pitch === burst % PITCHES)?.at - at).filter(Number.isFinite);
    // What is missing then has been lost.
    await eventually("the last burst", () => delays().length === BURSTS, MAX_LATENCY_MS).catch(() => {});
    return delays();
  } finally {
    speaker.end();
    await started.end();
    await eventually("the listener's end", async () => (await server.rows()).length === 0);
    rmSync(directory, { recursive: true, force: true });
  }
}

const words = process.argv.slice(2);
runAhead(process.pid);
const sound = await SoundServer.start();
runAhead(sound.process.child.pid);
chmodSync(sound.directory, 0o755); // for players that run as another user
const bursts = new Bursts();
bursts.microphone = sound.hear(bursts.sampleAt);
const server = await Server.start(["--source", "mic"], { env: sound.env });
bursts.microphone.recorded();
console.log(`median, worst, medians of ${RUNS} starts, bursts found of ${RUNS * BURSTS}`);
for (const each of COMMANDS.filter(({ label }) => !words.length || words.some((word) => label.includes(word)))) {
  const runs = [];
  for (let start = 0; start < RUNS; start += 1) {
    runs.push(await run(each, server, sound, bursts).catch((failed) => (console.log(`  ${each.label}: ${failed.message}`), [])));
  }
  const all = sorted(runs.flat());
  const middle = (values) => (sorted(values)[values.length >> 1] ?? NaN).toFixed(0);
  console.log(`${each.label.padEnd(52)} ${middle(all).padStart(5)} ${(all.at(-1) ?? NaN).toFixed(0).padStart(5)} ms   ` +
    `${runs.map(middle).join(" ")}   ${all.length}`);
}
await server.end();
await sound.end();
process.exit(0);
