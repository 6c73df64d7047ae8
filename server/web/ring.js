// The last few seconds of sound, one row of samples a channel. Frames are counted from the first one and never again.

export class Ring {
  constructor(channels, frames) {
    this.length = 2 ** Math.ceil(Math.log2(frames));
    // Everything is there twice, a length apart, so that any stretch of it is in one piece somewhere.
    this.rows = Array.from({ length: channels }, () => new Float32Array(2 * this.length));
    this.written = 0;
  }

  /** Where `frame` is in a row, followed by the frames after it. */
  index(frame) {
    return frame & (this.length - 1);
  }

  /** Takes in frames whose channels come one after the other; the oldest make room. */
  write(samples) {
    const frames = samples.length / this.rows.length;
    this.rows.forEach((row, channel) => {
      const from = channel * frames;
      for (let frame = 0; frame < frames; frame += 1) {
        const to = this.index(this.written + frame);
        row[to] = row[to + this.length] = samples[from + frame];
      }
    });
    this.written += frames;
  }

  /** The last `frames` samples of a channel, as far as there are so many. */
  last(channel, frames) {
    const have = Math.min(frames, this.written, this.length);
    const from = this.index(this.written - have);
    return this.rows[channel].slice(from, from + have);
  }
}
