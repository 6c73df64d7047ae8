// The binary messages of the WebSocket: a header of 24 bytes, little-endian, and samples or a packet.

export const HEADER_BYTES = 24;
const VERSION = 1;
const F32 = 1;
const S16 = 2;
const OPUS = 3;

/** Returns how many channels are played: odd ones go to the left, even ones to the right. */
export const heardChannels = (channels) => Math.min(2, channels);

/**
 * Parses one message of `channels` interleaved channels. Its `samples` are one channel after the other; an Opus message
 * has an encoded `payload` instead.
 *
 * @throws {RangeError} if the message is malformed.
 */
export function parse(buffer, channels) {
  if (buffer.byteLength < HEADER_BYTES) throw new RangeError("a message without a header");
  const header = new DataView(buffer, 0, HEADER_BYTES);
  const [version, kind] = [header.getUint8(0), header.getUint8(1)];
  const bytes = header.getUint32(4, true);
  if (version !== VERSION) throw new RangeError(`messages of version ${version}`);
  if (bytes !== buffer.byteLength - HEADER_BYTES) throw new RangeError("a message of another length than it says");
  const stamp = {
    sequence: Number(header.getBigUint64(8, true)),
    captured_at: Number(header.getBigUint64(16, true) / 1000n) / 1e6, // seconds, to the microsecond
  };
  if (kind === OPUS) return { ...stamp, payload: new Uint8Array(buffer, HEADER_BYTES) };
  return { ...stamp, samples: planar(samplesOf(kind, buffer), channels) };
}

// Typed arrays read in the machine's byte order; every machine that runs a browser today is little-endian.
function samplesOf(kind, buffer) {
  if (kind === F32) return new Float32Array(buffer, HEADER_BYTES);
  if (kind === S16) return Float32Array.from(new Int16Array(buffer, HEADER_BYTES), (sample) => sample / 32768);
  throw new RangeError(`messages of kind ${kind}`);
}

function planar(interleaved, channels) {
  const frames = interleaved.length / channels;
  const heard = heardChannels(channels);
  const samples = new Float32Array(frames * heard);
  for (let channel = 0; channel < channels; channel += 1) {
    const to = channel % heard;
    const weight = 1 / Math.ceil((channels - to) / heard);
    for (let frame = 0; frame < frames; frame += 1) {
      samples[to * frames + frame] += weight * interleaved[frame * channels + channel];
    }
  }
  return samples;
}
