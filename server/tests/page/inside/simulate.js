// The player without a sound device, and faster than real time: a tone is captured by one clock and put out by another,
// and comes over a network that is as bad as one likes. What is tried with it is in playout.js and hour.js.

const { Playout } = await import("/playout.js");

const [HZ, LOUD] = [440, 0.5];

function check(condition, complaint) {
  if (!condition) throw new Error(complaint);
}

/**
 * Plays for `seconds`. `late` says how late a block comes (in seconds, by its number and the time it was captured at),
 * `lost` whether it never does, `stalled` whether the output stands still at some time.
 */
function play({ seconds, rate_hz = 48_000, output_hz = 48_000, drift = 0, late = () => 0, lost = () => false,
  stalled = () => false, least_seconds = 0.04, hz = HZ, block_seconds = 0.01 }) {
  const block_frames = rate_hz * block_seconds;
  const quantum = Math.max(8, 128 * (output_hz / 48_000)) | 0;
  const playout = new Playout({ rate_hz, output_hz, channels: 1, block_frames, least_seconds });
  const outputs = [new Float32Array(quantum), new Float32Array(quantum)];
  const heard = { playout, step_most: 0, latencies: [], silence: 0, interrupted_at: [] };
  let [number, came_at, before, now] = [0, 0, 0, 0];
  const block = (captured_at) => {
    const samples = Float32Array.from({ length: block_frames }, (_, i) =>
      LOUD * Math.sin((2 * Math.PI * hz * (number * block_frames + i)) / rate_hz));
    playout.push({ sequence: number, captured_at, arrived_at: came_at, samples });
  };
  for (let frames = 0; now < seconds; frames += quantum) {
    now = frames / output_hz;
    for (;;) {
      const captured_at = (number * block_frames) / (rate_hz * (1 + drift));
      const comes_at = Math.max(came_at, captured_at + 0.01 + late(number, captured_at)); // in order, as in TCP
      if (comes_at > now) break;
      came_at = comes_at;
      if (!lost(number)) block(captured_at);
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
  /** The mean latency of what began to sound in a part of the time. */
  heard.latency = (from, to) => {
    const some = heard.latencies.filter(({ at }) => at >= from && at < to);
    return some.reduce((sum, latency) => sum + latency.seconds, 0) / some.length;
  };
  return heard;
}

// From one sample to the next a tone moves by no more than this; a click moves by more.
const steepest = (output_hz, hz = HZ) => 1.05 * LOUD * 2 * Math.PI * (hz / output_hz);
