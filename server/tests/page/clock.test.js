// The page's estimate of the server's time, its parser of binary messages, and its numbers. Needs no browser.

import assert from "node:assert";
import { test } from "node:test";

import { Clock } from "../../web/clock.js";
import { HEADER_BYTES, parse } from "../../web/message.js";
import { range } from "../../web/text.js";

const OFFSET = 1000;

test("the true offset is within the stated error, whichever way is the slow one", () => {
  const clock = new Clock();
  assert.equal(clock.estimate(0), null);
  let random = 1;
  for (let at = 0; at < 100; at += 1) {
    random = (random * 16_807) % 2_147_483_647;
    const [there, back] = [0.001 + (random % 1000) / 5000, 0.001 + (random % 77) / 300];
    clock.learn(at, at + there + OFFSET, at + there + back);
    const { offset, error } = clock.estimate(at + there + back);
    assert(Math.abs(offset - OFFSET) <= error, `${offset} is further from ${OFFSET} than ${error}`);
    assert(error < 0.25, `${error}`);
  }
});

test("a server clock that was set is followed at once", () => {
  const clock = new Clock();
  for (let at = 0; at < 10; at += 1) clock.learn(at, at + 0.005 + OFFSET, at + 0.01);
  clock.learn(200, 200 + OFFSET - 60, 200.01);
  assert(Math.abs(clock.estimate(200.01).offset - (OFFSET - 60)) < 0.01);
});

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

test("a message has its sequence number, its capture time and its samples by channel", () => {
  const stereo = parse(message(1, Float32Array.of(0.5, -0.25, 1, 0)), 2);
  assert.equal(stereo.sequence, 7);
  assert(Math.abs(stereo.captured_at - 1_790_000_000.123456) < 1e-6, `${stereo.captured_at}`);
  assert.equal(stereo.samples.join(), "0.5,1,-0.25,0");
  const mono = parse(message(2, Int16Array.of(16_384, -32_768)), 1);
  assert.equal(mono.samples.join(), "0.5,-1");
  const three = parse(message(1, Float32Array.of(0.5, 0.25, 1)), 3);
  assert.equal(three.samples.join(), "0.75,0.25");
});

test("malformed messages are refused", () => {
  const unknown_kind = message(9, Int16Array.of(1));
  const cut_off = message(1, Float32Array.of(1)).slice(0, 26);
  for (const wrong of [new ArrayBuffer(0), unknown_kind, cut_off]) assert.throws(() => parse(wrong, 1), RangeError);
});

test("bounds of a lag are short, and nothing is called 0 that may be more", () => {
  assert.equal(range(1.12, 9.83), "1.1 to 9.8 s");
  assert.equal(range(0, 9.83), "up to 9.8 s");
  assert.equal(range(118, 1203.4), "118 to 1,203 s");
});
