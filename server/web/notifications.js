// The line on notifications: what was told last, how many were delivered, and what keeps a receiver from taking them.

import { $, count, plural, put, span, timeOfDay } from "/text.js";

/** Whether the last try at a receiver failed. */
const fails = ({ last_error_at, delivered_at }) => last_error_at != null && !(delivered_at >= last_error_at);

/** Shows nothing while a server has no receivers. */
export function showNotifications({ notifications: targets = [], last_notification: last, now }) {
  $("notifications").hidden = targets.length === 0;
  const sum = (field) => targets.reduce((total, target) => total + target[field], 0);
  put($("notified"), [
    `${plural(sum("delivered"), "notification")} delivered`,
    ...["waiting", "failed", "dropped"].flatMap((word) => {
      const number = sum(word === "waiting" ? "queued" : word);
      return number > 0 ? [`${count(number)} ${word}`] : [];
    }),
  ].join(" · "));
  put($("last-notification"), last ? `${timeOfDay(last.at, now)}: ${last.text}` : "");

  const troubled = targets.filter(fails).map(({ host, last_error, retry_at }) =>
    `${host}: ${last_error}${retry_at > now ? `, next try in ${span(retry_at - now)}` : ""}`);
  $("notification-trouble").hidden = troubled.length === 0;
  put($("notification-trouble"), troubled.join("; "));
}
