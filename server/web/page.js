// The page of aircheck: the source on air, its level and loudness, the listeners and their lag.
//
// The server pushes all that it shows, through one connection to /api/v1/watch.
// All text that a listener chooses, above all its name, is written as text, never as markup.

import { mount, ofMount } from "/address.js";
import { showEdges } from "/edges.js";
import { showLevel, showNoLevel } from "/level.js";
import { showListeners } from "/listeners.js";
import { showLoudness, showNoLoudness } from "/loudness.js";
import { askForMounts, showMounts } from "/mounts.js";
import { showNotifications } from "/notifications.js";
import { player } from "/player.js";
import { figures, refreshSession } from "/session.js";
import { showShare } from "/share.js";
import { $, count, milliseconds, pause, plural, ppm, put, span } from "/text.js";

const WATCH = ofMount("/api/v1/watch");
const RETRY_EVERY_MS = 1000;
const SILENCE_TIMEOUT_MS = 2000; // a status comes every 200 ms; one as late as this means that the server has a problem

// ---- what the server pushes ------------------------------------------------------------

/** Resolves at once while the page is visible, else when it is visible again. */
function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })).then(visible);
}

let failures = 0; // in a row

/**
 * Reads events until the page is hidden, or the connection fails or is silent for too long. `shows` has a function for
 * each event.
 */
function read(shows) {
  return new Promise((done) => {
    const events = new EventSource(WATCH);
    let timer;
    const end = (failed) => {
      clearTimeout(timer);
      events.close();
      document.removeEventListener("visibilitychange", hide);
      if (failed) failures += 1;
      showContact();
      done();
    };
    // A browser has few connections for all pages of a server; hidden pages need none.
    const hide = () => document.hidden && end(false);
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(end, SILENCE_TIMEOUT_MS, true);
    };
    for (const [name, show] of Object.entries(shows)) {
      events.addEventListener(name, ({ data }) => {
        failures = 0;
        showContact();
        wait();
        try {
          show(JSON.parse(data));
        } catch (error) {
          console.error(name, error); // one malformed event must not end the rest
        }
      });
    }
    events.addEventListener("error", () => end(true));
    document.addEventListener("visibilitychange", hide);
    wait();
  });
}

/** Reads events again and again while the page is visible and may do so. */
async function watch(shows) {
  await refreshSession();
  for (;;) {
    await visible();
    await figures();
    await read(shows);
    if (failures === 0) continue;
    // The server may be there, and the mount not.
    askForMounts();
    // The sign-in may have ended, which an EventSource does not say.
    await Promise.all([refreshSession(), pause(RETRY_EVERY_MS)]);
  }
}

function showContact() {
  const away = failures >= 2;
  if (away === document.body.classList.contains("unreachable")) return;
  document.body.classList.toggle("unreachable", away);
  put($("unreachable"), away ? "Server unreachable, trying again." : "");
  if (away) {
    showState("no contact");
    showNoLevel();
    showNoLoudness();
    $("source-lost").hidden = true;
    player.contactLost(RETRY_EVERY_MS + 2 * SILENCE_TIMEOUT_MS);
  } else {
    player.contactAgain();
  }
}

// ---- the source on air --------------------------------------------------------------------

let status = null; // the latest reply

