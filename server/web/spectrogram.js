// The spectrogram of the sound that is played. It scrolls with time, frequencies rise upwards, and interruptions are
// marked at its foot.

import { $, put } from "/text.js";

const COLUMNS_PER_SECOND = 25;
const [LOWEST_HZ, HIGHEST_HZ] = [50, 20_000];
const [FAINT_DB, LOUD_DB] = [-95, -25];
const MARK_PX = 3;

const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/** Draws what an analyser hears. Columns are kept, to be drawn again at another size or in other colours. */
export class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d", { alpha: false });
    this.analyser = null;
    this.columns = []; // loudness by frequency, and whether there was an interruption
    this.place = 0; // of the next column, if the picture does not scroll
    this.marked = false;
    new ResizeObserver(() => this.fit()).observe(canvas);
    dark.addEventListener("change", () => this.fit());
    still.addEventListener("change", () => this.fit());
  }

  watch(analyser) {
    this.analyser = analyser;
    this.columns.length = 0;
    this.fit();
    if (!analyser) return;
    analyser.minDecibels = FAINT_DB;
    analyser.maxDecibels = LOUD_DB;
    this.drawn_at = performance.now() / 1000;
    cancelAnimationFrame(this.request);
    this.loop();
  }

  /** An interruption, at the newest column. */
  mark() {
    this.marked = true;
  }

  loop() {
    this.request = requestAnimationFrame(() => this.analyser && this.loop());
    const due = Math.floor((performance.now() / 1000 - this.drawn_at) * COLUMNS_PER_SECOND);
    if (due < 1) return;
    this.drawn_at += due / COLUMNS_PER_SECOND;
    const bins = new Uint8Array(this.analyser.frequencyBinCount);
    this.analyser.getByteFrequencyData(bins);
    // A page that was hidden for a while has no columns for that time.
    for (let i = 0; i < Math.min(due, 5); i += 1) this.add({ bins, marked: this.marked && i === 0 });
    this.marked = false;
  }

  add(column) {
    this.columns.push(column);
    if (this.columns.length > this.canvas.width) this.columns.shift();
    const { width, height } = this.canvas;
    if (still.matches) {
      this.place = (this.place + 1) % width;
      this.paint(column, this.place);
      this.pen.fillStyle = this.ink;
      this.pen.fillRect((this.place + 1) % width, 0, 1, height);
    } else {
      this.pen.drawImage(this.canvas, -1, 0);
      this.paint(column, width - 1);
    }
  }

  paint({ bins, marked }, x) {
    const { height } = this.canvas;
    for (let y = 0; y < height; y += 1) {
      const to = 4 * y;
      const color = 4 * bins[this.bin_of[y]];
      for (let part = 0; part < 4; part += 1) this.pixels.data[to + part] = this.colors[color + part];
    }
    this.pen.putImageData(this.pixels, x, 0);
    if (marked) {
      this.pen.fillStyle = this.bad;
      this.pen.fillRect(x - 1, height - MARK_PX, 2, MARK_PX);
    }
  }

  /** Adapts to the present size and colours. */
  fit() {
    const { canvas } = this;
    const [width, height] = [Math.round(canvas.clientWidth), Math.round(canvas.clientHeight)];
    if (width === 0 || height === 0) return;
    [canvas.width, canvas.height] = [width, height];
    const style = getComputedStyle(canvas);
    const color = (name) => style.getPropertyValue(name).trim();
    [this.ink, this.bad] = [color("--ink"), color("--bad")];
    this.colors = gradient(["--track", "--accent", "--ink"].map(color));
    this.pixels = this.pen.createImageData(1, height);
    const nyquist = this.analyser ? this.analyser.context.sampleRate / 2 : 24_000;
    const bins = this.analyser ? this.analyser.frequencyBinCount : 1024;
    this.bin_of = Array.from({ length: height }, (_, y) => {
      const hz = LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (1 - y / (height - 1));
      return Math.min(bins - 1, Math.round((hz / nyquist) * bins));
    });
    this.pen.fillStyle = color("--track");
    this.pen.fillRect(0, 0, width, height);
    this.columns.splice(0, this.columns.length - width);
    this.place = still.matches ? this.columns.length - 1 : 0;
    const first = still.matches ? 0 : width - this.columns.length;
    this.columns.forEach((column, i) => this.paint(column, first + i));
    put($("span"), `${Math.round(width / COLUMNS_PER_SECOND)} s`);
  }
}

/** Returns 256 colours, from the first to the last of `colors`. */
function gradient(colors) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [256, 1];
  const pen = canvas.getContext("2d");
  const ramp = pen.createLinearGradient(0, 0, 256, 0);
  colors.forEach((color, i) => ramp.addColorStop(i / (colors.length - 1), color));
  pen.fillStyle = ramp;
  pen.fillRect(0, 0, 256, 1);
  return pen.getImageData(0, 0, 256, 1).data;
}
