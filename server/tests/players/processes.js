// Players with all that they start, and the priority at which they are measured.

import { spawnSync } from "node:child_process";

import { Process } from "../page/support/program.js";

/** A player as a group of processes: some read by a process of their own, which outlives them. */
export class Player extends Process {
  constructor(program, flags, { env = {}, ...options } = {}) {
    super(program, flags, { stdio: "ignore", ...options, detached: true, env: { ...process.env, ...env } });
  }

  async end() {
    try {
      process.kill(-this.child.pid, "SIGKILL");
    } catch {
      // All of them have ended.
    }
    await super.end();
  }
}

/**
 * Runs a process, and those that it starts from now on, ahead of all others, so that a busy machine is not taken for a fault of a
 * player. Root may do that.
 */
export function runAhead(pid) {
  spawnSync("chrt", ["--all-tasks", "--rr", "--pid", "5", `${pid}`], { stdio: "ignore" });
}
