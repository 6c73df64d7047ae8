// Starts the browser that all scripts share, prints its address, and ends with its own stdin.

import { launchServer } from "./browser.js";

const server = await launchServer();
console.log(server.wsEndpoint());
process.stdin.on("end", () => server.close()).resume();
