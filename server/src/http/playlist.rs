//! Playlists: short files that lead a player to a stream.

use aircheck_api::{EXPIRES, Rendition, SIGNATURE};
use hyper::StatusCode;
use hyper::header;

use crate::http::reply::{Reply, error, set, whole};
use crate::http::station::station;

/// The form of a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Playlist {
    /// `/listen.m3u`.
    M3u,
    /// `/listen.pls`.
    Pls,
}

impl Playlist {
    /// Answers a request for the playlist of a mount, whose paths begin with `mount`, or with nothing. `query` is that of the stream, and may have the stream's `format`; `base` is the URL by
    /// which the request has reached this server, with a slash at its end. Where listening takes a token, `sign` returns a path and
    /// a query signed, because a player brings nothing to the URL in a playlist.
    pub(super) fn answer(
        self,
        mount: &str,
        query: &str,
        base: &str,
        sign: impl FnOnce(&str, &str) -> Option<String>,
    ) -> Reply {
        let mut rendition = Rendition::Mp3;
        let mut rest = form_urlencoded::Serializer::new(String::new());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match (key.as_ref(), Rendition::from_name(&value)) {
                ("format", Some(asked)) if is_playable(asked) => rendition = asked,
                ("format", _) => {
                    let sentence =
                        format!("format: `{value}` is not a player's format; it takes mp3, opus, flac and wav");
                    return error(StatusCode::BAD_REQUEST, sentence);
                }
                // Those of the playlist's own URL fit no other.
                (EXPIRES | SIGNATURE, _) => {}
                _ => {
                    rest.append_pair(&key, &value);
                }
            }
        }
        let (path, rest) = (format!("{mount}/stream.{}", rendition.name()), rest.finish());
        let stream = sign(&path, &rest).unwrap_or_else(|| {
            let separator = if rest.is_empty() { "" } else { "?" };
            format!("{path}{separator}{rest}")
        });
        let url = format!("{}{stream}", base.trim_end_matches('/'));
        let station = station(base);
        let mut reply = match self {
            Self::M3u => whole(StatusCode::OK, "audio/x-mpegurl", format!("#EXTM3U\n#EXTINF:-1,{station}\n{url}\n")),
            Self::Pls => {
                let text =
                    format!("[playlist]\nNumberOfEntries=1\nFile1={url}\nTitle1={station}\nLength1=-1\nVersion=2\n");
                whole(StatusCode::OK, "audio/x-scpls", text)
            }
        };
        set(&mut reply, header::CACHE_CONTROL, "no-store");
        reply
    }
}

fn is_playable(rendition: Rendition) -> bool {
    matches!(rendition, Rendition::Mp3 | Rendition::Opus | Rendition::Flac | Rendition::Wav)
}
