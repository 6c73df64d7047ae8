// The level meters, and the badges for clipping and silence.

import { $, NOTHING, decibels, put, stamp } from "/text.js";

const FLOOR_DBFS = -60;
const FALL_DB_PER_SECOND = 20 / 1.7; // the return time of IEC 60268-10, type I
const HOLD_SECONDS = 1.5;

const CLIPPED_SECONDS = 5; // the badge stays for so long after the last time
const SILENT_SECONDS = 5; // a pause between two sentences is shorter

const now = () => performance.now() / 1000;

/** One channel's meter: rises at once, falls slowly, and holds its highest peak a while. */
class Meter {
  constructor(label) {
    Object.assign(this, stamp("meter"));
    put(this.parts.label, label);
    this.parts.track.setAttribute("aria-label", `Peak level, ${label}`);
    this.peak = this.rms = this.hold = FLOOR_DBFS;
    this.held_at = this.shown_at = now();
  }

  show(level, on_air) {
    const fall = FALL_DB_PER_SECOND * (now() - this.shown_at);
    this.shown_at = now();

    const peak = level?.peak_dbfs ?? -Infinity;
    const rms = level?.rms_dbfs ?? -Infinity;
    this.peak = Math.max(peak, this.peak - fall, FLOOR_DBFS);
    this.rms = Math.max(rms, this.rms - fall, FLOOR_DBFS);
    if (this.peak >= this.hold) [this.hold, this.held_at] = [this.peak, this.shown_at];
    else if (this.shown_at - this.held_at > HOLD_SECONDS) this.hold = Math.max(this.peak, this.hold - fall);
    if (!on_air) this.peak = this.rms = this.hold = FLOOR_DBFS;

    const { track } = this.parts;
    for (const mark of ["peak", "rms", "hold"]) track.style.setProperty(`--${mark}`, share(this[mark]));

    const text = (db) => (Number.isFinite(db) ? decibels(db) : on_air ? "−∞" : NOTHING);
    put(this.parts.peak, text(peak));
    put(this.parts.rms, text(rms));
    track.setAttribute("aria-valuenow", this.peak.toFixed(1));
    track.setAttribute("aria-valuetext", on_air ? `${text(peak)} dBFS` : "no signal");
  }
}

/** Returns how much of a meter a level fills. */
export function share(dbfs) {
  const width = (dbfs - FLOOR_DBFS) / -FLOOR_DBFS;
  return `${(100 * Math.min(1, Math.max(0, width))).toFixed(1)}%`;
}

let meters = [];

export function showLevel(levels, on_air) {
  const names = { 1: ["Mono"], 2: ["Left", "Right"] }[levels.length];
  if (meters.length !== levels.length) {
    meters = levels.map((_, i) => new Meter(names?.[i] ?? `Channel ${i + 1}`));
    $("meters").replaceChildren(...meters.map((meter) => meter.root));
  }
  levels.forEach((level, i) => meters[i].show(on_air ? level : null, on_air)); // off air it is an old one
  const clips = levels.reduce((sum, level) => sum + (level.clips ?? 0), 0);
  warn(Math.max(...levels.map((level) => level.peak_dbfs ?? -Infinity)), clips, on_air);
}

/** Clears the meters: the level is not known. */
export function showNoLevel() {
  for (const meter of meters) meter.show(null, false);
  warn(-Infinity, clips_before, false);
}

let clipped_at = -Infinity;
let clips_before = null; // that the server has counted; null before the first status
let quiet_since = null;

function warn(peak_dbfs, clips, on_air) {
  if (clips > (clips_before ?? clips)) clipped_at = now();
  clips_before = clips;
  if (!on_air || peak_dbfs > FLOOR_DBFS) quiet_since = null;
  else quiet_since ??= now();
  $("clipped").hidden = now() - clipped_at > CLIPPED_SECONDS;
  $("silent").hidden = quiet_since === null || now() - quiet_since < SILENT_SECONDS;
}
