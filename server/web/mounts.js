// The list of mounts, where there are several: how each sounds, who listens, and the worst lag. A click shows and plays another one.

import { mount } from "/address.js";
import { share } from "/level.js";
import { $, plural, put, stamp } from "/text.js";

const MOUNTS = "/api/v1/mounts";
const TIMEOUT_MS = 2000;
const WORDS = { silent: "no sound", fallback: "fallback", ended: "ended", unknown: "unknown" };

const tiles = new Map(); // by name

/** Asks for the list and shows it, where nothing is pushed: the mount of this page may be gone. */
export async function askForMounts() {
  const answer = await fetch(MOUNTS, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) }).catch(() => null);
  const list = answer?.ok ? await answer.json().catch(() => null) : null;
  if (list) showMounts(list);
}

/** Shows the list. */
export function showMounts(list) {
  const missing = mount !== null && !list.some(({ name }) => name === mount);
  $("no-mount").hidden = !missing;
  if (missing) put($("no-mount"), `This server has no mount \u2068${mount}\u2069.`);
  $("mounts").hidden = list.length < 2 && !missing;
  for (const [name, tile] of tiles) {
    if (list.some((row) => row.name === name)) continue;
    tile.root.remove();
    tiles.delete(name);
  }
  list.forEach((row, place) => {
    const tile = tiles.get(row.name) ?? new Tile(row.name);
    tiles.set(row.name, tile);
    if ($("mounts").children[place] !== tile.root) $("mounts").insertBefore(tile.root, $("mounts").children[place] ?? null);
    tile.show(row, row.name === (mount ?? list[0].name));
  });
}

/** One mount, as a link to its page. */
class Tile {
  constructor(name) {
    Object.assign(this, stamp("mount"));
    put(this.parts.name, name);
    this.root.href = `/?mount=${encodeURIComponent(name)}`;
  }

  show({ state, failure, source, level, listeners, worst_lag_seconds }, is_shown) {
    const is_heard = state === "live" || state === "fallback";
    if (is_shown) this.root.setAttribute("aria-current", "page");
    else this.root.removeAttribute("aria-current");
    this.root.title = failure ?? source;
    put(this.parts.state, WORDS[state] ?? "");
    this.parts.state.hidden = state === "live";
    const loudest = (kind) => Math.max(...level.map((channel) => channel[kind] ?? -Infinity));
    for (const kind of ["peak", "rms"]) {
      this.parts.track.style.setProperty(`--${kind}`, share(is_heard ? loudest(`${kind}_dbfs`) : -Infinity));
    }
    put(this.parts.listeners, plural(listeners, "listener"));
    put(this.parts.lag, worst_lag_seconds == null ? "" : `worst lag ${worst_lag_seconds.toFixed(2)} s`);
  }
}
