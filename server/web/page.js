// The page of aircheck: the source on air, its level, the listeners and their lag.
//
// Two polls feed it, /api/v1/status and /api/v1/listeners. All text that a listener chooses, above all its name, is
// written as text, never as markup.

import { showLevel, showNoLevel } from "/level.js";
import { showListeners } from "/listeners.js";
import { player } from "/player.js";
import { showShare } from "/share.js";
import { $, count, milliseconds, pause, plural, put, span } from "/text.js";

const STATUS_EVERY_MS = 200; // the meters' pace; page.css glides over the same time
const LISTENERS_EVERY_MS = 500; // a frozen listener is marked a second after its stop, on a busy machine within two
const MANY_LISTENERS = 100; // their rows are 50 KB: half as often is enough
const RETRY_EVERY_MS = 1000;
const REPLY_TIMEOUT_MS = 2000; // a reply takes milliseconds; one as late as this means that the server has a problem

// ---- polling ---------------------------------------------------------------------------

/** Resolves at once while the page is visible, else when it is visible again. */
function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })).then(visible);
}

const unreachable = new Set(); // the paths that failed twice in a row

/**
 * Fetches `path` repeatedly, one request at a time, and passes each reply to `show`, which may return by how many times
 * the pause is to be longer.
 */
async function poll(path, every_ms, show) {
  let failures = 0;
  for (;;) {
    await visible();
    const began = performance.now();
    const reply = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(REPLY_TIMEOUT_MS) })
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
    let times = 1;
    try {
      if (reply) times = show(reply) ?? 1;
    } catch (error) {
      console.error(path, error); // one malformed reply must not end the polling
    }
    const wait_ms = reply ? every_ms * times : RETRY_EVERY_MS;
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
    showNoLevel();
    $("source-lost").hidden = true;
    player.contactLost(RETRY_EVERY_MS + 2 * REPLY_TIMEOUT_MS);
  } else {
    player.contactAgain();
  }
}

// ---- the source on air --------------------------------------------------------------------

let status = null; // the latest reply

function showStatus(next) {
  status = player.status = next;
  player.setChannels(status.format.channels);
  const { source, format, capture } = status;

  if (status.state === "ended") showState("ended", false);
  else showState(status.on_air ? "on air" : "off", status.on_air);

  put($("source"), source.description);
  $("source").title = source.description;
  $("demo").hidden = source.kind !== "demo";
  $("source-lost").hidden = status.state !== "silent";
  $("failure").hidden = !source.failure;
  put($("failure"), source.failure ?? "");

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
  put($("ring-p50"), milliseconds(ring?.p50));
  put($("ring-p99"), milliseconds(ring?.p99));
  player.server.ring = ring?.p50 ?? undefined;

  showLevel(status.level ?? [], status.on_air);
  showShare(status.urls ?? []);
}

/** Facts on the recording. It is always shown, because a microphone is private. */
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

function showRows(listeners) {
  const own = listeners.find(({ id }) => id === player.listener);
  player.server.queue = own?.latency_seconds?.queue?.p50 ?? undefined;
  showListeners(listeners, status, player.listener, player.stop);
  return listeners.length > MANY_LISTENERS ? 2 : 1;
}

poll("/api/v1/status", STATUS_EVERY_MS, showStatus);
poll("/api/v1/listeners", LISTENERS_EVERY_MS, showRows);
