//! A listener's row in words: its title, its lag and the bounds of it, where its sound waits, and where the fault is.

use aircheck_api::{Fault, ListenerRow, Status, Verdict};

use crate::units;

/// Shorter lags are a block or two. Rows in the order of such lags would never rest, and their causes do not matter.
const NOTABLE_SECONDS: f64 = 0.1;

/// Bounds of a lag that are further apart are shown. A listener that reads is tested once a second.
const APART_SECONDS: f64 = 1.5;
/// The server's words for a listener with which all is well.
const READS: &str = "reads";

/// Returns the listener's name, or else its address or its number.
pub(crate) fn title(row: &ListenerRow) -> String {
    match (row.name.is_empty(), row.remote.is_empty()) {
        (false, _) => row.name.clone(),
        (true, false) => row.remote.clone(),
        (true, true) => format!("listener {}", row.id),
    }
}

/// Returns the listener's address, and that of its proxy if there is one.
pub(crate) fn address(row: &ListenerRow) -> String {
    match &row.via {
        Some(via) => format!("{} via {via}", row.remote),
        None => row.remote.clone(),
    }
}

/// Returns the lag without its requested part, in seconds.
pub(crate) fn unrequested_seconds(row: &ListenerRow) -> f64 {
    (row.lag_seconds - row.burst_seconds).max(0.0)
}

/// Returns the same if it is notable, and else 0.
pub(crate) fn notable_seconds(row: &ListenerRow) -> f64 {
    Some(unrequested_seconds(row)).filter(|lag| *lag >= NOTABLE_SECONDS).unwrap_or(0.0)
}

/// Returns the lag that the listener requested with `burst` or `from`, if it is notable.
pub(crate) fn requested_seconds(row: &ListenerRow) -> Option<f64> {
    Some(row.burst_seconds).filter(|lag| *lag >= NOTABLE_SECONDS)
}

/// Returns the lag that fills the height of a listener's trend: its limit, or the server's buffer.
pub(crate) fn full_scale_seconds(row: &ListenerRow, status: &Status) -> f64 {
    let limit = row.max_lag_seconds.unwrap_or(status.buffer_seconds);
    if limit > 0.0 { limit } else { 1.0 }
}

/// Returns the bounds of the lag without its requested part, if they are apart: `up to 9.8 s`, `1.1 to 9.8 s`.
pub(crate) fn bounds(row: &ListenerRow) -> Option<String> {
    let (least, most) = (row.lag_at_least_seconds?, row.lag_at_most_seconds?);
    if most - least <= APART_SECONDS {
        return None;
    }
    let number = |seconds: f64| {
        let seconds = (seconds - row.burst_seconds).max(0.0);
        if seconds < 9.95 { format!("{seconds:.1}") } else { units::grouped(seconds.round() as u64) }
    };
    let is_known = least - row.burst_seconds >= NOTABLE_SECONDS;
    Some(if is_known {
        format!("{} to {} s", number(least), number(most))
    } else {
        format!("up to {} s", number(most))
    })
}

/// Returns what the server says that the listener does, unless all is well.
pub(crate) fn state(row: &ListenerRow) -> Option<&str> {
    Some(&*row.state).filter(|state| !state.is_empty() && *state != READS)
}

/// Returns where the fault is, in words, while the listener is behind.
pub(crate) fn fault(row: &ListenerRow) -> Option<&'static str> {
    if row.verdict == Verdict::Ok {
        return None;
    }
    row.fault.map(|fault| match fault {
        Fault::Listener => "does not read",
        Fault::Network => "slow network",
        Fault::Proxy => "at its proxy",
        Fault::Server => "slow server",
        Fault::Unknown => "unknown",
    })
}

/// Returns the notable parts of the lag with their seconds, most first: sound that waits in a place, and sound that is
/// lost for good.
pub(crate) fn parts(row: &ListenerRow) -> Vec<(&'static str, f64)> {
    let mut parts = vec![
        ("our ring", row.undelivered_seconds - row.undelivered_lost_seconds),
        ("lost", row.undelivered_lost_seconds),
        ("our kernel", row.socket_queued_seconds),
        (if row.via.is_some() { "its proxy" } else { "its machine" }, row.unread_seconds),
    ];
    parts.retain(|(_, seconds)| *seconds >= NOTABLE_SECONDS);
    parts.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    parts
}

