// Debian's Chromium with the page in it, used as a person does: by keys and the mouse, by what is shown and heard.

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

import { eventually } from "./program.js";

const FLAGS = [
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  // Stricter than a page that people open every day meets: there, sound may start by itself after a while.
  "--autoplay-policy=document-user-activation-required",
];

/** True while the player's output is a tone of 440 Hz at -12 dBFS. The analyser's frequencies are 12 Hz apart. */
export const TONE = "(({ rms, hz }) => Math.abs(rms - 0.177) < 0.01 && Math.abs(hz - 440) < 13)(aircheck.sound())";
/** True while it is heard less than 0.8 s after capture: less than the pauses of the tests, and possible on a busy machine. */
export const LIVE = `(${TONE} && aircheck.player.figures?.stages?.ear < 0.8)`;

/** A host name that the browser takes for another machine with a secure origin, and finds on this one. */
export const REMOTE_HOST = "studio.aircheck.test";
/** The same without a secure origin, as a machine of the local network is that speaks plain http. */
export const PLAIN_HOST = "plain.test";
const REMOTE_FLAGS = [
  `--host-resolver-rules=MAP ${REMOTE_HOST} 127.0.0.1, MAP ${PLAIN_HOST} 127.0.0.1`,
  "--unsafely-treat-insecure-origin-as-secure=*.aircheck.test",
];

/**
 * Returns a browser: the one that all scripts share, if AIRCHECK_BROWSER_ENDPOINT says where it is, or else a new one. Its
 * `close` ends the tabs of this script, and a new browser with them.
 */
export function openBrowser() {
  const endpoint = process.env.AIRCHECK_BROWSER_ENDPOINT;
  return endpoint ? chromium.connect(endpoint) : launch();
}

/** Starts a new browser. `options` are Playwright's; `env` is added to the environment of the process. */
export function launch(options = {}) {
  return chromium.launch(launchOptions(options));
}

/** Starts a new browser with a profile in `directory`, as people have one. Returns its context. */
export function launchPersistent(directory) {
  return chromium.launchPersistentContext(directory, launchOptions({}));
}

/** Starts a browser that other processes can share. */
export function launchServer() {
  return chromium.launchServer(launchOptions({}));
}

function launchOptions({ env = {}, args = [], ...options }) {
  return {
    executablePath: process.env.AIRCHECK_BROWSER ?? "/usr/bin/chromium",
    chromiumSandbox: false,
    args: [...FLAGS, ...REMOTE_FLAGS, ...args],
    env: { ...process.env, ...env },
    ...options,
  };
}

const NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED";

/** One tab and the errors of its page. */
export class Tab {
  /** Opens a tab with a profile of its own; `options` are those of a Playwright context. */
  static async open(browser, url, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const tab = new Tab(await context.newPage());
    if (options.before) await tab.page.addInitScript(options.before);
    if (url) await tab.go(url);
    return tab;
  }

  constructor(page) {
    this.page = page;
    this.errors = [];
    this.failed_requests = []; // a script that does not load leaves a page that never works
    page.on("pageerror", (error) => this.errors.push(error));
    page.on("requestfailed", (request) => this.failed_requests.push(`${request.url()}: ${request.failure().errorText}`));
    page.on("response", (response) => response.ok() || this.failed_requests.push(`${response.url()}: ${response.status()}`));
  }

  /**
   * Opens a page in the tab. Again, if the machine's network has changed meanwhile: Chromium then ends all requests, also those on
   * loopback, and other tests make network interfaces.
   */
  async go(url) {
    let before;
    do {
      before = this.failed_requests.length;
      await this.page.goto(url).catch((error) => {
        if (!error.message.includes(NETWORK_CHANGED)) throw error;
      });
    } while (this.failed_requests.slice(before).some((request) => request.endsWith(NETWORK_CHANGED)));
    await this.until("typeof aircheck === 'object' && document.readyState === 'complete'");
  }

  value(expression) {
    return this.page.evaluate(expression);
  }

  /** Waits until an expression is true, for as long as any wait may take unless another limit is given. */
  async until(expression, timeout_ms) {
    try {
      await eventually(expression, () => this.value(expression), timeout_ms);
    } catch (error) {
      const what = "JSON.stringify({ sound: aircheck.sound(), figures: aircheck.player?.figures })";
      const state = await this.value(what).catch(({ message }) => message);
      const faults = [...this.errors, ...this.failed_requests].join("; ");
      throw new Error(`${error.message}; ${faults}; the page: ${state}`, { cause: error });
    }
  }

  text(id) {
    return this.value(`document.getElementById(${JSON.stringify(id)}).textContent`);
  }

  /** Waits until an element's text contains some. */
  untilText(id, text) {
    return this.until(`document.getElementById(${JSON.stringify(id)}).textContent.includes(${JSON.stringify(text)})`);
  }

  /** Runs a file of `in-page/` on the page and returns its result. */
  run(file) {
    const script = readFileSync(new URL(`../in-page/${file}`, import.meta.url), "utf8");
    return this.value(`(async () => {${script}})()`);
  }

  /** Presses Play, and waits for the tone. */
  async play() {
    // The page prepares the browser's sound before Play is pressed.
    await this.until("aircheck.live.node !== undefined");
    await this.page.click("#play");
    await this.until(TONE);
  }

  close() {
    return this.page.context().close();
  }
}

/** Returns the ids of a browser's processes of a kind, such as "renderer", or of all. */
export async function processes(browser, kind = null) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  return processInfo.filter(({ type }) => !kind || type === kind).map(({ id }) => id);
}
