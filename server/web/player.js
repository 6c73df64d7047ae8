// The Listen panel: plays live where the browser can, and by the browser's own player where it can't.

import { Element } from "/element.js";
import { showLatency, showNoLatency } from "/latency.js";
import { Live, isLoopback, obstacle, opens } from "/live.js";
import { NowPlaying } from "/now_playing.js";
import { onPermissions, refreshSession, session } from "/session.js";
import { Spectrogram } from "/spectrogram.js";
import { $, plural, put, seconds, span } from "/text.js";
import { titleLine } from "/titles.js";

const TELL_SECONDS = 60; // that there was no sound
const OFFLINE = "This device has no network. The sound comes back with it.";
const WAITING_SECONDS = 0.5; // a shorter silence is not reported
const MAX_UNOPENED = 2; // so many connections that fail from the beginning, while the server answers, are a proxy's doing
const PROXY = "the proxy before this server does not pass WebSockets on";
/** Where the server sees another host than the browser, it takes WebSockets, which tell no more than that, for another site's. */
const changesHost = (host) =>
  `the proxy before this server changes Host to ${host}. Live sound needs a proxy that passes on Host, Upgrade and Connection`;
const RETRY_SECONDS = [10, 20, 40, 60]; // and so on, until they are

const spectrogram = new Spectrogram($("spectrogram"));
const live = new Live({ listening, lost, heard, held, link: showLink, decoding: showPayloads });
const element = new Element($("audio"), {
  playing: (name) => say(`Playing ${name} with the browser's own player.`),
  waiting: () => say("Waiting for sound…"),
  ended: () => endStream("The stream has ended."),
  failed: () => endStream(isFull() ? full() : "The sound could not be played. Please try again."),
  refused: () => stop("The browser did not allow sound. Please press Play once more."),
});

const now_playing = new NowPlaying({
  play: () => player.playing || !session.listen || start(),
  stop: () => player.playing && stop(),
});

/** The state of the player, for the table, the page's tests and the browser's console. */
export const player = {
  playing: false,
  /** The number of this page's own listener, while it plays live. */
  listener: null,
  /** The payload in which its sound is sent, and the bitrate of Opus. */
  payload: null,
  bitrate: null,
  /** The last figures of the live player. */
  figures: null,
  status: null,
  /** The server's medians of the first stages, in seconds. */
  server: { ring: undefined, queue: undefined },
  stop: () => stop(),
  describe,
  contactLost,
  contactAgain,
};

const spectrogram_hint = $("spectrogram-hint").textContent;
let why_not_live = obstacle();
let title = ""; // what the page shows of the sound
let pressed_at = 0;
let silent_since = null;
let was_silent_seconds = 0;
let told_until = 0;
let interruptions = 0;
let broke_at = -Infinity; // when a stream of the browser's own player ended
let resume = false; // it ended because the server became unreachable
let is_tried_again = false; // live sound, now and then
let retries = null; // of live sound, while a proxy passes no WebSockets on

/** Takes from the server's status what concerns the sound. */
function describe({ source, format, metadata }) {
  live.setFormat(format);
  // While live sound is heard, its title comes with it.
  if (player.listener === null) showTitle(metadata);
  now_playing.describe(title || source.description);
}

function showTitle(metadata) {
  title = titleLine(metadata);
  $("title").hidden = title === "";
  put($("title-text"), title);
}

function start() {
  player.playing = true;
  resume = false;
  say("Connecting…");
  pressed_at = performance.now();
  silent_since = null;
  interruptions = told_until = 0;
  if (why_not_live) element.start();
  else startLive();
}

async function startLive() {
  await live.start().catch(giveUpLive);
  if (player.playing && !why_not_live) show(live.analyser);
}

function giveUpLive(error) {
  console.warn("no live sound:", error);
  if (live.playing) live.stop();
  why_not_live = "it does not work in this browser";
  showObstacle();
  if (player.playing) element.start();
}

function stop(line = "Stopped.") {
  player.playing = false;
  player.listener = player.payload = player.bitrate = player.figures = null;
  showLink({ line: "", gathered_seconds: 0 });
  if (live.playing) live.stop();
  if (element.playing) element.stop();
  show(null);
  showNoLatency();
  say(line);
}

function show(analyser) {
  spectrogram.watch(analyser);
  $("spectrogram-hint").hidden = analyser !== null;
}

