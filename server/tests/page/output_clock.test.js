// When sound is heard, by the figures that real browsers gave while clicks were found at the loudspeaker's monitor. Needs no
// browser.

import assert from "node:assert";
import { test } from "node:test";

import { OutputClock } from "../../web/output_clock.js";

const MS = 1e-3;

/** Looks ten times a second at a context that began at 100 s, whose `currentTime` moves on by `period`, and returns the last answer. */
function looks({ latency, period = 0.02, stamp }) {
  const clock = new OutputClock();
  let answer;
  for (let i = 1; i <= 30; i += 1) {
    const now = 100 + i * 0.1037;
    const current = Math.floor((now - 100) / period) * period;
    answer = clock.look({ now, current, latency, ...stamp({ now, current }) });
  }
  return answer;
}

function assertOffset({ offset }, expected, error) {
  assert(Math.abs(offset - expected) <= error, `${offset - 100} s after the frame is made, not ${expected - 100}`);
}

test("Chromium says which frame is heard when", () => {
  // 44 ms behind `currentTime`, and 6 ms old.
  const answer = looks({ latency: 0.032, stamp: ({ now, current }) => ({ stamp: current - 44 * MS, stamp_at: now - 6 * MS }) });
  assert.equal(answer.is_known, true);
  assertOffset(answer, 100.038 + 10 * MS, 10 * MS); // the middle of a period
});

test("Firefox's timestamps are both early by the latency, which is therefore added", () => {
  const latency = 44.5 * MS;
  const stamp = ({ now, current }) => ({ stamp: current - latency, stamp_at: now - latency });
  const answer = looks({ latency, stamp });
  assert.equal(answer.is_known, true);
  assertOffset(answer, 100 + latency, 3 * MS);
});

test("the output of WebKitGTK is not known, and its timestamps are of another clock", () => {
  const answer = looks({ latency: 0, stamp: ({ now, current }) => ({ stamp: current - 2.9 * MS, stamp_at: now + 24.7 }) });
  assert.equal(answer.is_known, false);
  assertOffset(answer, 100, 3 * MS);
});

test("a browser without timestamps is taken by its latency, and after a pause anew", () => {
  const clock = new OutputClock();
  const stamp = { stamp: 0, stamp_at: 0 };
  assertOffset(clock.look({ now: 110, current: 10, latency: 0.02, ...stamp }), 100.02, 1e-9);
  assertOffset(clock.look({ now: 130, current: 11, latency: 0.02, ...stamp }), 119.02, 1e-9);
});
