// Makes the PNG icons from `icon.svg`, which is their source: `node icons.js DIRECTORY`, as `make icons` runs it.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { launch } from "./support/browser.js";

const [directory] = process.argv.slice(2);
if (!directory) throw new Error("usage: node icons.js DIRECTORY");
const icon = readFileSync(join(directory, "icon.svg"), "utf8");

/** The same picture up to the edges: the device cuts its own shape out of it. */
const full = icon.replace(' rx="7"', "");
/** And smaller, so that nothing of it lies outside the circle that is always shown, 40 % of the width around the middle. */
const maskable = full.replace("<g ", '<g transform="translate(16 16) scale(.84) translate(-16 -16)" ');

const ICONS = [
  ["icon-192.png", 192, icon],
  ["icon-512.png", 512, icon],
  ["icon-maskable.png", 512, maskable],
  ["apple-touch-icon.png", 180, full],
];

const browser = await launch();
try {
  for (const [file, pixels, svg] of ICONS) {
    const page = await browser.newPage({ viewport: { width: pixels, height: pixels } });
    await page.setContent(`<style>body { margin: 0 } svg { display: block; width: 100vw }</style>${svg}`);
    await page.screenshot({ path: join(directory, file), omitBackground: true });
    await page.close();
  }
} finally {
  await browser.close();
}
