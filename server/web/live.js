// Plays live, by WebSocket and AudioWorklet: receiver.js receives blocks on a thread of its own, worklet.js plays them on
// the audio thread, and this file computes when they are heard.

import { streamPath } from "/address.js";
import { decodesOpus } from "/opus.js";
import { OutputClock } from "/output_clock.js";
import { Titles } from "/titles.js";

const HEARD_INTERVAL_SECONDS = 0.4; // between two reports to the server of what was heard
const OPEN_TIMEOUT_SECONDS = 5;
const FADE_SECONDS = 0.05;

const pageSeconds = () => (performance.timeOrigin + performance.now()) / 1000;

/** Returns why this browser can't play live, or null. */
export function obstacle() {
  if (typeof AudioContext === "undefined") return "this browser has no Web Audio";
  if (!window.isSecureContext) {
    return "this page came by plain http, and browsers play live only by https, or on the server's own machine. The server \
speaks https with --tls-self-signed or a certificate";
  }
  if (typeof AudioWorkletNode === "undefined") return "this browser has no AudioWorklet";
  if (typeof WebSocket === "undefined" || typeof Worker === "undefined") return "this browser has no WebSocket on a thread";
  return null;
}

/** Resolves to whether a WebSocket to this address opens and brings its first message. */
export function opens(url) {
  return new Promise((done) => {
    const socket = new WebSocket(url);
    const end = (is_open) => {
      clearTimeout(timer);
      socket.onmessage = socket.onclose = null;
      socket.close();
      done(is_open);
    };
    const timer = setTimeout(() => end(false), 1000 * OPEN_TIMEOUT_SECONDS);
    socket.onmessage = () => end(true);
    socket.onclose = () => end(false);
  });
}

/** Whether the server is on the browser's own machine. */
export const isLoopback = () => /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);

/**
 * Reports by callbacks: `on.listening({listener, payload, bitrate})`, `on.lost({code, reason, failures, opened})`,
 * `on.heard(figures)` some ten times a second, with the
 * `title` of what is heard, `on.held(state)` when the browser stops or resumes the sound,
 * `on.link({line, gathered_seconds})` on what the link carries, and how long something on the way gathers the sound,
 * `on.decoding()` when it becomes known what the browser can decode.
 */
export class Live {
  constructor(on) {
    this.on = on;
    this.context = null;
    this.volume = 1;
    this.least_seconds = 0.04;
    this.selected = "auto"; // or the payload that the user selected
    this.decodes_opus = null; // not known yet
    this.channels = 2; // of the source, as far as is known
    this.block_seconds = 0.01;
    this.playing = false;
    this.session = 0; // counts presses of Play, so that nothing of the last one is taken for this one's
    this.clock = null; // {offset, error} of the server's
    this.reported_at = 0;
    this.due = []; // reports on blocks that are not heard yet
    this.titles = new Titles();
    this.output = new OutputClock();
  }

  /**
   * Prepares everything but the connection: setting up its first sound takes a browser up to half a second. No sound is
   * played, and none may be, before a user presses a key or a button.
   *
   * @throws when the browser can't play live after all.
   */
  prepare() {
    this.ready ??= this.open();
    return this.ready;
  }

  async open() {
    this.asking = decodesOpus(2).then((decodes) => this.setDecodes(decodes));
    const broken = new Promise((_, fail) => {
      this.worker = new Worker("/receiver.js", { type: "module" });
      this.worker.onmessage = ({ data }) => this.onReceiver(data);
      this.worker.onerror = ({ message }) => fail(new Error(message || "the receiver does not start"));
    });
    const { port1, port2 } = new MessageChannel();
    this.worker.postMessage({ port: port1 }, [port1]);

    this.context = new AudioContext({ latencyHint: "interactive" });
    if (!this.playing) this.context.suspend();
    this.context.onstatechange = () => this.playing && this.on.held(this.context.state);
    this.analyser = new AnalyserNode(this.context, { fftSize: 4096, smoothingTimeConstant: 0 });
    this.gain = new GainNode(this.context, { gain: 0 });
    this.analyser.connect(this.gain).connect(this.context.destination);

    await Promise.race([this.context.audioWorklet.addModule("/worklet.js"), broken]);
    this.node = new AudioWorkletNode(this.context, "aircheck-player", {
      numberOfInputs: 0,
      outputChannelCount: [2],
      processorOptions: { least_seconds: this.least_seconds },
    });
    this.node.port.onmessage = ({ data }) => this.reported(data);
    this.node.port.postMessage({ blocks: port2 }, [port2]);
    this.node.connect(this.analyser);
  }

  setDecodes(decodes) {
    this.decodes_opus = decodes;
    this.on.decoding();
  }

  /** The payload for "auto": exact samples where bits cost nothing, else as few bits as possible. */
  get fitting() {
    if (isLoopback()) return "f32";
    return this.opusFits() ? "opus" : "s16";
  }

  get payload() {
    if (this.selected === "opus" && !this.opusFits()) return "s16";
    return this.selected === "auto" ? this.fitting : this.selected;
  }

