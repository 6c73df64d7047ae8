// The player's buffer: it holds what it should, conceals what is missing, and returns to live. Needs no browser.

import assert from "node:assert";
import { test } from "node:test";

import { play, steepest } from "./support/simulation.js";

const RATE_HZ = 48_000;

function assertNoClick({ step_most }) {
  assert(step_most < steepest(RATE_HZ), `a step of ${step_most}`);
}

function assertLatency(seconds, least, most) {
  assert(seconds > least && seconds < most, `a latency of ${seconds} s, not ${least} to ${most}`);
}

test("without jitter it plays without a fault, 45 ms after capture", () => {
  const clean = play({ seconds: 10 });
  assert.equal(clean.playout.counts.late + clean.playout.counts.skips, 0);
  assertNoClick(clean);
  assertLatency(clean.latency(8, 10), 0.035, 0.055);
});

test("sound at 44.1 kHz is resampled without a fault", () => {
  const resampled = play({ seconds: 5, rate_hz: 44_100 });
  assertNoClick(resampled);
  assert.equal(resampled.playout.counts.late, 0);
});

test("single lost blocks are counted and concealed, and cost no latency", () => {
  const holes = play({ seconds: 10, lost: (number) => number % 100 === 50 });
  assert.equal(holes.playout.counts.lost, 10);
  assertNoClick(holes);
  const clean = play({ seconds: 10 }).latency(8, 10);
  assertLatency(holes.latency(8, 10), clean - 0.005, clean + 0.005);
});

test("a long loss is skipped, not filled with silence", () => {
  const skipped = play({ seconds: 10, lost: (number) => number >= 400 && number < 550 });
  assert.equal(skipped.playout.counts.lost, 150);
  assertNoClick(skipped);
  assertLatency(skipped.latency(9, 10), 0, 0.06);
});

test("a sound device that stumbles when it starts adds no latency", () => {
  const stumble = play({ seconds: 5, stalled: (now) => now > 0.1 && now < 0.15 });
  assertLatency(stumble.latency(1, 2), 0, 0.055);
  assertNoClick(stumble);
});

test("one stall of the network is heard once and adds no latency afterwards", () => {
  const stall = play({ seconds: 20, late: (_, at) => (at > 10 && at < 10.3 ? 10.3 - at : 0) });
  assert.equal(stall.playout.counts.late, 1);
  assertNoClick(stall);
  assertLatency(stall.latency(11, 12), 0, 0.07);
});

test("repeated stalls make the buffer grow until it bridges them, and it shrinks afterwards", () => {
  const habit = play({ seconds: 50, late: (_, at) => (at < 25 && at % 3 < 0.15 ? 0.15 - (at % 3) : 0) });
  const { late } = habit.playout.counts;
  assert(late >= 1 && late <= 3, `${late} underruns`);
  assertLatency(habit.latency(20, 25), 0.15, 1);
  assertLatency(habit.latency(45, 50), 0, 0.07);
  assertNoClick(habit);
});

for (const slept of [1, 20]) {
  test(`after the output stood still for ${slept} s it is live again`, () => {
    const sleep = play({ seconds: 30, stalled: (now) => now > 5 && now < 5 + slept });
    assertLatency(sleep.latency(5.5 + slept, 6 + slept), 0, 0.07);
  });
}

test("a larger or smaller buffer takes effect at once", () => {
  const wish = play({ seconds: 10, least_seconds: 0.5 });
  assertLatency(wish.latency(9, 10), 0.47, 0.53);
  wish.playout.setLeast(0.1);
  assert(wish.playout.waiting / RATE_HZ < 0.11, `${wish.playout.waiting} frames still wait`);
});

test("when no more blocks come it falls silent", () => {
  const over = play({ seconds: 6, lost: (number) => number > 300 });
  assert(over.silence > 2 * RATE_HZ, `${over.silence} silent frames`);
});

test("sound that the server calls old is skipped at once, and the sound after it is not", () => {
  const block_frames = RATE_HZ / 100;
  const comeBack = () => {
    // A fifth of a second comes at once, too little to be skipped by itself.
    const { playout } = play({ seconds: 5 });
    const first = playout.next;
    for (let number = first; number < first + 20; number += 1) {
      const samples = new Float32Array(block_frames);
      playout.push({ sequence: number, captured_at: number / 100, arrived_at: 5, samples });
    }
    assert(playout.waiting > 20 * block_frames, `${playout.waiting} frames wait`);
    return { playout, first };
  };
  const before = (sequence) => {
    const { playout, first } = comeBack();
    const { skips } = playout.counts;
    playout.dropBefore(sequence(first));
    return { waiting: playout.waiting, target: playout.target, skips: playout.counts.skips - skips };
  };
  const some = before((first) => first + 5);
  assert.equal(some.waiting, 15 * block_frames, "what is live stays");
  const all = before((first) => first + 20);
  assert(all.waiting < all.target + block_frames && all.waiting >= all.target, "as much stays as the target needs");
  assert.equal(all.skips, 1);
  const none = before(() => 0);
  assert.equal(none.skips, 0);
});
