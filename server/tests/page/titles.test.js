// Titles: when one is shown, and in the browser that it is shown once its first block is heard.

import assert from "node:assert";
import { after, before, describe, test } from "node:test";

import { Tab, launch } from "./support/browser.js";
import { Server, eventually } from "./support/program.js";
import { Titles, titleLine } from "../../web/titles.js";

const notice = (title, sequence) => ({ metadata: { title }, sequence });

describe("a title", () => {
  test("waits until its first block is heard", () => {
    const titles = new Titles();
    assert.strictEqual(titles.heard(5), null, "nothing was told");
    titles.told(notice("a", 3)); // of a listener that came later
    titles.told(notice("b", 10));
    titles.told(notice("c", 12));
    assert.deepStrictEqual([5, 9, 10, 11, 12, 99].map((block) => titles.heard(block).title), ["a", "a", "b", "b", "c", "c"]);
  });

  test("is told anew by another connection and by a server that has started again", () => {
    const titles = new Titles();
    titles.told(notice("b", 1000));
    titles.told(notice("c", 2000));
    titles.told(notice("b", 1000)); // a connection that begins earlier
    titles.told(notice("c", 2000));
    assert.strictEqual(titles.heard(1500).title, "b");
    titles.told(notice("z", 0)); // a server that has started again
    assert.strictEqual(titles.heard(3).title, "z");
    assert.strictEqual(titles.heard(5000).title, "z", "that of the old server is forgotten");
  });

  test("is one line with its artist", () => {
    assert.strictEqual(titleLine({ title: "Night train", artist: "The Owls" }), "The Owls – Night train");
    assert.strictEqual(titleLine({ title: "News" }), "News");
    assert.strictEqual(titleLine({}) + titleLine(null), "");
  });
});

describe("on the page", () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser.close());

  test("a title is shown when it is heard, and before Play when it is captured", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const put = (metadata) =>
      fetch(`${server.url}api/v1/mounts/main/metadata`, { method: "PUT", body: JSON.stringify(metadata) }).then((answer) => answer.json());
    await put({ title: "First", artist: "Ann" });
    const tab = await Tab.open(browser, server.url);
    const shown = "document.getElementById('title').hidden ? '' : document.getElementById('title-text').textContent";
    await tab.until(`(${shown}) === 'Ann – First'`);
    await tab.play();
    await tab.until("aircheck.player.figures?.begun");
    // So long before the ear that the sound of the change cannot have been heard when it is made.
    const { sequence } = await put({ title: "Second" });
    const seen = await eventually("the second title", () =>
      tab.value(`(${shown}) === 'Second' && { heard: aircheck.player.figures.begun.sequence }`));
    assert(seen.heard >= sequence, `shown at block ${seen.heard}, and it begins with ${sequence}`);
    await put({});
    await tab.until(`(${shown}) === ''`);
    await server.end();
  });
});
