// The table of listeners with their lag and losses, the furthest behind first.

import { age } from "/edges.js";
import { Sparkline } from "/sparkline.js";
import { $, NOTHING, announce, brief, count, percent, plural, put, range, seconds, span, stamp, timeOfDay } from "/text.js";

const MAX_ROWS = 200; // more are not read, and a browser lays out 200 rows in passing

const rows = new Map(); // key -> Row

/** Figures as old as this are marked with their age: two reports of the edge are missing. */
const OLD_SECONDS = 2;

/** Bounds of a lag that are further apart are shown. A listener that reads is tested once a second. */
const APART_SECONDS = 1.5;

/** The server's words for a listener with which all is well. */
const READS = "reads";

/** The server's verdict on a lag, as a class and as text. */
const VERDICTS = { ok: "", behind: "behind", far_behind: "far-behind" };

/** Where the server sees the cause of a lag, in words that fit into a column. */
const FAULTS = { listener: "slow listener", network: "slow network", server: "slow server", proxy: "at its proxy" };

/** The lag without the burst that the listener requested. */
const excessLag = (listener) => Math.max(0, listener.lag_seconds - (listener.burst_seconds ?? 0));

/** The bounds of that lag in words, if they are apart. */
function lagBounds({ lag_at_least_seconds: least, lag_at_most_seconds: most, burst_seconds: burst = 0 }) {
  if (least == null || most == null || most - least <= APART_SECONDS) return "";
  return range(Math.max(0, least - burst), Math.max(0, most - burst));
}

/** A listener's key in the whole table: numbers are those of an edge. */
const key = ({ edge, id }) => `${edge ?? ""}/${id}`;

/** The listener's address, unless it stands for its name, and that of its proxy. */
function address({ name, remote, via }) {
  const own = name ? remote : "";
  return via ? `${own} via ${via}`.trimStart() : own;
}

class Row {
  constructor(id, stopOwn) {
    Object.assign(this, stamp("listener"));
    this.id = id;
    this.leaving = false;
    this.own = false;
    this.sparkline = new Sparkline(this.parts.history);
    this.parts.disconnect.addEventListener("click", () => (this.own ? stopOwn() : this.disconnect()));
  }

  show(listener, { own, status }) {
    const { parts } = this;
    const name = listener.name || listener.remote || `listener ${listener.id}`;
    if (name !== this.name || own !== this.own) {
      this.name = name;
      this.own = own;
      parts.name.title = name;
      put(parts.disconnect, own ? "Stop" : "Disconnect");
      parts.disconnect.setAttribute("aria-label", own ? "Stop, this is your own listener" : `Disconnect ${name}`);
    }
    parts.you.hidden = !own;
    this.showEdge(listener, status);
    put(parts.name, name);
    put(parts.remote, [address(listener), listener.token && `by ${listener.token}`].filter(Boolean).join(" · "));
    put(parts.state, listener.state && listener.state !== READS ? listener.state : "");
    put(parts.format, listener.format);
    put(parts.overflow, listener.overflow ?? "");

    const now = status?.now ?? Date.now() / 1000;
    const lag = excessLag(listener);
    const limit = listener.max_lag_seconds || status?.buffer_seconds || 1;
    const level = VERDICTS[listener.verdict] ?? "";
    put(parts.lag, seconds(lag));
    put(parts.bounds, lagBounds(listener));
    put(parts.burst, listener.burst_seconds >= 0.1 ? `+ ${seconds(listener.burst_seconds)} burst` : "");
    put(parts.verdict, level.replace("-", " "));
    if (!listener.silent) this.sparkline.show(lag, limit, performance.now() / 1000);
    this.root.className = level;
    this.root.classList.toggle("leaving", this.leaving);
    this.root.classList.toggle("silent", listener.silent === true);
    put(parts.p99, seconds(listener.lag_p99_seconds));
    put(parts.max, seconds(listener.lag_max_seconds));

    put(parts.lost, count(listener.lost));
    parts.lost.className = listener.lost > 0 ? "bad" : "zero";
    put(parts.lost_share, listener.lost > 0 ? percent(listener.lost, listener.offered) : "");
    put(parts.gaps, count(listener.gaps));
    parts.gaps.className = listener.gaps > 0 ? "" : "zero";
    put(parts.gap_max, listener.gaps > 0 ? `max ${plural(listener.gap_max_blocks, "block")}` : "");

    this.showCause(listener);

    put(parts.since, timeOfDay(listener.connected_at, now));
    parts.since.dateTime = new Date(listener.connected_at * 1000).toISOString();
    put(parts.for, listener.silent ? "" : span(now - listener.connected_at)); // it may have left
  }

