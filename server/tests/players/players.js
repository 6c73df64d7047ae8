// Real players, each as a person starts it, with what it plays into: a sound server or a file.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { launch } from "../page/support/browser.js";
import { eventually } from "../page/support/program.js";
import { Player } from "./processes.js";

/** Leads ffplay to the sound server. */
export const SDL = { SDL_AUDIODRIVER: "pulseaudio" };

/** The renditions that players know. */
export const PATHS = ["stream.opus", "stream.flac", "stream.wav", "stream.mp3"];

/** Returns the first version number in what a program prints. */
function version(program, ...flags) {
  const { stdout, stderr } = spawnSync(program, flags, { encoding: "utf8", env: { ...process.env, VLC_PLUGIN_PATH: "" } });
  return /\d+\.\d+[\w.-]*/.exec(`${stdout}${stderr}`)?.[0] ?? "?";
}

/** Returns the version of a Debian package, without what Debian adds. */
function packaged(name) {
  const text = execFileSync("dpkg-query", ["--show", "--showformat=${Version}", name], { encoding: "utf8" });
  return text.replace(/^\d+:/, "").replace(/[+-].*$/, "");
}

/** A player that is one command. `command(url)` has its words. */
function program(name, versionOf, command, options = {}) {
  return {
    name,
    version: versionOf,
    paths: PATHS,
    start(url, { env }) {
      const [file, ...flags] = command(url);
      return new Player(file, flags, { env });
    },
    ...options,
  };
}

/** A program that writes a file, which is decoded afterwards. */
function recorder(name, versionOf, command, options = {}) {
  return {
    name,
    version: versionOf,
    paths: PATHS,
    records: true,
    start(url, { env, directory }) {
      const file = join(directory, "taken");
      const [first, ...flags] = command(url, file);
      return Object.assign(new Player(first, flags, { env }), { file });
    },
    ...options,
  };
}

/** VLC does not run as root. What is left of the environment leads it to the sound server, and not to root's directories. */
export function vlc(url, ...flags) {
  const words = ["cvlc", "--intf", "dummy", "--no-video", "--aout", "pulse", ...flags, url];
  return process.getuid() === 0 ? ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    "env", "-u", "XDG_RUNTIME_DIR", "-u", "XDG_CONFIG_HOME", "-u", "PULSE_RUNTIME_PATH", "HOME=/nonexistent", ...words] : words;
}

/** MPD, with a client that adds the URL to its queue. */
async function mpd(url, { env, directory }) {
  const socket = join(directory, "mpd.socket");
  const configuration = join(directory, "mpd.conf");
  writeFileSync(configuration, [
    `bind_to_address "${socket}"`,
    `state_file "${join(directory, "mpd.state")}"`,
    `log_file "${join(directory, "mpd.log")}"`,
    "audio_output {",
    'type "pulse"',
    'name "sound server"',
    "}",
  ].join("\n"));
  const daemon = new Player("mpd", ["--no-daemon", configuration], { env });
  const mpc = (...words) => spawnSync("mpc", ["--host", socket, ...words], { encoding: "utf8" });
  await eventually("MPD", () => mpc("status").status === 0);
  mpc("add", url);
  mpc("play");
  return daemon;
}

/** A script of Liquidsoap that takes the stream as its source. */
function liquidsoap(url, { env, directory }) {
  const script = join(directory, "radio.liq");
  writeFileSync(script, [
    "settings.init.allow_root.set(true)",
    "settings.log.stdout.set(true)",
    `radio = input.http("${url}")`,
    "output.pulseaudio(fallible=true, radio)",
  ].join("\n"));
  return new Player("liquidsoap", [script], { env });
}

