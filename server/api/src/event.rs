//! Events of a listener, of the source, or of an edge.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Rendition, Verdict};

/// An event of `/api/v1/events`. In JSON, the fields of [`EventKind`] stand beside those of the event.
///
/// ```
/// use aircheck_api::{Event, EventKind};
///
/// let (kind, mount) = (EventKind::Xrun { blocks: 3 }, "main".into());
/// let event = Event { kind, mount, at: 1_790_000_000.5, sequence: Some(7), listener: None };
/// let json = r#"{"event":"xrun","blocks":3,"mount":"main","at":1790000000.5,"sequence":7}"#;
/// assert_eq!(serde_json::to_string(&event)?, json);
/// assert_eq!(serde_json::from_str::<Event>(json)?, event);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The kind, with its details.
    #[serde(flatten)]
    pub kind: EventKind,
    /// The mount that it happened to; empty from an older server.
    #[serde(default)]
    pub mount: Arc<str>,
    /// When it happened.
    pub at: f64,
    /// Sequence number of the newest block at that time; `null` before the first block.
    pub sequence: Option<u64>,
    /// The listener that it happened to; absent if it happened to the source or to an edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<EventListener>,
}

/// The listener of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventListener {
    /// The listener's number in `/api/v1/listeners`.
    pub id: u64,
    /// The name that it gave itself, or an empty string.
    pub name: String,
    /// The rendition that it listens to.
    pub format: Rendition,
    /// Address and port of the connection's far end.
    pub remote: String,
}

/// The kind of an event, with its details. The figures of a lag are boxed, because most of the events that a server keeps have none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A listener connected.
    Joined,
    /// A listener's stream is over.
    Left {
        /// The reason.
        reason: LeaveReason,
        /// Blocks that were offered to it.
        offered: u64,
        /// Blocks that were delivered.
        delivered: u64,
        /// Blocks that were lost, including those that were still queued.
        lost: u64,
        /// Its lag when its end was decided.
        #[serde(flatten)]
        lag: Box<LagFigures>,
    },
    /// A listener has fallen behind.
    FellBehind {
        /// Its lag.
        #[serde(flatten)]
        lag: Box<LagFigures>,
    },
    /// A listener that had fallen behind is far behind now.
    FellFarBehind {
        /// Its lag.
        #[serde(flatten)]
        lag: Box<LagFigures>,
    },
    /// A listener lost blocks.
    Skipped {
        /// Blocks since the last such event of this listener.
        blocks: u64,
        /// The reason for most of them.
        reason: Cow<'static, str>,
    },
    /// A listener that had fallen behind keeps up again.
    CaughtUp {
        /// The lag that is left.
        #[serde(flatten)]
        lag: Box<LagFigures>,
    },
    /// The source delivers no sound any more.
    SourceLost {
        /// The reason; `null` if the source just delivers nothing.
        #[serde(default)]
        reason: Option<String>,
    },
    /// The source delivers sound again.
    SourceBack {
        /// How long it was lost.
        #[serde(default)]
        down_seconds: f64,
    },
    /// The fallback has begun or ended.
    Fallback {
        /// Which of them.
        state: EventState,
    },
    /// Sound was lost at the capture.
    Xrun {
        /// Blocks since the last such event.
        blocks: u64,
    },
    /// The recording has stopped, because the disk fails, or goes on.
    Recording {
        /// Whether the trouble begins or ends.
        state: EventState,
        /// The disk's error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Another server reports on its listeners from now on.
    EdgeJoined {
        /// Its name.
        edge: String,
    },
    /// An edge no longer reports, or its reports come late.
    EdgeSilent {
        /// Its name.
        edge: String,
        /// The listeners that it had.
        listeners: u64,
        /// How old its figures are.
        age_seconds: f64,
    },
    /// An edge that had fallen silent reports again.
    EdgeBack {
        /// Its name.
        edge: String,
        /// How old its figures were.
        age_seconds: f64,
    },
    /// An edge has ended, in order.
    EdgeLeft {
        /// Its name.
        edge: String,
    },
    /// An edge was silent for so long that it is no longer shown.
    EdgeDropped {
        /// Its name.
        edge: String,
        /// The listeners that it had.
        listeners: u64,
        /// How old its figures are.
        age_seconds: f64,
    },
    /// The disk is nearly full, so that the recording has stopped, or has room again.
    Disk {
        /// Whether the trouble begins or ends.
        state: EventState,
        /// Bytes that are free.
        free_bytes: u64,
    },
}

