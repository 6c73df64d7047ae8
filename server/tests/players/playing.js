// A player at work: a rendition is played, and what comes out is measured; or its requests are kept.

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { eventually, pause } from "../page/support/program.js";
import { RATE_HZ } from "../page/support/sound.js";
import { RequestLog } from "./requests.js";
import { measure } from "./tone.js";

/** The longest time until a player is heard; some buffer for ten seconds. */
const MAX_START_MS = 40_000;

function samplesOf(bytes) {
  return new Int16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);
}

/** Records the loudspeaker until `end()`. */
function loudspeaker(sound) {
  const flags = ["--device=loudspeaker.monitor", "--latency-msec=20", "--raw", "--format=s16le", `--rate=${RATE_HZ}`, "--channels=1"];
  const recorder = spawn("parec", flags, { env: { ...process.env, ...sound.env }, stdio: ["ignore", "pipe", "ignore"] });
  const chunks = [];
  recorder.stdout.on("data", (bytes) => chunks.push(bytes));
  return {
    /** Returns the samples so far. */
    samples: () => samplesOf(Buffer.concat(chunks)),
    end: () => recorder.kill(),
  };
}

function decoded(file) {
  const flags = ["-v", "error", "-nostdin", "-i", file, "-f", "s16le", "-ac", "1", "-ar", `${RATE_HZ}`, "-"];
  const { stdout } = spawnSync("ffmpeg", flags, { maxBuffer: 1 << 28 });
  return samplesOf(Buffer.from(stdout));
}

/** Plays one rendition until so much of it was heard, and returns what was measured; its row is that at the end. */
export async function play(player, path, server, sound, seconds) {
  const directory = mkdtempSync(join(tmpdir(), "aircheck-player-"));
  chmodSync(directory, 0o777);
  const name = path.split(".").at(-1);
  const speaker = player.records ? undefined : loudspeaker(sound);
  const row = (condition) => server.rowWhen(name, condition, MAX_START_MS);
  let started;
  try {
    started = await player.start(`${server.url}${path}?name=${name}`, { env: sound.env, directory, path });
    const block_seconds = (await server.json("api/v1/status")).format.block_seconds;
    await row(({ delivered }) => !speaker ? delivered * block_seconds > seconds + 1 : delivered > 0);
    if (speaker) {
      await eventually("the tone", async () => {
        await pause(500); // measuring takes time from the player
        return measure(speaker.samples()).heard_seconds > seconds;
      }, MAX_START_MS + 1000 * seconds);
    }
    const last = await row(() => true);
    if (!speaker) {
      // It completes its file.
      started.signal("SIGINT");
      await started.exit();
    }
    return { path, row: last, ...measure(speaker?.samples() ?? decoded(started.file)) };
  } catch (failed) {
    const { state } = (await server.rows()).find((each) => each.name === name) ?? {};
    return { path, failed: `${failed.message}; its row: ${state}` };
  } finally {
    speaker?.end();
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
