//! The types that aircheck's server, tools and tests exchange: JSON documents of the API, messages of the WebSocket, and
//! the words of a stream's URL. Each stands here once.
//!
//! - [`ListenerRow`]: one listener in `/api/v1/listeners`, with its lag, losses and [`Verdict`].
//! - [`Audience`]: the listeners of several servers in `/api/v1/audience`, and [`EdgeReport`], by which one hears of those of another.
//! - [`Status`]: the server and its source in `/api/v1/status`.
//! - [`Event`]: an event of a listener or of the source, in `/api/v1/events`.
//! - [`MessageHeader`], [`ServerText`], [`ClientText`]: the messages of the WebSocket.
//! - [`SessionStatus`]: what a page may do.
//! - [`TokenHash`], [`SignedUrl`]: what a server keeps of a token, and URLs that a token has signed.
//! - [`Rendition`], [`Payload`], [`StreamParam`]: the names in a stream's URL; [`span`]: durations written as `10ms`; [`moment`]: times.
//!
//! Times are Unix seconds and spans are seconds, as floating-point numbers, unless a name says otherwise. Readers ignore
//! fields that they do not know, so that a newer server can say more.
//!
//! This crate plays no sound, opens no socket, and reads neither clock nor random numbers.

mod audience;
pub mod bitrate;
mod event;
mod fingerprint;
mod hop;
mod listener;
mod message;
pub mod moment;
mod param;
mod rendition;
mod session;
mod signed_url;
pub mod span;
mod status;
mod token;

pub use audience::{
    Audience, AudienceRow, AudienceTotals, EdgeReport, EdgeStatus, GatherStatus, REPORT_VERSION, ReportMessages,
    ReportStatus,
};
pub use event::{Event, EventKind, EventListener, EventState, Fault, LagFigures, LeaveReason};
pub use fingerprint::fingerprint;
pub use hop::{HopMessages, HopStatus, PublishStatus, ReplayStatus};
pub use listener::{LatencyByStage, ListenerRow, Percentiles, Verdict};
pub use message::{
    ClientText, Clock, EpochNotice, GapNotice, HEADER_BYTES, HeaderError, Heard, Hello, MessageHeader, Metadata,
    MetadataNotice, PROTOCOL_VERSION, Payload, ServerText, Stale,
};
pub use param::StreamParam;
pub use rendition::Rendition;
pub use session::SessionStatus;
pub use signed_url::{EXPIRES, SIGNATURE, SignedUrl, sign_url};
pub use status::{
    CaptureStatus, ChannelLevel, HlsStatus, LastNotification, LoudnessStatus, MetadataStatus, MountRow,
    NotificationTarget, PushStatus, RealtimeStatus, RecordingStatus, SourceKind, SourceLatency, SourceStatus, Status,
    StreamFormat, StreamState,
};
pub use token::{NotAHash, TOKEN_BYTES, TOKEN_PREFIX, TokenHash, token};

/// The name of the first mount, which is at `/stream*`.
pub const MAIN_MOUNT: &str = "main";

/// Runs the example of the README as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
