// Opus, decoded by the browser: as much sound as in samples, as live, in a tenth of the bits; and a word where it can't
// be had.

import assert from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { LIVE, Tab, TONE, launch, processes } from "./with/browser.js";
import { PATIENCE_MS, Server, eventually } from "./with/program.js";
import { wav } from "./with/wav.js";

let browser;

before(async () => (browser = await launch()));
after(() => browser?.close());

/** Plays a tone in Opus from a server with some flags, on a page with more in its query. */
async function playing(flags, query = "payload=opus") {
  const server = await Server.start(["--source", "tone:440", ...flags]);
  const tab = await Tab.open(browser, `${server.url}?${query}`);
  await tab.play();
  await tab.until(LIVE);
  return { server, tab, end: () => tab.close().then(() => server.end()) };
}

// As long as a packet; not a multiple of one, with one packet or two to a block; and shorter than the shortest.
for (const block of ["10ms", "7ms", "23ms", "1ms"]) {
  test(`blocks of ${block} come through`, async () => {
    const { tab, end } = await playing(["--block", block]);
    assert.equal(await tab.value("aircheck.player.payload"), "opus");
    const { blocks } = await tab.value("aircheck.player.figures.counts");
    await tab.until(`aircheck.player.figures.counts.blocks > ${blocks + 200} && ${TONE}`);
    const { codec } = await tab.value("aircheck.player.figures.stages");
    assert(codec >= 0.0025 && codec < 0.04, `${codec} s in the codec`);
    await tab.until("document.getElementById('stage-codec').checkVisibility()");
    await end();
  });
}

// At a rate of Opus's own, and at one that is converted first; with packets as long as blocks, and not.
for (const [rate_hz, block] of [[48_000, "10ms"], [44_100, "10ms"], [48_000, "7ms"], [44_100, "25ms"]]) {
  test(`at ${rate_hz} Hz in blocks of ${block} its sound is where it belongs`, async () => {
    const directory = mkdtempSync(join(tmpdir(), "aircheck-opus-"));
    const click = (frame) => (frame > 9000 && frame < 9030 ? 28_000 : 0);
    const source = wav(join(directory, "clicks.wav"), 24_000, click, rate_hz);
    const server = await Server.start(["--source", source, "--loop", "--block", block]);
    const tab = await Tab.open(browser, server.url);
    console.log(await tab.run("opus.js"));
    await tab.close();
    await server.end();
    rmSync(directory, { recursive: true });
  });
}

test("after a gap it is as live as before, and the gap is counted", async () => {
  const { server, tab, end } = await playing(["--buffer", "500ms", "--max-lag", "1s"]);
  const ids = await processes(browser); // with the one that reads from the network for the page
  for (const id of ids) process.kill(id, "SIGSTOP");
  try {
    // The kernel's buffers have room for minutes of Opus. The limit of lag keeps it out of them, once it shows in the
    // window; a window that has just grown hides it for a while.
    await server.rowWhen("page", ({ lost }) => lost > 100, 5 * PATIENCE_MS);
  } finally {
    for (const id of ids) process.kill(id, "SIGCONT"); // else the browser would not even end
  }
  await tab.until("aircheck.player.figures.counts.lost > 0");
  const { capture } = await server.json("api/v1/status");
  await tab.until(`${LIVE} && aircheck.player.figures.begun.sequence >= ${capture.blocks}`);
  const counts = await eventually("the count", async () => {
    const { lost } = (await server.rows())[0];
    const heard = await tab.value("aircheck.player.figures.counts.lost");
    return heard === lost && { heard, lost };
  });
  console.log(`lost: ${JSON.stringify(counts)}`);
  await end();
});

test("what it is sent as can be chosen while it plays", async () => {
  const { server, tab, end } = await playing([], "");
  assert.equal(await tab.value("aircheck.player.payload"), "f32", "nothing is saved on loopback");
  for (const payload of ["opus", "s16", "auto"]) {
    await tab.page.selectOption("#payload", payload);
    await tab.until(`aircheck.player.payload === '${payload === "auto" ? "f32" : payload}'`);
    const { capture } = await server.json("api/v1/status");
    await tab.until(`${LIVE} && aircheck.player.figures.begun.sequence >= ${capture.blocks}`);
    assert.equal((await server.rows()).length, 1);
  }
  await end();
});

/** A page from another machine, as far as it can tell, over https. */
async function fromAfar(before) {
  const server = await Server.start(["--source", "tone:440", "--allow-host", "studio.test"]);
  const origin = `http://studio.test:${server.port}`;
  const far = await launch({
    args: ["--host-resolver-rules=MAP studio.test 127.0.0.1", `--unsafely-treat-insecure-origin-as-secure=${origin}`],
  });
  const tab = await Tab.open(far, null, { before });
  await tab.go(`${origin}/`);
  await tab.play();
  await tab.until(LIVE);
  return { tab, end: () => far.close().then(() => server.end()) };
}

test("from afar it is what fits", async () => {
  const { tab, end } = await fromAfar();
  assert.equal(await tab.value("aircheck.player.payload"), "opus");
  assert.equal(await tab.text("no-opus"), "");
  await end();
});

test("a browser that can't decode it says so, and takes samples", async () => {
  const { tab, end } = await fromAfar("delete window.AudioDecoder");
  assert.equal(await tab.value("aircheck.player.payload"), "s16");
  await tab.until("document.getElementById('no-opus').checkVisibility()");
  assert.match(await tab.text("no-opus"), /can't decode Opus/);
  assert(await tab.value("document.querySelector('#payload [value=opus]').disabled"));
  await end();
});
