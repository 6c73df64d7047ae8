// Decides in which form the sound is sent over a link that may not carry all of it: at once lower where it does not, and higher
// again, a step at a time, where it has carried all for a while.
//
// It knows no clock and no network. It gets what was seen of the connection in each second, and so its tests need no browser.

const BITRATES = [96_000, 64_000, 48_000, 32_000, 24_000, 16_000]; // of Opus, which sounds like speech on a telephone below that
const MESSAGE_BITS = 8 * 26; // around each packet, by the WebSocket and our own header
const SHARE = 0.85; // of what a link has carried that is used: the rest is for the packets of the network itself

const STRAINED_SECONDS = 0.3; // blocks that come so much later than the link's best
const CATCHES_UP_SECONDS = 0.02; // so much less in each second: the link carries more than comes, and works off what had waited
const CLEAR_SECONDS = 0.1;
const STRAINED_IN_A_ROW = 3; // seconds; a single pause of the network is no thin link
const LOSSES = 2; // seconds with losses
const LOSSES_AMONG = 6; // so many seconds
const SETTLE = 4; // seconds after a change, in which what has queued up before it still arrives
const PATIENCE = 20; // seconds that all goes well before a higher step is tried
const MAX_PATIENCE = 320; // it doubles up to this, each time that the higher step turns out too high
const PROVED = 60; // seconds at a higher step, after which it was right

const NAMES = { f32: "32-bit samples", s16: "16-bit samples" };

/** Returns the forms from `payload` on downwards, for blocks of `block_seconds` and a browser that may decode Opus. */
export function forms(payload, decodes_opus, block_seconds) {
  const opus = BITRATES.map((bitrate) => ({
    payload: "opus",
    bitrate,
    name: `Opus at ${bitrate / 1000} kbit/s`,
    bits: bitrate + MESSAGE_BITS / block_seconds,
  }));
  if (payload === "opus") return opus;
  const samples = ["f32", "s16"].map((payload) => ({ payload, name: NAMES[payload], bits: Infinity }));
  const first = samples.find((form) => form.payload === payload);
  return [first, ...(decodes_opus ? opus : samples.slice(samples.indexOf(first) + 1))];
}

export class Adaptation {
  constructor(forms) {
    this.forms = forms;
    this.index = 0;
    this.patience = PATIENCE;
    this.is_overloaded = false; // by the last form, too
    this.since_raise = Infinity;
    this.restart();
  }

  get form() {
    return this.forms[this.index];
  }

  /** Whether the last change was to a lower form. */
  get is_lowering() {
    return this.since_raise === Infinity;
  }

  /** Forgets what was seen: the sound or the program stood still, or a connection is new. */
  restart() {
    this.settling = SETTLE;
    this.strained = []; // the bits of each second in a row in which the link was strained
    this.lossy = [];
    this.clear = 0;
    this.late = null; // in the second before
  }

  /**
   * Takes what was seen in a second: `late`, by how much the block that came quickest was later than the link's best, in
   * seconds, or `null` if none came; `lost`, how many blocks were left out because they could not be sent; `bits`, how many
   * came. Returns whether the form is to change.
   */
  second({ late, lost, bits }) {
    this.since_raise += 1;
    if (this.since_raise === PROVED) this.patience = PATIENCE;
    if (this.settling > 0) {
      this.settling -= 1;
      return false;
    }
    if (late === null && lost === 0) return false; // the connection may be broken, which says nothing of its width
    const catches_up = late < this.late - CATCHES_UP_SECONDS;
    this.late = late;
    const is_strained = lost > 0 || (late > STRAINED_SECONDS && !catches_up);
    this.strained = is_strained ? [...this.strained, bits] : [];
    this.lossy = [...this.lossy, lost > 0].slice(-LOSSES_AMONG);
    this.clear = !is_strained && late < CLEAR_SECONDS ? this.clear + 1 : 0;
    if (this.clear > 0) this.is_overloaded = false;
    const is_lossy = is_strained && this.lossy.filter(Boolean).length >= LOSSES;
    if (this.strained.length >= STRAINED_IN_A_ROW || is_lossy) return this.lower();
    return this.clear >= this.patience && this.raise();
  }

  /** Goes back to `form`, because the change to another one has failed. */
  keep(form) {
    this.index = this.forms.indexOf(form);
    this.restart();
  }

  lower() {
    const carried = SHARE * Math.max(...this.strained);
    const last = this.forms.length - 1;
    if (this.index === last) {
      this.is_overloaded = true;
      return false;
    }
    const fitting = this.forms.findIndex(({ bits }, index) => index > this.index && bits <= carried);
    this.index = fitting < 0 ? last : fitting;
    if (this.since_raise < PROVED) this.patience = Math.min(MAX_PATIENCE, 2 * this.patience);
    this.since_raise = Infinity;
    this.restart();
    return true;
  }

  raise() {
    if (this.index === 0) return false;
    this.index -= 1;
    this.since_raise = 0;
    this.restart();
    return true;
  }

  /** Returns what to tell the listener, or nothing while all is sent as it was asked for. */
  get line() {
    if (this.is_overloaded) return `${this.form.name}, and this link does not carry even that.`;
    return this.index > 0 ? `${this.form.name}: this link does not carry more.` : "";
  }
}
