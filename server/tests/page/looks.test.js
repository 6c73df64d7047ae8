// The page as people see it, or hear it read to them: axe finds nothing wrong in any state of it, dark or light, wide
// or on a phone, nothing is wider than the screen, and pictures are written for people to look at.

import assert from "node:assert";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Tab, launch } from "./with/browser.js";
import { Server, pause } from "./with/program.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PICTURES = process.env.AIRCHECK_PICTURES ?? "pictures";
const WIDTHS = { wide: 1280, phone: 360 };
const SCHEMES = ["light", "dark"];

let browser;

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  browser = await launch();
});

after(() => browser?.close());

/** Looks at a tab in all widths and colours; what axe finds. */
async function look(tab, state) {
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

/** A page of `server` with axe on it; `options` are a context's. */
async function open(server, options) {
  const tab = await Tab.open(browser, server.url, options);
  await tab.value(`void (() => {${AXE}})()`);
  await tab.until("document.getElementById('facts').textContent !== ''");
  return tab;
}

/** Starts `names`, of which the last one stands still and is seen to. */
async function freeze(tab, server, names) {
  const listeners = await Promise.all(names.map((name) => server.listener(name)));
  listeners.at(-1).signal("SIGSTOP");
  await tab.until(`document.querySelector('#rows .far-behind')?.textContent.includes('${names.at(-1)}')`);
  return listeners;
}

async function endAll(...processes) {
  for (const each of processes.flat()) await each.end();
}

test("nobody listens", async () => {
  const server = await Server.start(["--source", "auto"]);
  const tab = await open(server);
  await tab.until("document.getElementById('nobody').checkVisibility()");
  assert.deepEqual(await look(tab, "empty"), []);
  await tab.close();
  await endAll(server);
});

test("it plays, and one of some listeners stands still; then the server is gone", async () => {
  const server = await Server.start(["--source", "auto"]);
  const tab = await open(server);
  const listeners = await freeze(tab, server, ["kitchen", "studio monitor", "archive", "hall", "van on a slow line"]);
  await tab.until("aircheck.live.node !== undefined");
  await tab.page.click("#play");
  await tab.until("document.getElementById('ear').textContent.endsWith('ms')");
  await pause(Number(process.env.AIRCHECK_PICTURES_AFTER_SECONDS ?? 3) * 1000); // for the pictures' sake
  assert.deepEqual(await look(tab, "playing"), []);

  await endAll(listeners, server);
  await tab.until("document.body.classList.contains('unreachable')");
  assert.deepEqual(await look(tab, "unreachable"), []);
  await tab.close();
});

test("many listen", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const tab = await open(server);
  const names = Array.from({ length: 30 }, (_, i) => (i % 7 ? `listener ${i}` : `one with quite a long name, number ${i}`));
  const listeners = await freeze(tab, server, names);
  assert.deepEqual(await look(tab, "many"), []);
  await tab.close();
  await endAll(listeners, server);
});

test("the source is gone", async () => {
  const server = await Server.start(["--source", "stdin"], { stdin: "pipe" });
  const tab = await open(server);
  await tab.until("document.getElementById('gone').checkVisibility()");
  assert.deepEqual(await look(tab, "gone"), []);
  await tab.close();
  await endAll(server);
});

test("the browser can't play live", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const tab = await open(server, { before: "delete window.AudioWorkletNode" });
  await tab.page.click("#play");
  await tab.untilText("player-line", "Opus");
  assert.deepEqual(await look(tab, "fallback"), []);
  await tab.close();
  await endAll(server);
});