/// The side of a trouble that an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventState {
    /// It begins.
    Begin,
    /// It is over.
    End,
}

impl EventKind {
    /// Returns the name of the kind, as `event` shows it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left { .. } => "left",
            Self::FellBehind { .. } => "fell_behind",
            Self::FellFarBehind { .. } => "fell_far_behind",
            Self::Skipped { .. } => "skipped",
            Self::CaughtUp { .. } => "caught_up",
            Self::SourceLost { .. } => "source_lost",
            Self::SourceBack { .. } => "source_back",
            Self::Fallback { .. } => "fallback",
            Self::Xrun { .. } => "xrun",
            Self::Recording { .. } => "recording",
            Self::Disk { .. } => "disk",
            Self::EdgeJoined { .. } => "edge_joined",
            Self::EdgeSilent { .. } => "edge_silent",
            Self::EdgeBack { .. } => "edge_back",
            Self::EdgeLeft { .. } => "edge_left",
            Self::EdgeDropped { .. } => "edge_dropped",
        }
    }

    /// Returns whether sound is missing or late.
    #[must_use]
    pub const fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::FellBehind { .. }
                | Self::FellFarBehind { .. }
                | Self::Skipped { .. }
                | Self::SourceLost { .. }
                | Self::Fallback { state: EventState::Begin }
                | Self::Xrun { .. }
                | Self::Recording { state: EventState::Begin, .. }
                | Self::Disk { state: EventState::Begin, .. }
                | Self::EdgeSilent { .. }
                | Self::EdgeDropped { .. }
        )
    }
}

/// A listener's lag at the moment of an event, by the places where it waits, and what the server made of it. Most names are those
/// of [`ListenerRow`](crate::ListenerRow).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LagFigures {
    /// Its lag, without the requested part.
    pub lag_seconds: f64,
    /// The least and the most that this lag could be, by what the server had seen; `null` from an older server.
    pub lag_at_least_seconds: Option<f64>,
    /// See `lag_at_least_seconds`.
    pub lag_at_most_seconds: Option<f64>,
    /// The requested part.
    pub burst_seconds: f64,
    /// The part that was not handed to its connection: queued in its ring, or lost there.
    pub undelivered_seconds: f64,
    /// The part of `undelivered_seconds` that is lost.
    pub undelivered_lost_seconds: f64,
    /// Bytes handed to its connection and not acknowledged by its machine.
    pub socket_queued_bytes: u64,
    /// The part of the lag in these bytes.
    pub socket_queued_seconds: f64,
    /// Bytes that its machine has received and its program has not read.
    pub unread_bytes: u64,
    /// The part of the lag in these bytes.
    pub unread_seconds: f64,
    /// For how long its machine has answered nothing, although an answer was due.
    pub unanswered_seconds: f64,
    /// The verdict on the lag.
    pub verdict: Verdict,
    /// What it did, in the words of a row's `state`; empty from an older server.
    pub state: Box<str>,
    /// The place where the cause of the lag is; `null` while `verdict` is `ok`.
    pub fault: Option<Fault>,
    /// The limit that was crossed; `null` if the event has none.
    pub limit_seconds: Option<f64>,
}

/// The place where the cause of a listener's lag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// In this server: the socket would take more.
    Server,
    /// In the network: sent bytes are not acknowledged, although the listener's machine has room for them.
    Network,
    /// At the listener: its machine has received sound that its program does not read.
    Listener,
    /// At the proxy through which it listens, or beyond that, where the server sees nothing.
    Proxy,
    /// A place that a newer server names.
    #[serde(other)]
    Unknown,
}

