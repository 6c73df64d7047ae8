//! `/mounts/NAME/hls/…`: playlists and segments, with what caches need to know of them.
//!
//! A cache may answer for this server: a playlist for half a segment's length, a segment for a minute. Where listening takes a token, each
//! playlist signs the URLs in it, as players bring nothing to them, and answers to signed URLs are for caches that tell them apart by the
//! whole URL. An answer to a token in a header is for no cache.

use std::time::Duration;

use aircheck_api::{EXPIRES, SIGNATURE};
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::access::policy::{Access, Asked, Granted, Sharing};
use crate::access::scope::Scope;
use crate::http::reply::{Reply, busy, error, set, set_display, whole};
use crate::mounts::ServedMount;
use crate::sink::hls::{Epoch, Found, HlsError, SEGMENT_SPAN, Variant, playlist};

/// How long a request for a playlist waits for its first segment: for one that has just begun, and as long again on a busy machine.
const FIRST_SEGMENT_TIMEOUT: Duration = SEGMENT_SPAN.saturating_mul(4);
/// How long a cache may answer with a playlist. A player asks again after half of a segment's length at the earliest (RFC 8216, section
/// 6.3.4).
const PLAYLIST_MAX_AGE: u64 = SEGMENT_SPAN.as_secs() / 2;
/// How long a cache may answer with what never changes: twice as long as a segment is to be had here.
const FIXED_MAX_AGE: u64 = 60;
/// The moments at which URLs that are signed anew may expire. In between, they stay the same, so that a segment does not come to a cache
/// under many names.
const EXPIRY_GRID_SECONDS: u64 = 3600;
/// Parameters that a player may add without need (RFC 8216 bis reserves them).
const DIRECTIVES: &str = "_HLS_";

const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
const SEGMENT_TYPE: &str = "audio/mp4";

/// What is at a path below `/hls/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HlsRoute {
    /// The playlist of the variants.
    Master,
    /// The playlist of the segments of one.
    Media(Variant),
    /// What a player needs before the segments of an epoch.
    Header(Variant, Epoch),
    /// The segment of an epoch with this number.
    Segment(Variant, Epoch, u64),
}

/// A request for something of HLS that was permitted.
pub(super) struct HlsRequest<'r> {
    pub(super) access: &'r Access,
    pub(super) scope: &'r Scope,
    pub(super) asked: &'r Asked<'r>,
    /// The token that permits it.
    pub(super) granted: &'r Granted,
}

impl HlsRoute {
    /// Finds what is at a path below `/hls/`. Each thing has one path alone, because a cache keeps an answer for each path.
    pub(super) fn of(path: &str) -> Option<Self> {
        if path == "index.m3u8" {
            return Some(Self::Master);
        }
        let (variant, path) = path.split_once('/')?;
        let variant = Variant::from_name(variant)?;
        if path == "index.m3u8" {
            return Some(Self::Media(variant));
        }
        let (epoch, name) = path.split_once('/')?;
        let epoch = canonical(epoch)?;
        if name == playlist::HEADER_NAME {
            return Some(Self::Header(variant, epoch));
        }
        Some(Self::Segment(variant, epoch, canonical(name.strip_suffix(playlist::SEGMENT_SUFFIX)?)?))
    }
}

/// Reads a number in the form in which it is written.
fn canonical<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    text.parse().ok().filter(|number: &T| number.to_string() == text)
}

/// Answers a request for something of a mount's HLS. That of a playlist may take some seconds, if nobody has asked before and there is no
/// history.
pub(super) async fn answer(served: &ServedMount, route: HlsRoute, request: &HlsRequest<'_>) -> Reply {
    if let Err(sentence) = check_query(request.asked.query) {
        return error(StatusCode::BAD_REQUEST, sentence);
    }
    let hls = &served.hls;
    match route {
        HlsRoute::Master => {
            let packagers = hls.possible().map(AsRef::as_ref);
            match playlist::master(packagers, |path| request.signature(path)) {
                Some(text) => request.playlist(text, FIXED_MAX_AGE),
                None => {
                    error(StatusCode::NOT_FOUND, "this mount has no HLS: neither Opus nor FLAC can carry its sound")
                }
            }
        }
        HlsRoute::Media(variant) => {
            let listing = timeout(FIRST_SEGMENT_TIMEOUT, hls.packager(variant).listing()).await;
            match listing {
                Ok(Ok(listing)) => {
                    let text = playlist::media(hls.epoch(), &listing, |path| request.signature(path));
                    request.playlist(text, PLAYLIST_MAX_AGE)
                }
                Ok(Err(failed)) => not_had(&failed),
                Err(_) => busy("no sound has come for a segment yet (try again later)"),
            }
        }
        HlsRoute::Header(_, epoch) | HlsRoute::Segment(_, epoch, _) if epoch != hls.epoch() => error(
            StatusCode::NOT_FOUND,
            format!("epoch {epoch} is not that of this stream, which began anew (ask for the playlist again)"),
        ),
        HlsRoute::Header(variant, epoch) => match hls.packager(variant).header() {
            Ok(bytes) => request.fixed(&format!("\"{epoch}\""), SEGMENT_TYPE, bytes, FIXED_MAX_AGE),
            Err(failed) => not_had(&failed),
        },
        HlsRoute::Segment(variant, epoch, number) => match hls.packager(variant).segment(number) {
            Found::Segment(segment) => {
                request.fixed(&format!("\"{epoch}-{number}\""), SEGMENT_TYPE, segment.bytes, FIXED_MAX_AGE)
            }
            Found::Expired => error(
                StatusCode::NOT_FOUND,
                format!("segment {number} is not kept any more (the playlist names those that are)"),
            ),
            Found::Future => error(
                StatusCode::NOT_FOUND,
                format!("segment {number} is not made yet (the playlist names those that are)"),
            ),
        },
    }
}

