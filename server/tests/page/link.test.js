// The page over a link that becomes narrow and wide again: the form of the sound follows, and no block is lost by going from one
// to the other. The browser is in a network namespace at the other end of a wire.

import assert from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { LIVE, REMOTE_HOST, Tab, launch } from "./support/browser.js";
import { Namespace, PRIORITY } from "./support/namespace.js";
import { Server, eventually, freePort } from "./support/program.js";

/** Carries Opus at 48 kbit/s with all headers, each packet of 10 ms has up to 90 bytes of them, and not at 96. */
const NARROW = 110_000;
const CHANGE_MS = 180_000; // for the changes that a busy machine delays

const directory = mkdtempSync(join(tmpdir(), "aircheck-link-"));
const { namespace, why } = Namespace.make();
let server, browser, url;

before(async () => {
  if (!namespace) return;
  const port = await freePort();
  // Figures are for this machine alone, so they take nothing of the link.
  server = await Server.start(["--source", "tone:440", "--listen", "127.0.0.1:0", "--listen", `${namespace.address}:${port}`,
    "--insecure-public", "--allow-host", REMOTE_HOST], { behind: PRIORITY });
  url = `http://${REMOTE_HOST}:${port}/`;
  browser = await launch({
    executablePath: namespace.within(directory, process.env.AIRCHECK_BROWSER ?? "/usr/bin/chromium"),
    args: [`--host-resolver-rules=MAP ${REMOTE_HOST} ${namespace.address}`],
  });
});

after(async () => {
  await browser?.close();
  await server?.end();
  namespace?.remove();
  rmSync(directory, { recursive: true });
});

const LINE = "(document.getElementById('link').checkVisibility() ? document.getElementById('link').textContent : '')";

/** Opens the page and plays. Keeps each form that is heard with the blocks that were lost until then, and each row of the table. */
async function play(payload) {
  namespace.widen();
  const tab = await Tab.open(browser, `${url}?payload=${payload}`);
  await tab.play();
  await tab.until(LIVE);
  await tab.value(`window.forms = []; window.keep = setInterval(() => {
    const { payload, bitrate, figures, listener } = aircheck.player;
    const form = bitrate ?? payload;
    if (listener !== null && form !== forms.at(-1)?.form) forms.push({ form, lost: figures?.counts.lost });
  }, 50)`);
  return tab;
}

const until = (tab, what) => eventually(what, () => tab.value(what), CHANGE_MS);

test("Opus's bitrate goes down on a narrow link, and up again on a wide one", { skip: why }, async () => {
  const tab = await play("opus");
  assert.equal(await tab.value("aircheck.player.bitrate"), 96_000);
  assert.equal(await tab.value(LINE), "");
  const lost_before = await tab.value("aircheck.player.figures.counts.lost");
  const w = setInterval(async () => console.log(new Date().toISOString().slice(17,23), JSON.stringify(await tab.value("(({figures, listener, bitrate}) => [bitrate, listener, figures?.stages?.ear, figures?.target_seconds, figures?.counts])(aircheck.player)").catch(() => null)), (await server.rows().catch(() => [])).map((r) => [r.id, r.lag_seconds, r.lost].join(":")).join(" ")), 2000);
  namespace.narrow(NARROW);
  await until(tab, "aircheck.player.bitrate < 96000");
  await until(tab, `/^Opus at \\d+ kbit\\/s: this link does not carry more\\.$/.test(${LINE})`);
  await until(tab, LIVE);
  console.log(await tab.value("window.forms"), lost_before);
  namespace.widen();
  await until(tab, "aircheck.player.bitrate === 96000");
  await until(tab, `${LINE} === ''`);
  clearInterval(w);
  console.log(await tab.value("window.forms"));
  await tab.close();
});
