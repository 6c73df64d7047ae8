//! The streams that there are to listen to, and how a request picks one.

use aircheck_engine::source::PcmEncoding;

use crate::encode::Encoding;

/// A stream's format, as its URL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mount {
    /// `/stream.wav`
    Wav,
    /// `/stream.pcm`
    Pcm,
    /// `/stream.json`
    Json,
    /// `/stream` with `Accept: text/event-stream`
    Events,
}

impl Mount {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Wav, Self::Pcm, Self::Json, Self::Events];

    /// Its name in URLs, in the table and in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Pcm => "pcm",
            Self::Json => "json",
            Self::Events => "sse",
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
            Self::Events => "text/event-stream",
        }
    }

    /// Whether a listener may choose how its samples are written.
    #[must_use]
    pub const fn has_samples(self) -> bool {
        matches!(self, Self::Wav | Self::Pcm)
    }

    /// What encodes it, with `samples` where there is a choice.
    #[must_use]
    pub const fn encoding(self, samples: PcmEncoding) -> Encoding {
        match self {
            Self::Wav | Self::Pcm => Encoding::Pcm(samples),
            Self::Json => Encoding::Json,
            Self::Events => Encoding::Events,
        }
    }

    /// The mount for an `Accept` header: the first of its types that one serves, WAV if none does.
    #[must_use]
    pub fn for_accept(accept: &str) -> Self {
        let types = accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
        for media_type in types {
            match media_type.to_ascii_lowercase().as_str() {
                "text/event-stream" => return Self::Events,
                "application/x-ndjson" | "application/json" => return Self::Json,
                "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/*" => return Self::Wav,
                _ => {}
            }
        }
        Self::Wav
    }
}

/// A format that is known but not served yet.
pub const PLANNED: [&str; 2] = ["flac", "opus"];
