// The parts of the player that need no sound: they run in the page's own browser, faster than time.

import { test } from "node:test";

import { Tab, launch } from "./with/browser.js";
import { Server } from "./with/program.js";

for (const file of ["clock.js", "playout.js"]) {
  test(file, async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const browser = await launch();
    try {
      await (await Tab.open(browser, server.url)).run(file);
    } finally {
      await browser.close();
      await server.end();
    }
  });
}
