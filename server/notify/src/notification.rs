//! One notification.

use serde::Serialize;
use serde_json::{Map, Value};

/// Further fields of a notification, by event.
pub type Details = Map<String, Value>;

/// The begin or the end of an event.
///
/// ```
/// use aircheck_notify::{Details, EventName, Notification, NotificationState};
///
/// let notification = Notification {
///     event: EventName::Silence,
///     state: NotificationState::Begin,
///     mount: "main".into(),
///     server: "studio".into(),
///     at: 1_790_000_000.5,
///     text: "no sound for 30 s".into(),
///     details: Details::new(),
/// };
/// let json = r#"{"event":"silence","state":"begin","mount":"main","server":"studio","at":1790000000.5,"text":"no sound for 30 s"}"#;
/// assert_eq!(serde_json::to_string(&notification)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notification {
    /// The event.
    pub event: EventName,
    /// Whether it begins or ends.
    pub state: NotificationState,
    /// The mount that it happened to.
    pub mount: String,
    /// The machine that the server runs on.
    pub server: String,
    /// When it happened, in Unix seconds.
    pub at: f64,
    /// One sentence for people.
    pub text: String,
    /// Further fields.
    #[serde(flatten)]
    pub details: Details,
}

/// The name of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventName {
    /// The source delivers no sound.
    SourceLost,
    /// Another sound stands in for the source.
    Fallback,
    /// All channels are silent.
    Silence,
    /// One channel is silent, and another is not.
    ChannelSilence,
    /// The sound is at full scale.
    Clipping,
    /// A listener is behind its lag objective.
    ListenerLag,
    /// Too many blocks are lost.
    Losses,
    /// The recorder cannot write.
    Recording,
    /// The disk of the recording is nearly full.
    Disk,
    /// The service runs.
    Service,
    /// A test, which means nothing.
    Test,
}

impl EventName {
    /// Returns the name, as JSON shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceLost => "source_lost",
            Self::Fallback => "fallback",
            Self::Silence => "silence",
            Self::ChannelSilence => "channel_silence",
            Self::Clipping => "clipping",
            Self::ListenerLag => "listener_lag",
            Self::Losses => "losses",
            Self::Recording => "recording",
            Self::Disk => "disk",
            Self::Service => "service",
            Self::Test => "test",
        }
    }

    /// Returns whether its begin means trouble.
    #[must_use]
    pub const fn is_trouble(self) -> bool {
        !matches!(self, Self::Service | Self::Test)
    }
}

/// Whether an event begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationState {
    /// It begins.
    Begin,
    /// It ends.
    End,
}

impl NotificationState {
    /// Returns the name, as JSON shows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}
