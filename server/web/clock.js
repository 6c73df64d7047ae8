// What time it is at the server. Each question and its answer bound the offset between the two clocks from both sides;
// the quickest round trip bounds it best.

const KEEP = 32;
const DRIFT = 100e-6; // how far two ordinary clocks part, in seconds a second: what was learned ages at this rate

export class Clock {
  exchanges = [];

  /** The server said `server` to a question asked at `asked`, and that was heard at `answered`; all in seconds. */
  learn(asked, server, answered) {
    const fresh = { offset: server - (asked + answered) / 2, error: (answered - asked) / 2, at: answered };
    // Two that can't both be right: one of the clocks was set, or stood still while the machine slept.
    const agrees = (old) => Math.abs(old.offset - fresh.offset) <= old.error + fresh.error + age(old, answered);
    this.exchanges = this.exchanges.filter(agrees).slice(1 - KEEP);
    this.exchanges.push(fresh);
  }

  /** Server time minus ours, and how wrong that may be at most; `null` while nothing is known. */
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
