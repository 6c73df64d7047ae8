// The servers whose listeners are in the table: this one and its edges, with how old their figures are.

import { $, count, plural, put, seconds, span, stamp } from "/text.js";

const MAX_TILES = 48; // more are not read; those that are silent come first

const tiles = new Map(); // by name; "" is this server

/** One server. */
class Tile {
  constructor() {
    Object.assign(this, stamp("edge"));
  }

  show({ name, age_seconds, silent, listeners, worst_lag_seconds, left_off }) {
    const { parts } = this;
    put(parts.name, name || "here");
    put(parts.age, age(age_seconds, silent));
    put(parts.listeners, silent ? `had ${plural(listeners, "listener")}` : plural(listeners, "listener"));
    put(parts.lag, silent || worst_lag_seconds == null ? "" : `worst lag ${seconds(worst_lag_seconds)}`);
    put(parts.left_off, left_off > 0 ? `${count(left_off)} of them not in the table` : "");
    this.root.classList.toggle("silent", silent);
  }
}

/** How old the figures of an edge are, in words. Those of this server are of now. */
export function age(age_seconds, silent) {
  if (silent) return `silent for ${span(age_seconds)}`;
  return age_seconds == null ? "" : `${age_seconds.toFixed(0)} s old`;
}

/** Shows the tiles of an audience. */
export function showEdges({ here, edges }) {
  const first = edges.filter(({ silent }) => silent);
  const all = [{ name: "", silent: false, left_off: 0, ...here }, ...first, ...edges.filter(({ silent }) => !silent)];
  const shown = all.slice(0, MAX_TILES);
  for (const [name, tile] of tiles) {
    if (shown.some((edge) => edge.name === name)) continue;
    tile.root.remove();
    tiles.delete(name);
  }
  shown.forEach((edge, place) => {
    const tile = tiles.get(edge.name) ?? new Tile();
    tiles.set(edge.name, tile);
    const there = $("edges").children[place] ?? null;
    if (there !== tile.root) $("edges").insertBefore(tile.root, there);
    tile.show(edge);
  });
  $("edges").hidden = false;
}
