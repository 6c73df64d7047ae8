//! What happened: to listeners and to the source, for those who ask at `/api/v1/events` and for the log.
//!
//! Events go through a fan-out of their own, so whoever reads them too slowly is told how many it missed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aircheck_engine::{
    Consumer, EndReason, FanOut, FanOutOptions, Head, Hub, Loss, Overflow, Start, SubscribeError, SubscribeOptions,
    Timestamp,
};
use serde_json::{Map, Value, json};

use crate::listener::{Fault, Listener};
use crate::listeners::Leaving;
use crate::throttle::Throttle;

/// Events kept for those who come back, and queued for those who read slowly: some 200 bytes each.
const KEPT: usize = 1000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The sequence number of the newest block by then; `None` before the first one.
    pub sequence: Option<u64>,
    /// Who it happened to; `None` if to the source.
    pub who: Option<Who>,
    /// What it was.
    pub what: What,
}

/// A listener, as an event tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Its number in `/api/v1/listeners`.
    pub id: u64,
    /// The name it gave itself, or nothing.
    pub name: String,
    /// What it listens to.
    pub format: &'static str,
    /// Its address and port.
    pub remote: String,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A listener came.
    Joined,
    /// A listener is gone.
    Left {
        /// Why.
        reason: Leaving,
        /// Blocks it was offered.
        offered: u64,
        /// Blocks it got.
        delivered: u64,
        /// Blocks it lost, with those that were still queued.
        lost: u64,
    },
    /// A listener is further behind than it should be.
    FellBehind {
        /// How far, not counting what it asked for.
        lag_seconds: f64,
        /// Who is to blame.
        fault: Fault,
    },
    /// A listener lost blocks.
    Skipped {
        /// How many since this was last told.
        blocks: u64,
        /// Why most of them.
        reason: Loss,
    },
    /// A listener is where it should be again.
    CaughtUp {
        /// How far behind it still is.
        lag_seconds: f64,
    },
    /// No sound comes from the source any more.
    SourceLost,
    /// Sound comes again.
    SourceBack,
    /// The source lost sound before anybody could hear it.
    Xrun {
        /// How many blocks since this was last told.
        blocks: u64,
    },
}

impl What {
    /// Its name in one word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left { .. } => "left",
            Self::FellBehind { .. } => "fell_behind",
            Self::Skipped { .. } => "skipped",
            Self::CaughtUp { .. } => "caught_up",
            Self::SourceLost => "source_lost",
            Self::SourceBack => "source_back",
            Self::Xrun { .. } => "xrun",
        }
    }

    /// What else there is to tell.
    fn details(self) -> Value {
        match self {
            Self::Joined | Self::SourceLost | Self::SourceBack => json!({}),
            Self::Left { reason, offered, delivered, lost } => {
                json!({"reason": reason.label(), "offered": offered, "delivered": delivered, "lost": lost})
            }
            Self::FellBehind { lag_seconds, fault } => json!({"lag_seconds": lag_seconds, "fault": fault}),
            Self::Skipped { blocks, reason } => json!({"blocks": blocks, "reason": reason.label()}),
            Self::CaughtUp { lag_seconds } => json!({"lag_seconds": lag_seconds}),
            Self::Xrun { blocks } => json!({"blocks": blocks}),
        }
    }

    const fn is_trouble(self) -> bool {
        matches!(self, Self::FellBehind { .. } | Self::Skipped { .. } | Self::SourceLost | Self::Xrun { .. })
    }
}

impl Event {
    /// The event as JSON, in one line.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("event".to_owned(), json!(self.what.label()));
        object.insert("at".to_owned(), json!(self.at.unix_seconds()));
        object.insert("sequence".to_owned(), json!(self.sequence));
        if let Some(Who { id, name, format, remote }) = &self.who {
            let listener = json!({"id": id, "name": name, "format": format, "remote": remote});
            object.insert("listener".to_owned(), listener);
        }
        if let Value::Object(details) = self.what.details() {
            object.extend(details);
        }
        Value::Object(object)
    }
}

/// Tells what happens.
#[derive(Debug)]
pub struct Events {
    /// The live head of the sound.
    head: Head,
    hub: Hub<Event>,
    telling: Mutex<Telling>,
}

#[derive(Debug)]
struct Telling {
    /// `None` once the server ends.
    out: Option<FanOut<Event>>,
    joins: Throttle,
    troubles: Throttle,
}

impl Events {
    /// Nothing has happened yet to the stream whose live head is `head`.
    #[must_use]
    pub fn new(head: Head) -> Self {
        let (out, hub) = FanOut::new(FanOutOptions { history: KEPT, live: true, head: None });
        let telling = Telling { out: Some(out), joins: Throttle::default(), troubles: Throttle::default() };
        Self { head, hub, telling: Mutex::new(telling) }
    }

    /// Something happened to a listener.
    pub fn tell_of(&self, listener: &Listener, what: What) {
        let who = Who {
            id: listener.id(),
            name: listener.name().to_owned(),
            format: listener.mount().label(),
            remote: listener.wire().remote().to_string(),
        };
        self.publish(Some(who), what);
    }

    /// Something happened to the source.
    pub fn tell(&self, what: What) {
        self.publish(None, what);
    }

    fn publish(&self, who: Option<Who>, what: What) {
        let at = Timestamp::now();
        let event = Event { at, sequence: self.head.next().checked_sub(1), who, what };
        let mut telling = self.telling();
        // One who comes and goes a thousand times must not keep the others' troubles out of the log.
        let throttle = if what.is_trouble() { &mut telling.troubles } else { &mut telling.joins };
        let pass = throttle.pass(at);
        if let Some(withheld) = pass {
            log(&event, withheld);
        }
        if let Some(out) = &mut telling.out {
            out.send(event, at);
        }
    }

    /// The events from the one after `last` on, as far as they are kept, or from now on.
    ///
    /// # Errors
    ///
    /// When the server ends.
    pub fn subscribe(&self, last: Option<u64>) -> Result<Consumer<Event>, SubscribeError> {
        let start = last.map_or(Start::Live, |last| Start::From(last.saturating_add(1)));
        let options = SubscribeOptions { overflow: Overflow::DropNewest, buffer: KEPT, start };
        let consumer = self.hub.subscribe(options)?;
        if let Some(out) = &mut self.telling().out {
            // Lets the new one in, who would else wait for the next event.
            out.consumers();
        }
        Ok(consumer)
    }

    /// Nothing more will be told.
    pub fn finish(&self) {
        if let Some(out) = self.telling().out.take() {
            out.finish(EndReason::Finished);
        }
    }

    fn telling(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line, with the same fields as the event.
fn log(event: &Event, withheld: u64) {
    let details = match event.what.details() {
        Value::Object(details) => details.into_iter().map(|(key, value)| format!(" {key}={value}")).collect(),
        _ => String::new(),
    };
    let listener = event.who.as_ref().map_or_else(String::new, |who| {
        format!(" listener={} name={:?} format={} remote={}", who.id, who.name, who.format, who.remote)
    });
    let sequence = event.sequence.map_or_else(String::new, |sequence| format!(" sequence={sequence}"));
    let withheld = if withheld > 0 { format!(" withheld={withheld}") } else { String::new() };
    let line = format!("{}{listener}{sequence}{details}{withheld}", event.what.label());
    if event.what.is_trouble() { tracing::warn!("{line}") } else { tracing::info!("{line}") }
}
