// Conceals missing sound: repeats the last period and fades out, after ITU-T G.711 Appendix I.

const MIN_PERIOD = 0.0025; // 400 Hz; a period of a higher tone fits in several times
const MAX_PERIOD = 0.015; // 67 Hz, a low voice
const ALIKE = 0.005; // the length that is compared, a period apart
const FULL = 0.01; // it keeps its level for so long
const GONE = 0.04; // and is silent after this, because longer repetition sounds robotic
const SEAM = 0.001;

/** Extrapolates the sound in `ring` by `frames` frames; channels one after the other. */
export function goOn(ring, frames, rate_hz) {
  const channels = ring.rows.length;
  const samples = new Float32Array(channels * frames);
  const pasts = ring.rows.map((_, channel) => ring.last(channel, Math.ceil((MAX_PERIOD + ALIKE) * rate_hz) + 1));
  const period = periodOf(pasts, rate_hz);
  if (period === 0) return samples; // no sound was played yet
  const seam = Math.min(period, Math.ceil(SEAM * rate_hz));
  pasts.forEach((past, channel) => {
    const last = past.length - period;
    const step = past[past.length - 1] - past[last - 1]; // between the end and the beginning of the period, spread over the seam
    for (let frame = 0; frame < frames; frame += 1) {
      const at = frame % period;
      const sample = past[last + at] + step * Math.max(0, 1 - (at + 1) / seam);
      samples[channel * frames + frame] = sample * loudness(frame / rate_hz);
    }
  });
  return samples;
}

function loudness(seconds) {
  return Math.min(1, Math.max(0, (GONE - seconds) / (GONE - FULL)));
}

/** Returns the distance at which the latest sound is most similar to the earlier; 0 if there is too little to compare. */
function periodOf(pasts, rate_hz) {
  const past = pasts.length === 1 ? pasts[0] : pasts[0].map((sample, i) => sample + pasts[1][i]);
  const alike = Math.ceil(ALIKE * rate_hz);
  const least = Math.max(2, Math.floor(MIN_PERIOD * rate_hz));
  const most = Math.min(Math.floor(MAX_PERIOD * rate_hz), past.length - alike - 1);
  if (most < least) return 0;
  // A coarse search first: this runs on the audio thread, where sound is due in 3 ms.
  const coarse = best(past, alike, least, most, Math.max(1, Math.floor(rate_hz / 12_000)));
  const near = Math.floor(rate_hz / 12_000);
  return best(past, alike, Math.max(least, coarse - near), Math.min(most, coarse + near), 1);
}

function best(past, alike, least, most, stride) {
  let [period, best_likeness] = [least, -Infinity];
  for (let distance = least; distance <= most; distance += stride) {
    let [product, energy] = [0, 1e-9];
    for (let i = past.length - alike; i < past.length; i += stride) {
      product += past[i] * past[i - distance];
      energy += past[i - distance] ** 2;
    }
    const likeness = product / Math.sqrt(energy);
    if (likeness > best_likeness) [period, best_likeness] = [distance, likeness];
  }
  return period;
}
