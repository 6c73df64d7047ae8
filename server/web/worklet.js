// The player on the audio thread: blocks come in by a port from receiver.js, reports go out to live.js.

import { FILLING, PLAYING, Playout } from "/playout.js";

const REPORT_SECONDS = 0.1;
const SILENT_SECONDS = 2; // a shorter silence is not told

class Player extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.least_seconds = processorOptions.least_seconds;
    this.playout = null; // until the format is known
    this.before = null; // that of another format, until this one plays
    this.reported_at = 0;
    this.sounded_at = null; // by the wall clock, which goes on while the device sleeps
    this.silent_seconds = 0; // that have just ended
    this.port.onmessage = ({ data }) => this.told(data);
  }

  told({ blocks, least_seconds }) {
    if (blocks) blocks.onmessage = ({ data }) => this.received(data);
    if (least_seconds !== undefined) {
      this.least_seconds = least_seconds;
      this.playout?.setLeast(least_seconds);
    }
  }

  /** With `follows`, the blocks after `format` go on where those before it end, in another form. */
  received({ format, session, follows, block, stale }) {
    if (block) this.playout?.push(block);
    if (stale !== undefined) this.playout?.dropBefore(stale);
    if (!format) return;
    const same = this.format && Object.entries(format).every(([key, value]) => this.format[key] === value);
    if (!same) {
      this.before = follows ? this.playout : null;
      this.playout = new Playout({ ...format, output_hz: sampleRate, least_seconds: this.least_seconds });
    } else if (session !== this.session) this.playout.reset();
    else if (follows) this.playout.join();
    else this.playout.rejoin();
    if (session !== this.session) this.sounded_at = null;
    [this.format, this.session] = [format, session];
  }

  process(_inputs, [output]) {
    this.playout?.render(output, currentTime);
    // Until there is enough of the new form, the rest of the old one is played.
    if (this.before && this.playout.state === FILLING) this.before.render(output, currentTime);
    else this.before = null;
    if (this.playout?.state === PLAYING) this.sounds(Date.now());
    if (this.playout && currentTime - this.reported_at >= REPORT_SECONDS) {
      this.reported_at = currentTime;
      this.port.postMessage({ session: this.session, silent_seconds: this.silent_seconds, ...this.playout.report() });
      this.silent_seconds = 0;
    }
    return true;
  }

  sounds(now) {
    const silent_seconds = (now - (this.sounded_at ?? now)) / 1000;
    if (silent_seconds > SILENT_SECONDS) this.silent_seconds = silent_seconds;
    this.sounded_at = now;
  }
}

registerProcessor("aircheck-player", Player);
