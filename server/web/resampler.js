// Reads a signal between its samples: a windowed sinc, so that a tone stays that tone at any ratio of rates.

const PHASES = 256; // between two of them the filter is interpolated, which is good to 100 dB
const HALF = 16; // zero crossings on each side: flat to 20 kHz at 48 kHz
const MAX_HALF = 64;
const BETA = 8; // of the Kaiser window: 80 dB

export class Resampler {
  constructor(rate_hz, output_hz) {
    const cutoff = Math.min(1, output_hz / rate_hz); // the lower rate has no sound above this
    this.half = Math.min(MAX_HALF, Math.ceil(HALF / cutoff));
    this.taps = 2 * this.half;
    this.filter = new Float32Array((PHASES + 1) * this.taps);
    for (let phase = 0; phase <= PHASES; phase += 1) {
      const row = this.filter.subarray(phase * this.taps, (phase + 1) * this.taps);
      let sum = 0;
      for (let tap = 0; tap < this.taps; tap += 1) {
        const x = tap - this.half + 1 - phase / PHASES;
        row[tap] = sinc(cutoff * x) * kaiser(x / this.half);
        sum += row[tap];
      }
      for (let tap = 0; tap < this.taps; tap += 1) row[tap] /= sum;
    }
    this.low = 0;
    this.share = 0;
  }

  /** Prepares to read at `position`, in frames; returns the first frame of the `taps` that it takes. */
  seek(position) {
    const frame = Math.floor(position);
    const at = (position - frame) * PHASES;
    const phase = Math.floor(at);
    this.share = at - phase;
    this.low = phase * this.taps;
    return frame - this.half + 1;
  }

  /** Returns the sample at that position, of a row that has those frames from `from` on. */
  read(row, from) {
    const { taps, filter, low, share } = this;
    let below = 0;
    let above = 0;
    for (let tap = 0; tap < taps; tap += 1) {
      const sample = row[from + tap];
      below += sample * filter[low + tap];
      above += sample * filter[low + taps + tap];
    }
    return below + share * (above - below);
  }
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel(BETA * Math.sqrt(1 - x * x)) / bessel(BETA);
}

/** The modified Bessel function of the first kind and order zero. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
