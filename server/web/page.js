// The page of aircheck: what is on air, how loud it is, who listens and who lags.
//
// Two polls feed it, /api/v1/status and /api/v1/listeners. Whatever comes from a listener
// (its name above all) is written as text, never as markup.

const STATUS_EVERY_MS = 200; // the meters' pace; page.css glides over the same time
const LISTENERS_EVERY_MS = 1000;
const RETRY_EVERY_MS = 1000;
const GIVE_UP_AFTER_MS = 2000; // a reply takes milliseconds: one this late means a server in trouble
const ROWS_MAX = 200; // nobody reads more, and a browser lays out 200 rows in passing

const $ = (id) => document.getElementById(id);

/** Writes text only where it differs, so that selections and screen readers are left in peace. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A copy of a <template>'s one element, and its parts by their `data-field`. */
function stamp(template) {
  const root = $(template).content.firstElementChild.cloneNode(true);
  const parts = {};
  for (const part of root.querySelectorAll("[data-field]")) parts[part.dataset.field] = part;
  return { root, parts };
}

/** Says in passing what a press of a button came to. */
function announce(text) {
  put($("announce"), text);
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => put($("announce"), ""), 5000);
}

// ---- numbers as text -------------------------------------------------------------------

const NOTHING = "—";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

const count = (n) => (n == null ? NOTHING : whole.format(n));

const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;

function seconds(s) {
  if (s == null) return NOTHING;
  return `${s < 10 ? s.toFixed(2) : s < 100 ? s.toFixed(1) : count(s)} s`;
}

function milliseconds(s) {
  if (s == null) return NOTHING;
  const ms = s * 1000;
  return `${ms < 1 ? ms.toFixed(3) : ms < 100 ? ms.toFixed(1) : count(ms)} ms`;
}

function decibels(db) {
  return db.toFixed(1).replace("-", "−");
}

/** A share in percent that never rounds a loss away, nor a remainder. */
function percent(part, all) {
  const p = all > 0 ? (100 * part) / all : 0;
  if (p > 0 && p < 0.01) return "<0.01 %";
  if (p < 100 && p > 99.9) return ">99.9 %";
  return `${p < 10 ? p.toFixed(2) : p.toFixed(1)} %`;
}

