//! One row of the table: a stream in pages of some length, from one contender to so many listeners.

use std::time::Duration;

/// Frames per second, of PCM and of Opus' positions.
pub(crate) const RATE_HZ: u32 = 48_000;
/// A frame of 16-bit stereo.
pub(crate) const FRAME_BYTES: usize = 4;
/// A block of aircheck, a length that no listener notices, and half of what players buffer anyway.
const PAGES_MS: [u64; 3] = [10, 100, 500];
/// The pages that are measured with TLS, too: of Opus, those that aircheck sends unless a listener asks for others. The other two lengths
/// would take twenty minutes more for each stream.
const TLS_PAGE_MS: u64 = 100;

/// The form of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Opus,
    Wav,
}

impl Stream {
    pub(crate) const ALL: [Self; 2] = [Self::Opus, Self::Wav];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Wav => "wav",
        }
    }

    /// Returns the path of its samples or packets without a header of its own, as the origin serves them.
    pub(crate) const fn origin_path(self) -> &'static str {
        match self {
            Self::Opus => "stream.opus",
            Self::Wav => "stream.pcm",
        }
    }

    /// Reads a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Opus => "application/ogg",
            Self::Wav => "application/octet-stream",
        }
    }
}

/// A server, or the loop that is the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Floor,
    Icecast,
    Aircheck,
}

impl Contender {
    pub(crate) const ALL: [Self; 3] = [Self::Floor, Self::Icecast, Self::Aircheck];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Icecast => "icecast",
            Self::Aircheck => "aircheck",
        }
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) stream: Stream,
    /// The length of sound that is sent in one piece.
    pub(crate) page: Duration,
    pub(crate) listeners: usize,
    /// Whether the listeners come by TLS. The floor has none.
    pub(crate) tls: bool,
    pub(crate) contender: Contender,
}

impl Case {
    /// Returns all cases, those beside each other that are compared.
    pub(crate) fn all(listeners: &[usize]) -> Vec<Self> {
        let mut cases = Vec::new();
        for stream in Stream::ALL {
            for page in PAGES_MS.map(Duration::from_millis) {
                for &listeners in listeners {
                    let of = |contender, tls| Self { stream, page, listeners, tls, contender };
                    cases.extend(Contender::ALL.map(|contender| of(contender, false)));
                    if page == Duration::from_millis(TLS_PAGE_MS) {
                        cases.extend([Contender::Icecast, Contender::Aircheck].map(|contender| of(contender, true)));
                    }
                }
            }
        }
        cases
    }

    /// Returns how many pages a second the contender sends.
    pub(crate) fn pages_per_second(&self) -> f64 {
        self.listeners as f64 / self.page.as_secs_f64()
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.work(), self.contender.name())
    }

    /// Returns what all contenders of a group have to do.
    pub(crate) fn work(&self) -> String {
        let tls = if self.tls { "/tls" } else { "" };
        format!("{}/{}ms/{}{tls}", self.stream.name(), self.page.as_millis(), self.listeners)
    }

    /// Returns whether another contender has the same work.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.has_pages_of(other) && self.listeners == other.listeners
    }

    /// Returns whether its pages are sent as those of the other one are, to however many listeners.
    pub(crate) fn has_pages_of(&self, other: &Self) -> bool {
        (self.stream, self.page, self.tls) == (other.stream, other.page, other.tls)
    }

    /// Returns where aircheck serves the stream in pages of that length. Zero sends each block, of 10 ms, at once. At
    /// most an eighth of the buffer may be gathered.
    pub(crate) fn path_and_query(&self) -> String {
        let (gather, buffer) = match self.page.as_millis() {
            10 => (0, "1s"),
            gather @ ..=125 => (gather, "1s"),
            gather => (gather, "4s"),
        };
        format!("stream.{}?gather={gather}ms&buffer={buffer}", self.stream.name())
    }
}
