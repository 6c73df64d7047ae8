// A real NATS server on a free port, in a directory of its own.

import { mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Process, eventually } from "./program.js";

export class Nats extends Process {
  static async start() {
    const directory = mkdtempSync(join(tmpdir(), "aircheck-nats-"));
    const nats = new Nats("nats-server", ["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", directory]);
    nats.directory = directory;
    nats.address = await eventually("the port of nats-server", () => {
      const [file] = readdirSync(directory);
      try {
        return file && JSON.parse(readFileSync(join(directory, file), "utf8")).nats[0];
      } catch {
        return null; // it is not written to its end yet
      }
    });
    return nats;
  }

  /** The address of a subject. */
  url(subject) {
    return `${this.address}/${subject}`;
  }

  async end() {
    await super.end();
    await rm(this.directory, { recursive: true, force: true }); // it may be ended twice
  }
}
