// What the arrival of blocks tells of the way between the server and here: whether it carries all, and whether something on it
// gathers them, as proxies do that buffer. Times are in seconds.

const BASE_SECONDS = 300; // for so long the quickest block is remembered
const BASE_PARTS = 10;
const PAUSE_SECONDS = 0.15; // and at least three blocks: a shorter one is jitter
const PAUSE_BLOCKS = 3;
const WINDOW_SECONDS = 10;
const PAUSED_SHARE = 0.8; // of that time without a block: then it is no accident
const MIN_PAUSES = 3;

export class Arrivals {
  constructor() {
    this.bases = []; // the least age in each part of `BASE_SECONDS`
    this.renew();
  }

  /** Begins with a new connection. The quickest block of those before stays. */
  renew() {
    this.came_at = null;
    this.pauses = []; // {at, seconds}
    this.begin();
  }

  begin() {
    this.least = null;
    this.bits = 0;
  }

  /** A block of `block_seconds` came at `now`, `age` after its capture, or `null` if the server's clock is not known yet. */
  arrived({ age, now, bytes, block_seconds }) {
    const pause = now - (this.came_at ?? now);
    this.came_at = now;
    if (pause > Math.max(PAUSE_SECONDS, PAUSE_BLOCKS * block_seconds)) this.pauses.push({ at: now, seconds: pause });
    this.bits += 8 * bytes;
    if (age !== null) this.least = Math.min(this.least ?? Infinity, age);
  }

  /**
   * Ends a second. Returns `late`, by how much its quickest block was later than the quickest of the last minutes, `null` if
   * none came; the `bits` that came; and `gathered_seconds`, for how long something on the way gathers blocks, 0 if nothing does.
   */
  second(now) {
    const { least, bits } = this;
    this.begin();
    if (least !== null) this.remember(least, now);
    const base = Math.min(...this.bases.map((part) => part.least));
    return { late: least === null ? null : least - base, bits, gathered_seconds: this.gathered(now) };
  }

  remember(least, now) {
    const part = Math.floor(now / (BASE_SECONDS / BASE_PARTS));
    const latest = this.bases.at(-1);
    if (latest?.part === part) latest.least = Math.min(latest.least, least);
    else this.bases = [...this.bases, { part, least }].slice(-BASE_PARTS);
  }

  gathered(now) {
    this.pauses = this.pauses.filter(({ at, seconds }) => at - seconds > now - WINDOW_SECONDS);
    if (this.pauses.length < MIN_PAUSES) return 0;
    const paused = this.pauses.reduce((sum, { seconds }) => sum + seconds, 0);
    const since = this.pauses[0].at - this.pauses[0].seconds;
    const is_all = this.came_at - since > WINDOW_SECONDS / 2 && paused > PAUSED_SHARE * (this.came_at - since);
    return is_all ? Math.max(...this.pauses.map(({ seconds }) => seconds)) : 0;
  }
}
