// How true the page's figure of its latency is, in any browser: clicks go from the microphone of a sound server to the page,
// and are found at the monitor of the loudspeaker that the browser plays to. `node bench-output.js BROWSER`, which is chromium,
// firefox or webkit. The page's files come from the directory `server/web`, with a script that presses Play and reports.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";

import { Clicks, delays, loudspeaker } from "./support/clicks.js";
import { Process, Server, eventually, pause } from "./support/program.js";
import { SoundServer } from "./support/sound.js";

const CLICKS = 40;
const SETTLE_SECONDS = 8;
const WEB = new URL("../../web/", import.meta.url);
const TYPES = { ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png" };

/** Runs on the page. */
const REPORTER = `setInterval(() => {
  if (!window.aircheck?.live.node) return;
  const { live, player } = aircheck;
  if (!player.playing) document.getElementById("play").click();
  const { context } = live;
  const stamp = context.getOutputTimestamp?.() ?? {};
  fetch("/report", { method: "POST", body: JSON.stringify({
    stages: player.figures?.stages, counts: player.figures?.counts, ear: document.getElementById("ear").textContent,
    error: document.getElementById("clock-error").textContent, agent: navigator.userAgent, state: context.state,
    base: context.baseLatency, output: context.outputLatency, rate: context.sampleRate,
    behind: (context.currentTime - stamp.contextTime) * 1000, age: performance.now() - stamp.performanceTime,
  }) });
}, 250);`;

/** Opens `url` in a browser with a profile in `directory`, which may play sound at once. */
const BROWSERS = {
  chromium: (url, directory) => ["chromium", ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--autoplay-policy=no-user-gesture-required", `--user-data-dir=${directory}`, url]],
  firefox: (url, directory) => {
    writeFileSync(join(directory, "user.js"), 'user_pref("media.autoplay.default", 0);');
    return ["firefox-esr", ["--headless", "--no-remote", "--profile", directory, url]];
  },
  // Debian's package libwebkit2gtk-4.1-0 has it; it needs a display, such as that of Xvfb.
  webkit: (url) => ["/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser", ["--autoplay-policy=allow", url]],
};

const sorted = (values) => [...values].sort((a, b) => a - b);
const median = (values) => sorted(values)[values.length >> 1];

/** Serves the page from its directory, and all else from `server`. Keeps what the page reports. */
async function front(server, reports) {
  const front = createServer((asked, answer) => {
    const path = new URL(asked.url, server.url).pathname;
    if (path === "/report") {
      let body = "";
      asked.on("data", (text) => (body += text)).on("end", () => answer.end(reports.push({ at: Date.now(), ...JSON.parse(body) }) && ""));
      return;
    }
    if (path === "/") {
      const page = readFileSync(new URL("index.html", WEB), "utf8").replace("</body>", `<script>${REPORTER}</script></body>`);
      answer.setHeader("content-type", "text/html").end(page);
      return;
    }
    if (extname(path) in TYPES) {
      answer.setHeader("content-type", TYPES[extname(path)]).end(readFileSync(new URL(path.slice(1), WEB)));
      return;
    }
    const passed = request({ port: server.port, host: "127.0.0.1", path: asked.url, method: asked.method, headers: asked.headers },
      (response) => response.pipe(answer.writeHead(response.statusCode, response.headers)));
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    asked.pipe(passed);
  });
  front.on("upgrade", (asked, socket) => {
    const far = connect(server.port, "127.0.0.1", () => {
      const fields = asked.rawHeaders.map((text, i) => (i % 2 ? `${text}\r\n` : `${text}: `));
      far.write(`GET ${asked.url} HTTP/1.1\r\n${fields.join("")}\r\n`);
      far.setNoDelay().pipe(socket.setNoDelay()).pipe(far);
    });
    for (const end of [far, socket]) end.on("error", () => [far, socket].forEach((each) => each.destroy()));
  });
  await new Promise((listens) => front.listen(0, "127.0.0.1", listens).unref());
  return front.address().port;
}

const [name = "chromium", payload = "f32"] = process.argv.slice(2);
const sound = await SoundServer.start();
const clicks = new Clicks();
clicks.microphone = sound.hear(clicks.sampleAt);
const server = await Server.start(["--source", "mic", "--block", "10ms"], { env: sound.env });
clicks.microphone.recorded();
const reports = [];
const port = await front(server, reports);
const directory = mkdtempSync(join(tmpdir(), "aircheck-browser-"));
const [program, flags] = BROWSERS[name](`http://127.0.0.1:${port}/?payload=${payload}`, directory);
const browser = new Process(program, flags, { env: { ...process.env, ...sound.env, HOME: directory } });
try {
  await eventually("a figure of the page", () => reports.at(-1)?.stages);
  await pause(1000 * SETTLE_SECONDS);
  const speaker = loudspeaker(sound);
  clicks.at_frame.clear();
  const first = reports.length;
  clicks.begin(CLICKS);
  while (clicks.next < Infinity || clicks.at_frame.size < CLICKS) await pause(250);
  await pause(1500);
  speaker.end();
  const some = reports.slice(first).filter(({ stages }) => stages);
  // Each click is compared with what the page says at about the time when it is heard, because the latency moves.
  const heard = delays(clicks.times, speaker.found);
  const differences = clicks.times.flatMap((at) => delays([at], speaker.found).map((took) => {
    const told = some.find((report) => report.at > at + took) ?? some.at(-1);
    return took - 1000 * told.stages.ear;
  }));
  const of = (value) => median(some.map(value)).toFixed(1);
  const says = median(some.map(({ stages }) => 1000 * stages.ear));
  console.log(some.at(-1).agent);
  console.log(`microphone to the loudspeaker's monitor: ${median(heard).toFixed(1)} ms, median of ${heard.length} (${Math.min(...heard).toFixed(1)} to ${Math.max(...heard).toFixed(1)})`);
  console.log(`the page says: ${says.toFixed(1)} ms, and shows ${some.at(-1).ear} ${some.at(-1).error}`);
  const quarter = (share) => sorted(differences)[Math.floor(share * differences.length)].toFixed(1);
  console.log(`difference, click by click: ${quarter(0.5)} ms, its middle half ${quarter(0.25)} to ${quarter(0.75)}`);
  for (const stage of Object.keys(some[0].stages)) console.log(`  ${stage}: ${of(({ stages }) => 1000 * stages[stage])} ms`);
  console.log(`outputLatency ${of(({ output }) => 1000 * output)} ms, baseLatency ${of(({ base }) => 1000 * base)} ms, ` +
    `getOutputTimestamp: ${of(({ behind }) => behind)} ms behind currentTime, ${of(({ age }) => age)} ms old`);
  console.log(`counts: ${JSON.stringify(some.at(-1).counts)}`);
} finally {
  await browser.end();
  await server.end();
  await sound.end();
  rmSync(directory, { recursive: true, force: true });
}
process.exit();
