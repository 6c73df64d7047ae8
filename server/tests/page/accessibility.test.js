// The page in each of its states, dark and light, on a wide screen and on a phone: axe finds no fault, and no element is
// wider than the screen. Screenshots are written to AIRCHECK_PICTURES.

import assert from "node:assert";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Tab, openBrowser } from "./support/browser.js";
import { Server } from "./support/program.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PICTURES = process.env.AIRCHECK_PICTURES ?? "pictures";
const WIDTHS = { wide: 1280, phone: 360 };
const SCHEMES = ["light", "dark"];

let browser;

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  browser = await openBrowser();
});

after(() => browser?.close());

/** Checks a tab in all widths and colours; returns the faults. */
async function check(tab, state) {
  const found = [];
  for (const [width, pixels] of Object.entries(WIDTHS)) {
    for (const colorScheme of SCHEMES) {
      const where = `${state}-${width}-${colorScheme}`;
      await tab.page.emulateMedia({ colorScheme });
      await tab.page.setViewportSize({ width: pixels, height: 900 });
      await tab.page.screenshot({ path: join(PICTURES, `${where}.png`), fullPage: true });
      const wider = await tab.value("document.documentElement.scrollWidth - innerWidth");
      if (wider > 0) found.push(`${where}: ${wider} pixels wider than the screen`);
      const { violations } = await tab.value("axe.run()");
      for (const { id, help, nodes } of violations) found.push(`${where}: ${id}, ${help}: ${nodes[0].html}`);
    }
  }
  return found;
}

/** Opens a page of `server` and loads axe into it; `options` are those of a Playwright context. */
async function open(server, options) {
  const tab = await Tab.open(browser, server.url, options);
  await tab.value(`void (() => {${AXE}})()`);
  await tab.until("document.getElementById('facts').textContent !== ''");
  return tab;
}

/** Starts listeners called `names`, freezes the last one, and waits until the page shows that. */
async function freeze(tab, server, names) {
  const listeners = await Promise.all(names.map((name) => server.listener(name)));
  listeners.at(-1).signal("SIGSTOP");
  await tab.until(`document.querySelector('#rows .far-behind')?.textContent.includes('${names.at(-1)}')`);
  return listeners;
}

async function endAll(...processes) {
  for (const each of processes.flat()) await each.end();
}

describe("every state", { concurrency: 2 }, () => {
  test("no listeners", async () => {
    const server = await Server.start(["--source", "auto"]);
    const tab = await open(server);
    await tab.until("document.getElementById('no-listeners').checkVisibility()");
    assert.deepEqual(await check(tab, "empty"), []);
    await tab.close();
    await endAll(server);
  });

  test("playing with a frozen listener, then an unreachable server", async () => {
    const server = await Server.start(["--source", "auto"]);
    const tab = await open(server);
    const listeners = await freeze(tab, server, ["kitchen", "studio monitor", "archive", "hall", "van on a slow line"]);
    await tab.until("aircheck.live.node !== undefined");
    await tab.page.click("#play");
    await tab.until("document.getElementById('ear').textContent.endsWith('ms')");
    assert.deepEqual(await check(tab, "playing"), []);

    await endAll(listeners, server);
    await tab.until("document.body.classList.contains('unreachable')");
    assert.deepEqual(await check(tab, "unreachable"), []);
    await tab.close();
  });

  test("many listeners", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const tab = await open(server);
    const names = Array.from({ length: 30 }, (_, i) => (i % 7 ? `listener ${i}` : `one with quite a long name, number ${i}`));
    const listeners = await freeze(tab, server, names);
    assert.deepEqual(await check(tab, "many"), []);
    await tab.close();
    await endAll(listeners, server);
  });

  test("a lost source", async () => {
    const server = await Server.start(["--source", "stdin"], { stdin: "pipe" });
    const tab = await open(server);
    await tab.until("document.getElementById('source-lost').checkVisibility()");
    assert.deepEqual(await check(tab, "source-lost"), []);
    await tab.close();
    await endAll(server);
  });

  test("a browser that can't play live", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const tab = await open(server, { before: "delete window.AudioWorkletNode" });
    await tab.page.click("#play");
    await tab.untilText("player-line", "Opus");
    assert.deepEqual(await check(tab, "fallback"), []);
    await tab.close();
    await endAll(server);
  });
});
