// Measures how much sound has to be buffered so that late blocks are still in time.

const WINDOW_SECONDS = 16; // long enough to see a pattern, short enough to forget it
/** For what the audio thread takes at a time and the end of the resampling filter, with a reserve. */
const MARGIN_SECONDS = 0.005;
const MARGIN_SHARE = 0.15; // of the jitter: later blocks may be later still
/** A block that seems to come early by more than this shows that a clock stood still. */
const EARLY_SECONDS = 0.05;
/** A pause of this length is no jitter. */
const PAUSE_SECONDS = 1;

/** Measures how late each block is, compared with the one that came quickest. */
export class Jitter {
  constructor(block_seconds) {
    this.block_seconds = block_seconds;
    this.reset();
  }

  reset() {
    this.seconds = []; // one entry a second: the least and the largest lateness, their sum and number
    this.base = -Infinity; // the least lateness before this second
    this.came_at = -Infinity;
    this.needed_seconds = 0;
    this.worst_seconds = 0;
  }

  /** A block came at `now`, and `late` seconds after some moment that is the same for all blocks. */
  arrived(late, now) {
    if (now - this.came_at > PAUSE_SECONDS) this.reset();
    if (late < this.base - EARLY_SECONDS) this.reset();
    this.came_at = now;
    const second = Math.floor(now);
    let latest = this.seconds.at(-1);
    if (latest?.second !== second) {
      latest = { second, least: Infinity, most: -Infinity, sum: 0, blocks: 0 };
      this.base = this.seconds.reduce((base, { least }) => Math.min(base, least), late);
      this.seconds.push(latest);
      if (this.seconds.length > WINDOW_SECONDS) this.seconds.shift();
    }
    latest.sum += late;
    latest.blocks += 1;
    if (late >= latest.least && late <= latest.most) return; // no new extreme
    latest.least = Math.min(latest.least, late);
    latest.most = Math.max(latest.most, late);
    this.judge();
  }

  judge() {
    let [base, sum, blocks, first, second] = [Infinity, 0, 0, -Infinity, -Infinity];
    for (const each of this.seconds) {
      base = Math.min(base, each.least);
      sum += each.sum;
      blocks += each.blocks;
      if (each.most > first) [first, second] = [each.most, first];
      else if (each.most > second) second = each.most;
    }
    this.worst_seconds = first - base;
    // One late second is an accident, two are a pattern. Half a block, because the level falls by one between two blocks.
    const usual = Number.isFinite(second) ? second : first;
    const margin = MARGIN_SECONDS + MARGIN_SHARE * (usual - base);
    this.needed_seconds = usual - sum / blocks + this.block_seconds / 2 + margin;
  }
}
