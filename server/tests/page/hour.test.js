// After an hour the player is as close to live as at its start, although no two clocks agree and no network is even.
// Rates are low and no sound is computed, for the sake of time: only the ratio of the clocks counts. Needs no browser.

import assert from "node:assert";
import { test } from "node:test";

import { play } from "./support/simulation.js";

/** Returns the lateness of blocks by their number: up to 12 ms, and 30 ms for one block in two seconds. */
function jitter() {
  let random = 1;
  return (number) => {
    random = (random * 16_807) % 2_147_483_647;
    return number % 97 === 0 ? 0.03 : 0.012 * (random / 2_147_483_647);
  };
}

const cases = [
  { title: "equal rates", rate_hz: 2000, output_hz: 2000 },
  // The ratios of 44.1 kHz to 48 kHz, and back.
  { title: "44.1 to 48 kHz with jitter", rate_hz: 7350, output_hz: 8000, block_seconds: 0.02, jitters: true },
  { title: "48 to 44.1 kHz with jitter", rate_hz: 8000, output_hz: 7350, block_seconds: 0.02, jitters: true },
];

for (const { title, jitters, ...rates } of cases) {
  for (const drift of [200e-6, -200e-6]) { // more than cheap clocks differ
    test(`an hour at ${title}, drift ${1e6 * drift} ppm`, () => {
      const late = jitters ? jitter() : undefined;
      const hour = play({ seconds: 3600, drift, late, only_timing: true, ...rates });
      // In the first minute it learns the jitter.
      const interrupted_at = hour.interrupted_at.filter((at) => at > 60);
      assert.deepEqual(interrupted_at, []);
      const minutes = Array.from({ length: 59 }, (_, minute) => hour.latency(60 * (minute + 1), 60 * (minute + 2)));
      const [first, last] = [minutes[0], minutes.at(-1)];
      assert(Math.abs(first - last) < 0.005, `a latency of ${first} s at first, ${last} s an hour later`);
      const spread = Math.max(...minutes) - Math.min(...minutes);
      assert(spread < 0.01, `the latency moves by ${spread} s`);
    });
  }
}
