// An hour later it is as close to live as at the start, although no two clocks agree and no network is even. At low
// rates, for the sake of time: what counts is how they differ.

/** Blocks come up to 12 ms late, and one of them 30 every two seconds. */
function jitter() {
  let random = 1;
  return (number) => {
    random = (random * 16_807) % 2_147_483_647;
    return number % 97 === 0 ? 0.03 : 0.012 * (random / 2_147_483_647);
  };
}

const cases = [
  { title: "even", rate_hz: 2000, output_hz: 2000 },
  // The ratios of 44.1 kHz to 48 kHz, and back.
  { title: "44.1 to 48", rate_hz: 7350, output_hz: 8000, block_seconds: 0.02, jitters: true },
  { title: "48 to 44.1", rate_hz: 8000, output_hz: 7350, block_seconds: 0.02, jitters: true },
];

const results = [];
for (const { title, jitters, ...rates } of cases) {
  for (const drift of [200e-6, -200e-6]) { // more than cheap clocks differ
    const what = `${title}, drift ${1e6 * drift} ppm`;
    const late = jitters ? jitter() : undefined;
    const hour = play({ seconds: 3600, hz: 40, drift, late, ...rates });
    // Once it has met the jitter, that is no news any more.
    const interrupted_at = hour.interrupted_at.filter((at) => at > 60);
    check(interrupted_at.length === 0, `${what}: interrupted ${interrupted_at.length} times, first at ${interrupted_at[0]} s`);
    const minutes = Array.from({ length: 59 }, (_, minute) => hour.latency(60 * (minute + 1), 60 * (minute + 2)));
    const [first, last] = [minutes[0], minutes.at(-1)];
    check(Math.abs(first - last) < 0.005, `${what}: ${first} s late at first, and ${last} s an hour later`);
    const spread = Math.max(...minutes) - Math.min(...minutes);
    check(spread < 0.01, `${what}: its latency moves by ${spread} s`);
    results.push(`${what}: ${(1000 * first).toFixed(1)} ms late at first, ${(1000 * last).toFixed(1)} ms after an hour`);
  }
}
return results.join("\n");
