// A program that writes a tone into the pipe of `--source stdin`, at the pace of its sound. Node's own pipes are sockets, of
// which the server does not know what waits in them.

import { execFileSync } from "node:child_process";
import { openSync } from "node:fs";

import { Process } from "./program.js";

const TONE = ["-v", "error", "-re", "-f", "lavfi", "-i", "sine=1000:r=48000", "-ac", "2", "-f", "s16le", "-"];

/** The writer, a process of its own: this one may stand still while it drives the browser. */
export class TonePipe extends Process {
  /** Makes the pipe at `path` and begins to write. Its `fd` is to be the server's stdin. */
  static start(path) {
    execFileSync("mkfifo", [path]);
    // For both ends, so that opening it does not wait.
    const fd = openSync(path, "r+");
    return Object.assign(new TonePipe("ffmpeg", TONE, { stdio: ["ignore", fd, "ignore"] }), { fd });
  }

  pause() {
    this.signal("SIGSTOP");
  }

  resume() {
    this.signal("SIGCONT");
  }
}
