// The player's buffer: blocks come unevenly, sound goes out evenly, as close to live as possible.
//
// - The buffered sound is held at a target by playing a little faster or slower, which also corrects the drift of the
//   source's clock. The target follows the jitter, and is never below the minimum that the user set.
// - Far above the target, as after a pause, it skips to live.
// - Where sound is missing or late, the last sound is extrapolated and fades out, and the next one fades in.
//
// It uses nothing of a browser: time is the count of frames put out, so tests run faster than real time.

import { goOn } from "./conceal.js";
import { Jitter } from "./jitter.js";
import { Resampler } from "./resampler.js";
import { Ring } from "./ring.js";

const RING_SECONDS = 2.5;
const MAX_TARGET_SECONDS = 1.5; // must fit into the ring with room for a block and a skip

const MAX_FASTER = 0.005; // 9 cents, which is not audible, and more than two clocks ever differ
const PULL_SECONDS = 10; // an excess is reduced in about this time
const LEARN_SECONDS = 4 * PULL_SECONDS; // of the drift between the clocks: critically damped
const SMOOTH_SECONDS = 1;

const EXCESS_SECONDS = 0.06; // more than this above the target is skipped; less is gone in 12 s at 0.5 %
const WATCH_SECONDS = 0.25; // if the excess lasts for so long; a burst comes before a pause
const SETTLING_SECONDS = 1; // of sound after a silence, in which a device may stumble as it starts:
const SETTLING_EXCESS_SECONDS = 0.005; // a smaller excess is skipped, which is not audible among the first sounds
const STALE_SECONDS = 0.3; // so much is skipped at once: the output stood still for a while
const LIFT_SECONDS = 0.03; // if the user raises the target by more than this, it is silent until the buffer is full

const BLEND_SECONDS = 0.01;
const FADE_SECONDS = 0.005;
const TAIL_SECONDS = 0.04; // for which the last sound is extrapolated

/** States. */
export const FILLING = "filling"; // silent until the target is reached
export const PLAYING = "playing";
export const ENDING = "ending"; // underrun: the last sound fades out

/** Blocks received and lost, underruns, skips to live and the time that was skipped. */
const noCounts = () => ({ blocks: 0, lost: 0, late: 0, skips: 0, skipped_seconds: 0 });

export class Playout {
  constructor({ rate_hz, output_hz, channels, block_frames, least_seconds }) {
    Object.assign(this, { rate_hz, output_hz, channels, block_frames, least_seconds });
    this.ring = new Ring(channels, RING_SECONDS * rate_hz);
    this.resampler = new Resampler(rate_hz, output_hz);
    this.jitter = new Jitter(block_frames / rate_hz);
    this.position = 0; // in the ring, of the next frame
    this.ghost = 0; // in the ring, of the sound that is blended out after a skip
    this.blending = 0; // frames of output that are left of it
    this.state = FILLING;
    this.gain = 0;
    this.faster = 0;
    this.learned = 0;
    this.playing_seconds = 0; // since the last silence
    this.level = 0; // buffered frames, smoothed
    this.clock = 0; // frames of time passed, sounding or not
    this.output_frames = 0;
    this.tail_end = 0; // in the ring, the end of the extrapolated sound
    this.marks = []; // positions of blocks in the ring
    this.begun = null; // the last block that began to sound
    this.first_at = null;
    this.next = null; // the next number
    this.is_seam = false; // whether the next block comes in another form
    this.watch();
    this.counts = noCounts();
  }

  get target_seconds() {
    return Math.min(MAX_TARGET_SECONDS, Math.max(this.least_seconds, this.jitter.needed_seconds));
  }

  get target() {
    return this.target_seconds * this.rate_hz;
  }

  get waiting() {
    return this.ring.written - this.position;
  }

  /** Sets the minimum of the target. */
  setLeast(seconds) {
    const before = this.target;
    this.least_seconds = seconds;
    if (this.state !== PLAYING) return;
    if (this.target - before > LIFT_SECONDS * this.rate_hz) this.state = FILLING;
    else if (this.target < before) this.trim();
  }

  /** Begins with a new connection: its first block follows no other. */
  rejoin() {
    this.next = null;
    this.jitter.reset();
  }

  /** Goes on with blocks of another form, whose numbers go on. Those that are there already come again, and are discarded. */
  join() {
    this.is_seam = true;
  }

  /** Falls silent at once and discards all sound. */
  reset() {
    this.rejoin();
    this.state = FILLING;
    this.gain = this.blending = this.faster = this.learned = 0;
    this.marks.length = 0;
    this.begun = this.first_at = null;
    this.position = this.ring.written;
    this.counts = noCounts();
  }

  // ---- input ---------------------------------------------------------------------

  /**
   * Adds a block, or a part of one: `number` rises by one from each to the next if none is missing. `ahead` is by how many
   * seconds its sound is older than the block of that `sequence`, and is `null` within a block.
   */
  push({ sequence, number = sequence, captured_at, arrived_at, ahead = 0, samples }) {
    const missing = this.next === null ? 0 : number - this.next;
    if (missing < 0) return; // a duplicate
    const follows = this.next !== null && missing === 0;
    this.next = number + 1;
    this.counts.blocks += 1;
    this.counts.lost += missing;
    if ((!follows || this.is_seam) && this.ring.written > 0) this.bridge(missing * this.block_frames, samples);
    this.is_seam = false;
    if (ahead !== null) this.marks.push({ position: this.ring.written, sequence, captured_at, arrived_at, ahead });
    this.ring.write(samples);
    this.jitter.arrived((this.clock - number * this.block_frames) / this.rate_hz, this.output_frames / this.output_hz);
    this.makeRoom();
  }

