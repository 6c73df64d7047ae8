//! Playlists: short files that lead a player to a stream.

use aircheck_api::Rendition;
use hyper::StatusCode;
use hyper::header;

use crate::http::reply::{Reply, error, set, whole};

/// The form of a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Playlist {
    /// `/listen.m3u`.
    M3u,
    /// `/listen.pls`.
    Pls,
}

impl Playlist {
    /// Answers a request for the playlist of a mount, whose paths begin with `mount`, or with nothing. `query` is that of the stream, and may have the stream's `format`; `url` is that of the
    /// address that the request came to, whose host is used where a request of HTTP/1.0 names none as its `host`.
    pub(super) fn answer(self, mount: &str, query: &str, host: Option<&str>, url: &str) -> Reply {
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
                _ => {
                    rest.append_pair(&key, &value);
                }
            }
        }
        let (name, rest) = (rendition.name(), rest.finish());
        // A Unix socket's URL has no host.
        let (scheme, own_host) = url.split_once("://").unwrap_or(("http", "localhost"));
        let host = host.unwrap_or(own_host.trim_end_matches('/'));
        let separator = if rest.is_empty() { "" } else { "?" };
        let url = format!("{scheme}://{host}{mount}/stream.{name}{separator}{rest}");
        let mut reply = match self {
            Self::M3u => whole(StatusCode::OK, "audio/x-mpegurl", format!("#EXTM3U\n#EXTINF:-1,aircheck\n{url}\n")),
            Self::Pls => {
                let text =
                    format!("[playlist]\nNumberOfEntries=1\nFile1={url}\nTitle1=aircheck\nLength1=-1\nVersion=2\n");
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
