// Debian's Chromium with the page in it, as a person uses it: keys and the mouse, and what can be seen and heard.

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

/** True while what comes out of the player is a tone of 440 Hz at -12 dBFS. Between two of its frequencies are 12 Hz. */
export const TONE = "(({ rms, hz }) => Math.abs(rms - 0.177) < 0.01 && Math.abs(hz - 440) < 13)(aircheck.sound())";
/** Closer to live than the pauses are long that the tests make, and as close as a busy machine can be. */
export const LIVE = `(${TONE} && aircheck.player.figures?.stages?.ear < 0.8)`;

/** `options` are Playwright's; `env` of the process. */
export function launch({ env = {}, args = [], ...options } = {}) {
  return chromium.launch({
    executablePath: process.env.AIRCHECK_BROWSER ?? "/usr/bin/chromium",
    chromiumSandbox: false,
    args: [...FLAGS, ...args],
    env: { ...process.env, ...env },
    ...options,
  });
}

/** One tab, and what was wrong on it. */
export class Tab {
  /** A new one with a profile of its own; `options` are a Playwright context's. */
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
    page.on("pageerror", (error) => this.errors.push(error));
  }

  async go(url) {
    await this.page.goto(url);
    await this.until("typeof aircheck === 'object' && document.readyState === 'complete'");
  }

  value(expression) {
    return this.page.evaluate(expression);
  }

  /** Waits until an expression is true. */
  until(expression) {
    return eventually(expression, () => this.value(expression));
  }

  text(id) {
    return this.value(`document.getElementById(${JSON.stringify(id)}).textContent`);
  }

  /** Waits until an element's text contains some. */
  untilText(id, text) {
    return this.until(`document.getElementById(${JSON.stringify(id)}).textContent.includes(${JSON.stringify(text)})`);
  }

  /** Runs files of `inside/` on the page, as one script; it throws if something is not as it should be. */
  run(...files) {
    const scripts = files.map((file) => readFileSync(new URL(`../inside/${file}`, import.meta.url), "utf8"));
    return this.value(`(async () => {${scripts.join("\n")}})()`);
  }

  /** Presses Play, and waits for the tone. */
  async play() {
    // What a browser sets up for its first sound, the page has it set up before somebody presses.
    await this.until("aircheck.live.node !== undefined");
    await this.page.click("#play");
    await this.until(TONE);
  }

  close() {
    return this.page.context().close();
  }
}

/** The processes of a browser of a kind: "renderer" or all of them. */
export async function processes(browser, kind = null) {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  return processInfo.filter(({ type }) => !kind || type === kind).map(({ id }) => id);
}
