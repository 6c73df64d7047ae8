// The player's buffer: blocks come when they come, sound goes out evenly, and as close to live as that allows.
//
// - How much waits is held at a target by playing a little faster or slower, which also evens out that the source's
//   clock and ours differ. The target follows the jitter, and is never below what the listener asked for.
// - Far above the target, as after a pause, it skips to live.
// - Where sound is missing, or does not come in time, the last sound goes on and fades out, and the next one fades in.
//
// It knows no browser: time is the count of frames put out, so an hour passes as fast as it is computed.

import { goOn } from "./conceal.js";
import { Jitter } from "./jitter.js";
import { Resampler } from "./resampler.js";
import { Ring } from "./ring.js";

const RING_SECONDS = 2.5;
const TARGET_MOST = 1.5; // must fit into the ring with room for a block and a skip

const FASTER_MOST = 0.005; // 9 cents, which nobody hears, and more than two clocks ever differ
const PULL_SECONDS = 10; // an excess is worn down in about this time
const LEARN_SECONDS = 4 * PULL_SECONDS; // the difference of the clocks is learned in this: critically damped
const SMOOTH_SECONDS = 1;

const EXCESS_SECONDS = 0.06; // more than this above the target is skipped; less is gone in 12 s at 0.5 %
const LOOK_SECONDS = 0.25; // if it has been there for so long; a burst comes before a pause
const SETTLING_SECONDS = 1; // of sound after a silence: what a device that stumbles as it starts leaves behind
const SETTLING_EXCESS_SECONDS = 0.005; // goes at once, for a skip is not heard among the first sounds
const STALE_SECONDS = 0.3; // but so much is skipped at once: nobody took any sound out for a while
const LIFT_SECONDS = 0.03; // a target raised by hand by more than this is waited for, not crept up to

const BLEND_SECONDS = 0.01;
const FADE_SECONDS = 0.005;
const TAIL_SECONDS = 0.04; // as long as the last sound goes on

/** What is happening. */
export const FILLING = "filling"; // silence, until there is enough to begin with
export const PLAYING = "playing";
export const ENDING = "ending"; // nothing came in time; the last sound fades out

/** Blocks that came, blocks that never do; how often it ran dry and skipped to live, and how much. */
const noCounts = () => ({ blocks: 0, lost: 0, late: 0, skips: 0, skipped_seconds: 0 });

export class Playout {
  constructor({ rate_hz, output_hz, channels, block_frames, least_seconds }) {
    Object.assign(this, { rate_hz, output_hz, channels, block_frames, least_seconds });
    this.ring = new Ring(channels, RING_SECONDS * rate_hz);
    this.resampler = new Resampler(rate_hz, output_hz);
    this.jitter = new Jitter(block_frames / rate_hz);
    this.position = 0; // in the ring, of what is put out next
    this.ghost = 0; // likewise, of what is blended out after a skip
    this.blending = 0; // frames of output that this goes on for
    this.state = FILLING;
    this.gain = 0;
    this.faster = 0;
    this.learned = 0;
    this.playing_seconds = 0; // since it was silent
    this.level = 0; // frames that wait, smoothed
    this.clock = 0; // frames that time has passed for, sounding or not
    this.output_frames = 0;
    this.tail_end = 0; // in the ring, where the sound that was made up has ended
    this.marks = []; // where blocks begin in the ring
    this.begun = null; // the last block that began to sound
    this.first_at = null;
    this.next = null; // the number that is due
    this.watch();
    this.counts = noCounts();
  }

  get target_seconds() {
    return Math.min(TARGET_MOST, Math.max(this.least_seconds, this.jitter.needed_seconds));
  }

  get target() {
    return this.target_seconds * this.rate_hz;
  }

  get waiting() {
    return this.ring.written - this.position;
  }

  /** The listener's wish. */
  setLeast(seconds) {
    const before = this.target;
    this.least_seconds = seconds;
    if (this.state !== PLAYING) return;
    if (this.target - before > LIFT_SECONDS * this.rate_hz) this.state = FILLING;
    else if (this.target < before) this.trim();
  }

  /** A new connection: what comes next follows on nothing. */
  rejoin() {
    this.next = null;
    this.jitter.reset();
  }

