// Plays by the browser's own player where the page can't play live: Opus, or WAV in a browser without it. Such players
// buffer a second of sound or more, and do not report when a block was heard.

import { streamPath } from "/address.js";

const FORMATS = [
  { path: streamPath("stream.opus"), type: 'audio/ogg; codecs="opus"', name: "Opus" },
  { path: streamPath("stream.wav"), type: "audio/wav", name: "WAV" },
];
const MAX_BEHIND_SECONDS = 3; // more than players buffer by themselves: beyond it the stream is started again, at live

/** Calls back with `on.playing(name)`, `on.waiting()`, `on.ended()`, `on.failed()`, `on.refused()`. */
export class Element {
  constructor(audio, on) {
    this.audio = audio;
    this.on = on;
    this.playing = false;
    this.left = []; // formats that are yet to be tried
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
    // A number that is never used twice, so that no cache answers, the browser's media cache included.
    this.audio.src = `${this.format.path}?name=page&_=${Date.now()}`;
    this.audio.play().catch((error) => {
      if (error.name === "NotAllowedError" && this.playing) this.on.refused();
      // Other failures arrive as an "error" event; a press of Stop while connecting is no error.
    });
  }

  failed() {
    if (this.audio.currentTime === 0 && this.left.length > 0) this.next();
    else this.on.failed();
  }

  /** Ends the connection too: a paused element would keep it open, and lag. */
  stop() {
    this.playing = false;
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
  }

  /** Starts the stream again, at live, if it has fallen behind in a pause that the browser made. */
  resume() {
    const { buffered, currentTime, paused } = this.audio;
    const behind = buffered.length > 0 ? buffered.end(buffered.length - 1) - currentTime : 0;
    if (this.playing && (paused || behind > MAX_BEHIND_SECONDS)) this.start();
  }

  setVolume(volume) {
    this.audio.volume = volume;
  }
}
