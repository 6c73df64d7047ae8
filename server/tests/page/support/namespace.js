// A network namespace at the far end of a wire, whose speed the test sets. To make one takes the rights of root, and the programs
// `ip` and `tc`.

import { execFileSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Runs a program ahead of others, so that nothing but the wire is slow, also on a loaded machine. Takes the rights of root, too. */
export const PRIORITY = ["nice", "-n", "-15"];

const run = (program, ...args) => execFileSync(program, args, { stdio: ["ignore", "pipe", "pipe"] });

export class Namespace {
  /** Makes a namespace; without the rights for it, returns why there is none. Under CI, that is an error. */
  static make() {
    const namespace = new Namespace();
    try {
      namespace.connect();
      return { namespace };
    } catch (error) {
      namespace.remove();
      if (process.env.CI) throw error;
      return { namespace: null, why: `no network namespace can be made here: ${error.stderr ?? error.message}` };
    }
  }

  constructor() {
    const number = process.pid;
    [this.name, this.near, this.far] = ["n", "a", "b"].map((part) => `page${number}${part}`);
    // From the range for measurements between networks (RFC 2544), which no network uses.
    const network = `198.19.${number % 256}`;
    const host = 4 * ((number >> 8) % 64);
    [this.address, this.far_address] = [1, 2].map((which) => `${network}.${host + which}`);
  }

  connect() {
    run("ip", "netns", "add", this.name);
    run("ip", "link", "add", this.near, "type", "veth", "peer", "name", this.far, "netns", this.name);
    run("ip", "address", "add", `${this.address}/30`, "dev", this.near);
    run("ip", "link", "set", this.near, "up");
    const within = (...args) => run("ip", "-netns", this.name, ...args);
    within("address", "add", `${this.far_address}/30`, "dev", this.far);
    within("link", "set", this.far, "up");
    within("link", "set", "lo", "up");
  }

  /** Lets the wire carry so many bits a second towards the namespace, with as long a queue as routers have. */
  narrow(bits_per_second) {
    this.widen();
    run("tc", "qdisc", "add", "dev", this.near, "root", "tbf", "rate", `${bits_per_second}bit`, "burst", "4kb", "latency", "400ms");
    this.is_narrow = true;
  }

  /** Lets it carry everything. */
  widen() {
    if (this.is_narrow) run("tc", "qdisc", "del", "dev", this.near, "root");
    this.is_narrow = false;
  }

  /** Writes a program into `directory` that runs `program` in the namespace and ahead of others, and returns its path. */
  within(directory, program) {
    const file = join(directory, "within");
    writeFileSync(file, `#!/bin/sh\nexec ip netns exec ${this.name} ${PRIORITY.join(" ")} ${program} "$@"\n`);
    chmodSync(file, 0o755);
    return file;
  }

  remove() {
    for (const args of [["link", "delete", this.near], ["netns", "delete", this.name]]) {
      try {
        run("ip", ...args);
      } catch {
        // It was not made.
      }
    }
  }
}
