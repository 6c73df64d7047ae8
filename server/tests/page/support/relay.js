// A connection between the page and the server that can be cut.

import { connect, createServer } from "node:net";
import { once } from "node:events";

export class Relay {
  static async to(port) {
    const relay = new Relay(port);
    relay.listener.listen(0, "127.0.0.1");
    await once(relay.listener, "listening");
    relay.url = `http://127.0.0.1:${relay.listener.address().port}/`;
    return relay;
  }

  constructor(port) {
    this.pairs = new Set();
    this.is_cut = false;
    this.listener = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      const pair = [near, far];
      this.pairs.add(pair);
      for (const socket of pair) socket.on("error", () => {}).setNoDelay();
      near.on("data", (bytes) => this.is_cut || far.write(bytes)).on("close", () => far.destroy());
      far.on("data", (bytes) => this.is_cut || near.write(bytes)).on("close", () => {
        if (!this.is_cut) near.destroy();
        this.pairs.delete(pair);
      });
    });
  }

  /** Drops all data and closes nothing, as when a cable is pulled. */
  cut() {
    this.is_cut = true;
  }

  /** Closes the old connections, whose data was lost, and relays new ones. */
  mend() {
    this.is_cut = false;
    for (const pair of this.pairs) for (const socket of pair) socket.destroy();
    this.pairs.clear();
  }

  end() {
    this.mend();
    this.listener.close();
  }
}
