// What a page looks like: dark and light, on a wide screen and on a phone.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PICTURES = process.env.AIRCHECK_PICTURES ?? "pictures";
const WIDTHS = { wide: 1280, phone: 360 };
const SCHEMES = ["light", "dark"];

/** Loads axe into a tab, for `faults`. */
export const loadAxe = (tab) => tab.value(`void (() => {${AXE}})()`);

/** Checks a tab in all widths and colours, and takes a picture of each, named after `state`; returns the faults. */
export async function faults(tab, state) {
  mkdirSync(PICTURES, { recursive: true });
  const found = [];
  for (const [width, pixels] of Object.entries(WIDTHS)) {
    for (const colorScheme of SCHEMES) {
      const where = `${state}-${width}-${colorScheme}`;
      await tab.page.emulateMedia({ colorScheme });
      await tab.page.setViewportSize({ width: pixels, height: 900 });
      await tab.page.screenshot({ path: join(PICTURES, `${where}.png`), fullPage: true });
      const wider = await tab.value("document.documentElement.scrollWidth - innerWidth");
      if (wider > 0) found.push(`${where}: ${wider} pixels wider than the screen`);
      const { violations } = await tab.value("axe.run()");
      for (const { id, help, nodes } of violations) found.push(`${where}: ${id}, ${help}: ${nodes[0].html}`);
    }
  }
  return found;
}
