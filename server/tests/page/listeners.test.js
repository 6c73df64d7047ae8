// Who lags is seen: the listener that stands still is at the top of the table, within two seconds.

import assert from "node:assert";
import { test } from "node:test";

import { Tab, launch } from "./with/browser.js";
import { Server } from "./with/program.js";

// Two seconds are promised of a machine that keeps up; one that does not is not to fail here.
const AT_MOST_SECONDS = 10;

test("a frozen listener is at the top at once", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const listeners = await Promise.all(["first", "second", "third"].map((name) => server.listener(name)));
  const browser = await launch();
  try {
    const tab = await Tab.open(browser, server.url);
    await tab.until("document.querySelectorAll('#rows tr').length === 3");
    listeners[2].signal("SIGSTOP");
    const frozen_at = performance.now();
    await tab.until("(([worst]) => worst.textContent.includes('third') && worst.className.includes('behind'))" +
      "(document.querySelectorAll('#rows tr'))");
    const seconds = (performance.now() - frozen_at) / 1000;
    console.log(`a frozen listener stood out after ${seconds.toFixed(2)} s`);
    assert(seconds < AT_MOST_SECONDS, `${seconds} s`);
    await tab.until("document.querySelector('#rows tr .history path.line').getAttribute('d').includes('L')");
    await tab.until("document.querySelector('#rows tr').textContent.includes('it does not read')");

    listeners[2].signal("SIGCONT");
    await tab.until("document.querySelectorAll('#rows .behind, #rows .far-behind').length === 0");
    assert.deepEqual(tab.errors, []);
  } finally {
    await browser.close();
    for (const listener of listeners) await listener.end();
    await server.end();
  }
});
