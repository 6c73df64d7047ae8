// Clicks that go from a sound server's microphone to its loudspeaker, and how long each takes.

import { spawn } from "node:child_process";

import { RATE_HZ } from "./sound.js";

const CLICK_FRAMES = 24; // half a millisecond

const wallMs = () => performance.timeOrigin + performance.now();

/** What the microphone hears: a quiet tone, and clicks at frames that are noted with their times. */
export class Clicks {
  constructor() {
    this.at_frame = new Map(); // when each click is due, by its first frame
    this.next = Infinity;
    this.left = 0;
  }

  sampleAt = (frame) => {
    if (frame >= this.next + CLICK_FRAMES) this.plan(frame);
    if (frame >= this.next) {
      if (frame === this.next) this.at_frame.set(frame, this.microphone.began_at + (1000 * frame) / RATE_HZ);
      return 0.9;
    }
    return 0.01 * Math.sin((2 * Math.PI * 440 * frame) / RATE_HZ);
  };

  /** The next one comes at no fixed place of a block, and far enough from the last one to be told from it. */
  plan(frame) {
    this.left -= 1;
    this.next = this.left > 0 ? frame + Math.floor(RATE_HZ * (0.6 + 0.4 * Math.random())) : Infinity;
  }

  begin(clicks) {
    this.left = clicks + 1;
    this.plan(this.microphone.frame);
  }

  /** The times of the clicks, in ms of Unix time. */
  get times() {
    return [...this.at_frame.values()].map((at) => performance.timeOrigin + at);
  }
}

/** For each click the time from it to when it was found, as far as it was found. */
export function delays(clicks, found) {
  return clicks.map((at) => found.find((heard) => heard > at && heard - at < 550) - at).filter(Number.isFinite);
}

/** Listens to the loudspeaker, which here is a sink's monitor. */
export function loudspeaker(sound) {
  const found = [];
  const recorder = spawn("parec", ["--device=loudspeaker.monitor", "--latency-msec=5", "--raw", "--format=s16le",
    `--rate=${RATE_HZ}`, "--channels=1"], { env: { ...process.env, ...sound.env }, stdio: ["ignore", "pipe", "ignore"] });
  let last = -1e9;
  recorder.stdout.on("data", (bytes) => {
    const now = wallMs();
    const frames = bytes.length >> 1;
    for (let frame = 0; frame < frames; frame += 1) {
      if (Math.abs(bytes.readInt16LE(2 * frame)) < 0.35 * 32_768) continue;
      const at = now - (1000 * (frames - frame)) / RATE_HZ;
      if (at - last > 200) found.push(at);
      last = at;
    }
  });
  return { found, end: () => recorder.kill() };
}
