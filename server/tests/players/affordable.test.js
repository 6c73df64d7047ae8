// Players that every machine with these tests has play every rendition at the pitch and the level of its source. Those that write a
// file lose nothing. What a browser plays may be interrupted on a busy machine, and is measured where it is not.

import assert from "node:assert";
import { after, before, test } from "node:test";

import { Server } from "../page/support/program.js";
import { SoundServer } from "../page/support/sound.js";
import { play } from "./playing.js";
import { PLAYERS } from "./players.js";
import { TONE_HZ } from "./tone.js";

let server, sound;

before(async () => {
  sound = await SoundServer.start();
  // No machine is so busy that a player misses this buffer.
  server = await Server.start(["--source", `tone:${TONE_HZ}`, "--buffer", "10s", "--history", "20s"]);
});

after(async () => {
  await server?.end();
  await sound?.end();
});

for (const name of ["curl", "ffmpeg", "Chromium"]) {
  const player = PLAYERS.find((each) => each.name === name);
  for (const path of player.paths) {
    test(`${name} plays ${path}`, async () => {
      const { failed, row, hz_off, db_off, gaps } = await play(player, path, server, sound, 2);
      assert.equal(failed, undefined);
      assert.ok(Math.abs(hz_off) < 0.1, `its pitch is off by ${hz_off} Hz`);
      assert.ok(Math.abs(db_off) < 0.1, `its level is off by ${db_off} dB`);
      assert.equal(row.lost, 0);
      if (player.records) assert.deepEqual(gaps, [], "it is interrupted");
    });
  }
}
