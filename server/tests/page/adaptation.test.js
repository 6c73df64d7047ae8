// Which form of the sound is chosen for which link. Needs no browser.

import assert from "node:assert";
import { describe, test } from "node:test";

import { Adaptation, forms } from "../../web/adaptation.js";

const BLOCK_SECONDS = 0.01;
const opus = () => forms("opus", true, BLOCK_SECONDS);

const GOOD = { late: 0.01, lost: 0, bits: 120_000 };
const strained = (bits) => ({ late: 0.8, lost: 0, bits });
const lossy = (bits) => ({ late: 1, lost: 40, bits });

/** Feeds `seconds` of `seen`; returns the names of the forms that it changes to, each with its second. */
function feed(adaptation, seconds, seen) {
  const changes = [];
  for (let second = 1; second <= seconds; second += 1) {
    if (adaptation.second(seen(adaptation.form, second))) changes.push([second, adaptation.form.bitrate ?? adaptation.form.payload]);
  }
  return changes;
}

/** A link that carries so many bits a second. */
const link = (bits) => (form) => (form.bits <= bits ? { ...GOOD, bits: form.bits } : strained(bits));

describe("a link that does not carry 96 kbit/s", () => {
  for (const [bits, expected] of [
    [110_000, 64_000],
    [100_000, 64_000],
    [85_000, 48_000],
    [65_000, 32_000],
    [55_000, 24_000],
    [45_000, 16_000],
    [5_000, 16_000],
  ]) {
    test(`one of ${bits / 1000} kbit/s gets ${expected / 1000} at once`, () => {
      assert.deepEqual(feed(new Adaptation(opus()), 12, link(bits)), [[7, expected]]);
    });
  }
});

test("samples become Opus, and samples again once the link is wide", () => {
  const adaptation = new Adaptation(forms("f32", true, BLOCK_SECONDS));
  assert.deepEqual(feed(adaptation, 6, () => lossy(500_000)), [[6, 96_000]]);
  assert.equal(adaptation.line, "Opus at 96 kbit/s: this link does not carry more.");
  assert.deepEqual(feed(adaptation, 40, () => GOOD), [[24, "f32"]]);
  assert.equal(adaptation.line, "");
});

test("a browser that decodes no Opus gets 16-bit samples", () => {
  assert.deepEqual(forms("f32", false, BLOCK_SECONDS).map(({ payload }) => payload), ["f32", "s16"]);
  assert.deepEqual(forms("s16", false, BLOCK_SECONDS).map(({ payload }) => payload), ["s16"]);
  assert.deepEqual(feed(new Adaptation(forms("f32", false, BLOCK_SECONDS)), 12, () => strained(900_000)), [[7, "s16"]]);
});

test("it rises step by step, each after 20 s without a fault", () => {
  const adaptation = new Adaptation(opus());
  feed(adaptation, 7, link(45_000));
  assert.equal(adaptation.form.bitrate, 16_000);
  const rises = feed(adaptation, 200, () => GOOD);
  assert.deepEqual(rises.map(([, bitrate]) => bitrate), [24_000, 32_000, 48_000, 64_000, 96_000]);
  assert.deepEqual(rises.map(([second], i) => second - (rises[i - 1]?.[0] ?? 0)), [24, 24, 24, 24, 24]);
  assert.equal(adaptation.line, "");
});

test("between two steps it does not flap: it tries the higher one less and less often", () => {
  const adaptation = new Adaptation(opus());
  const changes = feed(adaptation, 3600, link(100_000));
  const tries = changes.filter(([, bitrate]) => bitrate === 96_000).map(([second]) => second);
  assert(tries.length <= 15, `${tries.length} tries in an hour`);
  const apart = tries.slice(1).map((second, i) => second - tries[i]);
  assert(apart.at(-1) > 300, `the last ones ${apart.at(-1)} s apart`);
  assert.equal(adaptation.form.bitrate, 64_000);
});

test("a connection that brings nothing is no reason to rise", () => {
  const adaptation = new Adaptation(opus());
  feed(adaptation, 7, link(100_000));
  assert.deepEqual(feed(adaptation, 100, () => ({ late: null, lost: 0, bits: 0 })), []);
});

test("a step that has proved right makes it patient no longer", () => {
  const adaptation = new Adaptation(opus());
  feed(adaptation, 200, link(100_000));
  assert(adaptation.patience > 20);
  feed(adaptation, 600, () => GOOD);
  assert.equal(adaptation.form.bitrate, 96_000);
  assert.equal(adaptation.patience, 20);
});

test("a link that carries nothing is said to be overloaded until it carries something", () => {
  const adaptation = new Adaptation(opus());
  feed(adaptation, 30, link(10_000));
  assert.equal(adaptation.line, "Opus at 16 kbit/s, and this link does not carry even that.");
  feed(adaptation, 5, () => GOOD);
  assert.equal(adaptation.line, "Opus at 16 kbit/s: this link does not carry more.");
});

describe("what is no thin link", () => {
  for (const [what, seen] of [
    ["a pause of two seconds now and then", (_, second) => (second % 20 < 2 ? strained(90_000) : GOOD)],
    ["one loss after a long pause", (_, second) => (second === 50 ? lossy(200_000) : GOOD)],
    ["a broken connection", (_, second) => (second > 20 && second < 60 ? { late: null, lost: 0, bits: 0 } : GOOD)],
    ["a link that works off what had waited", (_, second) => ({ ...GOOD, late: Math.max(0, 8 - 0.05 * second) })],
    ["sound that is always a little late", () => ({ ...GOOD, late: 0.25 })],
  ]) {
    test(what, () => assert.deepEqual(feed(new Adaptation(opus()), 300, seen), []));
  }

  test("what was seen before a restart", () => {
    const adaptation = new Adaptation(opus());
    for (let i = 0; i < 50; i += 1) {
      assert.deepEqual(feed(adaptation, 6, () => strained(50_000)), []);
      adaptation.restart();
    }
  });
});
