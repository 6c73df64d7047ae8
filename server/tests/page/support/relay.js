// A connection between the page and the server that can be cut, or made to gather what it passes on.

import { connect, createServer } from "node:net";
import { once } from "node:events";

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
    this.timer = null; // while it gathers
    this.listener = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      const pair = { near, far, waiting: [] };
      this.pairs.add(pair);
      for (const socket of [near, far]) socket.on("error", () => {}).setNoDelay();
      near.on("data", (bytes) => this.is_cut || far.write(bytes)).on("close", () => far.destroy());
      far.on("data", (bytes) => this.pass(pair, bytes)).on("close", () => {
        if (!this.is_cut) near.destroy();
        this.pairs.delete(pair);
      });
    });
  }

  pass({ near, waiting }, bytes) {
    if (this.is_cut) return;
    if (this.timer) waiting.push(bytes);
    else near.write(bytes);
  }

  /** Passes on what the server sends each `ms` only, all at once, as a proxy does that buffers; 0 is at once. */
  gather(ms) {
    clearInterval(this.timer);
    const pass = () => {
      for (const { near, waiting } of this.pairs) for (const bytes of waiting.splice(0)) near.write(bytes);
    };
    pass();
    this.timer = ms > 0 ? setInterval(pass, ms) : null;
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
