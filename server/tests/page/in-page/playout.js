// The player's buffer: it holds what it should, makes up for what is missing, and comes back to live.

const clean = play({ seconds: 10 });
check(clean.playout.counts.late + clean.playout.counts.skips === 0, `clean: ${JSON.stringify(clean.playout.counts)}`);
check(clean.step_most < steepest(48_000), `clean: a step of ${clean.step_most}`);
check(Math.abs(clean.latency(8, 10) - 0.045) < 0.01, `clean: ${clean.latency(8, 10)} s late`);

const resampled = play({ seconds: 5, rate_hz: 44_100 });
check(resampled.step_most < steepest(48_000), `44.1 kHz: a step of ${resampled.step_most}`);
check(resampled.playout.counts.late === 0, "44.1 kHz: ran dry");

const holes = play({ seconds: 10, lost: (number) => number % 100 === 50 });
check(holes.playout.counts.lost === 10, `holes: ${holes.playout.counts.lost} counted`);
check(holes.step_most < steepest(48_000), `holes: a step of ${holes.step_most}`);
check(Math.abs(holes.latency(8, 10) - clean.latency(8, 10)) < 0.005, "holes: not as live as without");

// Much is missing in a row: that time has passed, and is not made up for with silence.
const skipped = play({ seconds: 10, lost: (number) => number >= 400 && number < 550 });
check(skipped.playout.counts.lost === 150, `skipped: ${skipped.playout.counts.lost} counted`);
check(skipped.step_most < steepest(48_000), `skipped: a step of ${skipped.step_most}`);
check(skipped.latency(9, 10) < 0.06, `skipped: ${skipped.latency(9, 10)} s late afterwards`);

// A sound device that stumbles when it starts leaves nothing behind.
const stumble = play({ seconds: 5, stalled: (now) => now > 0.1 && now < 0.15 });
check(stumble.latency(1, 2) < 0.055, `stumble: ${stumble.latency(1, 2)} s late after it`);
check(stumble.step_most < steepest(48_000), `stumble: a step of ${stumble.step_most}`);

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
