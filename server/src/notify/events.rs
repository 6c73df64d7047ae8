//! The conditions that the log of events of a mount begins and ends.
//!
//! This is the one place where an event of the log becomes a notification: a new kind of event is added to [`apply`].

use aircheck_api::{Event, EventKind, EventListener, EventState, StreamState};
use aircheck_engine::{Consumer, Timestamp, TryRecvError};
use aircheck_notify::{Details, EventName};
use serde_json::{Value, json};

use super::conditions::Conditions;
use crate::delivery::listeners::Listeners;
use crate::mount::Mount;

const SOURCE_IS_BACK: &str = "the source delivers sound again";
/// The text of the end of the fallback.
const FALLBACK_IS_OVER: &str = "the fallback is over";

/// Reads the log of events of one mount.
#[derive(Debug)]
pub(super) struct EventReader(Option<Consumer<Event>>);

impl EventReader {
    /// Reads from now on. A log that has ended has nothing more.
    pub(super) fn new(mount: &Mount) -> Self {
        Self(mount.events().subscribe(None).ok())
    }

    /// Applies the events since the last call. Returns false if some were missed.
    pub(super) fn read(&mut self, now: Timestamp, conditions: &mut Conditions) -> bool {
        let mut is_complete = true;
        while let Some(consumer) = &mut self.0 {
            match consumer.try_recv_at(now) {
                Ok(delivery) => {
                    is_complete &= delivery.gap.is_none();
                    apply(&delivery.item.value, now, conditions);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Ended(_)) => self.0 = None,
            }
        }
        is_complete
    }
}

/// Begins or ends the condition that an event means.
fn apply(event: &Event, now: Timestamp, conditions: &mut Conditions) {
    match (&event.kind, &event.listener) {
        (EventKind::SourceLost { reason }, _) => begin_loss(reason.as_deref(), now, conditions),
        (EventKind::SourceBack { .. }, _) => {
            conditions.end((EventName::SourceLost, 0), now, || SOURCE_IS_BACK.to_owned());
        }
        (EventKind::Fallback { state: EventState::Begin }, _) => begin_fallback(now, conditions),
        (EventKind::Fallback { state: EventState::End }, _) => {
            conditions.end((EventName::Fallback, 0), now, || FALLBACK_IS_OVER.to_owned());
        }
        (EventKind::FellBehind { lag }, Some(listener)) => {
            conditions.begin((EventName::ListenerLag, listener.id), now, || {
                let text = format!("{} is {:.1} s behind", title(listener), lag.lag_seconds);
                let mut details = Details::new();
                details.insert("listener".to_owned(), json!(listener));
                // Fails for maps without string keys, of which there are none.
                if let Ok(Value::Object(mut lag)) = serde_json::to_value(lag) {
                    // A notification has a state of its own: the begin or the end.
                    lag.remove("state");
                    details.extend(lag);
                }
                (text, details)
            });
        }
        (EventKind::CaughtUp { .. }, Some(listener)) => {
            let subject = (EventName::ListenerLag, listener.id);
            conditions.end(subject, now, || format!("{} keeps up again", title(listener)));
        }
        (EventKind::Left { .. }, Some(listener)) => {
            conditions.end((EventName::ListenerLag, listener.id), now, || format!("{} has left", title(listener)));
        }
        _ => {}
    }
}

fn begin_loss(reason: Option<&str>, now: Timestamp, conditions: &mut Conditions) {
    conditions.begin((EventName::SourceLost, 0), now, || {
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        (format!("the source delivers no sound{reason}"), Details::new())
    });
}

fn begin_fallback(now: Timestamp, conditions: &mut Conditions) {
    let text = || ("the fallback is heard instead of the source".to_owned(), Details::new());
    conditions.begin((EventName::Fallback, 0), now, text);
}

/// Makes up for events that were missed, as when a thousand listeners leave at once: begins and ends what the source does now,
/// and ends the lags that are over.
pub(super) fn settle(mount: &Mount, listeners: &Listeners, now: Timestamp, conditions: &mut Conditions) {
    settle_source(mount.state(), now, conditions);
    let behind: Vec<_> = conditions.active(EventName::ListenerLag).collect();
    let present = listeners.select(|id, _| behind.contains(&id));
    for id in behind {
        if !present.iter().any(|listener| listener.id() == id && listener.is_behind()) {
            conditions.end((EventName::ListenerLag, id), now, || format!("listener {id} keeps up again, or has left"));
        }
    }
}

fn settle_source(state: StreamState, now: Timestamp, conditions: &mut Conditions) {
    match state {
        StreamState::Live => conditions.end((EventName::SourceLost, 0), now, || SOURCE_IS_BACK.to_owned()),
        StreamState::Silent | StreamState::Fallback => begin_loss(None, now, conditions),
        // The end of the service says so.
        StreamState::Ended | StreamState::Unknown => return,
    }
    if state == StreamState::Fallback {
        begin_fallback(now, conditions);
    } else {
        conditions.end((EventName::Fallback, 0), now, || FALLBACK_IS_OVER.to_owned());
    }
}

/// Returns a listener in words.
fn title(listener: &EventListener) -> String {
    let EventListener { id, name, format, remote } = listener;
    let name = if name.is_empty() { String::new() } else { format!(" {name:?}") };
    format!("listener {id}{name} ({format}, {remote})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_source_does_is_told_although_its_event_was_missed() {
        let (mut conditions, now) = (Conditions::default(), Timestamp::now());
        let mut told = |state| {
            settle_source(state, now, &mut conditions);
            let due = conditions.take_due(now);
            due.iter().map(|change| format!("{} {}", change.event.name(), change.state.name())).collect::<Vec<_>>()
        };
        assert!(told(StreamState::Live).is_empty());
        assert_eq!(told(StreamState::Silent), ["source_lost begin"]);
        assert!(told(StreamState::Silent).is_empty(), "each begin is told once");
        assert_eq!(told(StreamState::Fallback), ["fallback begin"]);
        assert!(told(StreamState::Ended).is_empty());
        assert_eq!(told(StreamState::Live), ["source_lost end", "fallback end"]);
    }
}
