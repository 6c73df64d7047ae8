// The page as an app: Chromium reads the manifest and finds nothing that keeps it from being installed, also behind a proxy
// that asks for a sign-in of its own.

import assert from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Tab, launchPersistent } from "./support/browser.js";
import { Server } from "./support/program.js";

const directory = mkdtempSync(join(tmpdir(), "aircheck-profile-"));
let context, server;

before(async () => {
  server = await Server.start(["--source", "tone:440"]);
  // Chromium installs no app from a private window, and the tabs of the shared browser are such.
  context = await launchPersistent(directory);
});

after(async () => {
  await context?.close();
  await server?.end();
  rmSync(directory, { recursive: true });
});

/** Opens a page and returns what Chromium says about it as an app. */
async function asApp(url) {
  const tab = new Tab(await context.newPage());
  await tab.go(url);
  const devtools = await context.newCDPSession(tab.page);
  const manifest = await devtools.send("Page.getAppManifest");
  const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
  return { tab, manifest, installabilityErrors };
}

test("nothing keeps the page from being installed, and its icons are what the manifest says", async () => {
  const { tab, manifest, installabilityErrors } = await asApp(server.url);
  assert.deepEqual([manifest.url, manifest.errors], [`${server.url}manifest.webmanifest`, []]);
  assert.deepEqual(installabilityErrors, []);
  const answer = await fetch(manifest.url);
  assert.equal(answer.headers.get("content-type"), "application/manifest+json");
  const { icons } = await answer.json();
  const links = [...icons, { src: "/apple-touch-icon.png", sizes: "180x180", type: "image/png" }];
  for (const { src, sizes, type } of links) {
    assert.equal((await fetch(new URL(src, server.url))).headers.get("content-type"), type, src);
    const drawn = await tab.page.evaluate(async (src) => {
      const image = new Image();
      image.src = src;
      await image.decode();
      return `${image.naturalWidth}x${image.naturalHeight}`;
    }, src);
    if (sizes !== "any") assert.equal(drawn, sizes, src);
  }
  await tab.page.close();
});

test("the manifest comes through a proxy that asks for a cookie", async () => {
  const proxy = createServer((asked, answer) => {
    const { url, headers } = asked;
    if (url !== "/" && !headers.cookie?.includes("proxy=signed-in")) return answer.writeHead(401).end();
    const passed = request({ port: server.port, host: "127.0.0.1", path: url, headers }, (response) => {
      answer.writeHead(response.statusCode, { ...response.headers, "set-cookie": "proxy=signed-in" });
      response.pipe(answer);
    });
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    passed.end();
  });
  await new Promise((listens) => proxy.listen(0, "127.0.0.1", listens).unref());
  const { tab, manifest, installabilityErrors } = await asApp(`http://127.0.0.1:${proxy.address().port}/`);
  assert.deepEqual([manifest.errors, installabilityErrors], [[], []]);
  assert.equal(JSON.parse(manifest.data).display, "standalone");
  await tab.page.close();
  proxy.closeAllConnections();
  proxy.close();
});
