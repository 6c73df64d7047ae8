// When a frame of the audio context is heard, by what the browser tells of its output. All times are in seconds.
//
// - Chromium's `getOutputTimestamp` says which frame is heard when, so that nothing else is needed.
// - Firefox's two times are both earlier by `outputLatency`, so together they tell nothing of the output (Web Audio API, issue
//   2461). But `outputLatency` is right, and `currentTime` is what is on its way now. It moves on by a period of the sound card
//   at a time, so the earliest of several looks is the true one.
// - WebKitGTK has an `outputLatency` of 0, and nobody can say how long its output takes.

const MEDIAN_OF = 9; // timestamps; single ones jump by a period of the sound card
const LEAST_OF = 20; // looks; ten a second, at any moment of a period
const JUMP_SECONDS = 0.1; // more than a period: the context stood still meanwhile
const MAX_ERROR_SECONDS = 0.25; // a timestamp that contradicts the other figures by more is wrong

export class OutputClock {
  constructor() {
    this.stamped = [];
    this.current = [];
  }

  /**
   * Takes a look at the context: at `now` its `current` time, the output's `latency`, and that at the time `stamp_at` the frame
   * of the time `stamp` is heard. Returns what to add to a time of the context to get the time at which its sound is heard, and
   * whether the output is known: otherwise it is heard some time later than that.
   */
  look({ now, current, latency, stamp, stamp_at }) {
    const passed = add(this.current, now - current, LEAST_OF);
    const offset = stamp_at - stamp;
    const on_its_way = offset - (now - current);
    const is_possible = stamp > 0 && Math.abs(on_its_way - latency) < MAX_ERROR_SECONDS;
    if (is_possible && latency > 0 && on_its_way > latency / 2) {
      const offsets = add(this.stamped, offset, MEDIAN_OF);
      return { offset: offsets.toSorted((a, b) => a - b)[offsets.length >> 1], is_known: true };
    }
    return { offset: Math.min(...passed) + latency, is_known: latency > 0 };
  }
}

/** Adds to the latest values, and forgets them all if this one jumps. Returns them. */
function add(values, value, most) {
  if (Math.abs(value - values.at(-1)) > JUMP_SECONDS) values.length = 0;
  values.push(value);
  if (values.length > most) values.shift();
  return values;
}
