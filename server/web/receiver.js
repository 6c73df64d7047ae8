// The connection, on a thread of its own, so that no work of the page delays the sound. Blocks go directly to the audio
// thread; the page gets the state of the connection and the time of the server.
//
// It never gives up: a connection that is lost, or silent for too long, is made again.

import { Clock } from "/clock.js";
import { heardChannels, parse } from "/message.js";
import { OpusDecoder } from "/opus.js";

const RETRY_SECONDS = [0.1, 0.25, 0.5, 1, 2, 4]; // and so on; a server that is full says 5
const CLOCK_INTERVAL_SECONDS = 1; // between questions for the time, whose answers also show that the connection lives
const FIRST_INTERVAL_SECONDS = 0.05;
const FIRST_QUESTIONS = 8; // at the shorter interval, so that the time is known within half a second
const SILENCE_TIMEOUT_SECONDS = 4; // four answers are due in that time
const WAKE_TIMEOUT_SECONDS = 1; // the same, after the machine slept

const pageSeconds = () => (performance.timeOrigin + performance.now()) / 1000;

/** One attempt to listen, until it is closed. */
class Connection {
  constructor(url) {
    this.asked = 0;
    this.channels = 0;
    this.opus = null; // the decoder, if the payload is Opus
    this.received_at = this.checked_at = pageSeconds();
    this.timeout_seconds = SILENCE_TIMEOUT_SECONDS;
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.received(data);
    this.socket.onclose = ({ code, reason }) => this.lost(code, reason);
    this.timer = setTimeout(() => this.check(), 1000 * FIRST_INTERVAL_SECONDS);
  }

  received(data) {
    const arrived_at = pageSeconds();
    this.received_at = arrived_at;
    if (typeof data === "string") this.told(JSON.parse(data), arrived_at);
    else this.block(data, arrived_at);
  }

  block(data, arrived_at) {
    const block = { ...parse(data, this.channels), arrived_at };
    if (this.opus) this.opus.take(block);
    else this.give(block);
  }

  give(block) {
    audio.postMessage({ block }, [block.samples.buffer]);
  }

  told({ hello, gap, stale, clock: answer, error }, at) {
    if (hello) {
      const { rate_hz, channels, block_frames, block_seconds, packet_frames, listener, payload } = hello;
      this.channels = channels;
      const unit_frames = packet_frames ?? block_frames;
      audio.postMessage({ format: { rate_hz, channels: heardChannels(channels), block_frames: unit_frames }, session });
      if (payload === "opus") this.opus = new OpusDecoder(hello, (block) => this.give(block), (error) => this.fail(error));
      failures = 0;
      opened = true;
      postMessage({ listening: { listener, payload, block_seconds } });
    }
    if (gap) this.opus?.lost(gap.blocks); // with samples, their sequence numbers show it
    if (stale) audio.postMessage({ stale: stale.before });
    if (answer) {
      clock.learn(answer.asked, answer.now, at);
      postMessage({ clock: clock.estimate(at) });
    }
    if (error) console.warn("error from the server:", error);
  }

  /** Asks for the time, and replaces a connection that does not answer. */
  check() {
    const now = pageSeconds();
    const slept = now - this.checked_at > SILENCE_TIMEOUT_SECONDS;
    if (slept) [this.received_at, this.timeout_seconds] = [now, WAKE_TIMEOUT_SECONDS]; // the connection may have survived
    this.checked_at = now;
    if (now - this.received_at > this.timeout_seconds) {
      this.lost(0, "silent");
      return;
    }
    if (now - this.received_at < CLOCK_INTERVAL_SECONDS) this.timeout_seconds = SILENCE_TIMEOUT_SECONDS;
    if (this.socket.readyState === WebSocket.OPEN) {
      this.say({ clock: now });
      this.asked += 1;
    }
    this.timer = setTimeout(() => this.check(), 1000 * (this.asked < FIRST_QUESTIONS ? FIRST_INTERVAL_SECONDS : CLOCK_INTERVAL_SECONDS));
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  lost(code, reason) {
    this.close();
    const wait = RETRY_SECONDS[Math.min(failures, RETRY_SECONDS.length - 1)] * (0.75 + Math.random() / 2);
    failures += 1;
    retry = setTimeout(connect, 1000 * wait);
    postMessage({ lost: { code, reason, failures, opened } });
  }

  /** Reports that this browser can't decode the payload. */
  fail(error) {
    console.warn("no Opus:", error);
    this.close();
    postMessage({ undecodable: true });
  }

  close() {
    clearTimeout(this.timer);
    this.opus?.close();
    this.opus = null;
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}

const clock = new Clock();
let url = null; // of the stream
let session = 0; // counts presses of Play
let audio = null; // the port of the audio thread
let connection = null;
let retry = null;
let failures = 0;
let opened = false; // whether a connection has ever been made

function connect() {
  hangUp();
  connection = new Connection(url);
}

function hangUp() {
  clearTimeout(retry);
  connection?.close();
  connection = null;
}

onmessage = ({ data: { port, listen, stop, again, heard } }) => {
  if (port) audio = port;
  if (listen) {
    ({ url, session } = listen);
    failures = 0;
    connect();
  }
  if (stop) hangUp();
  if (again && failures > 0) {
    failures = 0;
    connect();
  }
  if (heard) connection?.say({ heard });
};
