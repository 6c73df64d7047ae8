// The connection, on a thread of its own, so that nothing that the page does makes sound late. Blocks go straight to
// the audio thread; the page hears how the connection is, and what time it is at the server.
//
// Once told to listen it never gives up: a connection that is lost, or says nothing any more, is made again.

import { Clock } from "/clock.js";
import { heardChannels, parse } from "/message.js";
import { OpusDecoder } from "/opus.js";

const RETRY_SECONDS = [0.1, 0.25, 0.5, 1, 2, 4]; // and so on; a server that is full says 5
const ASK_SECONDS = 1; // for the time, which also shows that the connection lives
const ASK_FIRST_SECONDS = 0.05;
const ASK_FIRST = 8; // so often, to know the time well within half a second
const DEAD_SECONDS = 4; // without a word; four answers are due in that
const WOKE_SECONDS = 1; // after a sleep there is nothing to be patient about

const pageSeconds = () => (performance.timeOrigin + performance.now()) / 1000;

/** One attempt to listen, until it is closed. */
class Connection {
  constructor(url) {
    this.asked = 0;
    this.channels = 0;
    this.opus = null; // the decoder, where there is something to decode
    this.spoke_at = this.looked_at = pageSeconds();
    this.dead_seconds = DEAD_SECONDS;
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.received(data);
    this.socket.onclose = ({ code, reason }) => this.lost(code, reason);
    this.timer = setTimeout(() => this.look(), 1000 * ASK_FIRST_SECONDS);
  }

  received(data) {
    const arrived_at = pageSeconds();
    this.spoke_at = arrived_at;
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

  told({ hello, gap, clock: answer, error }, at) {
    if (hello) {
      const { rate_hz, channels, block_frames, block_seconds, packet_frames, listener, payload } = hello;
      this.channels = channels;
      const unit_frames = packet_frames ?? block_frames;
      audio.postMessage({ format: { rate_hz, channels: heardChannels(channels), block_frames: unit_frames }, session });
      if (payload === "opus") this.opus = new OpusDecoder(hello, (block) => this.give(block), (error) => this.fail(error));
      failures = 0;
      postMessage({ listening: { listener, payload, block_seconds } });
    }
    if (gap) this.opus?.lost(gap.blocks); // samples have it in their numbers
    if (answer) {
      clock.learn(answer.asked, answer.now, at);
      postMessage({ clock: clock.estimate(at) });
    }
    if (error) console.warn("the server says:", error);
  }

  /** Asks for the time, and gives up a connection that does not answer. */
  look() {
    const now = pageSeconds();
    const slept = now - this.looked_at > DEAD_SECONDS;
    if (slept) [this.spoke_at, this.dead_seconds] = [now, WOKE_SECONDS]; // it may have survived
    this.looked_at = now;
    if (now - this.spoke_at > this.dead_seconds) {
      this.lost(0, "silent");
      return;
    }
    if (now - this.spoke_at < ASK_SECONDS) this.dead_seconds = DEAD_SECONDS;
    if (this.socket.readyState === WebSocket.OPEN) {
      this.say({ clock: now });
      this.asked += 1;
    }
    this.timer = setTimeout(() => this.look(), 1000 * (this.asked < ASK_FIRST ? ASK_FIRST_SECONDS : ASK_SECONDS));
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  lost(code, reason) {
    this.close();
    const wait = RETRY_SECONDS[Math.min(failures, RETRY_SECONDS.length - 1)] * (0.75 + Math.random() / 2);
    failures += 1;
    retry = setTimeout(connect, 1000 * wait);
    postMessage({ lost: { code, reason, failures } });
  }

  /** What comes can't be decoded. */
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
let url = null; // what to listen to
let session = 0; // since which press of Play
let audio = null; // the port of the audio thread
let connection = null;
let retry = null;
let failures = 0;

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
