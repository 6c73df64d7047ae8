// The loudness meter: the scale EBU +9 of EBU Tech 3341, from -18 to +9 LU, where 0 LU is the target of -23 LUFS.

import { $, NOTHING, decibels, put } from "/text.js";

const TARGET_LUFS = -23; // EBU R 128
const BOTTOM_LU = -18;
const TOP_LU = 9;
const MAX_TRUE_PEAK_DBTP = -1; // permitted by EBU R 128

function showBar(name, lufs, on_air) {
  const track = $(`${name}-track`);
  const lu = Math.min(TOP_LU, Math.max(BOTTOM_LU, (lufs ?? -Infinity) - TARGET_LUFS));
  const text = lufs != null ? decibels(lufs) : on_air ? "−∞" : NOTHING;
  put($(name), text);
  track.style.setProperty("--share", `${((100 * (lu - BOTTOM_LU)) / (TOP_LU - BOTTOM_LU)).toFixed(1)}%`);
  track.setAttribute("aria-valuenow", (TARGET_LUFS + lu).toFixed(1));
  track.setAttribute("aria-valuetext", on_air ? `${text} LUFS` : "no signal");
}

const signed = (lu) => (lu < 0 ? decibels(lu) : `+${decibels(lu)}`);

/** Shows the loudness of a status, which is null before any sound, and for rates that have none. */
export function showLoudness(loudness, on_air) {
  const is_known = on_air && loudness != null;
  showBar("momentary", is_known ? loudness.momentary_lufs : null, is_known);
  showBar("short-term", is_known ? loudness.short_term_lufs : null, is_known);

  const integrated = loudness?.integrated_lufs;
  put($("integrated"), integrated == null ? NOTHING : `${decibels(integrated)} LUFS`);
  put($("off-target"), integrated == null ? "" : `${signed(integrated - TARGET_LUFS)} LU`);
  put($("range"), integrated == null ? NOTHING : `${decibels(loudness.range_lu)} LU`);

  const peak = Math.max(...(loudness?.true_peak_dbtp ?? []).map((dbtp) => dbtp ?? -Infinity));
  put($("true-peak"), Number.isFinite(peak) ? `${decibels(peak)} dBTP` : NOTHING);
  $("true-peak").classList.toggle("bad", peak > MAX_TRUE_PEAK_DBTP);
}

/** Clears the bars: the loudness of this moment is not known. */
export function showNoLoudness() {
  for (const name of ["momentary", "short-term"]) showBar(name, null, false);
}
