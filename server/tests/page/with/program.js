// The real program, and those who listen to it: each a process of its own that is ended by whoever started it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Nothing takes as long as this, however busy the machine is. */
export const PATIENCE_MS = 60_000;

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks again until there is an answer. */
export async function eventually(what, ask, patience_ms = PATIENCE_MS) {
  const deadline = Date.now() + patience_ms;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`${what} did not come`);
    await pause(20);
  }
}

const started = new Set();

// A test that fails ends nothing that it has started, and while that runs, neither does this. Not for what is no test.
if (process.env.NODE_TEST_CONTEXT) {
  const { after } = await import("node:test");
  after(() => Promise.all([...started].map((process) => process.end())));
}

/** A process, ended by whoever started it, or else with the last test. */
export class Process {
  constructor(program, flags, options = {}) {
    this.child = spawn(program, flags, { stdio: "ignore", ...options });
    this.ended = once(this.child, "exit").then(([code]) => code);
    this.ended.catch(() => {}); // it is told to whoever waits for it
    started.add(this);
  }

  signal(name) {
    this.child.kill(name);
  }

  async end() {
    started.delete(this);
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** A running `aircheck`: the one that AIRCHECK_PROGRAM says. */
export class Server extends Process {
  /** Starts it with `flags`, on a free port unless they say which, and waits until it listens. */
  static async start(flags, { env = {}, stdin = "ignore" } = {}) {
    const program = process.env.AIRCHECK_PROGRAM;
    if (!program) throw new Error("AIRCHECK_PROGRAM has to say which program is to be tried; `cargo test` does");
    const inherited = Object.entries(process.env).filter(([name]) => !/^(AIRCHECK_|RUST_LOG$)/.test(name));
    const listen = flags.includes("--listen") ? [] : ["--listen", "127.0.0.1:0"];
    const server = new Server(program, [...flags, ...listen], {
      stdio: [stdin, "pipe", "pipe"],
      // No sound server of the machine that this runs on.
      env: { ...Object.fromEntries(inherited), PULSE_SERVER: "unix:/nonexistent/pulse.sock", NO_COLOR: "1", ...env },
    });
    let log = "";
    server.child.stderr.on("data", (text) => (log += text));
    const lines = createInterface(server.child.stdout);
    const first = await Promise.race([once(lines, "line").then(([line]) => line), server.ended]);
    server.url = /^listening on (http:\S+)$/.exec(first)?.[1];
    if (!server.url) throw new Error(`it does not start: ${log}`);
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

  /** The row of the listener called `name`, once there is one with `condition`. */
  rowWhen(name, condition = () => true, patience_ms = PATIENCE_MS) {
    return eventually(`a row for ${name}`, async () =>
      (await this.rows()).find((row) => row.name === name && condition(row)), patience_ms);
  }

  async disconnect(id) {
    const response = await fetch(new URL(`api/v1/listeners/${id}`, this.url), { method: "DELETE" });
    if (!response.ok) throw new Error(`listener ${id}: ${response.status}`);
  }

  /** A listener of /stream.wav. */
  async listener(name, query = "") {
    const url = new URL(`stream.wav?name=${encodeURIComponent(name)}${query}`, this.url);
    const listener = new Process("curl", ["--silent", "--output", "/dev/null", url.href]);
    await this.rowWhen(name);
    return listener;
  }
}
