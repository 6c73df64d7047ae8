// Estimates the time of the server. Each question and its answer bound the offset between the two clocks from both sides;
// the quickest round trip bounds it best.

const KEEP = 32;
const DRIFT = 100e-6; // of two ordinary clocks, in seconds per second: the error of an exchange grows at this rate

/** Returns the step by which this browser's clock moves on, in seconds: some make it coarse, against spying. */
export function resolution() {
  const steps = Array.from({ length: 3 }, () => {
    const [first, then] = [nextTick(), nextTick()];
    return then - first;
  });
  return Math.min(...steps) / 1000;
}

function nextTick() {
  const before = performance.now();
  for (;;) {
    const now = performance.now();
    if (now !== before) return now;
  }
}

export class Clock {
  exchanges = [];

  /** `resolution` is that of our clock, in seconds: a round trip that seems to take no time may take as much. */
  constructor(resolution = 0) {
    this.resolution = resolution;
  }

  /** Adds an exchange, in seconds: `asked` at our time, answered with the time `server`, which came at `answered`. */
  learn(asked, server, answered) {
    const fresh = { offset: server - (asked + answered) / 2, error: (answered - asked) / 2 + this.resolution, at: answered };
    // Two exchanges that contradict each other mean that a clock was set, or stood still while the machine slept.
    const agrees = (old) => Math.abs(old.offset - fresh.offset) <= old.error + fresh.error + age(old, answered);
    this.exchanges = this.exchanges.filter(agrees).slice(1 - KEEP);
    this.exchanges.push(fresh);
  }

  /** Returns server time minus ours and its maximum error; `null` before the first answer. */
  estimate(now) {
    let best = null;
    for (const { offset, error, at } of this.exchanges) {
      const error_now = error + age({ at }, now);
      if (!best || error_now < best.error) best = { offset, error: error_now };
    }
    return best;
  }
}

const age = ({ at }, now) => DRIFT * Math.max(0, now - at);
