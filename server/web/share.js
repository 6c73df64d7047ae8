// The commands and addresses for listening from another program or machine.

import { mount, streamPath } from "/address.js";
import { session } from "/session.js";
import { $, announce, pause, put, stamp } from "/text.js";

/** True for loopback, and for the "any address", which a server can listen on and no program can connect to. */
function isLocal(url) {
  return /^(localhost|127\..*|\[::1\]|0\.0\.0\.0|\[::\])$/.test(new URL(url).hostname);
}

/** Returns an address that other machines can reach: that of this page, or else one that the server names. */
function sharedUrl(urls) {
  const own = `${location.origin}/`;
  if (!isLocal(own)) return own;
  return urls.find((url) => !isLocal(url)) ?? own;
}

export function showShare(urls) {
  const server = sharedUrl(urls);
  const url = mount === null ? server : `${server}?mount=${encodeURIComponent(mount)}`;
  if (url === $("share-link").textContent) return;
  put($("share-link"), url);
  $("share-link").href = url;
  $("loopback").hidden = !isLocal(url);
  // With a token as the password, which curl and players take in this way.
  const base = session.takes_token ? server.replace("://", "://any:TOKEN@") : server;
  const [streams, hls] = ["stream", "hls/index.m3u8"].map((path) => base + streamPath(path).slice(1));
  const commands = [
    ["Browser", url],
    ["curl", `curl -N -o aircheck.wav ${streams}.wav`],
    ["VLC", `vlc ${streams}.opus`],
    ["ffplay", `ffplay -nodisp -fflags nobuffer ${streams}.wav`],
    ["HLS", hls],
  ];
  $("commands").replaceChildren(...commands.map(([label, text]) => {
    const { root, parts } = stamp("command");
    put(parts.label, label);
    put(parts.text, text);
    parts.copy.setAttribute("aria-label", `Copy for ${label}`);
    parts.copy.addEventListener("click", () => copy(parts));
    return root;
  }));
}

/** Copies a command. Where the clipboard is closed (plain http from afar), it is selected instead. */
async function copy({ text, copy: button, label }) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    put(button, "Copied");
    announce(`Copied for ${label.textContent}.`);
  } catch {
    getSelection().selectAllChildren(text);
    put(button, "Selected");
    announce(`Selected for ${label.textContent}, ready to copy.`);
  }
  await pause(1500);
  put(button, "Copy");
}
