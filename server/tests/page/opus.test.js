// Opus, decoded by the browser: it sounds as samples do and is as live. Where it can't be decoded, the page says so.

import assert from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { LIVE, REMOTE_HOST, Tab, TONE, openBrowser, processes } from "./support/browser.js";
import { Server, eventually } from "./support/program.js";
import { wav } from "./support/wav.js";

let browser;

before(async () => (browser = await openBrowser()));
after(() => browser?.close());

/** Plays `source` from a server with `flags`, on a page with `query`, after the script `before` has run in it. */
async function playing(flags, { query = "payload=opus", source = "tone:440", before } = {}) {
  const server = await Server.start(["--source", source, ...flags]);
  const tab = await Tab.open(browser, `${server.url}?${query}`, { before });
  await tab.play();
  await tab.until(LIVE);
  return { server, tab, end: () => tab.close().then(() => server.end()) };
}

// So many tabs at once leave a small machine time to play each without a fault.
describe("blocks and packets", { concurrency: 3 }, () => {
  // The length of a packet; no multiple of one, with one packet or two in a block; shorter than the shortest packet.
  for (const block of ["10ms", "7ms", "23ms", "1ms"]) {
    test(`blocks of ${block} are played as Opus`, async () => {
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

  // At a rate of Opus and at one that is converted first; with packets of the blocks' length and of others.
  for (const [rate_hz, block] of [[48_000, "10ms"], [44_100, "10ms"], [48_000, "7ms"], [44_100, "25ms"]]) {
    test(`at ${rate_hz} Hz in blocks of ${block} its sound has the right capture time`, async () => {
      const directory = mkdtempSync(join(tmpdir(), "aircheck-opus-"));
      const click = (frame) => (frame > 9000 && frame < 9030 ? 28_000 : 0);
      const source = wav(join(directory, "clicks.wav"), 24_000, click, rate_hz);
      const server = await Server.start(["--source", source, "--loop", "--block", block]);
      const tab = await Tab.open(browser, server.url);
      console.log(await tab.run("opus-clicks.js"));
      await tab.close();
      await server.end();
      rmSync(directory, { recursive: true });
    });
  }
});

test("after a gap it is live again, and the gap is counted", async () => {
  const { server, tab, end } = await playing(["--block", "20ms", "--buffer", "500ms", "--max-lag", "1s"]);
  const ids = await processes(browser); // among them the one that reads from the network
  for (const id of ids) process.kill(id, "SIGSTOP");
  try {
    await server.rowWhen("page", ({ lost }) => lost > 50);
  } finally {
    for (const id of ids) process.kill(id, "SIGCONT"); // a stopped browser would not end
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

test("the payload can be selected while it plays", async () => {
  const { server, tab, end } = await playing([], { query: "" });
  assert.equal(await tab.value("aircheck.player.payload"), "f32", "exact samples on loopback");
  for (const payload of ["opus", "s16", "auto"]) {
    await tab.page.selectOption("#payload", payload);
    await tab.until(`aircheck.player.payload === '${payload === "auto" ? "f32" : payload}'`);
    const { capture } = await server.json("api/v1/status");
    await tab.until(`${LIVE} && aircheck.player.figures.begun.sequence >= ${capture.blocks}`);
    assert.equal((await server.rows()).length, 1);
  }
  await end();
});

/** Plays from a page that the browser takes for one of another machine, over https. */
async function playRemote(before) {
  const server = await Server.start(["--source", "tone:440", "--allow-host", REMOTE_HOST]);
  const tab = await Tab.open(browser, `http://${REMOTE_HOST}:${server.port}/`, { before });
  await tab.play();
  await tab.until(LIVE);
  return { tab, end: () => tab.close().then(() => server.end()) };
}

test("a page from another machine plays Opus", async () => {
  const { tab, end } = await playRemote();
  assert.equal(await tab.value("aircheck.player.payload"), "opus");
  assert.equal(await tab.text("no-opus"), "");
  await end();
});

test("without an Opus decoder the page plays samples and says so", async () => {
  const { tab, end } = await playRemote("delete window.AudioDecoder");
  assert.equal(await tab.value("aircheck.player.payload"), "s16");
  await tab.until("document.getElementById('no-opus').checkVisibility()");
  assert.match(await tab.text("no-opus"), /can't decode Opus/);
  assert(await tab.value("document.querySelector('#payload [value=opus]').disabled"));
  await end();
});