/** An Icecast that relays the stream, and ffplay, which plays what that sends. */
async function icecast(url, { env, directory, path }) {
  const { hostname, port } = new URL(url);
  const at = 20_000 + Math.floor(Math.random() * 10_000);
  mkdirSync(join(directory, "log"), { recursive: true });
  const mount = `/relayed.${path.split(".").at(-1).replace("opus", "ogg")}`;
  const configuration = join(directory, "icecast.xml");
  writeFileSync(configuration, `<icecast>
  <limits><clients>10</clients><sources>4</sources><burst-on-connect>0</burst-on-connect></limits>
  <authentication><source-password>x</source-password><relay-password>x</relay-password>
    <admin-user>admin</admin-user><admin-password>x</admin-password></authentication>
  <hostname>127.0.0.1</hostname>
  <listen-socket><port>${at}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <relay><server>${hostname}</server><port>${port}</port><mount>${url.slice(new URL(url).origin.length)}</mount>
    <local-mount>${mount}</local-mount><on-demand>0</on-demand><relay-shoutcast-metadata>1</relay-shoutcast-metadata></relay>
  <paths><basedir>/usr/share/icecast2</basedir><logdir>${join(directory, "log")}</logdir>
    <webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot></paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>3</loglevel></logging>
  <security><chroot>0</chroot>${process.getuid() === 0
    ? "<changeowner><user>nobody</user><group>nogroup</group></changeowner>" : ""}</security>
</icecast>`);
  execFileSync("chmod", ["-R", "a+rwX", directory]);
  const relay = new Player("icecast2", ["-c", configuration]);
  const relayed = `http://127.0.0.1:${at}${mount}`;
  const is_there = async () => {
    const response = await fetch(relayed, { signal: AbortSignal.timeout(1000) }).catch(() => undefined);
    response?.body?.cancel().catch(() => {});
    return response?.ok;
  };
  try {
    await eventually("the relay's mount", is_there, 20_000);
  } catch {
    await relay.end();
    throw new Error(readFileSync(join(directory, "log/error.log"), "utf8").trim().split("\n").slice(-3).join(" / "));
  }
  const player = new Player("ffplay", ["-nodisp", "-v", "quiet", relayed], { env: { ...env, ...SDL } });
  const end = async () => {
    await player.end();
    await relay.end();
  };
  return { end };
}

async function chromium(url, { env }) {
  const browser = await launch({ env, ignoreDefaultArgs: ["--mute-audio"], args: ["--autoplay-policy=no-user-gesture-required"] });
  const tab = await browser.newPage();
  await tab.goto(url).catch(() => {}); // a stream of sound never finishes loading
  return { end: () => browser.close() };
}

function firefox(url, { env, directory }) {
  const profile = join(directory, "profile");
  mkdirSync(profile, { recursive: true });
  writeFileSync(join(profile, "user.js"), [
    ["media.autoplay.default", 0],
    ["media.autoplay.blocking_policy", 0],
    ["datareporting.policy.dataSubmissionEnabled", false],
    ["browser.shell.checkDefaultBrowser", false],
    ["app.update.enabled", false],
    ["security.sandbox.content.level", 0],
  ].map(([name, value]) => `user_pref("${name}", ${value});`).join("\n"));
  const flags = ["--headless", "--no-remote", "--profile", profile, url];
  return new Player("firefox-esr", flags, { env: { ...env, HOME: directory } });
}

/** All players, in the order of the table. */
export const PLAYERS = [
  recorder("curl", () => version("curl", "--version"), (url, file) => ["curl", "-s", "-o", file, url]),
  recorder("ffmpeg", () => version("ffmpeg", "-version"), (url, file) =>
    ["ffmpeg", "-v", "error", "-nostdin", "-i", url, "-f", "wav", file]),
  program("ffplay", () => version("ffmpeg", "-version"), (url) => ["env", "SDL_AUDIODRIVER=pulseaudio", "ffplay", "-nodisp", "-v", "quiet", url]),
  program("mpv", () => version("mpv", "--version"), (url) => ["mpv", "--no-config", "--no-video", "--no-terminal", "--ao=pulse", url]),
  program("VLC", () => packaged("vlc-bin"), (url) => vlc(url)),
  program("mplayer", () => packaged("mplayer"), (url) => ["mplayer", "-really-quiet", "-noconsolecontrols", "-nolirc", "-ao", "pulse", url]),
  program("GStreamer (playbin)", () => packaged("gstreamer1.0-plugins-good"), (url) =>
    ["gst-launch-1.0", "-q", "playbin", `uri=${url}`, "audio-sink=pulsesink", "video-sink=fakesink"]),
  { name: "MPD", version: () => packaged("mpd"), paths: PATHS, start: mpd },
  { name: "Liquidsoap", version: () => packaged("liquidsoap"), paths: PATHS, start: liquidsoap },
  { name: "Icecast's relay", version: () => packaged("icecast2"), paths: ["stream.opus", "stream.mp3"], start: icecast },
  { name: "Chromium", version: () => packaged("chromium"), paths: PATHS, start: chromium },
  { name: "Firefox ESR", version: () => packaged("firefox-esr"), paths: PATHS, start: firefox },
  // Its Opus takes no URL.
  recorder("sox", () => packaged("sox"), (url, file) => {
    const type = new URL(url).pathname.split(".").at(-1);
    return ["sox", "-q", "-t", type, url, "-t", "wav", file];
  }, { paths: PATHS.filter((path) => path !== "stream.opus") }),
];
