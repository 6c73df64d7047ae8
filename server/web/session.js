// What this page may do, and the form that asks for a token where that is not enough.
//
// The token goes to the server once, which answers with a cookie that no script can read. The page keeps nothing of it.

import { ofMount } from "/address.js";
import { $, put } from "/text.js";

const SESSION = ofMount("/api/v1/session");
const TIMEOUT_MS = 2000; // a server that answers at all does so at once

/** What the server permits. Until it has answered, the page tries everything. */
export const session = { token: null, takes_token: false, listen: true, has_figures: true, stats: true, admin: true, host: null };

const changed = new Set(); // called after each change
let before = null; // the name of the token until the last change, unless Sign out was pressed

/** Calls `callback` after each change of the permissions. */
export function onPermissions(callback) {
  changed.add(callback);
}

/** Resolves as soon as the page may read figures. */
export function figures() {
  if (session.stats) return Promise.resolve();
  return new Promise((done) => {
    const look = () => {
      if (!session.stats) return;
      changed.delete(look);
      done();
    };
    changed.add(look);
  });
}

/** Asks what the page may do. A server that does not answer changes nothing. */
export async function refreshSession() {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const answer = await fetch(SESSION, { cache: "no-store", signal }).catch(() => null);
  if (answer?.ok) permit(await answer.json().catch(() => session));
  document.body.classList.remove("unknown");
}

function permit(permissions) {
  Object.assign(session, permissions);
  showPermissions();
  for (const callback of [...changed]) callback();
}

function showPermissions() {
  const { token, takes_token, listen, stats, admin } = session;
  const asks = takes_token && !listen;
  document.body.classList.toggle("may-not-listen", !listen);
  document.body.classList.toggle("no-figures", !stats);
  document.body.classList.toggle("no-changes", !admin);
  const appears = asks && $("sign-in").hidden;
  $("sign-in").hidden = !asks;
  if (appears || token) put($("sign-in-why"), why(token));
  before = token;
  $("signed-in").hidden = !token && (stats || takes_token);
  $("sign-out").hidden = !token;
  put($("permissions"), permissions());
  if (appears) $("token").focus();
}

/** Returns why the form asks for a token. */
function why(token) {
  if (token) return `The token “${token}” does not permit listening. Another one may.`;
  if (before) return `The token “${before}” is no longer valid. To listen, give a new one.`;
  return "To listen, give the token that you got with this address.";
}

/** Returns a line on what the page may do, where that is not everything or not for everyone. */
function permissions() {
  const { token, has_figures, stats } = session;
  if (!has_figures && !token) return "Levels and listeners are at another address of this server.";
  if (!token) return "Levels and listeners are shown on the server's own machine only, because it has no tokens.";
  return stats ? `Signed in by the token “${token}”.` : `Signed in by the token “${token}”, which permits listening.`;
}

/** Returns why a sign-in failed, in words that help. */
async function trouble(answer) {
  if (!answer) return "The server does not answer. Please try again.";
  if (answer.status === 401) return "This is not a token of this server. Is it complete? It begins with ac_.";
  if (answer.status === 429) {
    return `Too many wrong tokens came from here. Please wait ${answer.headers.get("retry-after") ?? "60"} s, or give the right one.`;
  }
  const { error } = await answer.json().catch(() => ({}));
  return error ? `The server refused: ${error}.` : `The server refused (HTTP ${answer.status}).`;
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const token = $("token").value.trim();
  // Only such characters can stand in a header.
  if (!/^[\x21-\x7e]+$/.test(token)) return put($("sign-in-trouble"), "A token is one word without spaces.");
  $("sign-in-button").disabled = true;
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(SESSION, { method: "POST", headers }).catch(() => null);
  $("sign-in-button").disabled = false;
  put($("sign-in-trouble"), answer?.ok ? "" : await trouble(answer));
  if (!answer?.ok) return $("token").select();
  permit(await answer.json());
  if (!session.listen) return $("token").select();
  $("token").value = "";
  $("play").focus();
});

$("sign-out").addEventListener("click", async () => {
  const answer = await fetch(SESSION, { method: "DELETE" }).catch(() => null);
  if (!answer?.ok) return;
  before = null;
  await refreshSession();
});
