// The page's sign-in: a form where a token is needed, sound by the cookie, and the form again when the token is taken out.

import assert from "node:assert";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { LIVE, Tab, openBrowser } from "./support/browser.js";
import { Server } from "./support/program.js";

const directory = mkdtempSync(join(tmpdir(), "aircheck-session-"));
let browser;

before(async () => (browser = await openBrowser()));

after(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true });
});

/** Writes a configuration file with tokens, each a name, a token and its scopes. */
function tokens(file, list) {
  const table = ([name, token, ...scopes]) => {
    const hash = createHash("sha256").update(token).digest("hex");
    return `[[token]]\nname = "${name}"\nhash = "sha256:${hash}"\nscopes = ${JSON.stringify(scopes)}\n`;
  };
  writeFileSync(file, list.map(table).join(""));
}

const KITCHEN = ["kitchen", "ac_kitchen-token", "listen"];
const PROMETHEUS = ["prometheus", "ac_prometheus-token", "stats"];
const BOSS = ["boss", "ac_boss-token", "listen", "stats", "admin"];

async function guarded(name, list, flags = []) {
  const file = join(directory, `${name}.toml`);
  tokens(file, list);
  const server = await Server.start(["--source", "tone:440", "--config", file, ...flags]);
  server.file = file;
  return server;
}

const shown = (selector) => `document.querySelector('${selector}').checkVisibility({ visibilityProperty: true })`;

/** Types a token into the form and sends it. */
async function signIn(tab, token) {
  await tab.until(shown("#sign-in"));
  await tab.page.fill("#token", token);
  await tab.page.keyboard.press("Enter");
}

describe("the sign-in", { concurrency: true }, () => {
  test("a token opens the page, plays by the cookie, and is kept nowhere in it", async () => {
    const server = await guarded("boss", [BOSS, KITCHEN, PROMETHEUS]);
    const tab = await Tab.open(browser, server.url);
    tab.page.on("dialog", (dialog) => tab.errors.push(new Error(dialog.message())));
    await tab.until(shown("#sign-in"));
    assert.equal(await tab.value("document.activeElement.id"), "token");
    for (const part of ["#play", "#meters", "#listeners-title", "#facts", "#state"]) {
      assert.equal(await tab.value(shown(part)), false, part);
    }

    await signIn(tab, "ac_wrong");
    await tab.untilText("sign-in-trouble", "not a token of this server");
    await signIn(tab, "two words");
    await tab.untilText("sign-in-trouble", "one word");
    for (let wrong = 0; wrong < 10; wrong += 1) {
      await signIn(tab, "ac_wrong");
      await tab.until("!document.getElementById('sign-in-button').disabled");
    }
    await tab.untilText("sign-in-trouble", "Too many wrong tokens came from here. Please wait ");

    await signIn(tab, PROMETHEUS[1]);
    await tab.untilText("sign-in-why", "“prometheus” does not permit listening");
    await tab.until(shown("#meters"));
    assert.equal(await tab.value(shown("#play")), false);

    await signIn(tab, ` ${BOSS[1]} `);
    await tab.until(`!${shown("#sign-in")} && ${shown("#play")}`);
    await tab.untilText("permissions", "Signed in by the token “boss”.");
    assert.equal(await tab.value("document.activeElement.id"), "play");
    await tab.page.keyboard.press("Enter");
    await tab.until(LIVE);
    await tab.untilText("rows", "page");
    assert.equal(await tab.value(shown("#rows button")), true);
    assert(!(await tab.value("document.documentElement.outerHTML + document.cookie + JSON.stringify({...localStorage})")).includes("ac_boss"));

    // It stays signed in, and the sound goes on after the page is loaded again.
    await tab.go(server.url);
    await tab.page.click("#play");
    await tab.until(LIVE);

    await tab.page.click("#sign-out");
    await tab.until(`${shown("#sign-in")} && !${shown("#play")} && !aircheck.player.playing`);
    assert.equal(await tab.text("sign-in-why"), "To listen, give the token that you got with this address.");
    assert.deepEqual(tab.errors, []);
    await tab.close();
    await server.end();
  });

  test("a token that permits listening alone shows the player and no figures, until it is taken out", async () => {
    const server = await guarded("kitchen", [BOSS, KITCHEN]);
    const tab = await Tab.open(browser, server.url);
    await signIn(tab, KITCHEN[1]);
    await tab.until(shown("#play"));
    await tab.untilText("permissions", "which permits listening");
    await tab.page.click("#play");
    await tab.until(LIVE);
    for (const part of ["#meters", "#listeners-title", "#facts", "#loudness"]) {
      assert.equal(await tab.value(shown(part)), false, part);
    }
    assert.equal(await tab.value("document.body.classList.contains('unreachable')"), false);

    tokens(server.file, [BOSS, ["kitchen", "ac_new-token", "listen"]]);
    server.signal("SIGHUP");
    await tab.until(`${shown("#sign-in")} && !aircheck.player.playing`);
    await tab.untilText("sign-in-why", "The token “kitchen” is no longer valid. To listen, give a new one.");
    await signIn(tab, "ac_new-token");
    await tab.until(shown("#play"));
    await tab.page.click("#play");
    await tab.until(LIVE);
    assert.deepEqual(tab.errors, []);
    await tab.close();
    await server.end();
  });

  test("the figures disappear when their token is taken out", async () => {
    const server = await guarded("figures", [BOSS, ["spare", "ac_spare", "listen"]]);
    const tab = await Tab.open(browser, server.url);
    await signIn(tab, BOSS[1]);
    await tab.until(`${shown("#meters")} && document.getElementById('facts').textContent !== ''`);
    tokens(server.file, [["spare", "ac_spare", "listen"]]);
    server.signal("SIGHUP");
    await tab.until(`${shown("#sign-in")} && !${shown("#meters")}`);
    await tab.close();
    await server.end();
  });

  test("without tokens, with figures at another address, the page plays and says why there are none", async () => {
    const server = await Server.start(["--source", "tone:440", "--admin-listen", "127.0.0.1:0"]);
    const tab = await Tab.open(browser, server.url);
    await tab.until(`${shown("#play")} && !${shown("#meters")}`);
    assert.equal(await tab.value(shown("#sign-in")), false);
    await tab.untilText("permissions", "at another address of this server");
    await tab.page.click("#play");
    await tab.until(LIVE);
    await tab.close();
    await server.end();
  });
});
