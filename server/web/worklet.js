// The player on the audio thread: blocks come in by a port from receiver.js, reports go out to live.js.

import { Playout } from "/playout.js";

const REPORT_SECONDS = 0.1;

class Player extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.least_seconds = processorOptions.least_seconds;
    this.playout = null; // until the format is known
    this.reported_at = 0;
    this.port.onmessage = ({ data }) => this.told(data);
  }

  told({ blocks, least_seconds }) {
    if (blocks) blocks.onmessage = ({ data }) => this.received(data);
    if (least_seconds !== undefined) {
      this.least_seconds = least_seconds;
      this.playout?.setLeast(least_seconds);
    }
  }

  received({ format, session, block, stale }) {
    if (block) this.playout?.push(block);
    if (stale !== undefined) this.playout?.dropBefore(stale);
    if (!format) return;
    const same = this.format && Object.entries(format).every(([key, value]) => this.format[key] === value);
    if (!same) this.playout = new Playout({ ...format, output_hz: sampleRate, least_seconds: this.least_seconds });
    else if (session !== this.session) this.playout.reset();
    else this.playout.rejoin();
    [this.format, this.session] = [format, session];
  }

  process(_inputs, [output]) {
    this.playout?.render(output, currentTime);
    if (this.playout && currentTime - this.reported_at >= REPORT_SECONDS) {
      this.reported_at = currentTime;
      this.port.postMessage({ session: this.session, ...this.playout.report() });
    }
    return true;
  }
}

registerProcessor("aircheck-player", Player);
