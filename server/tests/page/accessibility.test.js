// The page in each of its states, dark and light, on a wide screen and on a phone: axe finds no fault, and no element is
// wider than the screen. Screenshots are written to AIRCHECK_PICTURES.

import assert from "node:assert";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { faults, loadAxe } from "./support/appearance.js";
import { PLAIN_HOST, Tab, openBrowser } from "./support/browser.js";
import { TonePipe } from "./support/pipe.js";
import { Server } from "./support/program.js";

let browser;

before(async () => {
  browser = await openBrowser();
});

after(() => browser?.close());

/** Opens a page of `server` and loads axe into it; `options` are those of a Playwright context. */
async function open(server, options) {
  const tab = await openWithAxe(server, options);
  await tab.until("document.getElementById('facts').textContent !== ''");
  return tab;
}

async function openWithAxe(server, options) {
  const tab = await Tab.open(browser, server.url, options);
  await loadAxe(tab);
  return tab;
}

/** Starts listeners called `names`, freezes the last one, and waits until the page shows that. */
async function freeze(tab, server, names) {
  const listeners = await Promise.all(names.map((name) => server.listener(name)));
  listeners.at(-1).signal("SIGSTOP");
  await tab.until(`document.querySelector('#rows .far-behind')?.textContent.includes('${names.at(-1)}')`);
  return listeners;
}

/** Makes the page show listeners of these names in these states, of which some come only with slow networks. */
const RARE_STATES = `(() => {
  const rare = {
    kitchen: { state: "reads", lag_at_least_seconds: 0.05, lag_at_most_seconds: 1.2 },
    uncertain: { state: "its machine may hold up to 10 s", lag_at_least_seconds: 0, lag_at_most_seconds: 9.83 },
    "slow player": {
      state: "probably slower than it comes: 8 % behind each second", verdict: "behind", fault: "listener",
      lag_seconds: 3.21, lag_at_least_seconds: 1.12, lag_at_most_seconds: 9.83, unread_seconds: 3.2,
    },
    "van on a slow line": {
      state: "does not get it: the network holds 118 s", verdict: "far_behind", fault: "network", lag_seconds: 120.4,
      lag_at_least_seconds: 118, lag_at_most_seconds: 131.2, socket_queued_seconds: 118,
    },
    frozen: {
      state: "has not read for 12 s", verdict: "far_behind", fault: "listener", lag_seconds: 12.34, unread_seconds: 12.3,
      lag_at_least_seconds: 12.3, lag_at_most_seconds: 12.4,
    },
  };
  const show = ({ rows, ...others }) => ({ ...others, rows: rows.map((row) => ({ ...row, ...rare[row.name] })) });
  window.EventSource = class extends EventSource {
    addEventListener(type, take) {
      const taken = type !== "listeners" ? take : ({ data }) => take({ data: JSON.stringify(show(JSON.parse(data))) });
      super.addEventListener(type, taken);
    }
  };
})()`;

async function endAll(...processes) {
  for (const each of processes.flat()) await each.end();
}

