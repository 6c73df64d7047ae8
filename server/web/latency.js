// The latency from the microphone to the ear of this page, stage by stage.

import { $, NOTHING, plural, put } from "/text.js";

const MEDIAN_OF = 10; // reports, about a second; single ones jump by a sound card's period
const SHOW_EVERY_SECONDS = 0.5; // numbers that change faster can't be read

const STAGES = ["capture", "server", "network", "codec", "buffer", "output"];

const tenths = (s) => `${(1000 * s).toFixed(1)} ms`;

let latest = [];
let shown_at = 0;

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Shows the player's `figures`. `ring` and `queue` are the server's medians of the first stages, if it knows them. */
export function showLatency(figures, { ring = 0, queue = 0 }) {
  if (figures.stages) latest = [...latest, figures.stages].slice(-MEDIAN_OF);
  const now = performance.now() / 1000;
  if (now - shown_at < SHOW_EVERY_SECONDS || latest.length === 0) return;
  shown_at = now;

  const of = (stage) => median(latest.map((stages) => stages[stage]));
  const arrival = of("arrival");
  const capture = Math.min(ring, arrival);
  const server = Math.min(queue, arrival - capture);
  const spans = {
    capture,
    server,
    network: Math.max(0, arrival - capture - server),
    codec: of("codec"),
    buffer: of("buffer"),
    output: of("output"),
  };
  const all = STAGES.reduce((sum, stage) => sum + spans[stage], 0);
  for (const stage of STAGES) {
    put($(`stage-${stage}`), tenths(spans[stage]));
    $("stages").style.setProperty(`--${stage}`, spans[stage] / all);
  }
  $("codec").hidden = spans.codec === 0;
  const { output_is_known, clock_error } = figures;
  put($("ear-least"), output_is_known ? "" : "at least");
  put($("ear"), `${Math.round(1000 * of("ear"))} ms`);
  put($("clock-error"), output_is_known ? `± ${tenths(clock_error)}` : "");
  if (!output_is_known) put($("stage-output"), "not told");
  $("no-output").hidden = output_is_known;
  $("latency").classList.add("known");
  showBuffer(figures);
}

function showBuffer({ target_seconds, jitter_seconds, faster, counts }) {
  const { lost, late, skips } = counts;
  put($("target"), `target ${Math.round(1000 * target_seconds)} ms`);
  put($("jitter"), `jitter ${Math.round(1000 * jitter_seconds)} ms`);
  put($("speed"), `speed ${faster < 0 ? "−" : "+"}${Math.abs(100 * faster).toFixed(3)} %`);
  put($("lost"), `${plural(lost, "block")} lost`);
  put($("late"), plural(late, "underrun"));
  put($("skips"), plural(skips, "skip"));
  $("lost").classList.toggle("warn", lost > 0);
  $("late").classList.toggle("warn", late > 0);
}

/** Clears the panel: the page does not play. */
export function showNoLatency() {
  latest = [];
  $("latency").classList.remove("known");
  for (const stage of STAGES) put($(`stage-${stage}`), NOTHING);
  put($("ear"), NOTHING);
  $("no-output").hidden = true;
  for (const id of ["ear-least", "clock-error", "target", "jitter", "speed", "lost", "late", "skips"]) put($(id), "");
}