/// The reason why a listener's stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// The listener closed the connection, or the connection broke.
    Left,
    /// The listener was disconnected through the API.
    Closed,
    /// The listener's ring was full, and its overflow policy is `disconnect`.
    TooSlow,
    /// The listener was further behind than its limit of lag, and its overflow policy is `disconnect`.
    MaxLag,
    /// The listener's program had read nothing for as long as `--idle-timeout` permits.
    Idle,
    /// The listener's machine had answered nothing for a minute.
    Gone,
    /// The TLS of its connection could not go on: a record from the listener was not genuine, or the keys were used up, which TLS 1.2
    /// cannot change.
    Tls,
    /// The token that it listened by was taken out or changed.
    Revoked,
    /// The mount was taken out of the settings, or opened anew with others.
    Removed,
    /// The stream has ended.
    Finished,
    /// The stream has ended, because its source failed.
    Failed,
}

impl LeaveReason {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Left,
        Self::Closed,
        Self::TooSlow,
        Self::MaxLag,
        Self::Idle,
        Self::Gone,
        Self::Tls,
        Self::Revoked,
        Self::Removed,
        Self::Finished,
        Self::Failed,
    ];

    /// Returns the name that JSON and metrics use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Closed => "closed",
            Self::TooSlow => "too_slow",
            Self::MaxLag => "max_lag",
            Self::Idle => "idle",
            Self::Gone => "gone",
            Self::Tls => "tls",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_json_and_in_metrics() {
        for reason in LeaveReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
        let lag = Box::<LagFigures>::default();
        let kinds = [
            EventKind::Joined,
            EventKind::SourceLost { reason: None },
            EventKind::SourceBack { down_seconds: 1.5 },
            EventKind::Fallback { state: EventState::Begin },
            EventKind::FellBehind { lag: lag.clone() },
            EventKind::FellFarBehind { lag: lag.clone() },
            EventKind::CaughtUp { lag },
            EventKind::EdgeJoined { edge: "berlin".to_owned() },
            EventKind::EdgeSilent { edge: "berlin".to_owned(), listeners: 3, age_seconds: 3.0 },
            EventKind::EdgeBack { edge: "berlin".to_owned(), age_seconds: 5.0 },
            EventKind::EdgeLeft { edge: "berlin".to_owned() },
            EventKind::EdgeDropped { edge: "berlin".to_owned(), listeners: 3, age_seconds: 20.0 },
        ];
        for kind in kinds {
            assert_eq!(serde_json::to_value(&kind).unwrap()["event"], kind.name());
        }
    }

    #[test]
    fn an_event_of_an_older_server_about_its_source_is_read() {
        assert_eq!(
            serde_json::from_str::<EventKind>(r#"{"event":"source_back"}"#).unwrap(),
            EventKind::SourceBack { down_seconds: 0.0 }
        );
        let lost = EventKind::SourceLost { reason: Some("unplugged".to_owned()) };
        assert_eq!(serde_json::to_string(&lost).unwrap(), r#"{"event":"source_lost","reason":"unplugged"}"#);
        let fallback = EventKind::Fallback { state: EventState::End };
        assert_eq!(serde_json::to_string(&fallback).unwrap(), r#"{"event":"fallback","state":"end"}"#);
    }

    #[test]
    fn an_event_of_a_listener_reads_back() {
        let lag = LagFigures {
            lag_seconds: 1.25,
            lag_at_least_seconds: Some(0.5),
            lag_at_most_seconds: Some(1.5),
            unread_bytes: 70_000,
            verdict: Verdict::FarBehind,
            state: "has not read for 1 s".into(),
            fault: Some(Fault::Listener),
            limit_seconds: Some(1.0),
            ..LagFigures::default()
        };
        let event = Event {
            kind: EventKind::Left {
                reason: LeaveReason::TooSlow,
                offered: 9,
                delivered: 5,
                lost: 4,
                lag: Box::new(lag),
            },
            mount: "main".into(),
            at: 1.5,
            sequence: None,
            listener: Some(EventListener {
                id: 3,
                name: "kitchen".to_owned(),
                format: Rendition::WebSocket,
                remote: "127.0.0.1:5".to_owned(),
            }),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.starts_with(r#"{"event":"left","reason":"too_slow","offered":9,"#), "{json}");
        assert!(json.contains(r#""unread_bytes":70000"#) && json.contains(r#""limit_seconds":1.0"#), "{json}");
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
    }
}