function say(line) {
  put($("player-line"), line);
  put($("play"), player.playing ? "Stop" : "Play");
  $("play").classList.toggle("on", player.playing);
  now_playing.show(player.playing);
}

// ---- live ------------------------------------------------------------------------------

function listening({ listener, payload, bitrate = null }) {
  Object.assign(player, { listener, payload, bitrate });
}

function lost({ reason, failures, opened }) {
  player.listener = null;
  if (!opened && failures >= MAX_UNOPENED) findProxy();
  // It may be refused because the sign-in has ended, which a WebSocket does not say.
  if (reason === "revoked" || failures === 2) refreshSession();
  if (failures > 1 && isFull()) say(full());
  else if (reason === "finished") say("The stream has ended. It resumes when the server streams again.");
  else if (reason === "removed") say("This mount was changed or taken out. The stream resumes if it is there again.");
  else if (reason === "failed") say("The server's source has failed. The stream resumes when the server streams again.");
  else say(isOffline() ? OFFLINE : "Connection lost, trying again…");
}

function heard(figures) {
  player.figures = figures;
  if (figures.title !== undefined) showTitle(figures.title);
  showLatency(figures, player.server);
  const { lost, late } = figures.counts;
  if (lost + late > interruptions) spectrogram.mark();
  interruptions = lost + late;

  const now = performance.now() / 1000;
  if (figures.silent_seconds > 0) [was_silent_seconds, told_until] = [figures.silent_seconds, now + TELL_SECONDS];
  if (figures.state === "playing") silent_since = null;
  else silent_since ??= now;
  if (player.listener === null) return; // what is heard is the rest of a lost connection
  if (silent_since === null) say(now < told_until ? `Live again, after ${span(was_silent_seconds)} without sound.` : "Live.");
  else if (figures.begun && now - silent_since > WAITING_SECONDS) say(isOffline() ? OFFLINE : "Waiting for sound…");
}

/** Tells what the link carries, and whether something on the way gathers the sound. */
function showLink({ line, gathered_seconds: gathered }) {
  $("link").hidden = line === "";
  put($("link"), line);
  $("gathered").hidden = gathered === 0;
  put($("gathered"), gathered === 0 ? "" : `Something between the server and this page, such as a proxy that buffers, gathers the \
sound and passes it on every ${seconds(gathered)}. So you hear it up to ${seconds(gathered)} later.`);
}

function held(state) {
  if (state !== "running") say("The browser has paused the sound.");
}

// ---- a proxy without WebSockets -------------------------------------------------------

/** Looks whether the server answers requests although its WebSocket does not open, and plays by other means if so. */
async function findProxy() {
  if (isFull() || !session.listen) return;
  const answer = await fetch("/healthz", { cache: "no-store" }).catch(() => null);
  if (!answer?.ok || !player.playing || why_not_live || player.listener !== null || !session.listen) return;
  live.stop();
  show(null);
  showNoLatency();
  why_not_live = session.host && session.host !== location.host ? changesHost(session.host) : PROXY;
  is_tried_again = true;
  showObstacle();
  element.start();
  retryLive(0);
}

/** Tries again whether WebSockets get through, and plays live as soon as they do. */
function retryLive(tries) {
  clearTimeout(retries);
  const wait = RETRY_SECONDS[Math.min(tries, RETRY_SECONDS.length - 1)];
  retries = setTimeout(async () => {
    if (!(await opens(`${live.url}?name=page`))) return retryLive(tries + 1);
    why_not_live = null;
    is_tried_again = false;
    showObstacle();
    if (!player.playing) return;
    element.stop();
    start();
  }, 1000 * wait);
}

// ---- failures -----------------------------------------------------------------

/** Whether the device knows that it has no network, and the server is not on the device itself. */
const isOffline = () => navigator.onLine === false && !isLoopback();

function isFull() {
  const { status } = player;
  return status !== null && status.listeners >= status.max_listeners;
}

function full() {
  return `The server is full: ${plural(player.status.max_listeners, "listener")}. Trying again…`;
}

/** Ends a stream of the browser's own player, which does not resume by itself. */
function endStream(line) {
  refreshSession(); // that player does not say why
  stop(line.replace("Trying again…", "Please try again in a while."));
  broke_at = performance.now();
  resume = document.body.classList.contains("unreachable");
}

