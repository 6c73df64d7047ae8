// A connection between the page and the server that can be cut, narrowed, or made to gather what it passes on.

import { connect, createServer } from "node:net";
import { once } from "node:events";

const TICK_MS = 5;
const PACKET_BYTES = 1400;
const MAX_WAITING_BYTES = 4096;
const MAX_IDLE_SECONDS = 0.05;

export class Relay {
  static async to(port) {
    const relay = new Relay(port);
    relay.listener.listen(0, "127.0.0.1");
    await once(relay.listener, "listening");
    relay.port = relay.listener.address().port;
    relay.url = `http://127.0.0.1:${relay.port}/`;
    return relay;
  }

  constructor(port) {
    this.pairs = new Set();
    this.is_cut = false;
    this.bytes_per_second = Infinity;
    this.left = 0; // bytes that may be passed on now
    this.timer = null;
    this.listener = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      const pair = { near, far, waiting: [], waiting_bytes: 0 };
      this.pairs.add(pair);
      for (const socket of [near, far]) socket.on("error", () => {}).setNoDelay();
      near.on("data", (bytes) => this.is_cut || far.write(bytes)).on("close", () => far.destroy());
      far.on("data", (bytes) => this.pass(pair, bytes)).on("close", () => {
        if (!this.is_cut) near.end();
        this.pairs.delete(pair);
      });
    });
  }

  /** Passes bytes of the server on, at once or when it is their turn. */
  pass(pair, bytes) {
    if (this.is_cut) return;
    if (!this.timer) return pair.near.write(bytes);
    pair.waiting.push(bytes);
    pair.waiting_bytes += bytes.length;
    if (this.bytes_per_second < Infinity && pair.waiting_bytes > MAX_WAITING_BYTES) pair.far.pause(); // the rest waits with the server
  }

  /** Passes on so many bytes of the server a second, those of all connections together; `Infinity` is at once. */
  narrow(bytes_per_second) {
    this.bytes_per_second = bytes_per_second;
    this.every(bytes_per_second < Infinity ? TICK_MS : 0);
  }

  /** Passes on what the server sends each `ms` only, all at once; 0 is at once. */
  gather(ms) {
    this.every(ms);
  }

  every(ms) {
    clearInterval(this.timer);
    this.timer = null;
    this.share(Infinity);
    this.left = 0;
    if (ms === 0) return;
    let before = performance.now();
    this.timer = setInterval(() => {
      const now = performance.now();
      // A line that was idle carries hardly more afterwards.
      this.left = Math.min(this.left, MAX_IDLE_SECONDS * this.bytes_per_second);
      this.share(((now - before) / 1000) * this.bytes_per_second);
      before = now;
    }, ms);
  }

  /** Passes on `bytes` that wait, a packet of each connection in turn. */
  share(bytes) {
    this.left += bytes;
    for (let busy = true; busy && this.left > 0; ) {
      busy = false;
      for (const pair of this.pairs) {
        const bytes = pair.waiting.shift();
        if (!bytes) continue;
        busy = true;
        const packet = bytes.subarray(0, PACKET_BYTES);
        if (packet.length < bytes.length) pair.waiting.unshift(bytes.subarray(packet.length));
        pair.near.write(packet);
        pair.waiting_bytes -= packet.length;
        this.left -= packet.length;
        pair.far.resume();
      }
    }
  }

  /** Drops all data and closes nothing, as when a cable is pulled. */
  cut() {
    this.is_cut = true;
  }

  /** Closes the old connections, whose data was lost, and relays new ones. */
  mend() {
    this.is_cut = false;
    for (const { near, far } of this.pairs) for (const socket of [near, far]) socket.destroy();
    this.pairs.clear();
  }

  end() {
    clearInterval(this.timer);
    this.mend();
    this.listener.close();
  }
}
