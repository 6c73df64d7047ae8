// Runs on the page's audio thread: reports when a click, or the first sound after a silence, is played.

const CLICK = 0.35; // of full scale; other sound of the microphone is far below
const SOUND = 0.002;
const APART_SECONDS = 0.2;

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.clicked_at = -1;
    this.armed = false;
    this.port.onmessage = () => (this.armed = true);
  }

  process([input]) {
    const samples = input[0] ?? [];
    for (let frame = 0; frame < samples.length; frame += 1) {
      const loud = Math.abs(samples[frame]);
      if (loud < SOUND) continue;
      const at = currentTime + frame / sampleRate;
      if (this.armed) {
        this.armed = false;
        this.port.postMessage({ sound: at });
      }
      if (loud < CLICK || at - this.clicked_at < APART_SECONDS) continue;
      this.clicked_at = at;
      this.port.postMessage({ click: at });
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