/// Returns the largest part in words.
pub(crate) fn largest_part(row: &ListenerRow) -> Option<String> {
    parts(row).first().map(|(place, seconds)| format!("{place} {}", units::lag(*seconds)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{row, status};
    use super::*;

    #[test]
    fn a_fault_stands_only_beside_a_verdict() {
        let mut behind = row(1, "x", 0.8);
        assert_eq!(fault(&behind), Some("does not read"));
        behind.verdict = Verdict::Ok;
        assert_eq!(fault(&behind), None);
        behind.burst_seconds = 2.0;
        assert_eq!((requested_seconds(&behind), unrequested_seconds(&behind)), (Some(2.0), 0.0));
    }

    #[test]
    fn bounds_are_shown_when_they_are_apart() {
        let with = |lag, least, most| {
            let mut row = row(1, "x", lag);
            (row.lag_at_least_seconds, row.lag_at_most_seconds) = (Some(least), Some(most));
            bounds(&row)
        };
        assert_eq!(with(0.02, 0.02, 1.2), None);
        assert_eq!(with(0.02, 0.02, 9.83).unwrap(), "up to 9.8 s");
        assert_eq!(with(3.2, 1.12, 9.83).unwrap(), "1.1 to 9.8 s");
        assert_eq!(with(130.0, 100.2, 1203.4).unwrap(), "100 to 1,203 s");
        assert_eq!(bounds(&row(1, "of an older server", 3.0)), None);
        let mut requested = row(1, "x", 5.0);
        (requested.burst_seconds, requested.lag_at_least_seconds, requested.lag_at_most_seconds) =
            (5.0, Some(5.0), Some(8.0));
        assert_eq!(bounds(&requested).unwrap(), "up to 3.0 s");
    }

    #[test]
    fn a_listener_that_reads_has_no_state_to_tell() {
        let mut row = row(1, "x", 0.0);
        assert_eq!(state(&row), None);
        row.state = "reads".to_owned();
        assert_eq!(state(&row), None);
        row.state = "has not read for 12 s".to_owned();
        assert_eq!(state(&row), Some("has not read for 12 s"));
    }

    #[test]
    fn the_scale_is_the_listener_s_limit_or_the_server_s_buffer() {
        let mut row = row(1, "x", 0.8);
        assert_eq!(full_scale_seconds(&row, &status()), 1.0);
        row.max_lag_seconds = Some(2.0);
        assert_eq!(full_scale_seconds(&row, &status()), 2.0);
        row.max_lag_seconds = Some(0.0);
        assert_eq!(full_scale_seconds(&row, &status()), 1.0);
    }

    #[test]
    fn lost_sound_does_not_wait_in_the_ring() {
        // It stands still: a ring of 1 s is full, and everything after that is lost.
        let mut row = row(1, "x", 22.0);
        (row.undelivered_seconds, row.undelivered_lost_seconds) = (21.1, 20.1);
        (row.socket_queued_seconds, row.unread_seconds) = (0.05, 0.9);
        assert_eq!(largest_part(&row).unwrap(), "lost 20.1 s");
        assert_eq!(
            parts(&row).iter().map(|(place, _)| *place).collect::<Vec<_>>(),
            ["lost", "our ring", "its machine"]
        );
        (row.undelivered_seconds, row.undelivered_lost_seconds, row.unread_seconds) = (0.0, 0.0, 0.0);
        assert_eq!(largest_part(&row), None);
    }

    #[test]
    fn a_listener_behind_a_proxy_shows_both_addresses() {
        let mut row = row(7, "x", 2.0);
        assert_eq!(address(&row), "127.0.0.1:40007");
        (row.remote, row.via, row.fault) = ("192.0.2.1".to_owned(), Some("10.0.0.1".to_owned()), Some(Fault::Proxy));
        assert_eq!(address(&row), "192.0.2.1 via 10.0.0.1");
        assert_eq!((fault(&row), parts(&row)[0].0), (Some("at its proxy"), "its proxy"));
    }

    #[test]
    fn a_listener_without_a_name_is_called_by_its_address() {
        let mut row = row(7, "", 0.0);
        assert_eq!(title(&row), "127.0.0.1:40007");
        row.remote.clear();
        assert_eq!(title(&row), "listener 7");
    }
}
