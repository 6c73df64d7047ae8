// Decodes Opus by the browser: packets come in, blocks of samples go out.
//
// Packets lie on a grid of their own, which need not be that of the blocks: a block may complete two packets, or none.
// So they are numbered here, from the place of the first one on the grid, with a hole where the server tells of a gap.

const RATE_HZ = 48_000; // Opus decodes to this, whatever went in
const ROUNDING_FRAMES = 1; // of the server, where blocks of another rate are converted

const config = (channels) => ({ codec: "opus", sampleRate: RATE_HZ, numberOfChannels: channels });

/** Returns whether this browser decodes Opus. */
export async function decodesOpus(channels) {
  if (typeof AudioDecoder === "undefined") return false;
  return AudioDecoder.isConfigSupported(config(channels)).then(({ supported }) => supported, () => false);
}

export class OpusDecoder {
  /** `hello` is the server's message; `give` takes a block, `fail` an error after which no block comes. */
  constructor({ channels, block_frames, block_seconds, packet_frames, pre_skip_frames }, give, fail) {
    const source_hz = Math.round(block_frames / block_seconds);
    Object.assign(this, { channels, packet_frames, pre_skip_frames, give });
    this.block_frames = (block_frames * RATE_HZ) / source_hz; // at Opus's rate; may be fractional
    this.number = null; // of the next packet
    this.sequence = null;
    this.coming = []; // headers of the packets that are being decoded
    this.decoder = new AudioDecoder({ output: (data) => this.decoded(data), error: fail });
    this.decoder.configure(config(channels));
  }

  /** Advances by `blocks` that are lost. */
  lost(blocks) {
    if (this.number !== null) this.number += Math.round((blocks * this.block_frames) / this.packet_frames);
  }

  take({ sequence, captured_at, arrived_at, payload }) {
    const number = this.number ?? this.place(sequence);
    this.number = number + 1;
    const timestamp = Math.round((number * this.packet_frames * 1e6) / RATE_HZ); // in microseconds
    const ahead = sequence === this.sequence ? null : this.ahead(sequence);
    this.sequence = sequence;
    this.coming.push({ timestamp, number, sequence, captured_at, arrived_at, ahead });
    this.decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data: payload }));
  }

  /** Returns the place on the grid of the first packet that a block completes. */
  place(sequence) {
    return Math.floor((sequence * this.block_frames + ROUNDING_FRAMES) / this.packet_frames);
  }

  /**
   * Returns by how many seconds the sound of the first packet that a block completes was captured before the block: the
   * packet may have begun in the block before, and its sound is older by the codec's delay.
   */
  ahead(sequence) {
    const into_packet = (sequence * this.block_frames + ROUNDING_FRAMES) % this.packet_frames;
    return (Math.max(0, into_packet - ROUNDING_FRAMES) + this.pre_skip_frames) / RATE_HZ;
  }

  decoded(data) {
    while (this.coming.length > 1 && this.coming[1].timestamp <= data.timestamp) this.coming.shift();
    const packet = this.coming.shift();
    const frames = data.numberOfFrames;
    const samples = new Float32Array(this.channels * frames);
    for (let channel = 0; channel < this.channels; channel += 1) {
      const row = samples.subarray(channel * frames, (channel + 1) * frames);
      data.copyTo(row, { planeIndex: channel, format: "f32-planar" });
    }
    data.close();
    if (!packet) return;
    const { number, sequence, captured_at, arrived_at, ahead } = packet;
    this.give({ number, sequence, captured_at, arrived_at, ahead, samples });
  }

  close() {
    if (this.decoder.state !== "closed") this.decoder.close();
  }
}
