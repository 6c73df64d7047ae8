// The connection, on a thread of its own, so that no work of the page delays the sound. Blocks go directly to the audio
// thread; the page gets the state of the connection and the time of the server.
//
// It never gives up: a connection that is lost, or silent for too long, is made again. Over a link that does not carry all, it
// goes over to a lower form of the sound: a second connection starts a little before the newest block, and takes the place of the
// first one as soon as it brings blocks. So none is lost by that, unless the link is too full to bring them in time.

import { Adaptation, forms } from "/adaptation.js";
import { Arrivals } from "/arrivals.js";
import { Clock, resolution } from "/clock.js";
import { heardChannels, parse } from "/message.js";
import { OpusDecoder } from "/opus.js";

const RETRY_SECONDS = [0.1, 0.25, 0.5, 1, 2, 4]; // and so on; a server that is full says 5
const CLOCK_INTERVAL_SECONDS = 1; // between questions for the time, whose answers also show that the connection lives
const FIRST_INTERVAL_SECONDS = 0.05;
const FIRST_QUESTIONS = 8; // at the shorter interval, so that the time is known within half a second
const SILENCE_TIMEOUT_SECONDS = 4; // four answers are due in that time
const WAKE_TIMEOUT_SECONDS = 1; // the same, after the machine slept
const LOOK_SECONDS = 1; // between two looks at what came
const STALLED_SECONDS = 0.5; // this thread or the machine stood still, if a look is so much too late
const OVERLAP_SECONDS = 0.1; // in which a decoder that starts anew comes to sound like one that has run on
const MAX_BEHIND_SECONDS = 2; // more of the old sound is left out, and counted, because a link that is full would never work it off
const BUFFER = "2s"; // of the server's for it: with the usual second, sound is left out while the old connection still fills the link
const OPEN_SECONDS = 6; // for the second one to bring its first block, over a link that is full

const pageSeconds = () => (performance.timeOrigin + performance.now()) / 1000;

/** One attempt to listen, until it is closed. */
class Connection {
  /** `form` is that of the sound. With `from`, it starts at that block and is to follow another connection. */
  constructor(form, from = null) {
    this.form = form;
    this.asked = 0;
    this.channels = 0;
    this.opus = null; // the decoder, if the payload is Opus
    this.hello = null;
    this.newest = null; // the number of the last block
    this.age = null; // for how long that had been on its way, in seconds
    this.held = from === null ? null : []; // what is for the audio thread, until this connection takes over
    this.received_at = this.checked_at = pageSeconds();
    this.timeout_seconds = SILENCE_TIMEOUT_SECONDS;
    this.socket = new WebSocket(address(form, from));
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
    came(this, block, data.byteLength);
  }

  give(block) {
    this.send({ block }, [block.samples.buffer]);
  }

  /** Sends to the audio thread, once this connection is the one that is heard. */
  send(message, transfer = []) {
    if (this.held) this.held.push([message, transfer]);
    else audio.postMessage(message, transfer);
  }

  told({ hello, gap, metadata, sequence, stale, clock: answer, error }, at) {
    if (hello) {
      const { rate_hz, channels, block_frames, packet_frames, payload } = hello;
      this.hello = hello;
      this.channels = channels;
      const format = { rate_hz, channels: heardChannels(channels), block_frames: packet_frames ?? block_frames };
      this.send({ format, session, follows: this.held !== null });
      if (payload === "opus") this.opus = new OpusDecoder(hello, (block) => this.give(block), (error) => this.fail(error));
      failures = 0;
      opened = true;
      if (!this.held) this.report();
    }
    if (gap) {
      this.opus?.lost(gap.blocks); // with samples, their sequence numbers show it
      missed(this, gap);
    }
    if (metadata) postMessage({ title: { metadata, sequence } });
    if (stale) this.send({ stale: stale.before });
    if (answer) {
      clock.learn(answer.asked, answer.now, at);
      postMessage({ clock: clock.estimate(at) });
    }
    if (error) console.warn("error from the server:", error);
  }

  /** Tells the page that this connection is the one that is heard. */
  report() {
    const { listener, payload, bitrate, block_seconds } = this.hello;
    postMessage({ listening: { listener, payload, bitrate, block_seconds } });
  }

