//! The query parameters of a stream's URL.

/// A query parameter of a stream's URL. The range of each depends on the server's configuration; the server answers a
/// wrong value with a 400 that names the parameter and its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamParam {
    /// The overflow policy.
    Overflow,
    /// Length of the listener's buffer, as a span.
    Buffer,
    /// Lag beyond which the listener is skipped to live or ended, as a span or `off`.
    MaxLag,
    /// Start this far in the past, as a span.
    Burst,
    /// Start at this sequence number.
    From,
    /// Start at this moment, in the recording if the history no longer has it.
    At,
    /// Start so long ago, in the recording if the history no longer has it.
    Back,
    /// The listener's name in the table.
    Name,
    /// Sample format of `wav`, `pcm` and `flac`.
    Sample,
    /// Bits per second of Opus, as `96000` or `96k`.
    Bitrate,
    /// [`Payload`](crate::Payload) of the WebSocket.
    Payload,
    /// Replacement of lost blocks in `wav` and `pcm`: `skip` or `silence`.
    Gaps,
    /// Length of the sound that is sent at a time, as a span.
    Gather,
    /// [`Rendition`](crate::Rendition) that `/stream` answers with.
    Format,
}

impl StreamParam {
    /// All parameters, in the order in which they are listed.
    pub const ALL: [Self; 14] = [
        Self::Overflow,
        Self::Buffer,
        Self::MaxLag,
        Self::Burst,
        Self::From,
        Self::At,
        Self::Back,
        Self::Name,
        Self::Sample,
        Self::Bitrate,
        Self::Payload,
        Self::Gaps,
        Self::Gather,
        Self::Format,
    ];

    /// Returns the key in the query.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overflow => "overflow",
            Self::Buffer => "buffer",
            Self::MaxLag => "max_lag",
            Self::Burst => "burst",
            Self::From => "from",
            Self::At => "at",
            Self::Back => "back",
            Self::Name => "name",
            Self::Sample => "sample",
            Self::Bitrate => "bitrate",
            Self::Payload => "payload",
            Self::Gaps => "gaps",
            Self::Gather => "gather",
            Self::Format => "format",
        }
    }

    /// Returns the parameter with this key.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|param| param.name() == name)
    }
}
