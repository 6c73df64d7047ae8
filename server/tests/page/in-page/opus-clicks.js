// Compares the capture times of the same clicks, once as samples and once decoded from Opus. Runs on the page.

const { parse } = await import("/message.js");
const { OpusDecoder } = await import("/opus.js");

const CLICKS = 6;

/** Returns when clicks were captured, in seconds, by the stream of a payload. */
function clicks(payload) {
  return new Promise((done, fail) => {
    const found = [];
    const socket = new WebSocket(`${location.origin.replace("http", "ws")}/stream?payload=${payload}`);
    socket.binaryType = "arraybuffer";
    let [channels, rate_hz, decoder, began_at] = [0, 0, null, 0];
    const look = ({ captured_at, ahead = 0, samples }) => {
      // Within a block, the time follows from the count of frames.
      if (ahead !== null) began_at = captured_at - ahead;
      const row = samples.subarray(0, samples.length / channels);
      row.forEach((sample, frame) => {
        const at = began_at + frame / rate_hz;
        if (Math.abs(sample) > 0.4 && at - (found.at(-1) ?? 0) > 0.1) found.push(at);
      });
      began_at += row.length / rate_hz;
      if (found.length < CLICKS) return;
      socket.close();
      decoder?.close();
      done(found);
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        const block = parse(data, channels);
        if (decoder) decoder.take(block);
        else look(block);
        return;
      }
      const { hello } = JSON.parse(data);
      if (!hello) return;
      ({ channels, rate_hz } = hello);
      if (payload === "opus") decoder = new OpusDecoder(hello, look, fail);
    };
  });
}

const [exact, decoded] = await Promise.all([clicks("f32"), clicks("opus")]);
const off = decoded.map((at) => Math.min(...exact.map((other) => Math.abs(at - other))));
const near = off.filter((seconds) => seconds < 0.1).sort((a, b) => a - b); // the others were found in one stream only
if (!(near.length >= CLICKS / 2)) throw new Error(`${near.length} clicks were found twice: ${exact}; ${decoded}`);
const worst = near.at(-1);
if (worst > 0.0015) throw new Error(`Opus is ${1000 * worst} ms beside the samples: ${near}`);
return `a click of Opus is at most ${(1000 * worst).toFixed(2)} ms beside the same one in samples`;
