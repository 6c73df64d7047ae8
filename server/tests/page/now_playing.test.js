// What the device shows of the sound outside the page, and its buttons: here a desktop's, which Chromium serves by MPRIS on
// a session bus of its own.

import assert from "node:assert";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Tab, launch } from "./support/browser.js";
import { Process, Server, eventually } from "./support/program.js";

const directory = mkdtempSync(join(tmpdir(), "aircheck-bus-"));
const address = `unix:path=${join(directory, "bus")}`;
let bus, browser;

before(async () => {
  bus = new Process("dbus-daemon", ["--session", "--nofork", "--nosyslog", `--address=${address}`]);
  await eventually("the bus", () => players());
  browser = await launch({ env: { DBUS_SESSION_BUS_ADDRESS: address } });
});

after(async () => {
  await browser?.close();
  await bus?.end();
  rmSync(directory, { recursive: true });
});

/** Calls a method, and returns the answer as text; `null` if it fails. */
function call(destination, path, method, ...args) {
  try {
    return execFileSync("dbus-send", [`--bus=${address}`, "--print-reply", `--dest=${destination}`, path, method, ...args],
      { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return null;
  }
}

/** Returns the names of the players on the bus; `null` while there is no bus. */
function players() {
  const names = call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.ListNames");
  return names && (names.match(/org\.mpris[^"]*/g) ?? []);
}

const PATH = "/org/mpris/MediaPlayer2";
const properties = (player) =>
  call(player, PATH, "org.freedesktop.DBus.Properties.GetAll", "string:org.mpris.MediaPlayer2.Player") ?? "";
const press = (player, button) => call(player, PATH, `org.mpris.MediaPlayer2.Player.${button}`);

const isPlaying = (text) => /PlaybackStatus"\s+variant\s+string "Playing"/.test(text);

test("the sound has its name and icon outside the page, and the device's buttons stop it", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  const tab = await Tab.open(browser, server.url);
  await tab.until("document.getElementById('facts').textContent !== ''");
  await tab.play();
  const [player] = await eventually("a player on the bus", () => players()?.length && players());
  // The browser tells the name at once, and the icon when it has fetched it.
  const shown = await eventually("its name and icon", () => {
    const text = properties(player);
    return isPlaying(text) && text.includes("xesam:title") && text.includes("mpris:artUrl") && text;
  });
  const [host, source] = [new URL(server.url).host, await tab.text("source")];
  for (const part of [source, host, "aircheck"]) assert(shown.includes(part), `${part} in ${shown}`);

  for (const button of ["Pause", "Stop"]) {
    press(player, button);
    await tab.untilText("player-line", "Stopped.");
    await eventually("the end of the page's stream", async () => (await server.rows()).length === 0);
    assert.equal(await tab.value("navigator.mediaSession.playbackState"), "paused");
    // Chromium has no button for sound that does not play. A person presses Play on the page.
    await eventually("no sound", () => !isPlaying(properties(player)));
    await tab.play();
    await eventually("its name again", () => isPlaying(properties(player)));
  }
  assert.deepEqual(tab.errors, []);
  await tab.close();
  await server.end();
});

test("a phone is told that this page plays on when it is locked", async () => {
  const server = await Server.start(["--source", "tone:440"]);
  // As Safari has it. No iPhone is here, so that what it does with this is not tried.
  const tab = await Tab.open(browser, server.url, { before: "navigator.audioSession = { type: 'auto' }" });
  assert.equal(await tab.value("navigator.audioSession.type"), "playback");
  await tab.close();
  await server.end();
});
