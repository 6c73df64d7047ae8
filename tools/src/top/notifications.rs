//! The notifications in one line: how many were delivered, what keeps a receiver from taking them, and what was told last.

use aircheck_api::{NotificationTarget, Status};
use ratatui::text::Line;

use super::line::{Part, line_of_groups};
use super::theme::{Theme, Tone};
use crate::units;

/// Returns the line; `None` for a server without receivers.
pub(crate) fn notifications(status: &Status, theme: Theme, cells: usize) -> Option<Line<'static>> {
    let targets = &status.notifications;
    if targets.is_empty() {
        return None;
    }
    let sum = |count: fn(&NotificationTarget) -> u64| targets.iter().map(count).sum::<u64>();
    let label = |text: &str| (text.to_owned(), Tone::Quiet);
    let told = units::grouped_count(sum(|target| target.delivered), "notification");
    let mut groups: Vec<Vec<Part>> = vec![vec![(told, Tone::Plain), label(" delivered")]];
    let others: [(&str, u64); 3] = [
        (" waiting", sum(|target| target.queued)),
        (" failed", sum(|target| target.failed)),
        (" dropped", sum(|target| target.dropped)),
    ];
    for (word, count) in others.into_iter().filter(|(_, count)| *count > 0) {
        groups.push(vec![(units::grouped(count), Tone::Plain), label(word)]);
    }
    for target in targets.iter().filter(|target| fails(target)) {
        let error = target.last_error.as_deref().unwrap_or_default();
        groups.push(vec![(format!("{}: {error}", target.host), Tone::Warning)]);
    }
    if let Some(last) = &status.last_notification {
        groups.push(vec![label(&format!("{} ago: {}", units::age(status.now - last.at), last.text))]);
    }
    let clipped = groups.len();
    Some(line_of_groups(groups, " · ", clipped, theme, cells))
}

/// Returns whether the last try at a receiver failed.
fn fails(target: &NotificationTarget) -> bool {
    target
        .last_error_at
        .is_some_and(|failed_at| target.delivered_at.is_none_or(|delivered_at| delivered_at < failed_at))
}

#[cfg(test)]
mod tests {
    use aircheck_api::LastNotification;

    use super::super::fixture::status;
    use super::*;

    fn drawn(status: &Status, cells: usize) -> Option<String> {
        notifications(status, Theme { has_colour: true }, cells).map(|line| line.to_string())
    }

    #[test]
    fn without_receivers_there_is_no_line() {
        assert_eq!(drawn(&status(), 80), None);
    }

    #[test]
    fn the_line_has_the_counts_the_trouble_and_the_last_event() {
        let mut status = status();
        let healthy = NotificationTarget {
            host: "hooks.example".to_owned(),
            delivered: 1200,
            delivered_at: Some(status.now - 60.0),
            last_error: Some("HTTP 503".to_owned()),
            last_error_at: Some(status.now - 90.0),
            ..NotificationTarget::default()
        };
        status.notifications = vec![healthy.clone()];
        let text = "the source delivers sound again".to_owned();
        status.last_notification =
            Some(LastNotification { at: status.now - 63.0, text, ..LastNotification::default() });
        let line = drawn(&status, 120).unwrap();
        assert_eq!(line, "1,200 notifications delivered · 1 min 3 s ago: the source delivers sound again");
        let failing = NotificationTarget {
            host: "ntfy.sh".to_owned(),
            queued: 2,
            failed: 1,
            dropped: 0,
            delivered_at: None,
            ..healthy
        };
        status.notifications.push(failing);
        let line = drawn(&status, 120).unwrap();
        assert!(
            line.starts_with("2,400 notifications delivered · 2 waiting · 1 failed · ntfy.sh: HTTP 503 · 1 min "),
            "{line}"
        );
        assert!(drawn(&status, 40).unwrap().ends_with('…'));
    }
}
