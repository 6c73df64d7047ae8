//! The renditions of a mount.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One form in which a mount can be had, as its URL names it.
///
/// ```
/// use aircheck_api::Rendition;
///
/// assert_eq!(Rendition::from_name("opus"), Some(Rendition::Opus));
/// assert_eq!(Rendition::Opus.path().as_deref(), Some("/stream.opus"));
/// assert_eq!(Rendition::WebSocket.path(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rendition {
    /// Endless WAV: `/stream.wav`.
    Wav,
    /// Raw samples: `/stream.pcm`.
    Pcm,
    /// One JSON object a line: `/stream.json`.
    Json,
    /// FLAC: `/stream.flac`.
    Flac,
    /// Opus in Ogg: `/stream.opus`.
    Opus,
    /// MP3: `/stream.mp3`.
    Mp3,
    /// Server-sent events: `/stream` with `Accept: text/event-stream`.
    #[serde(rename = "sse")]
    Events,
    /// Messages of a WebSocket: `/stream` with an upgrade.
    #[serde(rename = "ws")]
    WebSocket,
}

impl Rendition {
    /// All renditions, in the order in which they are listed.
    pub const ALL: [Self; 8] =
        [Self::Wav, Self::Pcm, Self::Json, Self::Flac, Self::Opus, Self::Mp3, Self::Events, Self::WebSocket];

    /// Returns the name that URLs, rows and metrics use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Pcm => "pcm",
            Self::Json => "json",
            Self::Flac => "flac",
            Self::Opus => "opus",
            Self::Mp3 => "mp3",
            Self::Events => "sse",
            Self::WebSocket => "ws",
        }
    }

    /// Returns the rendition of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rendition| rendition.name() == name)
    }

    /// Returns the path of the rendition's own, `/stream.NAME`. Server-sent events and the WebSocket have none: both are
    /// at `/stream`.
    #[must_use]
    pub fn path(self) -> Option<String> {
        (!matches!(self, Self::Events | Self::WebSocket)).then(|| format!("/stream.{}", self.name()))
    }
}

impl fmt::Display for Rendition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_json_and_in_urls() {
        for rendition in Rendition::ALL {
            assert_eq!(serde_json::to_value(rendition).unwrap(), rendition.name());
            assert_eq!(Rendition::from_name(rendition.name()), Some(rendition));
        }
        assert_eq!(Rendition::from_name("aac"), None);
    }
}
