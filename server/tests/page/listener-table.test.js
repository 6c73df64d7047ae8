// A frozen listener stands out in the table: it is marked and at the top as soon as the server says that it is behind.

import assert from "node:assert";
import { test } from "node:test";

import { Tab, openBrowser } from "./support/browser.js";
import { Server } from "./support/program.js";

/** The rows are updated at least twice a second, and the lag of a frozen listener grows as fast as time passes. */
const MAX_STEP_SECONDS = 1;

/** Records each state of the row called `third` on the page: its lag, verdict and place. */
const RECORD = `window.states = [];
  new MutationObserver(() => {
    const rows = [...document.querySelectorAll("#rows tr")];
    const place = rows.findIndex((row) => row.querySelector("[data-field=name]").textContent === "third");
    if (place < 0) return;
    const lag = parseFloat(rows[place].querySelector("[data-field=lag]").textContent);
    const verdict = rows[place].className;
    if (states.at(-1)?.lag !== lag) states.push({ lag, verdict, place });
  }).observe(document.getElementById("rows"), { subtree: true, childList: true, characterData: true, attributes: true });`;

test("a frozen listener is marked, at the top and up to date", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const listeners = await Promise.all(["first", "second", "third"].map((name) => server.listener(name)));
  const browser = await openBrowser();
  try {
    const tab = await Tab.open(browser, server.url);
    await tab.until("document.querySelectorAll('#rows tr').length === 3");
    await tab.value(RECORD);
    listeners[2].signal("SIGSTOP");
    await tab.until("states.filter(({ verdict }) => verdict === 'far-behind').length >= 8");
    const states = await tab.value("states");
    console.log(states.map(({ lag, verdict, place }) => `${lag} s ${verdict} at ${place}`).join("\n"));

    // The server's limit here is the buffer of one second: behind from a quarter of it on, far behind from three quarters.
    for (const { lag, verdict, place } of states) {
      const expected = lag >= 0.755 ? "far-behind" : lag >= 0.255 ? "behind" : null;
      if (expected) assert.deepEqual({ lag, verdict, place }, { lag, verdict: expected, place: 0 });
    }
    // The median, because a busy machine may delay some updates.
    const lags = states.filter(({ verdict }) => verdict !== "").map(({ lag }) => lag);
    const steps = lags.slice(1).map((lag, i) => lag - lags[i]).sort((a, b) => a - b);
    const step = steps[steps.length >> 1];
    assert(step <= MAX_STEP_SECONDS, `the lag grows by ${step} s between two updates`);

    const row = await server.rowWhen("third", ({ undelivered_lost_seconds }) => undelivered_lost_seconds > 2);
    assert.equal(row.verdict, "far_behind");
    await tab.until("document.querySelector('#rows tr').textContent.includes('slow listener')");
    await tab.until("/not.delivered.[\\d.]+.s\\s[\\d.]+.s.of.it.lost/.test(document.querySelector('#rows tr').textContent)");
    await tab.until("document.querySelector('#rows tr .history path.line').getAttribute('d').includes('L')");

    listeners[2].signal("SIGCONT");
    await tab.until("document.querySelectorAll('#rows .behind, #rows .far-behind').length === 0");
    assert.deepEqual(tab.errors, []);
  } finally {
    await browser.close();
    for (const listener of listeners) await listener.end();
    await server.end();
  }
});
