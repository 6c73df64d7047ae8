// What the device shows of the sound outside this page: on a lock screen, in a notification, on the keys of a headset.

const ARTWORK = [
  { src: "/icon-512.png", sizes: "512x512", type: "image/png" },
  { src: "/icon-192.png", sizes: "192x192", type: "image/png" },
];

export class NowPlaying {
  /** `play` and `stop` are called when the device's own buttons are pressed. */
  constructor({ play, stop }) {
    this.title = "";
    // An iPhone plays on when it is locked, and plays although its ring switch is off, only for pages that say this.
    if (navigator.audioSession) navigator.audioSession.type = "playback";
    this.session = navigator.mediaSession ?? null;
    // A live stream can't be paused, only stopped, and most devices have no button but Pause for that.
    for (const [action, handle] of [["play", play], ["pause", stop], ["stop", stop]]) {
      try {
        this.session?.setActionHandler(action, handle);
      } catch {
        // A browser that does not know an action throws.
      }
    }
    this.describe("");
  }

  /** Names the sound: by its source, or by the server where that is not known. */
  describe(source) {
    const title = source || location.host;
    if (!this.session || title === this.title) return;
    this.title = title;
    this.session.metadata = new MediaMetadata({ title, artist: source ? location.host : "", album: "aircheck", artwork: ARTWORK });
  }

  show(is_playing) {
    if (this.session) this.session.playbackState = is_playing ? "playing" : "paused";
  }
}