  /** Whether the browser decodes Opus, and the source has no more channels than Opus is sent with. */
  opusFits() {
    return this.decodes_opus === true && this.channels <= 2;
  }

  /** @throws when the browser can't after all. */
  async start() {
    this.playing = true;
    this.started_at = pageSeconds();
    const ready = this.prepare();
    this.fade(this.volume);
    this.resume();
    if (this.decodes_opus === null) await this.asking; // Play was pressed early
    if (this.playing) this.listen();
    await ready;
  }

  /** The address of the stream. */
  get url() {
    return `${location.origin.replace("http", "ws")}${streamPath("stream")}`;
  }

  listen() {
    this.due.length = 0;
    this.session += 1;
    const { url, session, payload, block_seconds } = this;
    this.worker.postMessage({ listen: { url, session, payload, decodes_opus: this.opusFits(), block_seconds } });
  }

  /** Sets the payload that the user selected, or "auto". */
  setPayload(payload) {
    const before = this.payload;
    this.selected = payload;
    if (this.playing && this.payload !== before) this.listen();
  }

  /** Takes the source's format from the server's status. */
  setFormat({ channels, block_seconds }) {
    this.block_seconds = block_seconds;
    if (channels === this.channels) return;
    this.channels = channels;
    this.on.decoding();
  }

  /** Starts the sound, at first or after a pause that the browser made. */
  resume() {
    if (this.playing && this.context?.state !== "running") this.context?.resume().catch(() => {});
  }

  /** Connects again without further waiting: the network or the page may be back. */
  again() {
    if (this.playing) this.worker?.postMessage({ again: true });
  }

  stop() {
    this.playing = false;
    this.worker?.postMessage({ stop: true });
    this.fade(0);
    setTimeout(() => !this.playing && this.context?.suspend(), 1000 * FADE_SECONDS);
  }

  setVolume(volume) {
    this.volume = volume;
    if (this.playing) this.fade(volume);
  }

  /** Changes the volume gradually: at once it would click. */
  fade(volume) {
    this.gain?.gain.setTargetAtTime(volume, this.context.currentTime, FADE_SECONDS / 5);
  }

  setLeast(seconds) {
    this.least_seconds = seconds;
    this.node?.port.postMessage({ least_seconds: seconds });
  }

  onReceiver({ listening, lost, title, clock, link, undecodable }) {
    if (clock) this.clock = clock;
    if (title) this.titles.told(title);
    if (undecodable) this.setDecodes(false);
    if (!this.playing) return;
    if (undecodable) this.listen();
    if (listening) this.on.listening(listening);
    if (lost) this.on.lost(lost);
    if (link) this.on.link(link);
  }

  /** Takes a report of the audio thread: which block has begun, and is on its way to the ear. */
  reported(report) {
    if (!this.playing || report.session !== this.session) return;
    const output = this.lookAtOutput();
    const now = pageSeconds();
    if (report.begun) this.due.push({ ...report, heard_at: report.begun.at + output.offset });
    else this.on.heard({ ...report, stages: null });
    while (this.due.length > 0 && this.due[0].heard_at <= now) this.heard(this.due.shift(), output);
    if (this.due.length > 100) this.due.shift(); // an output that is seconds late, or a wrong clock
  }

  lookAtOutput() {
    const { context } = this;
    const { contextTime, performanceTime } = context.getOutputTimestamp?.() ?? {};
    return this.output.look({
      now: pageSeconds(),
      current: context.currentTime,
      latency: context.outputLatency ?? 0,
      stamp: contextTime ?? 0,
      stamp_at: (performance.timeOrigin + (performanceTime ?? 0)) / 1000,
    });
  }

  heard(report, { offset, is_known }) {
    const { begun, heard_at, first_at } = report;
    const stages = this.clock && this.stages(begun, heard_at, is_known);
    this.on.heard({
      ...report,
      title: this.titles.heard(begun.sequence),
      stages,
      output_is_known: is_known,
      clock_error: this.clock?.error,
      first_sound_seconds: first_at === null ? null : first_at + offset - this.started_at,
    });
    // A time that is too early must not be taken for that at which it was heard.
    if (!stages || !is_known || heard_at - this.reported_at < HEARD_INTERVAL_SECONDS) return;
    this.reported_at = heard_at;
    const at = heard_at + begun.ahead + this.clock.offset;
    this.worker.postMessage({ heard: { sequence: begun.sequence, at } });
  }

  /**
   * Splits the latency from capture to ear into stages, in seconds. The sound that a codec returns is `ahead` older than
   * the block that it came with. An output that is not known takes 0 s.
   */
  stages({ captured_at, arrived_at, ahead }, heard_at, output_is_known) {
    const output = output_is_known ? Math.min(this.context.outputLatency, heard_at - arrived_at) : 0;
    return {
      arrival: arrived_at + this.clock.offset - captured_at,
      codec: ahead,
      buffer: heard_at - arrived_at - output,
      output,
      ear: heard_at + ahead + this.clock.offset - captured_at,
    };
  }
}