/** 3 s, 2 min 3 s, 1 h 2 min, 4 d 1 h: the two units that matter. */
function span(s) {
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

/** The time of day, with the date in front of it when that was not today. */
function clock(unix, now) {
  const then = new Date(unix * 1000);
  const time = then.toLocaleTimeString("en-GB");
  const today = then.toDateString() === new Date(now * 1000).toDateString();
  return today ? time : `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}

// ---- polling ---------------------------------------------------------------------------

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Resolves at once while the page is seen, else when it is seen again. */
function seen() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })).then(seen);
}

const unreachable = new Set(); // the paths that failed twice in a row

/** Fetches `path` again and again, one request at a time, and hands each reply to `show`. */
async function poll(path, every_ms, show) {
  let failures = 0;
  for (;;) {
    await seen();
    const began = performance.now();
    const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(GIVE_UP_AFTER_MS) })
      .then((response) => (response.ok ? response.json() : null))
      .catch(() => null);

    if (reply) {
      failures = 0;
      unreachable.delete(path);
    } else {
      failures += 1;
      if (failures >= 2) unreachable.add(path);
    }
    showContact();
    try {
      if (reply) show(reply);
    } catch (error) {
      console.error(path, error); // one odd reply must not end the polling
    }
    const wait_ms = reply ? every_ms : RETRY_EVERY_MS;
    await pause(Math.max(0, wait_ms - (performance.now() - began)));
  }
}

function showContact() {
  const away = unreachable.size > 0;
  if (away === document.body.classList.contains("unreachable")) return;
  document.body.classList.toggle("unreachable", away);
  put($("unreachable"), away ? "Server unreachable, trying again." : "");
  if (away) {
    showState("no contact", false);
    for (const meter of meters) meter.show(null, false);
    player.contactLost();
  } else {
    player.contactAgain();
  }
}

// ---- what is on air --------------------------------------------------------------------

let status = null; // the last one that came

function showStatus(next) {
  status = next;
  const { source, format, capture } = status;

  if (status.state === "ended") showState("ended", false);
  else showState(status.on_air ? "on air" : "off", status.on_air);

  put($("source"), source.description);
  $("source").title = source.description;
  $("demo").hidden = source.kind !== "demo";
  $("failure").hidden = !source.failure;
  put($("failure"), source.failure ?? "");

  put($("facts"), [
    `up ${span(status.now - status.started_at)}`,
    `${format.rate_hz / 1000} kHz`,
    { 1: "mono", 2: "stereo" }[format.channels] ?? `${format.channels} channels`,
    `${+(format.block_seconds * 1000).toFixed(2)} ms blocks`,
    ...recordingFacts(status.recording),
  ].map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · ")); // lines break between facts, not in them

  put($("blocks"), count(capture.blocks));
  showLoss($("lost-overflow"), capture.lost_overflow);
  showLoss($("lost-xrun"), capture.lost_xrun);
  put($("ring-p50"), milliseconds(status.latency_seconds?.ring?.p50));
  put($("ring-p99"), milliseconds(status.latency_seconds?.ring?.p99));

  showLevel(status.level ?? [], status.on_air);
  showShare();
}

/** A microphone is private, so a recording is never hidden. */
function recordingFacts(recording) {
  if (!recording) return [];
  if (recording.failing) return [`recording fails: ${recording.failing}`];
  return [recording.lost > 0 ? `recording, ${plural(recording.lost, "block")} lost` : "recording"];
}

function showState(text, on_air) {
  put($("state"), text.toUpperCase());
  $("state").classList.toggle("on", on_air);
}

function showLoss(element, blocks) {
  put(element, count(blocks));
  element.classList.toggle("bad", blocks > 0);
}

// ---- level -----------------------------------------------------------------------------

const FLOOR_DBFS = -60;
const FALL_DB_PER_SECOND = 20 / 1.7; // the return time of IEC 60268-10, type I
const HOLD_SECONDS = 1.5;

/** One channel's meter: rises at once, falls slowly, and holds its highest peak a while. */
class Meter {
  constructor(label) {
    Object.assign(this, stamp("meter"));
    put(this.parts.label, label);
    this.parts.track.setAttribute("aria-label", `Peak level, ${label}`);
    this.peak = this.rms = this.hold = FLOOR_DBFS;
    this.held_at = this.shown_at = performance.now() / 1000;
  }

  show(level, on_air) {
    const now = performance.now() / 1000;
    const fall = FALL_DB_PER_SECOND * (now - this.shown_at);
    this.shown_at = now;

    const peak = level?.peak_dbfs ?? -Infinity;
    const rms = level?.rms_dbfs ?? -Infinity;
    this.peak = Math.max(peak, this.peak - fall, FLOOR_DBFS);
    this.rms = Math.max(rms, this.rms - fall, FLOOR_DBFS);
    if (this.peak >= this.hold) [this.hold, this.held_at] = [this.peak, now];
    else if (now - this.held_at > HOLD_SECONDS) this.hold = Math.max(this.peak, this.hold - fall);
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

function share(dbfs) {
  const width = (dbfs - FLOOR_DBFS) / -FLOOR_DBFS;
  return `${(100 * Math.min(1, Math.max(0, width))).toFixed(1)}%`;
}

let meters = [];

function showLevel(levels, on_air) {
  const names = { 1: ["Mono"], 2: ["Left", "Right"] }[levels.length];
  if (meters.length !== levels.length) {
    meters = levels.map((_, i) => new Meter(names?.[i] ?? `Channel ${i + 1}`));
    $("meters").replaceChildren(...meters.map((meter) => meter.root));
  }
  levels.forEach((level, i) => meters[i].show(on_air ? level : null, on_air)); // off air it would be an old one
}

// ---- playing ---------------------------------------------------------------------------

const player = {
  audio: $("audio"),
  playing: false, // what was asked for, not what is heard
  broke_at: -Infinity, // when a stream that was asked for went away
  resume: false, // it went away because the server did

  start() {
    this.playing = true;
    this.resume = false;
    this.say("Connecting…");
    // A number that never comes twice keeps every cache and the browser's own media cache out of it.
    this.audio.src = `/stream.wav?name=page&_=${Date.now()}`;
    this.audio.play().catch((error) => {
      if (error.name === "NotAllowedError") this.stop("The browser did not allow it. Please press Play once more.");
      // Whatever else goes wrong arrives as an "error" event; a Stop while connecting is no error.
    });
  },

  /** Ends the connection too: a paused element would go on holding it, and lag. */
  stop(line = "Stopped.") {
    this.playing = false;
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
    this.say(line);
  },

  lost(line) {
    if (!this.playing) return;
    this.stop(line);
    this.broke_at = performance.now();
    this.resume = unreachable.size > 0;
  },

  /** The sound breaks off a moment before the polls notice. */
  contactLost() {
    this.resume = performance.now() - this.broke_at < RETRY_EVERY_MS + 2 * GIVE_UP_AFTER_MS;
  },

  /** The server is back: so is the sound, for one who never asked for silence. From a fresh start,
   *  since a browser that mends the old stream joins it anywhere, in the middle of a sample too. */
  contactAgain() {
    if (this.playing || this.resume) this.start();
  },

  say(line) {
    put($("player-line"), line);
    put($("play"), this.playing ? "Stop" : "Play");
    $("play").classList.toggle("on", this.playing);
  },
};

$("play").addEventListener("click", () => {
  player.resume = false;
  if (player.playing) player.stop();
  else player.start();
});
player.audio.addEventListener("playing", () => player.say("Playing."));
player.audio.addEventListener("waiting", () => player.audio.currentTime > 0 && player.say("Waiting for sound…"));
player.audio.addEventListener("ended", () => player.lost("The stream has ended."));
player.audio.addEventListener("error", () => {
  const full = status && status.listeners >= status.max_listeners;
  player.lost(full
    ? `The server is full: ${plural(status.max_listeners, "listener")}. Please try again in a while.`
    : "The sound could not be played. Please try again.");
});

function setVolume() {
  player.audio.volume = ($("volume").value / 100) ** 2; // ears hear loudness closer to this than to a straight line
}
$("volume").addEventListener("input", setVolume);
setVolume();

// ---- listeners -------------------------------------------------------------------------

const rows = new Map(); // id -> Row

/** What `fault` means, in words that fit into a column. */
const BLAME = { listener: "it does not read", network: "slow network", server: "this server is slow" };

/** The lag that nobody asked for. */
const unwanted = (listener) => Math.max(0, listener.lag_seconds - (listener.burst_seconds ?? 0));

class Row {
  constructor(id) {
    Object.assign(this, stamp("listener"));
    this.id = id;
    this.leaving = false;
    this.parts.disconnect.addEventListener("click", () => this.disconnect());
  }

  show(listener) {
    const { parts } = this;
    const name = listener.name || listener.remote || `listener ${listener.id}`;
    if (name !== this.name) {
      this.name = name;
      parts.name.title = name;
      parts.disconnect.setAttribute("aria-label", `Disconnect ${name}`);
    }
    put(parts.name, name);
    put(parts.remote, listener.name ? listener.remote : "");
    put(parts.format, listener.format);
    put(parts.overflow, listener.overflow ?? "");

    const lag = unwanted(listener);
    const used = lag / (listener.max_lag_seconds || status?.buffer_seconds || 1);
    const level = verdict(used);
    put(parts.lag, seconds(lag));
    put(parts.asked, listener.burst_seconds >= 0.1 ? `+ ${seconds(listener.burst_seconds)} asked for` : "");
    put(parts.verdict, level.replace("-", " "));
    parts.bar.style.setProperty("--share", `${Math.min(100, 100 * used).toFixed(0)}%`);
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

    const now = status?.now ?? Date.now() / 1000;
    put(parts.since, clock(listener.connected_at, now));
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

/** A name that fits into a sentence; the isolates keep its writing direction to itself. */
function brief(name) {
  const letters = [...name];
  return `\u2068${letters.length > 40 ? `${letters.slice(0, 39).join("")}…` : name}\u2069`;
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

function showListeners(listeners) {
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
    if (fresh) rows.set(listener.id, (row = new Row(listener.id)));
    row.show(listener);
    const there = $("rows").children[place] ?? null;
    if (fresh && held) $("rows").append(row.root);
    else if (!held && there !== row.root) $("rows").insertBefore(row.root, there);
  });

  const nobody = listeners.length === 0;
  if (nobody && $("nobody").hidden) $("share").open = true;
  if (!nobody && !$("nobody").hidden) $("share").open = false;
  $("nobody").hidden = !nobody;
  $("table").hidden = nobody;
  $("order").hidden = nobody;
  put($("count"), nobody ? "" : count(listeners.length));
  const those = listeners.length > ROWS_MAX ? `the ${ROWS_MAX} furthest behind of ${count(listeners.length)}` : "furthest behind first";
  put($("order"), held ? "order held while you are here" : those);
}

// ---- listening from elsewhere ----------------------------------------------------------

/** True for loopback, and for the "any address" that a server may listen on but nobody can dial. */
function isLocal(url) {
  return /^(localhost|127\..*|\[::1\]|0\.0\.0\.0|\[::\])$/.test(new URL(url).hostname);
}

/** An address that others can reach: the one this page came from, or else one that the server names. */
function sharedUrl() {
  const own = `${location.origin}/`;
  if (!isLocal(own)) return own;
  return (status.urls ?? []).find((url) => !isLocal(url)) ?? own;
}

function showShare() {
  const url = sharedUrl();
  if (url === $("share-link").textContent) return;
  put($("share-link"), url);
  $("share-link").href = url;
  $("loopback").hidden = !isLocal(url);
  const stream = `${url}stream.wav`;
  const commands = [
    ["Browser", url],
    ["curl", `curl -N -o aircheck.wav ${stream}`],
    ["VLC", `vlc ${stream}`],
    ["ffplay", `ffplay -nodisp -fflags nobuffer ${stream}`],
  ];
  $("commands").replaceChildren(...commands.map(([label, text]) => {
    const { root, parts } = stamp("command");
    put(parts.label, label);
    put(parts.text, text);
    parts.copy.setAttribute("aria-label", `Copy for ${label}`);
    parts.copy.addEventListener("click", () => copy(parts));
    return root;
  }));
}

/** Copies a command. Where the clipboard is closed (plain http from afar), it is selected instead. */
async function copy({ text, copy: button, label }) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    put(button, "Copied");
    announce(`Copied for ${label.textContent}.`);
  } catch {
    getSelection().selectAllChildren(text);
    put(button, "Selected");
    announce(`Selected for ${label.textContent}, ready to copy.`);
  }
  await pause(1500);
  put(button, "Copy");
}

poll("/api/v1/status", STATUS_EVERY_MS, showStatus);
poll("/api/v1/listeners", LISTENERS_EVERY_MS, showListeners);
