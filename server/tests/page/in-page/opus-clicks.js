// Compares the capture times of the same clicks, once as samples and once decoded from Opus. Runs on the page.

const { parse } = await import("/message.js");
const { OpusDecoder } = await import("/opus.js");

const CLICKS = 6;
const TIMEOUT_MS = 60_000;

/** Collects when clicks were captured, in seconds, by the stream of a payload; `changed` is called after each. */
function listen(payload, changed, fail) {
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
      if (Math.abs(sample) <= 0.4 || at - (found.at(-1) ?? 0) <= 0.1) return;
      found.push(at);
      changed();
    });
    began_at += row.length / rate_hz;
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
  const close = () => {
    socket.close();
    decoder?.close();
  };
  return { found, close };
}

/** Returns by how many seconds each click of Opus lies beside the same one in samples, if both streams have it. */
function distances(exact, decoded) {
  const off = decoded.map((at) => Math.min(...exact.map((other) => Math.abs(at - other))));
  return off.filter((seconds) => seconds < 0.1);
}

// On a busy machine one stream may begin seconds after the other: both go on until they share enough clicks.
const streams = [];
const shared = await new Promise((done, fail) => {
  const changed = () => {
    const off = distances(...streams.map(({ found }) => found));
    if (off.length >= CLICKS) done(off);
  };
  const lists = () => streams.map(({ found }) => found.join()).join("; ");
  setTimeout(() => fail(new Error(`too few clicks were found in both streams: ${lists()}`)), TIMEOUT_MS);
  for (const payload of ["f32", "opus"]) streams.push(listen(payload, changed, fail));
});
for (const stream of streams) stream.close();
const worst = Math.max(...shared);
if (worst > 0.0015) throw new Error(`Opus is ${1000 * worst} ms beside the samples: ${shared}`);
return `a click of Opus is at most ${(1000 * worst).toFixed(2)} ms beside the same one in samples`;
