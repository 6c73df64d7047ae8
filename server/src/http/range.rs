//! Ranges of bytes: a stream has none, but iPhones and Macs ask for one before they play.
//!
//! Their player first asks for two bytes, and takes the answer 206 for the sign of a server that can be played. Then it asks for all
//! bytes up to the length that it was told. Answered with 200, it opens a second connection and keeps the first one open.

use aircheck_api::Rendition;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use crate::http::reply::{Reply, set_display};

/// The length that a stream is said to have: more than a century of samples, and less than the largest number that all programs can
/// hold (2^53).
const LENGTH: u64 = 1 << 52;

/// The part of a stream that a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it, which is also the answer to every other range: a server may ignore those (RFC 9110, section 14.2).
    All,
    /// The first two bytes, which are these.
    FirstBytes(&'static [u8; 2]),
    /// All bytes of the length that it was told.
    AllBytes,
}

impl Range {
    /// Reads the range of a request for `rendition`.
    pub(super) fn of(headers: &HeaderMap, rendition: Rendition) -> Self {
        let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
        let last = range.and_then(|range| range.trim().strip_prefix("bytes=0-")?.parse::<u64>().ok());
        match (last, first_bytes(rendition)) {
            (Some(1), Some(bytes)) => Self::FirstBytes(bytes),
            (Some(last), Some(_)) if last == LENGTH - 1 => Self::AllBytes,
            _ => Self::All,
        }
    }

    /// Makes a response one of this range.
    pub(super) fn apply(self, reply: &mut Reply) {
        let last = match self {
            Self::All => return,
            Self::FirstBytes(_) => 1,
            Self::AllBytes => LENGTH - 1,
        };
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
        set_display(reply, "content-range", format_args!("bytes 0-{last}/{LENGTH}"));
    }
}

/// Returns the bytes with which every stream of `rendition` begins, if there are such.
fn first_bytes(rendition: Rendition) -> Option<&'static [u8; 2]> {
    match rendition {
        Rendition::Wav => Some(b"RI"),
        Rendition::Flac => Some(b"fL"),
        Rendition::Opus => Some(b"Og"),
        // The marker of a frame of MPEG-1 Layer III without a checksum.
        Rendition::Mp3 => Some(&[0xFF, 0xFB]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_ranges_are_answered_as_such() {
        let of = |range: &str, rendition| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, range.parse().unwrap());
            Range::of(&headers, rendition)
        };
        assert_eq!(of("bytes=0-1", Rendition::Mp3), Range::FirstBytes(&[0xFF, 0xFB]));
        assert_eq!(of(&format!("bytes=0-{}", LENGTH - 1), Rendition::Wav), Range::AllBytes);
        for range in ["bytes=0-", "bytes=0-2", "bytes=1-1", "bytes=-1", "bytes=0-1,3-4", "bytes=0-x", "lines=0-1"] {
            assert_eq!(of(range, Rendition::Mp3), Range::All, "{range}");
        }
        assert_eq!(of("bytes=0-1", Rendition::Json), Range::All);
    }
}