describe("every state", { concurrency: 2 }, () => {
  test("no listeners", async () => {
    const server = await Server.start(["--source", "auto"]);
    const tab = await open(server);
    await tab.until("document.getElementById('no-listeners').checkVisibility()");
    assert.deepEqual(await faults(tab, "empty"), []);
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
    assert.deepEqual(await faults(tab, "playing"), []);

    await endAll(listeners, server);
    await tab.until("document.body.classList.contains('unreachable')");
    assert.deepEqual(await faults(tab, "unreachable"), []);
    await tab.close();
  });

  test("listeners of which little is known, and others that do not read", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const tab = await open(server, { before: RARE_STATES });
    const names = ["kitchen", "uncertain", "slow player", "van on a slow line", "frozen"];
    const listeners = await Promise.all(names.map((name) => server.listener(name, "stream.opus")));
    const text = (name) => `[...document.querySelectorAll('#rows tr')].map((row) => row.textContent).find((text) => text.includes('${name}'))`;
    const shown = { uncertain: "up to 9.8 s", "slow player": "1.1 to 9.8 s", frozen: "has not read for 12 s" };
    for (const [name, words] of Object.entries(shown)) await tab.until(`${text(name)}?.includes('${words}')`);
    assert(!/reads|up to| to /.test(await tab.value(text("kitchen"))), "a listener that reads has nothing to tell");
    assert(!/ to /.test(await tab.value(text("frozen"))), "bounds that are close are not shown");
    assert.deepEqual(await faults(tab, "states"), []);
    await tab.close();
    await endAll(listeners, server);
  });

  test("many listeners", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const tab = await open(server);
    const names = Array.from({ length: 30 }, (_, i) => (i % 7 ? `listener ${i}` : `one with quite a long name, number ${i}`));
    const listeners = await freeze(tab, server, names);
    assert.deepEqual(await faults(tab, "many"), []);
    await tab.close();
    await endAll(listeners, server);
  });

  test("a sign-in, with a wrong token, and by one that permits listening alone", async () => {
    const directory = mkdtempSync(join(tmpdir(), "aircheck-page-"));
    const hash = createHash("sha256").update("ac_kitchen").digest("hex");
    const file = join(directory, "aircheck.toml");
    writeFileSync(file, `[[token]]\nname = "kitchen"\nhash = "sha256:${hash}"\nscopes = ["listen"]\n`);
    const server = await Server.start(["--source", "tone:440", "--config", file]);
    const tab = await openWithAxe(server);
    await tab.until("document.getElementById('sign-in').checkVisibility()");
    assert.deepEqual(await faults(tab, "sign-in"), []);
    await tab.page.fill("#token", "ac_wrong");
    await tab.page.keyboard.press("Enter");
    await tab.untilText("sign-in-trouble", "not a token of this server");
    assert.deepEqual(await faults(tab, "wrong-token"), []);
    await tab.page.fill("#token", "ac_kitchen");
    await tab.page.keyboard.press("Enter");
    await tab.until("document.getElementById('play').checkVisibility()");
    assert.deepEqual(await faults(tab, "listen-only"), []);
    await tab.close();
    await endAll(server);
    rmSync(directory, { recursive: true });
  });

  test("a lost source", async () => {
    const server = await Server.start(["--source", "stdin"], { stdin: "pipe" });
    const tab = await open(server);
    await tab.until("document.getElementById('source-lost').checkVisibility()");
    assert.deepEqual(await faults(tab, "source-lost"), []);
    await tab.close();
    await endAll(server);
  });

  test("the fallback, with a receiver of notifications that is not there", async () => {
    const directory = mkdtempSync(join(tmpdir(), "aircheck-page-"));
    const pipe = TonePipe.start(join(directory, "pipe"));
    const flags = ["--source", "stdin", "--fallback", "demo", "--fallback-after", "0s", "--record", join(directory, "takes")];
    const env = { AIRCHECK_NOTIFY: "http://127.0.0.1:9/hook" };
    const server = await Server.start(flags, { stdin: pipe.fd, env });
    const tab = await open(server);
    await tab.untilText("state", "ON AIR");
    pipe.pause();
    await tab.until("document.getElementById('state').textContent === 'FALLBACK'");
    await tab.untilText("notification-trouble", "next try in");
    assert.deepEqual(await faults(tab, "on-fallback"), []);
    await tab.close();
    await endAll(server, pipe);
    rmSync(directory, { recursive: true });
  });

  test("a narrow link, a proxy that gathers, and an output that is not known", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const before = "Object.defineProperty(AudioContext.prototype, 'outputLatency', { get: () => 0 })";
    const tab = await open(server, { before });
    await tab.until("aircheck.live.node !== undefined");
    await tab.page.click("#play");
    await tab.untilText("ear-least", "at least");
    const link = { line: "Opus at 48 kbit/s: this link does not carry more.", gathered_seconds: 0.73 };
    // What the connection itself tells of this machine would take its place.
    await tab.value(`(({ on }) => { on.link(${JSON.stringify(link)}); on.link = () => {}; })(aircheck.live)`);
    await tab.until("document.getElementById('gathered').checkVisibility()");
    assert.deepEqual(await faults(tab, "narrow"), []);
    await tab.close();
    await endAll(server);
  });

  test("plain http from another machine", async () => {
    const server = await Server.start(["--source", "tone:440", "--allow-host", PLAIN_HOST]);
    const tab = await open({ url: `http://${PLAIN_HOST}:${server.port}/` });
    await tab.page.click("#play");
    await tab.untilText("player-line", "Opus");
    assert.deepEqual(await faults(tab, "plain-http"), []);
    await tab.close();
    await endAll(server);
  });

  test("a browser that can't play live", async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const tab = await open(server, { before: "delete window.AudioWorkletNode" });
    await tab.page.click("#play");
    await tab.untilText("player-line", "Opus");
    assert.deepEqual(await faults(tab, "fallback"), []);
    await tab.close();
    await endAll(server);
  });
});