  /** Silence at once, and as if nothing had come. */
  reset() {
    this.rejoin();
    this.state = FILLING;
    this.gain = this.blending = this.faster = this.learned = 0;
    this.marks.length = 0;
    this.begun = this.first_at = null;
    this.position = this.ring.written;
    this.counts = noCounts();
  }

  // ---- what comes in ---------------------------------------------------------------------

  /**
   * A block, or a part of one: `number` goes up by one from each to the next if none is missing. `ahead` says by how
   * many seconds its sound is older than the block whose `sequence` it has, and is `null` within a block.
   */
  push({ sequence, number = sequence, captured_at, arrived_at, ahead = 0, samples }) {
    const missing = this.next === null ? 0 : number - this.next;
    if (missing < 0) return; // it came before
    const follows = this.next !== null && missing === 0;
    this.next = number + 1;
    this.counts.blocks += 1;
    this.counts.lost += missing;
    if (!follows && this.ring.written > 0) this.bridge(missing * this.block_frames, samples);
    if (ahead !== null) this.marks.push({ position: this.ring.written, sequence, captured_at, arrived_at, ahead });
    this.ring.write(samples);
    this.jitter.arrived((this.clock - number * this.block_frames) / this.rate_hz, this.output_frames / this.output_hz);
    this.makeRoom();
  }

  /** Fills what is missing as far as time has not passed over it, and leads over into `samples`. */
  bridge(missing, samples) {
    const room = this.state === PLAYING ? this.target + this.block_frames - this.waiting : 0;
    const fill = Math.max(0, Math.min(missing, Math.floor(room)));
    const frames = samples.length / this.channels;
    const blend = Math.min(frames, Math.ceil(BLEND_SECONDS * this.rate_hz));
    const made_up = goOn(this.ring, fill + blend, this.rate_hz);
    const filling = new Float32Array(this.channels * fill);
    for (let channel = 0; channel < this.channels; channel += 1) {
      const from = channel * (fill + blend);
      filling.set(made_up.subarray(from, from + fill), channel * fill);
      for (let frame = 0; frame < blend; frame += 1) {
        const share = (frame + 1) / (blend + 1);
        const i = channel * frames + frame;
        samples[i] = share * samples[i] + (1 - share) * made_up[from + fill + frame];
      }
    }
    this.ring.write(filling);
  }

  /** While nobody takes anything out, as when the browser sleeps, the oldest goes. */
  makeRoom() {
    const oldest = this.ring.written - this.ring.length + this.resampler.taps;
    const behind = oldest - Math.min(this.position, this.blending > 0 ? this.ghost : Infinity);
    if (behind <= 0) return;
    this.blending = 0;
    if (oldest > this.position) this.moveTo(this.ring.written - this.target - this.block_frames / 2);
    if (this.state === PLAYING) this.gain = 0; // it could not be blended out any more
  }

  // ---- what goes out ---------------------------------------------------------------------

  /** Fills `outputs`, an array of samples for each channel of the output; their first is put out at `at`. */
  render(outputs, at) {
    const frames = outputs[0].length;
    this.steer(frames);
    const ratio = (this.rate_hz / this.output_hz) * (1 + this.faster);
    if (this.state === FILLING && this.waiting >= this.target) this.begin();
    if (this.state === PLAYING && !this.isCovered(frames * ratio)) this.end();
    for (let frame = 0; frame < frames; frame += 1) {
      if (this.state === ENDING && this.position >= this.tail_end) this.fallSilent();
      this.renderFrame(outputs, frame, ratio, at + frame / this.output_hz);
    }
    for (let channel = this.channels; channel < outputs.length; channel += 1) {
      outputs[channel].set(outputs[channel % this.channels]);
    }
    this.clock += frames * ratio;
    this.output_frames += frames;
  }

