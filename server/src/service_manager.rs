//! Reports to the service manager, systemd: ready, alive, stopping.
//!
//! Without a service manager (`NOTIFY_SOCKET` is not set), nothing is sent. A report that cannot be sent is logged: systemd
//! ends a service that is never ready, or whose watchdog starves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager of this process.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    /// Time between two signs of life; `None` if the watchdog is off (`WatchdogSec=` of the unit).
    interval: Option<Duration>,
    /// The turns of each mount's dispatcher, by the mount's number, at the last sign of life, and when that was.
    last: (BTreeMap<u64, u64>, Instant),
}

impl ServiceManager {
    /// Reads from the environment whether there is a watchdog.
    pub(crate) fn new(now: Instant) -> Self {
        // Half of the time is what sd_watchdog_enabled(3) recommends; with a third, a late one is no death.
        Self { interval: sd_notify::watchdog_enabled().map(|timeout| timeout / 3), last: (BTreeMap::new(), now) }
    }

    /// Reports that the service serves, with a line for `systemctl status`.
    pub(crate) fn ready(&self, status: &str) {
        report(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Reports that the service ends every stream.
    pub(crate) fn stopping(&self) {
        report(&[NotifyState::Stopping]);
    }

    /// Reports a sign of life if one is due and the dispatcher of each mount, by its number, has made turns since the last one. One that
    /// hangs starves the watchdog, and systemd starts the service again.
    pub(crate) fn feed(&mut self, turns: &[(u64, u64)], now: Instant) {
        if self.is_due(turns, now) {
            self.last = (turns.iter().copied().collect(), now);
            if !report(&[NotifyState::Watchdog]) {
                // Logged once: the next one would fail as well.
                self.interval = None;
            }
        }
    }

    fn is_due(&self, turns: &[(u64, u64)], now: Instant) -> bool {
        let (last_turns, last_at) = &self.last;
        let goes_on = |(mount, turns): &(u64, u64)| last_turns.get(mount).is_none_or(|last| turns > last);
        self.interval.is_some_and(|interval| now.duration_since(*last_at) >= interval) && turns.iter().all(goes_on)
    }
}

/// Returns whether the report was sent, or no service manager wants one.
fn report(states: &[NotifyState<'_>]) -> bool {
    let sent = sd_notify::notify(states);
    if let Err(error) = &sent {
        tracing::error!("cannot report to the service manager: {error} (see NotifyAccess= of the unit)");
    }
    sent.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_dispatcher_gives_no_sign_of_life() {
        let start = Instant::now();
        let mut manager = ServiceManager { interval: Some(Duration::from_secs(3)), last: (BTreeMap::new(), start) };
        let is_due = |manager: &ServiceManager, turns, seconds| {
            manager.is_due(&[(1, turns), (2, 700)], start + Duration::from_secs(seconds))
        };
        assert!(!is_due(&manager, 100, 2), "too early");
        assert!(is_due(&manager, 100, 3));
        manager.last = (BTreeMap::from([(1, 100)]), start + Duration::from_secs(3));
        assert!(!is_due(&manager, 100, 600), "the dispatcher hangs");
        assert!(is_due(&manager, 101, 600), "it goes on");
        assert!(!is_due(&ServiceManager { interval: None, ..manager }, 101, 600), "without a watchdog");
    }
}