/// Lets caches before this server keep the answer, and the sites that are allowed have one that was made for another reader.
pub(super) fn permit_caches(reply: &mut Reply, has_allowed_sites: bool) {
    // nginx keeps nothing of what it passes on as it comes.
    reply.headers_mut().remove(HeaderName::from_static("x-accel-buffering"));
    if has_allowed_sites {
        set(reply, header::VARY, "Origin");
        // An element of an allowed site sends no `Origin`. A site that is not allowed is refused by the guard.
        set(reply, HeaderName::from_static("cross-origin-resource-policy"), "cross-origin");
    }
}

impl HlsRequest<'_> {
    /// Returns the query by which a URL relative to this request's opens, if listening takes a token.
    fn signature(&self, path: &str) -> String {
        let folder = self.asked.path.rfind('/').map_or("", |end| &self.asked.path[..=end]);
        let unix_now = self.asked.unix_now - self.asked.unix_now % EXPIRY_GRID_SECONDS;
        let asked = Asked { unix_now, ..*self.asked };
        let signed = self.access.pass_on(self.granted, self.scope, &asked, &format!("{folder}{path}"), "");
        signed.and_then(|url| url.find('?').map(|query| url[query..].to_owned())).unwrap_or_default()
    }

    /// Answers with a playlist, which a cache may keep for so many seconds.
    fn playlist(&self, text: String, max_age: u64) -> Reply {
        let hash: String = Sha256::digest(&text).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        self.kept(&format!("\"{hash}\""), PLAYLIST_TYPE, text.into(), max_age, "")
    }

    /// Answers with something that never changes.
    fn fixed(&self, etag: &str, content_type: &'static str, bytes: Bytes, max_age: u64) -> Reply {
        self.kept(etag, content_type, bytes, max_age, ", immutable")
    }

    fn kept(&self, etag: &str, content_type: &'static str, bytes: Bytes, max_age: u64, more: &str) -> Reply {
        let (whose, max_age) = match self.access.sharing(self.scope, self.asked) {
            Sharing::Everybody => ("public", max_age),
            Sharing::Until(expires) => ("public", max_age.min(expires.saturating_sub(self.asked.unix_now))),
            Sharing::Own => ("private", max_age),
        };
        let length = bytes.len();
        let mut reply = if is_known(self.asked.headers, etag) {
            let mut reply = Response::default();
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            reply
        } else {
            let mut reply = whole(StatusCode::OK, content_type, bytes);
            // Also for HEAD, whose answer has no body to measure.
            set_display(&mut reply, "content-length", length);
            reply
        };
        set_display(&mut reply, "etag", etag);
        set_display(&mut reply, "cache-control", format!("{whose}, max-age={max_age}{more}"));
        reply
    }
}

/// Returns whether the client has this version already (RFC 9110, section 13.1.2).
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let fields = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    let mut tags = fields.flat_map(|field| field.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Checks that a query has nothing that would have no effect.
fn check_query(query: &str) -> Result<(), String> {
    let mut keys = form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key);
    let unknown = keys.find(|key| !matches!(&**key, "_" | EXPIRES | SIGNATURE) && !key.starts_with(DIRECTIVES));
    unknown.map_or(Ok(()), |key| Err(format!("`{key}` is not a parameter of HLS; it takes none")))
}

fn not_had(failed: &HlsError) -> Reply {
    match failed {
        HlsError::Coding(_) => error(StatusCode::NOT_FOUND, failed.to_string()),
        HlsError::Ended => error(StatusCode::SERVICE_UNAVAILABLE, failed.to_string()),
        HlsError::Thread(_) => error(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_one_path() {
        let epoch = "1790000000123".parse().unwrap();
        for (path, route) in [
            ("index.m3u8", HlsRoute::Master),
            ("opus/index.m3u8", HlsRoute::Media(Variant::Opus)),
            ("flac/1790000000123/header.mp4", HlsRoute::Header(Variant::Flac, epoch)),
            ("opus/1790000000123/0.m4s", HlsRoute::Segment(Variant::Opus, epoch, 0)),
        ] {
            assert_eq!(HlsRoute::of(path), Some(route), "{path}");
        }
        for path in [
            "",
            "/",
            "opus",
            "opus/",
            "wav/index.m3u8",
            "opus/index.m3u8/",
            "opus//0.m4s",
            "opus/1/00.m4s",
            "opus/1/+1.m4s",
            "opus/01/1.m4s",
            "opus/1/1",
            "opus/1/1.mp4",
            "opus/1/-1.m4s",
            "opus/1/99999999999999999999.m4s",
            "opus/1/2/3.m4s",
            "../stream.wav",
        ] {
            assert_eq!(HlsRoute::of(path), None, "{path}");
        }
    }

    #[test]
    fn a_version_that_is_known_is_found_among_others() {
        let known = |value: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap())]);
            is_known(&headers, "\"5-7\"")
        };
        assert!(known("\"5-7\"") && known("W/\"5-7\"") && known("\"a\", \"5-7\"") && known("*"));
        assert!(!known("\"5-70\"") && !known("5-7") && !known("") && !is_known(&HeaderMap::new(), "\"5-7\""));
    }
}
