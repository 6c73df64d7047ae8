//! The streams that there are to listen to, and how a request picks one.

/// A stream's format, as its URL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mount {
    /// `/stream.wav`
    Wav,
    /// `/stream.pcm`
    Pcm,
    /// `/stream.json`
    Json,
    /// `/stream.flac`
    Flac,
    /// `/stream.opus`
    Opus,
    /// `/stream` with `Accept: text/event-stream`
    Events,
    /// `/stream` as a WebSocket
    WebSocket,
}

impl Mount {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Wav, Self::Pcm, Self::Json, Self::Flac, Self::Opus, Self::Events, Self::WebSocket];

    /// Its name in URLs, in the table and in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Pcm => "pcm",
            Self::Json => "json",
            Self::Flac => "flac",
            Self::Opus => "opus",
            Self::Events => "sse",
            Self::WebSocket => "ws",
        }
    }

    /// The mount of this name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mount| mount.label() == label)
    }

    /// The `Content-Type` of its responses.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Wav => "audio/wav",
            Self::Pcm => "application/octet-stream",
            Self::Json => "application/x-ndjson",
            Self::Flac => "audio/flac",
            Self::Opus => "audio/ogg; codecs=opus",
            Self::Events => "text/event-stream",
            // It has no response of this kind.
            Self::WebSocket => "application/octet-stream",
        }
    }

    /// Whether a listener may choose how its samples are written.
    #[must_use]
    pub const fn has_samples(self) -> bool {
        matches!(self, Self::Wav | Self::Pcm | Self::Flac)
    }

    /// Whether it is reached by a path of its own, `/stream.LABEL`.
    #[must_use]
    pub const fn has_path(self) -> bool {
        !matches!(self, Self::Events | Self::WebSocket)
    }

    /// The mount for an `Accept` header: the first of its types that one serves, WAV if none does.
    #[must_use]
    pub fn for_accept(accept: &str) -> Self {
        let types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        for media_type in types {
            match media_type.to_ascii_lowercase().as_str() {
                "text/event-stream" => return Self::Events,
                "application/x-ndjson" | "application/json" => return Self::Json,
                "audio/flac" | "audio/x-flac" => return Self::Flac,
                "audio/ogg" | "audio/opus" | "application/ogg" => return Self::Opus,
                "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/*" => return Self::Wav,
                _ => {}
            }
        }
        Self::Wav
    }
}
