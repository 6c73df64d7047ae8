// Plays every rendition with real players, and prints what became of it for the table in docs/listening.md: `rows.js [WORD…]`
// takes the players with one of these words in their names. Each one plays a tone for ten seconds and more into a sound server
// of the test's own, or into a file; pitch, level and gaps are measured in that. Beside it, its requests and its row in the table
// of listeners.

import { chmodSync } from "node:fs";

import { Server } from "../page/support/program.js";
import { SoundServer } from "../page/support/sound.js";
import { play, requests } from "./playing.js";
import { PLAYERS } from "./players.js";
import { runAhead } from "./processes.js";
import { summary, userAgent } from "./requests.js";
import { TONE_HZ } from "./tone.js";

const SECONDS = 10;

function words({ path, failed, row, heard_seconds, hz_off, db_off, gaps }) {
  if (failed) return `${path}: failed: ${failed}`;
  const places = gaps.slice(0, 5).map(({ from, to }) => `${from.toFixed(2)}-${to.toFixed(2)}`).join(" ");
  return `${path}: ${heard_seconds.toFixed(1)} s, ${gaps.length} gaps ${places}, ${hz_off.toFixed(2)} Hz, ${db_off.toFixed(2)} dB; ` +
    `lost ${row?.lost}, ${row?.verdict}, "${row?.state}", lag ${row?.lag_seconds?.toFixed(2)} s`;
}

const wanted = process.argv.slice(2);
runAhead(process.pid);
const sound = await SoundServer.start();
runAhead(sound.process.child.pid);
chmodSync(sound.directory, 0o755); // for players that run as another user
const server = await Server.start(["--source", `tone:${TONE_HZ}`]);
for (const player of PLAYERS.filter(({ name }) => !wanted.length || wanted.some((word) => name.toLowerCase().includes(word.toLowerCase())))) {
  console.log(`\n${player.name} ${player.version()}`);
  for (const path of player.paths) {
    console.log(`  ${words(await play(player, path, server, sound, SECONDS))}`);
    const heads = await requests(player, path, server, sound);
    console.log(`    asks: ${heads.map(summary).join(" | ")}; ${userAgent(heads[0] ?? [])}`);
  }
}
await server.end();
await sound.end();
process.exit(0);