/** The server is unreachable. A stream that ended up to `notice_ms` ago ended because of that. */
function contactLost(notice_ms) {
  resume = performance.now() - broke_at < notice_ms;
}

/** The server is reachable again. Resumes the sound, unless Stop was pressed. */
function contactAgain() {
  if (player.playing && !why_not_live) live.again();
  // As a new stream: a browser that continues the old one joins it anywhere, even in the middle of a sample.
  else if (player.playing || resume) start();
}

onPermissions(() => {
  if (!session.listen && player.playing) stop();
});

/** The page is visible again, or the network is back. */
function wake() {
  if (!player.playing || document.hidden) return;
  if (why_not_live) return element.resume();
  live.resume();
  live.again();
}

for (const event of ["online", "pageshow", "resume", "visibilitychange", "pointerdown", "keydown"]) {
  (event === "visibilitychange" || event === "resume" ? document : window).addEventListener(event, wake);
}

// ---- the panel -------------------------------------------------------------------------

$("play").addEventListener("click", () => (player.playing ? stop() : start()));

function setVolume() {
  put($("volume-percent"), `${$("volume").value} %`);
  const volume = ($("volume").value / 100) ** 2; // closer to perceived loudness than a straight line
  live.setVolume(volume);
  element.setVolume(volume);
}
$("volume").addEventListener("input", setVolume);
setVolume();

function setBuffer() {
  const ms = Number($("buffer").value);
  live.setLeast(ms / 1000);
  put($("buffer-ms"), `${ms} ms`);
  $("buffer").setAttribute("aria-valuetext", `${ms} milliseconds`);
}
$("buffer").addEventListener("input", setBuffer);
setBuffer();

/** Shows the payload that "automatic" selects, and whether Opus is available. */
function showPayloads() {
  const names = { f32: "32-bit samples", s16: "16-bit samples", opus: "Opus" };
  const [fitting, , , opus] = $("payload").options;
  if (live.decodes_opus === null) return;
  put(fitting, `automatic: ${names[live.fitting]}`);
  opus.disabled = !live.opusFits();
  put(opus, live.opusFits() ? "Opus" : "Opus (not available)");
  // The note is shown only where Opus would be used if it were available.
  const is_missed = !live.opusFits() && (live.selected === "opus" || (live.selected === "auto" && live.fitting === "s16"));
  $("no-opus").hidden = !is_missed || why_not_live !== null;
  const why = live.decodes_opus ? "The source has more channels than Opus is sent with" : "This browser can't decode Opus live";
  const line = `${why}. The stream is sent as 16-bit samples, which take about ten times as many bits.`;
  put($("no-opus"), is_missed ? line : "");
}

$("payload").addEventListener("change", () => {
  live.setPayload($("payload").value);
  showPayloads();
});

/** Takes the payload from the page's own address, as in `?payload=opus`. */
function readPayload() {
  const payload = new URLSearchParams(location.search).get("payload");
  const known = [...$("payload").options].some(({ value }) => value === payload);
  if (!known) return;
  $("payload").value = payload;
  live.setPayload(payload);
}
readPayload();

function showObstacle() {
  const is_live = why_not_live === null;
  $("obstacle").hidden = is_live;
  for (const element of document.querySelectorAll(".only-live")) element.hidden = !is_live;
  if (is_live) return put($("spectrogram-hint"), spectrogram_hint);
  const again = is_tried_again ? " Live sound is tried again now and then." : "";
  const other = "The browser's own player is used, which is a second or more behind.";
  put($("obstacle"), `Not live: ${why_not_live}. ${other}${again}`);
  put($("spectrogram-hint"), "Shown only while sound is played live.");
}
showObstacle();

// Once the page is drawn, because this blocks it for a moment.
if (!why_not_live) (window.requestIdleCallback ?? setTimeout)(() => live.prepare().catch(giveUpLive));

// ---- for tests and the browser's console --------------------------------------------------

/** Returns the level and the strongest frequency of the sound that is played now. */
function sound() {
  const { analyser } = live;
  if (!analyser) return null;
  const samples = new Float32Array(analyser.fftSize);
  analyser.getFloatTimeDomainData(samples);
  const rms = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  const peak = bins.indexOf(Math.max(...bins));
  return { rms, hz: (peak * analyser.context.sampleRate) / analyser.fftSize };
}

window.aircheck = { player, live, sound };
