// Takes the picture of the page for the README: it has played for a minute, five listeners have names, one stands still
// and one has caught up again. `node picture.js FILE.png`, with AIRCHECK_PROGRAM, as `make picture` runs it.

import { Tab, launch } from "./support/browser.js";
import { Server, pause } from "./support/program.js";

const LISTENERS = {
  "studio monitor": "stream.flac",
  "kitchen radio": "stream.opus?burst=1s",
  "hall, left wing": "stream.wav?gaps=silence",
  archive: "stream.json?buffer=5s",
  "van on the road": "stream.wav?buffer=1s",
};
const STANDS_STILL = "van on the road";
const CAUGHT_UP = "hall, left wing";

const [file] = process.argv.slice(2);
if (!file) throw new Error("usage: node picture.js FILE.png");

const server = await Server.start(["--source", "auto", "--max-listeners", "100"]);
const browser = await launch();
const listeners = {};
for (const [name, path] of Object.entries(LISTENERS)) {
  listeners[name] = await server.listener(name, path);
}
const tab = await Tab.open(browser, server.url, { colorScheme: "dark" });
await tab.until("aircheck.live.node !== undefined");
await tab.page.click("#play");
await pause(20_000);
listeners[CAUGHT_UP].signal("SIGSTOP");
await pause(3000);
listeners[CAUGHT_UP].signal("SIGCONT");
await pause(22_000);
listeners[STANDS_STILL].signal("SIGSTOP");
await pause(15_000);
await tab.page.mouse.move(0, 0);
await tab.page.screenshot({ path: file, fullPage: true });

await browser.close();
for (const listener of Object.values(listeners)) await listener.end();
await server.end();
