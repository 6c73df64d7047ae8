// The player without a sound device, and faster than real time: one clock captures a tone, another puts it out, and the
// network between them is as bad as the test says.

import { Playout } from "../../../web/playout.js";

const [HZ, AMPLITUDE] = [440, 0.5];

/**
 * Plays for `seconds`. `late` returns how late a block comes in seconds, by its number and its capture time; `lost` whether
 * it never comes; `stalled` whether the output stands still at a time. With `only_timing`, all sound is silence and none
 * is computed.
 */
export function play({ seconds, rate_hz = 48_000, output_hz = 48_000, drift = 0, late = () => 0, lost = () => false,
  stalled = () => false, least_seconds = 0.04, hz = HZ, block_seconds = 0.01, only_timing = false }) {
  const block_frames = rate_hz * block_seconds;
  const quantum = Math.max(8, 128 * (output_hz / 48_000)) | 0;
  const playout = new Playout({ rate_hz, output_hz, channels: 1, block_frames, least_seconds });
  if (only_timing) playout.resampler.read = () => 0;
  const outputs = [new Float32Array(quantum), new Float32Array(quantum)];
  const heard = { playout, step_most: 0, latencies: [], silence: 0, interrupted_at: [] };
  let [number, came_at, before, now] = [0, 0, 0, 0];
  const tone = (_, i) => AMPLITUDE * Math.sin((2 * Math.PI * hz * (number * block_frames + i)) / rate_hz);
  const samples = () => (only_timing ? new Float32Array(block_frames) : Float32Array.from({ length: block_frames }, tone));
  for (let frames = 0; now < seconds; frames += quantum) {
    now = frames / output_hz;
    for (;;) {
      const captured_at = (number * block_frames) / (rate_hz * (1 + drift));
      const comes_at = Math.max(came_at, captured_at + 0.01 + late(number, captured_at)); // in order, as in TCP
      if (comes_at > now) break;
      came_at = comes_at;
      if (!lost(number)) playout.push({ sequence: number, captured_at, arrived_at: came_at, samples: samples() });
      number += 1;
    }
    if (stalled(now)) continue;
    playout.render(outputs, now);
    for (const sample of outputs[0]) {
      heard.step_most = Math.max(heard.step_most, Math.abs(sample - before));
      heard.silence = sample === 0 ? heard.silence + 1 : 0;
      before = sample;
    }
    const { begun, counts } = playout;
    if (counts.late + counts.skips > heard.interrupted_at.length) heard.interrupted_at.push(now);
    if (begun && begun !== heard.latencies.at(-1)?.begun) {
      heard.latencies.push({ begun, at: begun.at, seconds: begun.at - begun.captured_at });
    }
  }
  /** Returns the mean latency of the blocks that began to sound in a part of the time. */
  heard.latency = (from, to) => {
    const some = heard.latencies.filter(({ at }) => at >= from && at < to);
    return some.reduce((sum, latency) => sum + latency.seconds, 0) / some.length;
  };
  return heard;
}

/** The steepest step of the tone between two samples. A click is steeper. */
export const steepest = (output_hz, hz = HZ) => 1.05 * AMPLITUDE * 2 * Math.PI * (hz / output_hz);
