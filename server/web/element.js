// Plays by the browser's own player, where it can't play live: Opus, or WAV where that is not known. Such players keep
// a second of sound or more, and say nothing about what was heard when.

const FORMATS = [
  { path: "/stream.opus", type: 'audio/ogg; codecs="opus"', name: "Opus" },
  { path: "/stream.wav", type: "audio/wav", name: "WAV" },
];
const TOO_FAR_SECONDS = 3; // held back beyond what players keep anyway: it begins again, at live

/** Calls back with `on.playing(name)`, `on.waiting()`, `on.ended()`, `on.failed()`, `on.refused()`. */
export class Element {
  constructor(audio, on) {
    this.audio = audio;
    this.on = on;
    this.playing = false;
    this.left = []; // formats that may still work
    audio.addEventListener("playing", () => this.playing && on.playing(this.format.name));
    audio.addEventListener("waiting", () => this.playing && audio.currentTime > 0 && on.waiting());
    audio.addEventListener("ended", () => this.playing && on.ended());
    audio.addEventListener("error", () => this.playing && this.failed());
  }

  start() {
    this.playing = true;
    this.left = FORMATS.filter(({ type }) => this.audio.canPlayType(type));
    this.next();
  }

  next() {
    this.format = this.left.shift() ?? FORMATS.at(-1);
    // A number that never comes twice keeps every cache and the browser's own media cache out of it.
    this.audio.src = `${this.format.path}?name=page&_=${Date.now()}`;
    this.audio.play().catch((error) => {
      if (error.name === "NotAllowedError" && this.playing) this.on.refused();
      // Whatever else goes wrong arrives as an "error" event; a Stop while connecting is no error.
    });
  }

  failed() {
    if (this.audio.currentTime === 0 && this.left.length > 0) this.next();
    else this.on.failed();
  }

  /** Ends the connection too: a paused element would go on holding it, and lag. */
  stop() {
    this.playing = false;
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
  }

  /** After a pause that the browser made: to live, from a fresh start, if it has fallen behind. */
  resume() {
    const { buffered, currentTime, paused } = this.audio;
    const behind = buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : 0;
    if (this.playing && (paused || behind > TOO_FAR_SECONDS)) this.start();
  }

  setVolume(volume) {
    this.audio.volume = volume;
  }
}