  /** The server that the listener is at, where several are shown. Another one ends its listeners itself. */
  showEdge({ edge, mount, age_seconds, silent }, status) {
    const { parts } = this;
    put(parts.edge, edge ?? "here");
    put(parts.edge_mount, mount && mount !== status?.mount ? mount : "");
    put(parts.age, edge != null && (silent || age_seconds >= OLD_SECONDS) ? age(age_seconds, silent) : "");
    parts.disconnect.hidden = edge != null;
  }

  /** The cause of the lag, and the place where most of the sound waits. */
  showCause(listener) {
    const lost = listener.undelivered_lost_seconds;
    const places = [
      ["not delivered", listener.undelivered_seconds],
      ["on the way", listener.socket_queued_seconds],
      ["not read", listener.unread_seconds],
    ].filter(([, waits]) => waits >= 0.1).sort(([, a], [, b]) => b - a)
      .map(([place, waits]) => `${place} ${seconds(waits)}`.replaceAll(" ", "\u00a0"));
    if (lost >= 0.1) places.push(`${seconds(lost)} of it lost`.replaceAll(" ", "\u00a0"));
    const [first = NOTHING, ...others] = places;
    const fault = FAULTS[listener.fault];
    const { where, place } = this.parts;
    put(where, fault ?? first);
    where.className = places.length > 0 ? "" : "zero";
    where.title = [first, ...others].join(", ");
    put(place, fault ? [first, ...others.filter((text) => text.endsWith("lost"))].join("\n") : "");
  }

  async disconnect() {
    if (this.leaving) return; // a flag, because `disabled` would take the keyboard's focus away
    this.leaving = true;
    this.root.classList.add("leaving");
    const path = `/api/v1/listeners/${encodeURIComponent(this.id)}`;
    const response = await fetch(path, { method: "DELETE" }).catch(() => null);
    const gone = response?.ok || response?.status === 404; // 404: it left by itself
    this.leaving = gone;
    this.root.classList.toggle("leaving", gone);
    announce(`${brief(this.name)} ${gone ? "disconnected" : "could not be disconnected"}.`);
  }
}

/**
 * Compares by lag, the largest first. Below a tenth of a second, which is a block or two, rows keep the order of their
 * numbers: in order of their lag they would never rest.
 */
function byLag(a, b) {
  const lag = (listener) => (excessLag(listener) < 0.1 ? 0 : excessLag(listener));
  return lag(b) - lag(a) || key(a).localeCompare(key(b), "en", { numeric: true });
}

/** True while the pointer or the keyboard's focus is on a row: rows must not move under a hand that presses a button. */
function orderIsHeld() {
  const pointing = matchMedia("(hover: hover)").matches && $("rows").matches(":hover");
  return pointing || $("rows").querySelector(":focus-visible") !== null;
}

/**
 * Shows the rows of the listeners furthest behind, of `all` in number. `own` is the number of this page's own listener;
 * its button calls `stopOwn`. Of an audience, `silent` more listeners were at edges that are silent, and the rows of `left_off`
 * were not sent.
 */
export function showListeners(listeners, all, status, own, stopOwn, { silent = 0, left_off = 0 } = {}) {
  const worst = [...listeners].sort(byLag).slice(0, MAX_ROWS);
  const keys = new Set(worst.map(key));
  $("table").classList.toggle("gathering", status?.gather != null);

  for (const [id, row] of rows) {
    if (keys.has(id)) continue;
    if (row.root.contains(document.activeElement)) $("listeners-title").focus();
    row.root.remove();
    rows.delete(id);
  }
  const held = orderIsHeld();
  worst.forEach((listener, place) => {
    let row = rows.get(key(listener));
    const fresh = !row;
    if (fresh) rows.set(key(listener), (row = new Row(listener.id, stopOwn)));
    row.show(listener, { own: listener.edge == null && listener.id === own, status });
    const there = $("rows").children[place] ?? null;
    if (fresh && held) $("rows").append(row.root);
    else if (!held && there !== row.root) $("rows").insertBefore(row.root, there);
  });

  const none = all + silent === 0;
  if (none && $("no-listeners").hidden) $("share").open = true;
  if (!none && !$("no-listeners").hidden) $("share").open = false;
  $("no-listeners").hidden = !none;
  $("table").hidden = none;
  $("order").hidden = none;
  put($("count"), none ? "" : count(all) + (silent > 0 ? ` and ${count(silent)} at silent edges` : ""));
  put($("order"), held ? "order held while you point at a row" : order(worst.length, all + silent, left_off));
}

/** What the rows are of all. */
function order(shown, all, left_off) {
  if (left_off > 0) return `${count(shown)} of ${count(all)}: edges send the rows of those furthest behind`;
  return all > shown ? `the ${shown} furthest behind of ${count(all)}` : "furthest behind first";
}
