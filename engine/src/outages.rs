//! The account of the times without the source, shared with every thread that watches it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Timestamp;

/// The sound that is delivered instead of a lost source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Substitute {
    /// Silence.
    #[default]
    Silence,
    /// The fallback.
    Fallback,
}

/// A time without the source that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outage {
    /// When the source's last sound was captured, or when the stream started without a source.
    pub since: Timestamp,
    /// The reason, in one line.
    pub reason: String,
    /// The sound that is delivered meanwhile.
    pub substitute: Substitute,
}

/// The times without the source. A supervisor writes it; it is empty where a source has none. Not fit for a callback.
#[derive(Debug, Default)]
pub struct Outages(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    current: Option<Outage>,
    /// Sum of the outages that are over.
    over: Duration,
    count: u64,
    restarts: u64,
    /// The description of the source that was opened last, if it was opened again.
    source: Option<String>,
}

impl Outages {
    /// Returns the outage that is not over.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert!(stream.capture().outages().current().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn current(&self) -> Option<Outage> {
        self.account().current.clone()
    }

    /// Returns how many there were, with the one that is not over.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().outages().count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn count(&self) -> u64 {
        self.account().count
    }

    /// Returns how long the source was lost up to `now`, all outages together.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions, Timestamp};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().outages().down(Timestamp::now()), Duration::ZERO);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn down(&self, now: Timestamp) -> Duration {
        let account = self.account();
        account.over + account.current.as_ref().map_or(Duration::ZERO, |outage| now.since(outage.since))
    }

    /// Returns how often the source was opened again and delivered sound.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().outages().restarts(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.account().restarts
    }

    /// Returns a few words for people about the source that was opened again last, which may be another device than the
    /// first; `None` before that.
    ///
    /// ```
    /// use aircheck_engine::source::Tone;
    /// use aircheck_engine::{Stream, StreamOptions};
    ///
    /// let stream = Stream::start(Box::new(Tone::new(440.0)), StreamOptions::default())?;
    /// assert_eq!(stream.capture().outages().source(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn source(&self) -> Option<String> {
        self.account().source.clone()
    }

    pub(crate) fn begin(&self, since: Timestamp, reason: String) {
        let mut account = self.account();
        account.count += 1;
        account.current = Some(Outage { since, reason, substitute: Substitute::Silence });
    }

    /// Changes the reason of the outage, after an attempt to open the source again.
    pub(crate) fn explain(&self, reason: String) {
        if let Some(outage) = &mut self.account().current {
            outage.reason = reason;
        }
    }

    pub(crate) fn substitute(&self, substitute: Substitute) {
        if let Some(outage) = &mut self.account().current {
            outage.substitute = substitute;
        }
    }

    /// Ends the outage. `restarted` describes the source if it was opened again.
    pub(crate) fn end(&self, now: Timestamp, restarted: Option<String>) {
        let mut account = self.account();
        if restarted.is_some() {
            account.restarts += 1;
            account.source = restarted;
        }
        if let Some(outage) = account.current.take() {
            account.over += now.since(outage.since);
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_add_up() {
        let start = Timestamp::from_nanos(1_000_000_000_000);
        let second = Duration::from_secs(1);
        let outages = Outages::default();
        outages.begin(start, "unplugged".to_owned());
        assert_eq!(outages.down(start + second), second);
        outages.end(start + 2 * second, Some("other".to_owned()));
        assert_eq!((outages.current(), outages.down(start + 9 * second)), (None, 2 * second));
        outages.begin(start + 10 * second, "frozen".to_owned());
        assert_eq!((outages.count(), outages.restarts()), (2, 1));
        assert_eq!(outages.source().as_deref(), Some("other"));
        assert_eq!(outages.down(start + 13 * second), 5 * second);
    }
}
