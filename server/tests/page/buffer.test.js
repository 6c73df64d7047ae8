// The parts of the player that need no sound: they run in the page's own browser, faster than time.

import { test } from "node:test";

import { Tab, launch } from "./with/browser.js";
import { Server } from "./with/program.js";

for (const files of [["clock.js"], ["simulate.js", "playout.js"], ["simulate.js", "hour.js"]]) {
  test(files.at(-1), async () => {
    const server = await Server.start(["--source", "tone:440"]);
    const browser = await launch();
    try {
      const said = await (await Tab.open(browser, server.url)).run(...files);
      if (said) console.log(said);
    } finally {
      await browser.close();
      await server.end();
    }
  });
}