  /** Conceals the missing frames that are still to be played, and blends into `samples`. */
  bridge(missing, samples) {
    const room = this.state === PLAYING ? this.target + this.block_frames - this.waiting : 0;
    const fill = Math.max(0, Math.min(missing, Math.floor(room)));
    const frames = samples.length / this.channels;
    const blend = Math.min(frames, Math.ceil(BLEND_SECONDS * this.rate_hz));
    const concealed = goOn(this.ring, fill + blend, this.rate_hz);
    const filling = new Float32Array(this.channels * fill);
    for (let channel = 0; channel < this.channels; channel += 1) {
      const from = channel * (fill + blend);
      filling.set(concealed.subarray(from, from + fill), channel * fill);
      for (let frame = 0; frame < blend; frame += 1) {
        const share = (frame + 1) / (blend + 1);
        const i = channel * frames + frame;
        samples[i] = share * samples[i] + (1 - share) * concealed[from + fill + frame];
      }
    }
    this.ring.write(filling);
  }

  /** Discards the oldest sound while the output stands still, as when the browser sleeps. */
  makeRoom() {
    const oldest = this.ring.written - this.ring.length + this.resampler.taps;
    const behind = oldest - Math.min(this.position, this.blending > 0 ? this.ghost : Infinity);
    if (behind <= 0) return;
    this.blending = 0;
    if (oldest > this.position) this.moveTo(this.liveEdge);
    if (this.state === PLAYING) this.gain = 0; // it can't be blended out any more
  }

  // ---- output ---------------------------------------------------------------------

  /** Fills `outputs`, an array of samples for each channel of the output. Their first one is heard at `at`. */
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

  /** Returns whether there is sound for `frames` more frames of the ring. */
  isCovered(frames) {
    return this.position + frames + this.resampler.half < this.ring.written;
  }

  /** Starts to play: the target is reached. */
  begin() {
    if (this.gain === 0) this.trim();
    this.state = PLAYING;
    this.playing_seconds = 0;
    this.level = this.waiting - this.block_frames / 2; // blocks come whole, so the average is half a block less
    this.watch();
  }

  /** Begins to fade out: no block came in time. */
  end() {
    this.counts.late += 1;
    this.state = ENDING;
    this.ring.write(goOn(this.ring, Math.ceil(TAIL_SECONDS * this.rate_hz) + this.resampler.half, this.rate_hz));
    this.tail_end = this.ring.written - this.resampler.half;
  }

  /** Falls silent after the last sound has faded out, until the target is reached again. */
  fallSilent() {
    this.state = FILLING;
    this.gain = 0;
  }

  /** Notes which blocks have begun to sound. */
  mark(at) {
    while (this.marks.length > 0 && this.marks[0].position <= this.position) {
      this.begun = { ...this.marks.shift(), at };
      this.first_at ??= at;
    }
  }

  // ---- latency control ----------------------------------------------------

  steer(frames) {
    const seconds = frames / this.output_hz;
    if (this.state !== PLAYING) return;
    this.level += (this.waiting - this.level) * Math.min(1, seconds / SMOOTH_SECONDS);
    const excess_seconds = (this.level - this.target) / this.rate_hz;
    const wanted = excess_seconds / PULL_SECONDS + this.learned;
    this.faster = Math.min(MAX_FASTER, Math.max(-MAX_FASTER, wanted));
    if (this.faster === wanted) this.learned += (excess_seconds * seconds) / (PULL_SECONDS * LEARN_SECONDS);

    this.least_waiting = Math.min(this.least_waiting, this.waiting);
    this.watched_seconds += seconds;
    this.playing_seconds += seconds;
    if (this.waiting > this.target + STALE_SECONDS * this.rate_hz) this.trim();
    if (this.watched_seconds < WATCH_SECONDS) return;
    const max_seconds = this.playing_seconds < SETTLING_SECONDS ? SETTLING_EXCESS_SECONDS : EXCESS_SECONDS;
    if (this.least_waiting > this.target + max_seconds * this.rate_hz) this.trim();
    this.watch();
  }

  watch() {
    this.least_waiting = Infinity;
    this.watched_seconds = 0;
  }

  /** Skips the sound beyond the target. */
  trim() {
    this.skipTo(this.liveEdge);
  }

  /** Skips the sound before the block `sequence`, which is old. As much stays as the target needs. */
  dropBefore(sequence) {
    if (this.begun?.sequence >= sequence) return;
    const live = this.marks.find((mark) => mark.sequence >= sequence)?.position ?? this.ring.written;
    this.skipTo(Math.min(live, this.liveEdge));
  }

  /** Where playing goes on if it is to be at the target. */
  get liveEdge() {
    return this.ring.written - this.target - this.block_frames / 2;
  }

  skipTo(position) {
    if (position <= this.position) return;
    if (this.gain > 0) [this.ghost, this.blending] = [this.position, Math.round(BLEND_SECONDS * this.output_hz)];
    this.moveTo(position);
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
