//! What a row means: how far behind somebody is, how bad that is, who is to blame and where it waits. The same rules as
//! those of the server's page.

use super::api::{Row, Status};
use super::figures;

/// Below this it is a block or two: in order of such lags rows would never rest, and no place is worth a name.
const NOTABLE_SECONDS: f64 = 0.1;

/// How much of its limit of lag a listener has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// A quarter.
    Behind,
    /// Three quarters.
    FarBehind,
}

impl Row {
    /// What to call it.
    pub(crate) fn title(&self) -> String {
        match (self.name.is_empty(), self.remote.is_empty()) {
            (false, _) => self.name.clone(),
            (true, false) => self.remote.clone(),
            (true, true) => format!("listener {}", self.id),
        }
    }

    /// The lag that nobody asked for, in seconds.
    pub(crate) fn unwanted_seconds(&self) -> f64 {
        (self.lag_seconds - self.burst_seconds).max(0.0)
    }

    /// Likewise, as far as it is worth an order.
    pub(crate) fn notable_seconds(&self) -> f64 {
        Some(self.unwanted_seconds()).filter(|lag| *lag >= NOTABLE_SECONDS).unwrap_or(0.0)
    }

    /// The lag that it asked for, if it is worth a word.
    pub(crate) fn asked_seconds(&self) -> Option<f64> {
        Some(self.burst_seconds).filter(|asked| *asked >= NOTABLE_SECONDS)
    }

    /// The lag that is too much, in seconds.
    pub(crate) fn limit_seconds(&self, status: &Status) -> f64 {
        let limit = self.max_lag_seconds.unwrap_or(status.buffer_seconds);
        if limit > 0.0 { limit } else { 1.0 }
    }

    pub(crate) fn verdict(&self, status: &Status) -> Verdict {
        match self.unwanted_seconds() / self.limit_seconds(status) {
            used if used >= 0.75 => Verdict::FarBehind,
            used if used >= 0.25 => Verdict::Behind,
            _ => Verdict::Fine,
        }
    }

    /// Who is to blame, while it is behind.
    pub(crate) fn blame(&self, status: &Status) -> Option<&'static str> {
        if self.verdict(status) == Verdict::Fine {
            return None;
        }
        match self.fault.as_deref()? {
            "listener" => Some("does not read"),
            "network" => Some("slow network"),
            "server" => Some("slow server"),
            _ => None,
        }
    }

    /// The places where something notable waits, and how much in seconds, most first.
    pub(crate) fn places(&self) -> Vec<(&'static str, f64)> {
        let (kernel, unread) = (self.socket_queued_seconds, self.unread_seconds);
        let ring = self.lag_seconds - kernel - unread;
        let mut places = vec![("our ring", ring), ("our kernel", kernel), ("its machine", unread)];
        places.retain(|(_, waits)| *waits >= NOTABLE_SECONDS);
        places.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        places
    }

    /// The place where most of it waits.
    pub(crate) fn most(&self) -> Option<String> {
        self.places().first().map(|(place, waits)| format!("{place} {}", figures::seconds(Some(*waits))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{row, status};
    use super::*;

    #[test]
    fn what_was_asked_for_is_nobody_s_fault() {
        let mut asking = row(1, "archive", 2.0);
        asking.burst_seconds = 2.0;
        asking.fault = Some("listener".to_owned());
        assert_eq!(asking.verdict(&status()), Verdict::Fine);
        assert_eq!(asking.blame(&status()), None);
        assert_eq!(asking.asked_seconds(), Some(2.0));
    }

    #[test]
    fn the_limit_is_its_own_or_the_server_s_buffer() {
        let mut row = row(1, "x", 0.8);
        assert_eq!(row.verdict(&status()), Verdict::FarBehind);
        row.max_lag_seconds = Some(2.0);
        assert_eq!(row.verdict(&status()), Verdict::Behind);
        row.max_lag_seconds = Some(0.0);
        assert_eq!(row.limit_seconds(&status()), 1.0);
    }

    #[test]
    fn the_place_where_most_waits_comes_first() {
        let mut row = row(1, "x", 21.0);
        (row.socket_queued_seconds, row.unread_seconds) = (0.05, 18.0);
        assert_eq!(row.most().unwrap(), "its machine 18.0 s");
        assert_eq!(row.places().len(), 2);
        row.lag_seconds = 0.02;
        (row.socket_queued_seconds, row.unread_seconds) = (0.0, 0.0);
        assert_eq!(row.most(), None);
    }

    #[test]
    fn somebody_without_a_name_is_called_by_its_address() {
        let mut row = row(7, "", 0.0);
        assert_eq!(row.title(), "127.0.0.1:40007");
        row.remote.clear();
        assert_eq!(row.title(), "listener 7");
    }
}
