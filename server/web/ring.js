// The last few seconds of sound, one row of samples a channel. The count of frames never restarts.

export class Ring {
  constructor(channels, frames) {
    this.length = 2 ** Math.ceil(Math.log2(frames));
    // Each sample is stored twice, a length apart, so that any stretch is contiguous somewhere.
    this.rows = Array.from({ length: channels }, () => new Float32Array(2 * this.length));
    this.written = 0;
  }

  /** Returns the index of `frame` in a row; the frames after it follow. */
  index(frame) {
    return frame & (this.length - 1);
  }

  /** Writes frames whose channels come one after the other over the oldest ones. */
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

  /** Returns the last `frames` samples of a channel, or as many as there are. */
  last(channel, frames) {
    const have = Math.min(frames, this.written, this.length);
    const from = this.index(this.written - have);
    return this.rows[channel].slice(from, from + have);
  }
}
