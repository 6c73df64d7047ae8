// The tiles of several mounts: what each tells, and how the page goes from one to another.

import assert from "node:assert";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { Tab, openBrowser } from "./support/browser.js";
import { Server } from "./support/program.js";

const PICTURES = process.env.AIRCHECK_PICTURES ?? "pictures";
const directory = mkdtempSync(join(tmpdir(), "aircheck-page-"));
let browser, server, listener;

before(async () => {
  mkdirSync(PICTURES, { recursive: true });
  browser = await openBrowser();
  const mounts = [["hall", "tone:440"], ["studio", "tone:880"], ["attic", `wav:${join(directory, "nothing.wav")}`]];
  const config = join(directory, "aircheck.toml");
  writeFileSync(config, mounts.map(([name, source]) => `[[mount]]\nname = "${name}"\nsource = "${source}"\n`).join(""));
  server = await Server.start(["--config", config]);
  listener = await server.listener("one", "mounts/studio/stream.wav");
});

after(async () => {
  await listener?.end();
  await server?.end();
  await browser?.close();
  rmSync(directory, { recursive: true });
});

/** What a tile tells, as it is read. */
const tile = (name) => `(() => {
  const root = [...document.querySelectorAll("#mounts .mount")].find((tile) => tile.querySelector("[data-field=name]").textContent === "${name}");
  const field = (name) => root.querySelector(\`[data-field=\${name}]\`);
  return root && {
    state: field("state").hidden ? "" : field("state").textContent,
    listeners: field("listeners").textContent,
    lag: field("lag").textContent,
    peak: parseFloat(getComputedStyle(field("track")).getPropertyValue("--peak")),
    title: root.title,
    is_shown: root.getAttribute("aria-current") === "page",
  };
})()`;

const source = "document.getElementById('source').textContent";

/** Waits until the page shows a mount, and no other tile is marked. */
async function shows(tab, name, text) {
  await tab.until(`${source}.includes("${text}") && ${tile(name)}?.is_shown`);
  assert.equal(await tab.value("document.querySelectorAll('#mounts [aria-current]').length"), 1);
}

describe("several mounts", () => {
  test("each tells its level, its listeners, the worst lag and its failure, and they are pushed", async () => {
    const tab = await Tab.open(browser, server.url);
    const asked = [];
    tab.page.on("request", (request) => request.url().includes("/api/v1/mounts") && asked.push(request.url()));
    await tab.until(`${tile("studio")}?.listeners === "1 listener" && ${tile("studio")}.lag.startsWith("worst lag 0.")`);
    await tab.until(`${tile("hall")}.peak > 0 && ${tile("studio")}.peak > 0`);
    const hall = await tab.value(tile("hall"));
    assert.deepEqual([hall.state, hall.listeners, hall.lag, hall.is_shown], ["", "0 listeners", "", true]);
    const attic = await tab.value(tile("attic"));
    assert.deepEqual([attic.state, attic.is_shown, attic.peak], ["no sound", false, 0]);
    assert.match(attic.title, /nothing\.wav/, "why it cannot be opened");
    // A list that is pushed again and again, and not asked for.
    await listener.end();
    await tab.until(`${tile("studio")}.listeners === "0 listeners" && ${tile("studio")}.lag === ""`);
    assert.deepEqual(asked, []);
    assert.deepEqual(tab.errors, []);
    await tab.close();
  });

  test("a click, a key and the address go to another one", async () => {
    const tab = await Tab.open(browser, server.url);
    await shows(tab, "hall", "440 Hz");
    const opens = (name) => tab.page.waitForURL((url) => url.searchParams.get("mount") === name);
    await Promise.all([opens("studio"), tab.page.click("#mounts .mount:nth-child(2)")]);
    await shows(tab, "studio", "880 Hz");
    await tab.page.focus("#mounts .mount:nth-child(1)");
    await Promise.all([opens("hall"), tab.page.keyboard.press("Enter")]);
    await shows(tab, "hall", "440 Hz");
    await tab.go(`${server.url}?mount=studio`);
    await shows(tab, "studio", "880 Hz");
    assert.deepEqual(tab.errors, []);
    await tab.close();
  });

  test("a mount that fails leaves the way to the others, and a name that is none is told", async () => {
    const tab = await Tab.open(browser, `${server.url}?mount=attic`);
    await tab.until(`${tile("attic")}?.is_shown && ${tile("hall")}.peak > 0`);
    const opened = tab.page.waitForURL((url) => url.searchParams.get("mount") === "hall");
    await Promise.all([opened, tab.page.click("#mounts .mount:nth-child(1)")]);
    await shows(tab, "hall", "440 Hz");
    await tab.go(`${server.url}?mount=cellar`);
    await tab.untilText("no-mount", "This server has no mount \u2068cellar\u2069.");
    await tab.until(`${tile("hall")} !== undefined`);
    await tab.close();
  });

  for (const [width, pixels] of [["phone", 360], ["wide", 1280]]) {
    test(`they fit on a screen of ${pixels} pixels`, async () => {
      const tab = await Tab.open(browser, server.url, { viewport: { width: pixels, height: 900 } });
      await tab.until(`${tile("hall")}?.peak > 0 && ${tile("attic")} !== undefined`);
      await tab.page.screenshot({ path: join(PICTURES, `mounts-${width}.png`), fullPage: true });
      assert(await tab.value("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen");
      const boxes = await tab.value(`[...document.querySelectorAll("#mounts .mount")].map((tile) => {
        const { left, right, width, height } = tile.getBoundingClientRect();
        return { is_within: left >= 0 && right <= innerWidth, width, height };
      })`);
      assert(boxes.length === 3 && boxes.every(({ is_within }) => is_within), JSON.stringify(boxes));
      await tab.close();
    });
  }
});
