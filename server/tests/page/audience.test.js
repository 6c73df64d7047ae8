// The listeners of several servers on the page of one: which edge each is at, how old its figures are, and what is silent.

import assert from "node:assert";
import { after, before, describe, test } from "node:test";

import { faults, loadAxe } from "./support/appearance.js";
import { Tab, openBrowser } from "./support/browser.js";
import { Nats } from "./support/nats.js";
import { Server } from "./support/program.js";

const EDGES = ["berlin", "oslo", "paris"];

let browser, nats, origin;
const edges = {};
const listeners = {};

before(async () => {
  browser = await openBrowser();
  nats = await Nats.start();
  const [sound, reports] = [nats.url("radio.one"), nats.url("radio.edges")];
  origin = await Server.start(["--source", "tone:440", "--publish", sound, "--gather", reports]);
  for (const name of EDGES) {
    edges[name] = await Server.start(["--source", sound, "--report", reports, "--report-as", name]);
  }
});

after(async () => {
  for (const process of [...Object.values(listeners), ...Object.values(edges), origin, nats]) await process?.end();
  await browser?.close();
});

/** The rows of the table as they are read: name, edge, age, class, and whether there is a button. */
const ROWS = `[...document.querySelectorAll("#rows tr")].map((row) => {
  const text = (name) => row.querySelector(\`[data-field=\${name}]\`).textContent;
  const has_button = !row.querySelector("button").hidden;
  return { name: text("name"), edge: text("edge"), age: text("age"), level: row.className, has_button };
})`;

/** What the tiles of the servers tell, by their names. */
const TILES = `Object.fromEntries([...document.querySelectorAll("#edges li")].map((tile) => {
  const text = (name) => tile.querySelector(\`[data-field=\${name}]\`).textContent;
  return [text("name"), { age: text("age"), listeners: text("listeners"), lag: text("lag"), silent: tile.className.includes("silent") }];
}))`;

describe("the audience of several servers", () => {
  test("edges without listeners are shown, and that there are none", async () => {
    const tab = await Tab.open(browser, origin.url);
    await loadAxe(tab);
    await tab.until(`Object.keys(${TILES}).length === 4`);
    const tiles = await tab.value(TILES);
    assert.deepEqual(Object.keys(tiles), ["here", ...EDGES]);
    assert.deepEqual([tiles.here.listeners, tiles.oslo.listeners, tiles.oslo.lag], ["0 listeners", "0 listeners", ""]);
    assert.match(tiles.oslo.age, /^\d s old$/);
    await tab.until("!document.getElementById('no-listeners').hidden && document.getElementById('table').hidden");
    assert.deepEqual(await faults(tab, "audience-none"), []);
    assert.deepEqual(tab.errors, []);
    await tab.close();
  });

  test("the table is worst first over all servers, and says at which each listener is", async () => {
    for (const [server, name] of [[origin, "studio"], [edges.berlin, "bar"], [edges.berlin, "café"], [edges.paris, "van"]]) {
      listeners[name] = await server.listener(name);
    }
    listeners.van.signal("SIGSTOP");
    const tab = await Tab.open(browser, origin.url);
    // The others keep up, and have the order of their servers, unless the machine is too busy for a moment.
    const expected = JSON.stringify([
      ["van", "paris", "far-behind", false],
      ["studio", "here", "", true],
      ["bar", "berlin", "", false],
      ["café", "berlin", "", false],
    ]);
    const columns = "({ name, edge, level, has_button }) => [name, edge, level, has_button]";
    await tab.until(`JSON.stringify(${ROWS}.map(${columns})) === ${JSON.stringify(expected)}`);
    await tab.until(`document.getElementById("count").textContent === "4"`);
    await tab.until(`/^worst lag [1-9]/.test(${TILES}.paris.lag)`);
    const tiles = await tab.value(TILES);
    assert.deepEqual(EDGES.map((name) => tiles[name].listeners), ["2 listeners", "0 listeners", "1 listener"]);
    assert.equal(await tab.value("getComputedStyle(document.querySelector('th.edge')).display"), "table-cell");
    assert.deepEqual(tab.errors, []);
    await tab.close();
  });

  test("an edge that falls silent is first, and its rows say how old they are", async () => {
    const tab = await Tab.open(browser, origin.url);
    await loadAxe(tab);
    await tab.until(`${ROWS}.length === 4`);
    edges.berlin.signal("SIGSTOP");
    await tab.until(`${TILES}.berlin.silent`);
    const tiles = await tab.value(TILES);
    assert.deepEqual(Object.keys(tiles), ["here", "berlin", "oslo", "paris"]);
    assert.match(tiles.berlin.age, /^silent for \d+ s$/);
    assert.deepEqual([tiles.berlin.listeners, tiles.berlin.lag], ["had 2 listeners", ""]);
    await tab.until(`${ROWS}.filter(({ age }) => age.startsWith("silent for")).length === 2`);
    const rows = await tab.value(ROWS);
    const silent = rows.filter(({ level }) => level.includes("silent")).map(({ name }) => name);
    assert.deepEqual(silent, ["bar", "café"]);
    assert.equal(await tab.text("count"), "2 and 2 at silent edges");
    assert.deepEqual(await faults(tab, "audience-silent"), []);
    edges.berlin.signal("SIGCONT");
    await tab.until(`!${TILES}.berlin.silent && document.getElementById("count").textContent === "4"`);
    assert.deepEqual(tab.errors, []);
    await tab.close();
  });

  test("a page of a server that gathers nothing has no such column", async () => {
    const tab = await Tab.open(browser, edges.berlin.url);
    await tab.until(`${ROWS}.length === 2`);
    assert.equal(await tab.value("getComputedStyle(document.querySelector('th.edge')).display"), "none");
    assert.equal(await tab.value("document.getElementById('edges').hidden"), true);
    assert.equal(await tab.text("count"), "2");
    assert.deepEqual(tab.errors, []);
    await tab.close();
  });
});
