//! Events that last: each is told once when it begins and once when it ends, at a bounded rate.

use std::collections::BTreeMap;
use std::time::Duration;

use aircheck_engine::Timestamp;
use aircheck_notify::{Details, EventName, NotificationState};

use crate::mount::throttle::Throttle;

/// Events of one kind that are told at once, and the time for each further one: a source that flaps, or a thousand listeners
/// behind a router that fails, must not bury the rest.
const BURST: u64 = 10;
const INTERVAL: Duration = Duration::from_secs(60);

/// An event, and the listener or the channel that it happens to; 0 where there is only one.
pub(super) type Subject = (EventName, u64);

/// The events that last.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    active: BTreeMap<Subject, Condition>,
    rates: BTreeMap<EventName, Rate>,
    due: Vec<Change>,
}

#[derive(Debug)]
struct Condition {
    since: Timestamp,
    text: String,
    details: Details,
    /// Whether its begin has been told.
    is_told: bool,
}

#[derive(Debug)]
struct Rate {
    throttle: Throttle,
    /// Events since the last told one that began and ended untold.
    withheld: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { throttle: Throttle::new(BURST, INTERVAL), withheld: 0 }
    }
}

/// A begin or an end that is to be told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) event: EventName,
    pub(super) state: NotificationState,
    pub(super) text: String,
    pub(super) details: Details,
}

impl Conditions {
    /// Begins an event. One that lasts already goes on.
    pub(super) fn begin(&mut self, subject: Subject, now: Timestamp, text: impl FnOnce() -> (String, Details)) {
        self.active.entry(subject).or_insert_with(|| {
            let (text, details) = text();
            Condition { since: now, text, details, is_told: false }
        });
    }

    /// Ends an event, if it lasts. The end of an event whose begin was not told is not told either.
    pub(super) fn end(&mut self, subject: Subject, now: Timestamp, text: impl FnOnce() -> String) {
        let Some(condition) = self.active.remove(&subject) else { return };
        if !condition.is_told {
            self.rates.entry(subject.0).or_default().withheld += 1;
            return;
        }
        let mut details = condition.details;
        let seconds = now.since(condition.since).as_secs_f64();
        details.insert("duration_seconds".to_owned(), seconds.into());
        self.due.push(Change { event: subject.0, state: NotificationState::End, text: text(), details });
    }

    /// Begins or ends an event.
    pub(super) fn set(
        &mut self,
        subject: Subject,
        lasts: bool,
        now: Timestamp,
        begin: impl FnOnce() -> (String, Details),
        end: &str,
    ) {
        if lasts { self.begin(subject, now, begin) } else { self.end(subject, now, || end.to_owned()) }
    }

    /// Returns what each active event of this name happens to.
    pub(super) fn active(&self, event: EventName) -> impl Iterator<Item = u64> {
        self.active.range((event, 0)..=(event, u64::MAX)).map(|((_, of), _)| *of)
    }

    /// Returns what is to be told now. A begin that is over its rate is told later, if the event lasts until then.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<Change> {
        let mut due = std::mem::take(&mut self.due);
        for ((event, _), condition) in self.active.iter_mut().filter(|(_, condition)| !condition.is_told) {
            let rate = self.rates.entry(*event).or_default();
            if rate.throttle.pass(now).is_none() {
                continue;
            }
            condition.is_told = true;
            let mut details = condition.details.clone();
            let withheld = std::mem::take(&mut rate.withheld);
            if withheld > 0 {
                details.insert("withheld".to_owned(), withheld.into());
            }
            due.push(Change { event: *event, state: NotificationState::Begin, text: condition.text.clone(), details });
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: EventName = EventName::ListenerLag;

    fn begin(conditions: &mut Conditions, subject: Subject, now: Timestamp) {
        conditions.begin(subject, now, || ("begins".to_owned(), Details::new()));
    }

    fn end(conditions: &mut Conditions, subject: Subject, now: Timestamp) {
        conditions.end(subject, now, || "ends".to_owned());
    }

    #[test]
    fn begin_and_end_are_told_once_each() {
        let (mut conditions, now) = (Conditions::default(), Timestamp::now());
        let subject = (EventName::Silence, 0);
        (0..3).for_each(|_| begin(&mut conditions, subject, now));
        let due = conditions.take_due(now);
        assert_eq!((due.len(), due[0].state), (1, NotificationState::Begin));
        begin(&mut conditions, subject, now);
        assert_eq!(conditions.take_due(now), []);
        let later = now + Duration::from_secs(5);
        (0..3).for_each(|_| end(&mut conditions, subject, later));
        let due = conditions.take_due(later);
        assert_eq!((due.len(), due[0].state), (1, NotificationState::End));
        assert_eq!(due[0].details["duration_seconds"], 5.0);
        assert_eq!(conditions.take_due(later), []);
    }

    #[test]
    fn each_event_has_a_rate_of_its_own() {
        let (mut conditions, now) = (Conditions::default(), Timestamp::now());
        (0..1000).for_each(|id| begin(&mut conditions, (LAG, id), now));
        begin(&mut conditions, (EventName::SourceLost, 0), now);
        let due = conditions.take_due(now);
        assert_eq!(due.iter().filter(|change| change.event == LAG).count(), BURST as usize);
        assert_eq!(due.len(), BURST as usize + 1);
    }

    #[test]
    fn what_lasts_is_told_later_and_what_does_not_is_counted() {
        let (mut conditions, now) = (Conditions::default(), Timestamp::now());
        (0..BURST + 3).for_each(|id| begin(&mut conditions, (LAG, id), now));
        assert_eq!(conditions.take_due(now).len(), BURST as usize);
        // Two of the three untold ones end untold.
        (BURST..BURST + 2).for_each(|id| end(&mut conditions, (LAG, id), now));
        assert_eq!(conditions.take_due(now), []);
        let due = conditions.take_due(now + INTERVAL);
        assert_eq!((due.len(), &due[0].details["withheld"]), (1, &2.into()));
        // Ends of told ones are never withheld.
        (0..BURST).for_each(|id| end(&mut conditions, (LAG, id), now));
        assert_eq!(conditions.take_due(now + INTERVAL).len(), BURST as usize);
    }

    #[test]
    fn a_source_that_flaps_is_told_at_the_rate() {
        let (mut conditions, mut now, mut told) = (Conditions::default(), Timestamp::now(), 0);
        for _ in 0..3600 {
            begin(&mut conditions, (EventName::SourceLost, 0), now);
            told += conditions.take_due(now).len();
            end(&mut conditions, (EventName::SourceLost, 0), now);
            told += conditions.take_due(now).len();
            now = now + Duration::from_secs(1);
        }
        let most = 2 * (BURST + 3600 / INTERVAL.as_secs()) as usize;
        assert!((most - 4..=most).contains(&told), "{told} of {most}");
    }
}
