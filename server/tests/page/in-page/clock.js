// What time it is at the server, as the page works it out.

const { Clock } = await import("/clock.js");
const { HEADER_BYTES, parse } = await import("/message.js");

function check(condition, complaint) {
  if (!condition) throw new Error(complaint);
}

// The truth is always within the error, whichever way is the slow one.
const clock = new Clock();
check(clock.estimate(0) === null, "it knows the time without having asked");
const OFFSET = 1000;
let random = 1;
for (let at = 0; at < 100; at += 1) {
  random = (random * 16_807) % 2_147_483_647;
  const [there, back] = [0.001 + (random % 1000) / 5000, 0.001 + (random % 77) / 300];
  clock.learn(at, at + there + OFFSET, at + there + back);
  const { offset, error } = clock.estimate(at + there + back);
  check(Math.abs(offset - OFFSET) <= error, `${offset} is further from ${OFFSET} than ${error}`);
  check(error < 0.25, `${error}`);
}

// A clock that was set is believed at once.
clock.learn(200, 200 + OFFSET - 60, 200.01);
check(Math.abs(clock.estimate(200.01).offset - (OFFSET - 60)) < 0.01, "it holds on to the old time");

function message(kind, payload) {
  const bytes = new Uint8Array(HEADER_BYTES + payload.byteLength);
  const header = new DataView(bytes.buffer);
  header.setUint8(0, 1);
  header.setUint8(1, kind);
  header.setUint32(4, payload.byteLength, true);
  header.setBigUint64(8, 7n, true);
  header.setBigUint64(16, 1_790_000_000_123_456_789n, true);
  bytes.set(new Uint8Array(payload.buffer), HEADER_BYTES);
  return bytes.buffer;
}

const stereo = parse(message(1, Float32Array.of(0.5, -0.25, 1, 0)), 2);
check(stereo.sequence === 7 && Math.abs(stereo.captured_at - 1_790_000_000.123456) < 1e-6, "the header");
check(stereo.samples.join() === "0.5,1,-0.25,0", `f32: ${stereo.samples}`);
const mono = parse(message(2, Int16Array.of(16_384, -32_768)), 1);
check(mono.samples.join() === "0.5,-1", `s16: ${mono.samples}`);
const three = parse(message(1, Float32Array.of(0.5, 0.25, 1)), 3);
check(three.samples.join() === "0.75,0.25", `three channels: ${three.samples}`);

for (const wrong of [new ArrayBuffer(0), message(9, Int16Array.of(1)), message(1, Float32Array.of(1)).slice(0, 26)]) {
  let refused = false;
  try {
    parse(wrong, 1);
  } catch (error) {
    refused = error instanceof RangeError;
  }
  check(refused, "nonsense was taken for sound");
}