  renderFrame(outputs, frame, ratio, at) {
    const { ring, resampler, channels } = this;
    const sounding = this.state !== FILLING;
    const step = 1 / (FADE_SECONDS * this.output_hz);
    this.gain = sounding ? Math.min(1, this.gain + step) : Math.max(0, this.gain - step);
    if (this.gain === 0 && !sounding) {
      for (let channel = 0; channel < channels; channel += 1) outputs[channel][frame] = 0;
      return;
    }
    if (!this.isCovered(0)) this.gain = 0;
    if (sounding) this.mark(at);
    const from = ring.index(resampler.seek(this.position));
    for (let channel = 0; channel < channels; channel += 1) {
      outputs[channel][frame] = this.gain * resampler.read(ring.rows[channel], from);
    }
    if (this.blending > 0) {
      const share = this.blending / (BLEND_SECONDS * this.output_hz);
      const from = ring.index(resampler.seek(this.ghost));
      for (let channel = 0; channel < channels; channel += 1) {
        const old = this.gain * resampler.read(ring.rows[channel], from);
        outputs[channel][frame] += share * (old - outputs[channel][frame]);
      }
      this.ghost += ratio;
      this.blending -= 1;
    }
    this.position += ratio;
  }

  /** Whether there is sound for `frames` more frames of the ring. */
  isCovered(frames) {
    return this.position + frames + this.resampler.half < this.ring.written;
  }

  /** Enough has come. */
  begin() {
    if (this.gain === 0) this.trim();
    this.state = PLAYING;
    this.playing_seconds = 0;
    this.level = this.waiting - this.block_frames / 2; // blocks come whole: it is as much less on average
    this.watch();
  }

  /** Nothing came in time. */
  end() {
    this.counts.late += 1;
    this.state = ENDING;
    this.ring.write(goOn(this.ring, Math.ceil(TAIL_SECONDS * this.rate_hz) + this.resampler.half, this.rate_hz));
    this.tail_end = this.ring.written - this.resampler.half;
  }

  /** The last sound has faded out; what has come since waits until it is enough. */
  fallSilent() {
    this.state = FILLING;
    this.gain = 0;
  }

  /** The blocks that have begun to sound. */
  mark(at) {
    while (this.marks.length > 0 && this.marks[0].position <= this.position) {
      this.begun = { ...this.marks.shift(), at };
      this.first_at ??= at;
    }
  }

  // ---- as close to live as it should be ----------------------------------------------------

  steer(frames) {
    const seconds = frames / this.output_hz;
    if (this.state !== PLAYING) return;
    this.level += (this.waiting - this.level) * Math.min(1, seconds / SMOOTH_SECONDS);
    const excess_seconds = (this.level - this.target) / this.rate_hz;
    const wanted = excess_seconds / PULL_SECONDS + this.learned;
    this.faster = Math.min(FASTER_MOST, Math.max(-FASTER_MOST, wanted));
    if (this.faster === wanted) this.learned += (excess_seconds * seconds) / (PULL_SECONDS * LEARN_SECONDS);

    this.least_waiting = Math.min(this.least_waiting, this.waiting);
    this.watched_seconds += seconds;
    this.playing_seconds += seconds;
    if (this.waiting > this.target + STALE_SECONDS * this.rate_hz) this.trim();
    if (this.watched_seconds < LOOK_SECONDS) return;
    const most_seconds = this.playing_seconds < SETTLING_SECONDS ? SETTLING_EXCESS_SECONDS : EXCESS_SECONDS;
    if (this.least_waiting > this.target + most_seconds * this.rate_hz) this.trim();
    this.watch();
  }

  watch() {
    this.least_waiting = Infinity;
    this.watched_seconds = 0;
  }

  /** Skips what waits beyond the target. */
  trim() {
    const excess = this.waiting - this.target - this.block_frames / 2;
    if (excess <= 0) return;
    if (this.gain > 0) [this.ghost, this.blending] = [this.position, Math.round(BLEND_SECONDS * this.output_hz)];
    this.moveTo(this.position + excess);
  }

  moveTo(position) {
    if (this.first_at !== null) {
      this.counts.skips += 1;
      this.counts.skipped_seconds += (position - this.position) / this.rate_hz;
    }
    this.position = position;
    while (this.marks.length > 0 && this.marks[0].position < position) this.marks.shift();
    this.level = this.waiting - this.block_frames / 2;
    this.watch();
  }

  report() {
    const { state, begun, first_at, counts, faster, target_seconds } = this;
    const waiting_seconds = (state === PLAYING ? this.level : Math.max(0, this.waiting)) / this.rate_hz;
    const jitter_seconds = this.jitter.worst_seconds;
    return { state, begun, first_at, faster, target_seconds, waiting_seconds, jitter_seconds, counts: { ...counts } };
  }
}
