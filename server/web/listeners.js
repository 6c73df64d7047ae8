// Who listens, and who lags: the table, worst first.

import { Sparkline } from "/sparkline.js";
import { $, NOTHING, announce, brief, count, percent, plural, put, seconds, span, stamp, timeOfDay } from "/text.js";

const ROWS_MAX = 200; // nobody reads more, and a browser lays out 200 rows in passing

const rows = new Map(); // id -> Row

/** What `fault` means, in words that fit into a column. */
const BLAME = { listener: "it does not read", network: "slow network", server: "this server is slow" };

/** The lag that nobody asked for. */
const unwanted = (listener) => Math.max(0, listener.lag_seconds - (listener.burst_seconds ?? 0));

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
      parts.disconnect.setAttribute("aria-label", own ? "Stop, this is you" : `Disconnect ${name}`);
    }
    parts.you.hidden = !own;
    put(parts.name, name);
    put(parts.remote, listener.name ? listener.remote : "");
    put(parts.format, listener.format);
    put(parts.overflow, listener.overflow ?? "");

    const now = status?.now ?? Date.now() / 1000;
    const lag = unwanted(listener);
    const limit = listener.max_lag_seconds || status?.buffer_seconds || 1;
    const level = verdict(lag / limit);
    put(parts.lag, seconds(lag));
    put(parts.asked, listener.burst_seconds >= 0.1 ? `+ ${seconds(listener.burst_seconds)} asked for` : "");
    put(parts.verdict, level.replace("-", " "));
    this.sparkline.show(lag, limit, performance.now() / 1000);
    this.root.className = level;
    this.root.classList.toggle("leaving", this.leaving);
    put(parts.p99, seconds(listener.lag_p99_seconds));
    put(parts.max, seconds(listener.lag_max_seconds));

    put(parts.lost, count(listener.lost));
    parts.lost.className = listener.lost > 0 ? "bad" : "zero";
    put(parts.lost_share, listener.lost > 0 ? percent(listener.lost, listener.offered) : "");
    put(parts.gaps, count(listener.gaps));
    parts.gaps.className = listener.gaps > 0 ? "" : "zero";
    put(parts.gap_max, listener.gaps > 0 ? `max ${plural(listener.gap_max_blocks, "block")}` : "");

    this.showWhere(listener, level);

    put(parts.since, timeOfDay(listener.connected_at, now));
    parts.since.dateTime = new Date(listener.connected_at * 1000).toISOString();
    put(parts.for, span(now - listener.connected_at));
  }

  /** Who is to blame for the lag, and where the most of it waits. */
  showWhere(listener, level) {
    const { lag_seconds, socket_queued_seconds: kernel, unread_seconds: unread } = listener;
    const places = [
      ["our ring", Math.max(0, lag_seconds - kernel - unread)],
      ["our kernel", kernel],
      ["its machine", unread],
    ].filter(([, waits]) => waits >= 0.1).sort(([, a], [, b]) => b - a);
    const [most = NOTHING, ...others] = places.map(([place, waits]) => `${place} ${seconds(waits)}`.replace(/ s$/, "\u00a0s"));
    const blame = level ? BLAME[listener.fault] : null;
    const { where, place } = this.parts;
    put(where, blame ?? most);
    where.className = places.length > 0 ? "" : "zero";
    where.title = [most, ...others].join(", ");
    put(place, blame ? most : "");
  }

  async disconnect() {
    if (this.leaving) return; // a flag, not `disabled`, which would take the keyboard's focus away
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

/** How much of the buffer is used before it is worth a word: a quarter, then three. */
function verdict(used) {
  return used >= 0.75 ? "far-behind" : used >= 0.25 ? "behind" : "";
}

/** Furthest behind first. Below a tenth of a second it is a block or two: in order of their lag, rows would never rest. */
function byLag(a, b) {
  const lag = (listener) => (unwanted(listener) < 0.1 ? 0 : unwanted(listener));
  return lag(b) - lag(a) || String(a.id).localeCompare(String(b.id), "en", { numeric: true });
}

/** True while someone is about to press a button: rows must not move under their hand. */
function orderIsHeld() {
  const pointing = matchMedia("(hover: hover)").matches && $("rows").matches(":hover");
  return pointing || $("rows").querySelector(":focus-visible") !== null;
}

/** `listeners` are the worst of `all`, `own` is the number of this page's own listener, and `stopOwn` what its button does. */
export function showListeners(listeners, all, status, own, stopOwn) {
  const worst = [...listeners].sort(byLag).slice(0, ROWS_MAX);
  const ids = new Set(worst.map((listener) => listener.id));

  for (const [id, row] of rows) {
    if (ids.has(id)) continue;
    if (row.root.contains(document.activeElement)) $("listeners-title").focus();
    row.root.remove();
    rows.delete(id);
  }
  const held = orderIsHeld();
  worst.forEach((listener, place) => {
    let row = rows.get(listener.id);
    const fresh = !row;
    if (fresh) rows.set(listener.id, (row = new Row(listener.id, stopOwn)));
    row.show(listener, { own: listener.id === own, status });
    const there = $("rows").children[place] ?? null;
    if (fresh && held) $("rows").append(row.root);
    else if (!held && there !== row.root) $("rows").insertBefore(row.root, there);
  });

  const nobody = all === 0;
  if (nobody && $("nobody").hidden) $("share").open = true;
  if (!nobody && !$("nobody").hidden) $("share").open = false;
  $("nobody").hidden = !nobody;
  $("table").hidden = nobody;
  $("order").hidden = nobody;
  put($("count"), nobody ? "" : count(all));
  const those = all > worst.length ? `the ${worst.length} furthest behind of ${count(all)}` : "furthest behind first";
  put($("order"), held ? "order held while you are here" : those);
}
