// What became of a tone: its pitch and level, and each place where it was not continuous.

import { RATE_HZ } from "../page/support/sound.js";

/** Not a multiple of anything that is lost at once (10, 20, 24 or 100 ms), so that each loss is a jump of the phase. */
export const TONE_HZ = 1033.7;
/** The level of `--source tone:HZ`, as a peak. */
const TONE_DBFS = -12;

const WINDOW = 960;
const HOP = 480;
const HOP_SECONDS = HOP / RATE_HZ;
/** 46 us of the tone: what a resampler's control does within a hop is far less, and the shortest loss far more. */
const MAX_JUMP = 0.3;
const MAX_LEVEL_CHANGE = 0.1;
/** The first half of a second is the player's: many fade in, or adjust their buffer. */
const SETTLE_HOPS = 50;

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const wrapped = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));

/** Amplitude and phase of the tone in each window; the phase without what the tone advances from hop to hop. */
function windows(samples) {
  const found = [];
  for (let start = 0; start + WINDOW <= samples.length; start += HOP) {
    let [re, im] = [0, 0];
    for (let i = 0; i < WINDOW; i += 1) {
      const hann = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / WINDOW);
      const angle = (2 * Math.PI * TONE_HZ * (start + i)) / RATE_HZ;
      re += hann * samples[start + i] * Math.cos(angle);
      im -= hann * samples[start + i] * Math.sin(angle);
    }
    // The mean of the window is a half.
    found.push({ amplitude: (4 * Math.hypot(re, im)) / WINDOW / 32_768, phase: Math.atan2(im, re) });
  }
  return found;
}

/**
 * Measures one channel of 16-bit samples at 48 kHz. Returns when the tone began in the recording, for how long it was heard,
 * its pitch and level beside what was sent, and the places of the gaps; all in seconds, Hz and dB.
 */
export function measure(samples) {
  const all = windows(samples);
  const is_tone = ({ amplitude }) => amplitude > 0.5 * 10 ** (TONE_DBFS / 20);
  const onset = all.findIndex((_, at) => at + 10 < all.length && all.slice(at, at + 10).every(is_tone));
  const heard = onset < 0 ? [] : all.slice(onset + SETTLE_HOPS);
  if (heard.length < SETTLE_HOPS) return { heard_seconds: 0, gaps: [] };
  const advance = heard.map(({ phase }, at) => (at ? wrapped(phase - heard[at - 1].phase) : 0));
  const amplitude = median(heard.map((each) => each.amplitude));
  const gaps = [];
  heard.forEach((each, at) => {
    const around = median(advance.slice(Math.max(1, at - 10), at + 11));
    const is_whole = at === 0 || Math.abs(wrapped(advance[at] - around)) < MAX_JUMP;
    if (is_whole && Math.abs(each.amplitude / amplitude - 1) < MAX_LEVEL_CHANGE) return;
    const seconds = (onset + SETTLE_HOPS + at) * HOP_SECONDS;
    const last = gaps.at(-1);
    if (last && seconds - last.to < 0.06) last.to = seconds;
    else gaps.push({ from: seconds, to: seconds });
  });
  return {
    began: onset * HOP_SECONDS,
    heard_seconds: heard.length * HOP_SECONDS,
    hz_off: median(advance) / (2 * Math.PI * HOP_SECONDS),
    db_off: 20 * Math.log10(amplitude) - TONE_DBFS,
    gaps,
  };
}
