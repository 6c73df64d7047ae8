// What the arrival of blocks tells of the way. Needs no browser.

import assert from "node:assert";
import { test } from "node:test";

import { Arrivals } from "../../web/arrivals.js";

const BLOCK_SECONDS = 0.01;

/** Lets blocks arrive for `seconds`, each as late as `late(captured_at)` says and none before another; returns each second. */
function arrive(seconds, late, arrivals = new Arrivals()) {
  const told = [];
  let before = 0;
  for (let block = 0; block * BLOCK_SECONDS < seconds; block += 1) {
    const captured_at = block * BLOCK_SECONDS;
    const now = Math.max(before, captured_at + late(captured_at));
    while (told.length + 1 <= now) told.push(arrivals.second(told.length + 1));
    before = now;
    arrivals.arrived({ age: now - captured_at, now, bytes: 150, block_seconds: BLOCK_SECONDS });
  }
  return told;
}

test("on an even way nothing is late, and all bits are counted", () => {
  // In the first second, the first block is on its way.
  for (const { late, bits, gathered_seconds } of arrive(30, () => 0.1).slice(1)) {
    assert(late < 1e-9);
    assert(Math.abs(bits - 120_000) < 2_000, `${bits}`);
    assert.equal(gathered_seconds, 0);
  }
});

test("a way that carries too little is later and later", () => {
  const seconds = arrive(10, (at) => 0.02 + 0.2 * at);
  assert(seconds.every(({ late }, i) => i === 0 || late > seconds[i - 1].late));
  assert(seconds.at(-1).late > 1);
});

test("a proxy that passes blocks on every 0.7 s is found, and it is not late", () => {
  const seconds = arrive(30, (at) => 0.02 + 0.7 - (at % 0.7));
  const { late, gathered_seconds } = seconds.at(-1);
  assert(Math.abs(gathered_seconds - 0.7) < 0.02, `${gathered_seconds}`);
  assert(late < 0.05, `${late}`);
  assert(seconds.findIndex((second) => second.gathered_seconds > 0) <= 8);
});

test("it is said no longer once the proxy stops that", () => {
  const arrivals = new Arrivals();
  const seconds = arrive(60, (at) => 0.02 + (at < 30 ? 0.7 - (at % 0.7) : 0), arrivals);
  assert(seconds[29].gathered_seconds > 0);
  assert.equal(seconds[45].gathered_seconds, 0);
});

test("pauses of a bad network are no proxy", () => {
  for (const late of [
    (at) => (at % 2 < 0.5 ? 0.5 - (at % 2) : 0), // half a second each two
    (at) => 0.1 * Math.abs(Math.sin(7 * at)),
    (at) => (at > 5 && at < 9 ? 9 - at : 0),
  ]) {
    assert(arrive(30, late).every(({ gathered_seconds }) => gathered_seconds === 0));
  }
});

test("without a block nothing is known, and the quickest block of minutes ago is forgotten", () => {
  const arrivals = new Arrivals();
  assert.equal(arrivals.second(1).late, null);
  const seconds = arrive(700, (at) => (at < 100 ? 0.05 : 0.45), arrivals);
  assert(Math.abs(seconds[150].late - 0.4) < 0.01);
  assert(seconds[600].late < 0.01);
});
