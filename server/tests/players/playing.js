// A player at work: a rendition is played, and what comes out is measured; or its requests are kept.

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { eventually, pause } from "../page/support/program.js";
import { RATE_HZ } from "../page/support/sound.js";
import { RequestLog } from "./requests.js";
import { measure } from "./tone.js";

function samplesOf(bytes) {
  return new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
}

/** Records the loudspeaker until `end()`, which returns the samples. */
function loudspeaker(sound) {
  const flags = ["--device=loudspeaker.monitor", "--latency-msec=20", "--raw", "--format=s16le", `--rate=${RATE_HZ}`, "--channels=1"];
  const recorder = spawn("parec", flags, { env: { ...process.env, ...sound.env }, stdio: ["ignore", "pipe", "ignore"] });
  const chunks = [];
  recorder.stdout.on("data", (bytes) => chunks.push(bytes));
  return {
    end: () => {
      recorder.kill();
      return samplesOf(Buffer.concat(chunks));
    },
  };
}

function decoded(file) {
  const flags = ["-v", "error", "-nostdin", "-i", file, "-f", "s16le", "-ac", "1", "-ar", `${RATE_HZ}`, "-"];
  const { stdout } = spawnSync("ffmpeg", flags, { maxBuffer: 1 << 28 });
  return samplesOf(Buffer.from(stdout));
}

/** Plays one rendition for `span_ms` and returns what was measured; its row is that at the end. */
export async function play(player, path, server, sound, span_ms) {
  const directory = mkdtempSync(join(tmpdir(), "aircheck-player-"));
  chmodSync(directory, 0o777);
  const name = path.split(".").at(-1);
  const recorder = player.records ? undefined : loudspeaker(sound);
  let started;
  try {
    started = await player.start(`${server.url}${path}?name=${name}`, { env: sound.env, directory, path });
    await server.rowWhen(name, (row) => row.delivered > 0, 15_000);
    await pause(span_ms);
    const row = (await server.rows()).find((each) => each.name === name);
    const samples = recorder?.end();
    if (player.records) {
      // It completes its file.
      started.signal("SIGINT");
      await started.exit();
    }
    return { path, row, ...measure(samples ?? decoded(started.file)) };
  } catch (failed) {
    return { path, failed: failed.message };
  } finally {
    recorder?.end();
    await started?.end();
    await eventually("the listener's end", async () => (await server.rows()).length === 0);
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Returns the requests that a player makes for a rendition. */
export async function requests(player, path, server, sound) {
  const log = await RequestLog.to(server.port);
  const directory = mkdtempSync(join(tmpdir(), "aircheck-player-"));
  chmodSync(directory, 0o777);
  let started;
  try {
    started = await player.start(`${log.url}${path}`, { env: sound.env, directory, path });
    await pause(5000);
  } catch {
    // It is told where it plays.
  } finally {
    await started?.end();
    log.end();
    await eventually("the listener's end", async () => (await server.rows()).length === 0);
    rmSync(directory, { recursive: true, force: true });
  }
  return log.heads;
}