  /** Takes the place of the connection before. */
  takeOver() {
    const { held } = this;
    this.held = null;
    for (const [message, transfer] of held) this.send(message, transfer);
    if (this.hello) this.report();
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
    if (this === next) return abandon();
    if (next) return change(); // it is on its way already
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

const clock = new Clock(resolution());
let listening = null; // what the page asked for
let session = 0; // counts presses of Play
let audio = null; // the port of the audio thread
let connection = null;
let retry = null;
let failures = 0;
let opened = false; // whether a connection has ever been made

/** The address of the sound in a form, from the block `from` on or from now on. */
function address({ payload, bitrate }, from) {
  const query = new URLSearchParams({ payload, name: "page" });
  if (bitrate) query.set("bitrate", bitrate);
  if (from !== null) {
    query.set("from", from);
    query.set("buffer", BUFFER);
  }
  return `${listening.url}?${query}`;
}

function connect() {
  hangUp();
  watchLink();
  connection = new Connection(adaptation.form);
}

function hangUp() {
  clearTimeout(retry);
  connection?.close();
  connection = null;
  abandon();
}

// ---- the link, and the form of the sound that it carries --------------------------------------

let adaptation = null;
let arrivals = new Arrivals();
let lost_blocks = 0; // in this second, because they could not be sent
let looked_at = 0;
let looks = null; // the timer
let told_link = ""; // what the page was told

let next = null; // the connection that is to take over
let opening = null; // the timer for its first block

/** Begins to watch a new connection. */
function watchLink() {
  arrivals.renew();
  adaptation.restart();
  lost_blocks = 0;
  looked_at = pageSeconds();
  clearInterval(looks);
  looks = setInterval(look, 1000 * LOOK_SECONDS);
}

function came(from, { sequence, captured_at, arrived_at }, bytes) {
  from.newest = sequence;
  // At once, because the first one takes its part of a link that is full. What both have brought is discarded once.
  if (from === next) change();
  const estimate = clock.estimate(arrived_at);
  from.age = estimate && arrived_at + estimate.offset - captured_at;
  arrivals.arrived({ age: from.age, now: arrived_at, bytes, block_seconds: from.hello.block_seconds });
}

function missed(from, { blocks, reason }) {
  if (from === connection && reason === "overflow") lost_blocks += blocks;
}

function look() {
  const now = pageSeconds();
  const stalled = now - looked_at - LOOK_SECONDS > STALLED_SECONDS;
  looked_at = now;
  const { gathered_seconds, ...seen } = arrivals.second(now);
  const lost = lost_blocks;
  lost_blocks = 0;
  if (stalled) adaptation.restart();
  else if (!next && connection?.hello && adaptation.second({ ...seen, lost })) prepare();
  const line = adaptation.line;
  if (`${line} ${gathered_seconds}` === told_link) return;
  told_link = `${line} ${gathered_seconds}`;
  postMessage({ link: { line, gathered_seconds } });
}

/** Opens the connection that is to take over, in the form that the link carries. */
function prepare() {
  const { newest, hello, age } = connection;
  if (newest === null) return connect();
  const blocks = (seconds) => Math.ceil(seconds / hello.block_seconds);
  const left_out = adaptation.is_lowering && age > MAX_BEHIND_SECONDS ? blocks(age) : 0;
  next = new Connection(adaptation.form, Math.max(0, newest + 1 + left_out - blocks(OVERLAP_SECONDS)));
  opening = setTimeout(abandon, 1000 * OPEN_SECONDS);
}

/** The second connection takes over. */
function change() {
  connection.close();
  connection = next;
  next = null;
  clearTimeout(opening);
  watchLink();
  connection.takeOver();
}

/** Does without the second connection: the first one goes on. */
function abandon() {
  clearTimeout(opening);
  next?.close();
  next = null;
  if (connection) adaptation.keep(connection.form);
}

onmessage = ({ data: { port, listen, stop, again, heard } }) => {
  if (port) audio = port;
  if (listen) {
    ({ session } = listen);
    listening = listen;
    adaptation = new Adaptation(forms(listen.payload, listen.decodes_opus, listen.block_seconds));
    failures = 0;
    connect();
  }
  if (stop) {
    hangUp();
    clearInterval(looks);
  }
  if (again && failures > 0) {
    failures = 0;
    connect();
  }
  if (heard) connection?.say({ heard });
};
