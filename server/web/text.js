// Writes text into elements, never as markup, and formats numbers.

export const $ = (id) => document.getElementById(id);

/** Writes text only where it differs, so that selections stay and screen readers do not repeat it. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Returns a copy of a <template>'s one element, and its parts by their `data-field`. */
export function stamp(template) {
  const root = $(template).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of root.querySelectorAll("[data-field]")) parts[part.dataset.field] = part;
  return { root, parts };
}

/** Shows the result of a press of a button for a few seconds. */
export function announce(text) {
  put($("announce"), text);
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => put($("announce"), ""), 5000);
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export const NOTHING = "—";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n) => (n == null ? NOTHING : whole.format(n));

export const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

export function seconds(s) {
  if (s == null) return NOTHING;
  return `${s < 10 ? s.toFixed(2) : s < 100 ? s.toFixed(1) : count(s)} s`;
}

/** Formats the bounds of a span: 1.1 to 9.8 s, or up to 9.8 s. */
export function range(least, most) {
  const number = (s) => (s < 10 ? s.toFixed(1) : count(s));
  return least < 0.1 ? `up to ${number(most)} s` : `${number(least)} to ${number(most)} s`;
}

export function milliseconds(s) {
  if (s == null) return NOTHING;
  const ms = s * 1000;
  return `${ms < 1 ? ms.toFixed(3) : ms < 100 ? ms.toFixed(1) : count(ms)} ms`;
}

export function decibels(db) {
  return db.toFixed(1).replace("-", "−");
}

/** Formats a difference of two clocks with its error: +12.3 ± 0.4 ppm, −3,012 ± 8 ppm. */
export function ppm(value, error) {
  const digits = error < 1 ? 1 : 0;
  const number = (n) => Math.abs(n).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const sign = Number(value.toFixed(digits)) === 0 ? "" : value < 0 ? "−" : "+";
  return `${sign}${number(value)} ± ${number(Math.max(error, 10 ** -digits))} ppm`;
}

/** Formats a share in percent. Neither a small loss nor a small remainder is rounded to zero. */
export function percent(part, all) {
  const p = all > 0 ? (100 * part) / all : 0;
  if (p > 0 && p < 0.01) return "<0.01 %";
  if (p < 100 && p > 99.9) return ">99.9 %";
  return `${p < 10 ? p.toFixed(2) : p.toFixed(1)} %`;
}

/** Formats a span in its two largest units: 3 s, 2 min 3 s, 1 h 2 min, 4 d 1 h. */
export function span(s) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let rest = Math.max(0, Math.floor(s));
  const first = units.findIndex(([, size]) => rest >= size);
  if (first < 0) return "0 s";
  const words = [];
  for (const [unit, size] of units.slice(first, first + 2)) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n > 0) words.push(`${n} ${unit}`);
  }
  return words.join(" ");
}

/** Formats the time of day, with the date before it unless that is today. */
export function timeOfDay(unix, now) {
  const then = new Date(unix * 1000);
  const time = then.toLocaleTimeString("en-GB");
  const today = then.toDateString() === new Date(now * 1000).toDateString();
  return today ? time : `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}

/** Shortens a name for a sentence. The isolates keep its writing direction from the text around it. */
export function brief(name) {
  const letters = [...name];
  return `\u2068${letters.length > 40 ? `${letters.slice(0, 39).join("")}…` : name}\u2069`;
}
