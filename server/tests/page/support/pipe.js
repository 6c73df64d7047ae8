// A program that writes a tone into the pipe of `--source stdin`, at the pace of its sound. Node's own pipes are sockets, of
// which the server does not know what waits in them.

import { execFileSync } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";

const PERIOD_MS = 10;
const FRAMES = 480;

/** Returns a period of a tone of 1 kHz in stereo. */
function period() {
  const samples = Buffer.alloc(4 * FRAMES);
  for (let frame = 0; frame < FRAMES; frame += 1) {
    const sample = Math.round(6000 * Math.sin((2 * Math.PI * frame) / 48));
    samples.writeInt16LE(sample, 4 * frame);
    samples.writeInt16LE(sample, 4 * frame + 2);
  }
  return samples;
}

export class TonePipe {
  /** Makes the pipe at `path` and begins to write. `fd` is to be the server's stdin. */
  constructor(path) {
    execFileSync("mkfifo", [path]);
    this.fd = openSync(path, "r+");
    this.paused = false;
    const samples = period();
    const start = performance.now();
    let written = 0;
    this.timer = setInterval(() => {
      for (; start + PERIOD_MS * written < performance.now(); written += 1) if (!this.paused) writeSync(this.fd, samples);
    }, PERIOD_MS / 2);
  }

  end() {
    clearInterval(this.timer);
    closeSync(this.fd);
  }
}
