//! The playlists of HLS as text (RFC 8216).

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use crate::sink::hls::epoch::Epoch;
use crate::sink::hls::packager::{Listing, Packager};
use crate::sink::hls::window::SEGMENT_SPAN;

/// The version of playlists whose segments are MP4 (RFC 8216, section 7).
const VERSION: u32 = 7;

/// Returns the playlist of the variants that there are, or `None` without any. `query` returns what follows the path of a URL that is
/// relative to this one, such as a signature.
#[must_use]
pub fn master<'p>(packagers: impl IntoIterator<Item = &'p Packager>, query: impl Fn(&str) -> String) -> Option<String> {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let begin = text.len();
    for packager in packagers {
        let Some(bandwidth) = packager.bandwidth() else { continue };
        let (codec, path) = (packager.variant().codec(), format!("{}/index.m3u8", packager.variant().name()));
        let query = query(&path);
        // Writing to a string can't fail.
        let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{codec}\"\n{path}{query}\n");
    }
    (text.len() > begin).then_some(text)
}

/// Returns the playlist with the segments of a variant, with `query` as in [`master`].
#[must_use]
pub fn media(epoch: Epoch, listing: &Listing, query: impl Fn(&str) -> String) -> String {
    let url = |path: String| {
        let query = query(&path);
        path + &query
    };
    let first = epoch.seconds() + listing.segments.first().map_or(0, |segment| segment.number);
    let header = url(format!("{epoch}/{HEADER_NAME}"));
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"{header}\"\n",
        SEGMENT_SPAN.as_secs(),
    );
    for segment in &listing.segments {
        let captured_at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(segment.captured_at));
        let (span, url) = (segment.span.as_secs_f64(), url(format!("{epoch}/{}{SEGMENT_SUFFIX}", segment.number)));
        // Writing to a string can't fail.
        let _ = write!(text, "#EXT-X-PROGRAM-DATE-TIME:{captured_at}\n#EXTINF:{span:.6},\n{url}\n");
    }
    if listing.is_ended {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}

/// The name of the header before all segments of an epoch.
pub const HEADER_NAME: &str = "header.mp4";
/// What follows the number in the name of a segment.
pub const SEGMENT_SUFFIX: &str = ".m4s";

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sink::hls::window::Segment;

    #[test]
    fn a_playlist_has_numbers_times_and_signatures() {
        let segment = |number, captured_at| Segment { number, span: SEGMENT_SPAN, captured_at, bytes: Bytes::new() };
        let mut last = segment(8, 1_800_000_002_000_499_999);
        last.span = Duration::from_micros(1_234_567);
        let listing = Listing { segments: vec![segment(7, 1_800_000_000_000_500_000), last], is_ended: true };
        let text = media("1700000000123".parse().unwrap(), &listing, |path| format!("?signed={}", path.len()));
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1700000007\n\
                        #EXT-X-INDEPENDENT-SEGMENTS\n\
                        #EXT-X-MAP:URI=\"1700000000123/header.mp4?signed=24\"\n\
                        #EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.000Z\n#EXTINF:2.000000,\n1700000000123/7.m4s?signed=19\n\
                        #EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:02.000Z\n#EXTINF:1.234567,\n1700000000123/8.m4s?signed=19\n\
                        #EXT-X-ENDLIST\n";
        assert_eq!(text, expected);
    }
}
