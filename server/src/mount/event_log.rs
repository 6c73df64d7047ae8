//! The log of events of a mount, for `/api/v1/events` and for the process's log.
//!
//! Events go through a fan-out of their own, so a reader that is too slow gets the number of missed events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aircheck_api::{Event, EventKind, EventListener, MAIN_MOUNT};
use aircheck_engine::{
    Consumer, EndReason, Head, Hub, OverflowPolicy, Publisher, PublisherOptions, Start, SubscribeError,
    SubscribeOptions, Timestamp,
};
use serde_json::Value;

use crate::mount::throttle::Throttle;

/// Events that are kept for readers that reconnect, and that a slow reader may have queued. Each takes some 300 bytes.
const MAX_EVENTS: usize = 1000;

/// Publishes the events of one mount and its listeners.
#[derive(Debug)]
pub struct EventLog {
    /// The name of the mount.
    mount: Arc<str>,
    /// The live head of the mount, for the sequence number of each event.
    head: Head,
    hub: Hub<Event>,
    publisher: Mutex<EventPublisher>,
}

#[derive(Debug)]
struct EventPublisher {
    /// `None` once the server ends.
    out: Option<Publisher<Event>>,
    /// Separate bounds for log lines: a listener that comes and goes a thousand times must not keep troubles of others
    /// out of the log.
    routine: Throttle,
    troubles: Throttle,
}

impl EventLog {
    /// Makes an empty log for the mount of this name, whose stream has this live head.
    #[must_use]
    pub fn new(mount: String, head: Head) -> Self {
        let (out, hub) = Publisher::new(PublisherOptions { history: MAX_EVENTS, ..PublisherOptions::default() });
        let publisher = EventPublisher { out: Some(out), routine: Throttle::default(), troubles: Throttle::default() };
        Self { mount: mount.into(), head, hub, publisher: Mutex::new(publisher) }
    }

    /// Publishes an event, of a listener or of the source, and writes it to the process's log at a bounded rate.
    pub fn publish(&self, listener: Option<EventListener>, kind: EventKind) {
        let now = Timestamp::now();
        let (mount, sequence) = (Arc::clone(&self.mount), self.head.next().checked_sub(1));
        let event = Event { kind, mount, at: now.unix_seconds(), sequence, listener };
        let mut publisher = self.publisher();
        let throttle = if event.kind.is_trouble() { &mut publisher.troubles } else { &mut publisher.routine };
        let log_entry = throttle.pass(now).map(|withheld| (event.clone(), withheld));
        if let Some(out) = &mut publisher.out {
            out.send(event, now);
        }
        // Unlocked first: a slow reader of the log must not delay other publishers.
        drop(publisher);
        if let Some((event, withheld)) = log_entry {
            log(&event, withheld);
        }
    }

    /// Subscribes to the events from number `from` on, as far as they are kept, or from now on.
    ///
    /// # Errors
    ///
    /// When the server ends.
    pub fn subscribe(&self, from: Option<u64>) -> Result<Consumer<Event>, SubscribeError> {
        let start = from.map_or(Start::Live, Start::From);
        let options = SubscribeOptions {
            overflow: OverflowPolicy::DropNewest,
            buffer: MAX_EVENTS,
            start,
            ..SubscribeOptions::default()
        };
        let consumer = self.hub.subscribe(options)?;
        if let Some(out) = &mut self.publisher().out {
            // Admits the consumer now, not with the next event.
            out.consumers();
        }
        Ok(consumer)
    }

    /// Ends the log: no event is published after this.
    pub fn finish(&self) {
        if let Some(out) = self.publisher().out.take() {
            out.finish(EndReason::Finished);
        }
    }

    fn publisher(&self) -> MutexGuard<'_, EventPublisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs an event in one line, with the fields that its JSON has.
fn log(event: &Event, withheld: u64) {
    let details = match serde_json::to_value(&event.kind) {
        Ok(Value::Object(details)) => details
            .into_iter()
            .filter(|(key, _)| key != "event")
            .map(|(key, value)| format!(" {key}={value}"))
            .collect(),
        _ => String::new(),
    };
    let listener = event.listener.as_ref().map_or_else(String::new, |listener| {
        let EventListener { id, name, format, remote } = listener;
        format!(" listener={id} name={name:?} format={format} remote={remote}")
    });
    let sequence = event.sequence.map_or_else(String::new, |sequence| format!(" sequence={sequence}"));
    let withheld = if withheld > 0 { format!(" withheld={withheld}") } else { String::new() };
    let mount = if &*event.mount == MAIN_MOUNT { String::new() } else { format!(" mount={}", event.mount) };
    let line = format!("{}{mount}{listener}{sequence}{details}{withheld}", event.kind.name());
    if event.kind.is_trouble() { tracing::warn!("{line}") } else { tracing::info!("{line}") }
}