function showStatus(next) {
  status = player.status = next;
  player.describe(status);
  const { source, format, capture } = status;

  // What listeners hear; the badges beside the source say what is wrong with it.
  if (status.on_air) showState("on air", "on");
  else if (status.state === "fallback") showState("fallback", "warning");
  else showState(status.state === "ended" ? "ended" : "off air");

  put($("source"), source.description);
  $("source").title = source.description;
  $("demo").hidden = source.kind !== "demo";
  $("source-lost").hidden = status.state !== "silent" && status.state !== "fallback";
  $("failure").hidden = !source.failure;
  put($("failure"), source.lost_since
    ? `Source lost for ${span(status.now - source.lost_since)}: ${source.failure}`
    : source.failure ?? "");

  put($("facts"), [
    `up ${span(status.now - status.started_at)}`,
    `${format.rate_hz / 1000} kHz`,
    { 1: "mono", 2: "stereo" }[format.channels] ?? `${format.channels} channels`,
    `${+(format.block_seconds * 1000).toFixed(2)} ms blocks`,
    ...recordingFacts(status.recording),
  ].map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · ")); // lines break between facts, not in them

  const ring = status.latency_seconds?.ring;
  put($("blocks"), count(capture.blocks));
  showLoss($("lost-overflow"), capture.lost_overflow);
  showLoss($("lost-xrun"), capture.lost_xrun);
  showLoss($("lost-source"), capture.lost_source);
  showHop(status);
  showClock(capture, source.kind === "stdin");
  put($("ring-p50"), milliseconds(ring?.p50));
  put($("ring-p99"), milliseconds(ring?.p99));
  player.server.ring = ring?.p50 ?? undefined;

  showLevel(status.level ?? [], status.on_air || status.state === "fallback");
  showLoudness(status.loudness, status.on_air || status.state === "fallback");
  showNotifications(status);
  const { gather } = status;
  $("not-gathered").hidden = !gather?.failure;
  put($("not-gathered"), gather?.failure ? `Other servers are not heard: ${gather.failure}` : "");
  showShare(status.urls ?? []);
}

/** Facts on the recording. It is always shown, because a microphone is private. */
function recordingFacts(recording) {
  if (!recording) return [];
  if (recording.failing) return [`recording fails: ${recording.failing}`];
  return [recording.lost > 0 ? `recording, ${plural(recording.lost, "block")} lost` : "recording"];
}

/** Shows a word in the corner, in the colour of `tone`: "on", "warning" or none. */
function showState(text, tone) {
  put($("state"), text.toUpperCase());
  for (const name of ["on", "warning"]) $("state").classList.toggle(name, name === tone);
}

function showLoss(element, blocks) {
  put(element, count(blocks));
  element.classList.toggle("bad", blocks > 0);
}

/** Shows what the way from another server has lost, and how long it is, where the sound comes from one. */
function showHop({ hop, capture, latency_seconds }) {
  $("hop").hidden = $("hop-latency").hidden = !hop;
  if (!hop) return;
  showLoss($("lost-hop"), capture.lost_hop);
  put($("hop-p99"), milliseconds(latency_seconds?.hop?.p99));
}

/** Shows how far the source's clock is off, once that is known, and what waits in the pipe in front of it. */
function showClock({ drift_ppm, drift_error_ppm, waiting_seconds }, has_pipe) {
  $("clock").hidden = drift_ppm == null;
  if (drift_ppm != null) put($("drift"), ppm(drift_ppm, drift_error_ppm));
  $("pipe").hidden = !has_pipe;
  put($("waiting"), waiting_seconds ? milliseconds(waiting_seconds) : "0 ms");
}

function showRows({ count, rows }) {
  // Those of other mounts are on their own pages.
  if (mount !== null || rows.some((row) => row.mount !== status.mount)) {
    rows = rows.filter((row) => row.mount === status.mount);
    count = rows.length;
  }
  const own = rows.find(({ id }) => id === player.listener);
  player.server.queue = own?.latency_seconds?.queue?.p50 ?? undefined;
  // Where others are gathered, all of them come together.
  if (!status.gather) showListeners(rows, count, status, player.listener, player.stop);
}

/** Shows the listeners of this server and of others, of all mounts: those of an edge have names of its own. */
function showAudience(audience) {
  const { listeners, silent_listeners: silent, left_off, rows } = audience;
  showEdges(audience);
  showListeners(rows, listeners, status, player.listener, player.stop, { silent, left_off });
}

watch({ status: showStatus, listeners: showRows, audience: showAudience, mounts: showMounts });
