// Writes WAV files.

import { writeFileSync } from "node:fs";

/** Writes `frames` samples of 16 bits, one channel, as `sampleAt(frame)` gives them; returns it as a source. */
export function wav(path, frames, sampleAt, rate_hz = 48_000) {
  const file = Buffer.alloc(44 + 2 * frames);
  file.write("RIFF");
  file.writeUInt32LE(36 + 2 * frames, 4);
  file.write("WAVEfmt ", 8);
  file.writeUInt32LE(16, 16);
  file.writeUInt16LE(1, 20); // PCM
  file.writeUInt16LE(1, 22);
  file.writeUInt32LE(rate_hz, 24);
  file.writeUInt32LE(2 * rate_hz, 28);
  file.writeUInt16LE(2, 32);
  file.writeUInt16LE(16, 34);
  file.write("data", 36);
  file.writeUInt32LE(2 * frames, 40);
  for (let frame = 0; frame < frames; frame += 1) file.writeInt16LE(sampleAt(frame), 44 + 2 * frame);
  writeFileSync(path, file);
  return `wav:${path}`;
}
