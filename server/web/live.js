// Plays live, by WebSocket and AudioWorklet: receiver.js takes blocks in on a thread of its own, worklet.js plays them
// on the audio thread, and here it is worked out when they are heard.

import { decodesOpus } from "/opus.js";

const TELL_SECONDS = 0.4; // how often the server is told what was heard
const FADED_SECONDS = 0.05;
const TIMES = 9; // the middle one of so many: single timestamps of a sound card jump by a period

const pageSeconds = () => (performance.timeOrigin + performance.now()) / 1000;

/** Why this browser can't play live, or nothing. */
export function obstacle() {
  if (typeof AudioContext === "undefined") return "this browser has no Web Audio";
  if (!window.isSecureContext) return "browsers play live only over https, or from the machine they run on";
  if (typeof AudioWorkletNode === "undefined") return "this browser has no AudioWorklet";
  if (typeof WebSocket === "undefined" || typeof Worker === "undefined") return "this browser has no WebSocket on a thread";
  return null;
}

const isLoopback = () => /^(localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname);

/**
 * Calls back with what happens: `on.listening({listener, payload})`, `on.lost({code, reason})`,
 * `on.heard(figures)` some ten times a second, `on.held(state)` when the browser stops or resumes the sound,
 * `on.decoding()` when something has become known of what can be decoded.
 */
export class Live {
  constructor(on) {
    this.on = on;
    this.context = null;
    this.volume = 1;
    this.least_seconds = 0.04;
    this.wish = "auto"; // or the payload that it has to be
    this.decodes_opus = null; // not known yet
    this.channels = 2; // of the source, as far as is known
    this.playing = false;
    this.session = 0; // counts presses of Play, so that nothing of the last one is taken for this one's
    this.clock = null; // {offset, error} of the server's
    this.told_at = 0;
    this.due = []; // reports on blocks that are not heard yet
    this.times = [];
  }

  /**
   * Gets everything ready but the connection: a browser's first sound takes it up to half a second to set up.
   * Nothing sounds, and nothing may, before somebody presses something.
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
      this.worker.onmessage = ({ data }) => this.told(data);
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

  /** How sound is sent unless somebody wishes otherwise: exactly where bits cost nothing, else in as few as may be. */
  get fitting() {
    if (isLoopback()) return "f32";
    return this.opusFits() ? "opus" : "s16";
  }

  get payload() {
    if (this.wish === "opus" && !this.opusFits()) return "s16";
    return this.wish === "auto" ? this.fitting : this.wish;
  }

  /** Whether the browser has it, and the source no more channels than it is sent with. */
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
    if (this.decodes_opus === null) await this.asking; // it was pressed very early
    if (this.playing) this.listen();
    await ready;
  }

  listen() {
    this.due.length = this.times.length = 0;
    const query = new URLSearchParams({ payload: this.payload, name: "page" });
    const url = `${location.origin.replace("http", "ws")}/stream?${query}`;
    this.session += 1;
    this.worker.postMessage({ listen: { url, session: this.session } });
  }

  /** Somebody wishes a payload, or "auto". */
  setWish(wish) {
    const before = this.payload;
    this.wish = wish;
    if (this.playing && this.payload !== before) this.listen();
  }

  setChannels(channels) {
    if (channels === this.channels) return;
    this.channels = channels;
    this.on.decoding();
  }

  /** After a pause that the browser made, or to begin with. */
  resume() {
    if (this.playing && this.context?.state !== "running") this.context?.resume().catch(() => {});
  }

  /** The network may be back, or the page: waits no longer to connect again. */
  again() {
    if (this.playing) this.worker?.postMessage({ again: true });
  }

  stop() {
    this.playing = false;
    this.worker?.postMessage({ stop: true });
    this.fade(0);
    setTimeout(() => !this.playing && this.context?.suspend(), 1000 * FADED_SECONDS);
  }

  setVolume(volume) {
    this.volume = volume;
    if (this.playing) this.fade(volume);
  }

  /** Not at once: that would click. */
  fade(volume) {
    this.gain?.gain.setTargetAtTime(volume, this.context.currentTime, FADED_SECONDS / 5);
  }

  setLeast(seconds) {
    this.least_seconds = seconds;
    this.node?.port.postMessage({ least_seconds: seconds });
  }

  told({ listening, lost, clock, undecodable }) {
    if (clock) this.clock = clock;
    if (undecodable) this.setDecodes(false);
    if (!this.playing) return;
    if (undecodable) this.listen();
    if (listening) this.on.listening(listening);
    if (lost) this.on.lost(lost);
  }

  /** The audio thread's report: what has begun, and is on its way to the ear. */
  reported(report) {
    if (!this.playing || report.session !== this.session) return;
    const offset = this.outputOffset();
    const now = pageSeconds();
    if (report.begun) this.due.push({ ...report, heard_at: report.begun.at + offset });
    else this.on.heard({ ...report, stages: null });
    while (this.due.length > 0 && this.due[0].heard_at <= now) this.heard(this.due.shift(), offset);
    if (this.due.length > 100) this.due.shift(); // an output that is seconds late, or a clock that is not to be trusted
  }

  /** What to add to the context's time for the page's time at which that is heard. */
  outputOffset() {
    const { contextTime, performanceTime } = this.context.getOutputTimestamp();
    const { currentTime, outputLatency = 0 } = this.context;
    const rough = pageSeconds() - currentTime + outputLatency;
    const fine = (performance.timeOrigin + performanceTime) / 1000 - contextTime;
    const offset = contextTime > 0 && Math.abs(fine - rough) < 0.25 ? fine : rough;
    if (Math.abs(offset - this.times.at(-1)) > 0.1) this.times.length = 0; // it was suspended
    this.times.push(offset);
    if (this.times.length > TIMES) this.times.shift();
    return this.times.toSorted((a, b) => a - b)[this.times.length >> 1];
  }

  heard(report, offset) {
    const { begun, heard_at, first_at } = report;
    const stages = this.clock && this.stages(begun, heard_at);
    this.on.heard({
      ...report,
      stages,
      clock_error: this.clock?.error,
      first_sound_seconds: first_at === null ? null : first_at + offset - this.started_at,
    });
    if (!stages || heard_at - this.told_at < TELL_SECONDS) return;
    this.told_at = heard_at;
    const at = heard_at + begun.ahead + this.clock.offset;
    this.worker.postMessage({ heard: { sequence: begun.sequence, at } });
  }

  /**
   * Where the time went, in seconds, between the capture of a sample and the ear. What a codec gives is `ahead` older
   * than the block that it came with.
   */
  stages({ captured_at, arrived_at, ahead }, heard_at) {
    const output = Math.min(this.context.outputLatency || this.context.baseLatency || 0, heard_at - arrived_at);
    return {
      arrival: arrived_at + this.clock.offset - captured_at,
      codec: ahead,
      buffer: heard_at - arrived_at - output,
      output,
      ear: heard_at + ahead + this.clock.offset - captured_at,
    };
  }
}
