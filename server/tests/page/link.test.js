// The page over a link that becomes narrow and wide again: the form of the sound follows, and no block is lost by a rise from
// one to the next. The browser is in a network namespace at the other end of a wire.

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
/** Carries any Opus, and a quarter of a channel of 32-bit samples. */
const NARROW_FOR_SAMPLES = 400_000;
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
  namespace.narrow(NARROW);
  await until(tab, "aircheck.player.bitrate < 96000");
  await until(tab, `/^Opus at \\d+ kbit\\/s: this link does not carry more\\.$/.test(${LINE})`);
  await until(tab, LIVE);

  namespace.widen();
  await until(tab, "aircheck.player.bitrate === 96000");
  await until(tab, `${LINE} === ''`);
  await until(tab, LIVE);
  // What the server has told of each connection, and what the page had lost until then.
  const forms = await tab.value("forms");
  console.log(JSON.stringify(forms));
  const rises = forms.slice(forms.findIndex(({ form }) => form === Math.min(...forms.map((each) => each.form))));
  const steps = [16_000, 24_000, 32_000, 48_000, 64_000, 96_000];
  assert.deepEqual(rises.map(({ form }) => form), steps.slice(steps.indexOf(rises[0].form)));
  const lost = await tab.value("aircheck.player.figures.counts.lost");
  assert(rises.slice(1).every((each) => each.lost === lost), `blocks were lost by a change on a wide link: ${JSON.stringify(forms)}`);
  // The table has the last connection alone.
  const row = await server.rowWhen("page", ({ id }) => id > 1);
  assert.equal(await tab.value("aircheck.player.listener"), row.id);
  assert.equal((await server.rows()).length, 1);
  assert.deepEqual(tab.errors, []);
  await tab.close();
});

test("samples become Opus on a link that does not carry them", { skip: why }, async () => {
  const tab = await play("f32");
  assert.equal(await tab.value("aircheck.player.payload"), "f32");
  namespace.narrow(NARROW_FOR_SAMPLES);
  await until(tab, "aircheck.player.payload === 'opus'");
  await until(tab, `/^Opus at \\d+ kbit\\/s: this link does not carry more\\.$/.test(${LINE})`);
  await until(tab, LIVE);
  assert.deepEqual(tab.errors, []);
  await tab.close();
});
