// The player's buffer, without a sound device and faster than real time: a tone is captured by one clock and put out by
// another, and comes over a network that is as bad as one likes. Runs in the page's own browser.

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
  stalled = () => false, least_seconds = 0.04, hz = HZ }) {
  const block_frames = rate_hz / 100;
  const quantum = Math.max(8, 128 * (output_hz / 48_000)) | 0;
  const playout = new Playout({ rate_hz, output_hz, channels: 1, block_frames, least_seconds });
  const outputs = [new Float32Array(quantum), new Float32Array(quantum)];
  const heard = { playout, step_most: 0, latencies: [], silence: 0, reports: [] };
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
    const { begun } = playout;
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

const clean = play({ seconds: 10 });
check(clean.playout.counts.late + clean.playout.counts.skips === 0, `clean: ${JSON.stringify(clean.playout.counts)}`);
check(clean.step_most < steepest(48_000), `clean: a step of ${clean.step_most}`);
check(Math.abs(clean.latency(8, 10) - 0.045) < 0.01, `clean: ${clean.latency(8, 10)} s late`);

const resampled = play({ seconds: 5, rate_hz: 44_100 });
check(resampled.step_most < steepest(48_000), `44.1 kHz: a step of ${resampled.step_most}`);
check(resampled.playout.counts.late === 0, "44.1 kHz: ran dry");

// An hour between clocks that differ as much as cheap ones do; at a low rate, for the sake of time.
for (const drift of [200e-6, -200e-6]) {
  const hour = play({ seconds: 3600, rate_hz: 2000, output_hz: 2000, hz: 40, drift });
  const [first, last] = [hour.latency(60, 120), hour.latency(3540, 3600)];
  check(Math.abs(first - last) < 0.005, `drift ${drift}: ${first} s late at first, and ${last} s an hour later`);
  const { late, skips } = hour.playout.counts;
  check(late + skips === 0, `drift ${drift}: ran dry ${late} times, skipped ${skips} times`);
}

const holes = play({ seconds: 10, lost: (number) => number % 100 === 50 });
check(holes.playout.counts.lost === 10, `holes: ${holes.playout.counts.lost} counted`);
check(holes.step_most < steepest(48_000), `holes: a step of ${holes.step_most}`);
check(Math.abs(holes.latency(8, 10) - clean.latency(8, 10)) < 0.005, "holes: not as live as without");

// Much is missing in a row: that time has passed, and is not made up for with silence.
const skipped = play({ seconds: 10, lost: (number) => number >= 400 && number < 550 });
check(skipped.playout.counts.lost === 150, `skipped: ${skipped.playout.counts.lost} counted`);
check(skipped.step_most < steepest(48_000), `skipped: a step of ${skipped.step_most}`);
check(skipped.latency(9, 10) < 0.06, `skipped: ${skipped.latency(9, 10)} s late afterwards`);

// One stall is heard, and over afterwards; it is no reason to be later from then on.
const stall = play({ seconds: 20, late: (_, at) => (at > 10 && at < 10.3 ? 10.3 - at : 0) });
check(stall.playout.counts.late === 1, `stall: ran dry ${stall.playout.counts.late} times`);
check(stall.step_most < steepest(48_000), `stall: a step of ${stall.step_most}`);
check(stall.latency(11, 12) < 0.07, `stall: ${stall.latency(11, 12)} s late afterwards`);

// Stalls again and again are: then the buffer grows until it bridges them, and shrinks when they are over.
const habit = play({ seconds: 50, late: (_, at) => (at < 25 && at % 3 < 0.15 ? 0.15 - (at % 3) : 0) });
const { late } = habit.playout.counts;
check(late >= 1 && late <= 3, `habit: ran dry ${late} times`);
check(habit.latency(20, 25) > 0.15, `habit: ${habit.latency(20, 25)} s late while it lasts`);
check(habit.latency(45, 50) < 0.07, `habit: ${habit.latency(45, 50)} s late afterwards`);
check(habit.step_most < steepest(48_000), `habit: a step of ${habit.step_most}`);

// The output stands still, as in a browser that sleeps; blocks go on coming.
for (const slept of [1, 20]) {
  const sleep = play({ seconds: 30, stalled: (now) => now > 5 && now < 5 + slept });
  check(sleep.latency(5.5 + slept, 6 + slept) < 0.07, `sleep: ${sleep.latency(5.5 + slept, 6 + slept)} s late after it`);
}

// What the listener wishes comes at once.
const wish = play({ seconds: 10, least_seconds: 0.5 });
check(Math.abs(wish.latency(9, 10) - 0.5) < 0.03, `wish: ${wish.latency(9, 10)} s late`);
wish.playout.setLeast(0.1);
check(wish.playout.waiting / 48_000 < 0.11, `wish: ${wish.playout.waiting} frames still wait`);

// Nothing comes any more: silence, not the last sound for ever.
const over = play({ seconds: 6, lost: (number) => number > 300 });
check(over.silence > 2 * 48_000, "over: it goes on");
