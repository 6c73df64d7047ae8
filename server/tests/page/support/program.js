// The real server and its listeners, as processes that are ended by the test that started them.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as timer } from "node:timers/promises";

/** The limit of every wait. Nothing takes as long, however busy the machine is. */
export const TIMEOUT_MS = 60_000;

export const pause = (ms) => timer(ms);

/** Asks repeatedly until there is an answer. */
export async function eventually(what, ask, timeout_ms = TIMEOUT_MS) {
  const deadline = Date.now() + timeout_ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`timeout while waiting for ${what}`);
    await pause(20);
  }
}

/** Returns a port that is free now. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((listens) => server.on("listening", listens));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

const started = new Set();

// A failed test does not end its processes, and Node does not end before them. Only under node:test.
if (process.env.NODE_TEST_CONTEXT) {
  const { after } = await import("node:test");
  after(() => Promise.all([...started].map((process) => process.end())));
}

/** A process that ends with `end()`, or after the last test. */
export class Process {
  constructor(program, flags, options = {}) {
    this.child = spawn(program, flags, { stdio: "ignore", ...options });
    this.ended = once(this.child, "exit").then(([code]) => code);
    this.ended.catch(() => {}); // an error is reported where it is awaited
    started.add(this);
  }

  signal(name) {
    this.child.kill(name);
  }

  /** Waits until it has ended by itself, and returns its exit code. */
  async exit() {
    const limit = timer(TIMEOUT_MS, undefined, { ref: false }).then(() => {
      throw new Error(`timeout while waiting for the end of ${this.child.spawnargs.join(" ")}`);
    });
    return Promise.race([this.ended, limit]);
  }

  async end() {
    started.delete(this);
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** A running `aircheck`, of the file that AIRCHECK_PROGRAM names. */
export class Server extends Process {
  /**
   * Starts it with `flags`, on a free port unless they name one, and waits until it listens. `behind` are the words of a program
   * that runs it.
   */
  static async start(flags, { env = {}, stdin = "ignore", behind = [] } = {}) {
    const program = process.env.AIRCHECK_PROGRAM;
    if (!program) throw new Error("AIRCHECK_PROGRAM must name the program to test, as `cargo test` does");
    const inherited = Object.entries(process.env).filter(([name]) => !/^(AIRCHECK_|RUST_LOG$)/.test(name));
    const listen = flags.includes("--listen") ? [] : ["--listen", "127.0.0.1:0"];
    const [first, ...others] = [...behind, program, ...flags, ...listen];
    const server = new Server(first, others, {
      stdio: [stdin, "pipe", "pipe"],
      // Not the sound server of this machine.
      env: { ...Object.fromEntries(inherited), PULSE_SERVER: "unix:/nonexistent/pulse.sock", NO_COLOR: "1", ...env },
    });
    let log = "";
    server.child.stderr.on("data", (text) => (log += text));
    const lines = createInterface(server.child.stdout);
    const line = await Promise.race([once(lines, "line").then(([line]) => line), server.ended]);
    server.url = /^listening on (http:\S+)$/.exec(line)?.[1];
    if (!server.url) throw new Error(`aircheck does not start: ${log}`);
    server.port = Number(new URL(server.url).port);
    return server;
  }

  async json(path) {
    const response = await fetch(new URL(path, this.url));
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return response.json();
  }

  rows() {
    return this.json("api/v1/listeners");
  }

  /** Waits for a row of the listener called `name` that meets `condition`, and returns it. */
  rowWhen(name, condition = () => true, timeout_ms = TIMEOUT_MS) {
    return eventually(`a row for ${name}`, async () =>
      (await this.rows()).find((row) => row.name === name && condition(row)), timeout_ms);
  }

  async disconnect(id) {
    const response = await fetch(new URL(`api/v1/listeners/${id}`, this.url), { method: "DELETE" });
    if (!response.ok) throw new Error(`listener ${id}: ${response.status}`);
  }

  /** Starts a listener of `path` and waits for its row. */
  async listener(name, path = "stream.wav") {
    const url = new URL(path, this.url);
    url.searchParams.set("name", name);
    const listener = new Process("curl", ["--silent", "--output", "/dev/null", url.href]);
    await this.rowWhen(name);
    return listener;
  }
}
