// A sound server of the test's own, whose microphone hears the samples that the test gives, at their time. It needs no
// sound card, uses no other server, and changes nothing outside its own directory.

import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";

import { Process, eventually } from "./program.js";

export const RATE_HZ = 48_000;
const CHUNK_MS = 2; // shorter than the period of a sound card

export class SoundServer {
  static async start() {
    const server = new SoundServer(mkdtempSync(join(tmpdir(), "aircheck-sound-")));
    await eventually("the sound server", () =>
      spawnSync("pactl", ["info"], { env: { ...process.env, ...server.env }, stdio: "ignore" }).status === 0);
    return server;
  }

  constructor(directory) {
    this.directory = directory;
    const socket = join(directory, "socket");
    /** The environment in which a program finds this server, and only this one. */
    this.env = {
      PULSE_SERVER: `unix:${socket}`,
      PULSE_RUNTIME_PATH: join(directory, "run"),
      PULSE_COOKIE: join(directory, "cookie"),
      XDG_RUNTIME_DIR: directory,
      XDG_CONFIG_HOME: directory,
    };
    const fifo = join(directory, "microphone");
    const script = join(directory, "script.pa");
    writeFileSync(script, [
      `load-module module-native-protocol-unix auth-anonymous=1 socket=${socket}`,
      `load-module module-pipe-source source_name=microphone file=${fifo} format=s16le rate=${RATE_HZ} channels=1`,
      `load-module module-null-sink sink_name=loudspeaker rate=${RATE_HZ} norewinds=1`,
      "set-default-source microphone",
      "set-default-sink loudspeaker",
    ].join("\n"));
    // Every client must show a cookie of 256 bytes, although its content is not checked.
    writeFileSync(this.env.PULSE_COOKIE, Buffer.alloc(256));
    const flags = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no", "-F", script];
    this.process = new Process("pulseaudio", flags, { env: { ...process.env, ...this.env } });
    this.fifo = fifo;
  }

  async end() {
    this.microphone?.end();
    await this.process.end();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Makes the microphone hear `sampleAt(frame)` from now on, in real time. */
  hear(sampleAt) {
    this.microphone?.end();
    this.microphone = new Microphone(this.fifo, sampleAt);
    return this.microphone;
  }
}

/**
 * Writes sound to the microphone's pipe as time passes. The sound server reads the pipe only while a program records, so
 * until `recorded()` is called, the pipe is emptied: old sound would delay all later sound.
 */
class Microphone {
  constructor(fifo, sampleAt) {
    this.pipe = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    this.is_recorded = false;
    this.sampleAt = sampleAt;
    this.frame = 0;
    this.began_at = performance.now();
    this.timer = setInterval(() => this.write(), CHUNK_MS);
  }

  /** Writes the samples that are due by now. */
  write() {
    const due = Math.floor(((performance.now() - this.began_at) * RATE_HZ) / 1000);
    if (due <= this.frame) return;
    const samples = Int16Array.from({ length: due - this.frame }, (_, i) =>
      Math.round(32_767 * this.sampleAt(this.frame + i)));
    this.frame = due;
    if (!this.is_recorded) this.empty();
    try {
      writeSync(this.pipe, samples);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error; // the pipe is full: these samples are not heard
    }
  }

  empty() {
    try {
      while (readSync(this.pipe, Buffer.alloc(65_536)) > 0);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }

  /** A program records from now on. */
  recorded() {
    this.is_recorded = true;
  }

  end() {
    clearInterval(this.timer);
    closeSync(this.pipe);
  }
}

/** A tone of 440 Hz at -12 dBFS. */
export const tone = (frame) => 0.25 * Math.sin((2 * Math.PI * 440 * frame) / RATE_HZ);
