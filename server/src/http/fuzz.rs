//! Fuzz targets of what a request can say: its query, and the header fields that are read here.

use std::net::{IpAddr, SocketAddr};

use aircheck_api::{Payload, Rendition, StreamParam};
use aircheck_engine::Format;
use aircheck_fuzz::{assert_one_line, text};
use bolero::check;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};

use super::forwarded::Forwarding;
use super::guard::{self, Reached, Sites};
use super::playlist::Playlist;
use super::query::Query;
use super::range::Range;
use super::recording::times;
use super::reply::{Reply, error};
use super::routes::first_event;
use super::stream::last_event;
use super::table_query::TableQuery;
use super::trusted_proxies::TrustedProxies;
use crate::config::Config;
use crate::delivery::remote::Client;
use crate::rendition::content_type::{accepted, content_type};
use crate::telemetry::metrics::Exposition;

/// Words of queries. Those with `=` begin a parameter.
const QUERY_WORDS: [&str; 56] = [
    "overflow=",
    "buffer=",
    "burst=",
    "from=",
    "at=",
    "back=",
    "name=",
    "sample=",
    "max_lag=",
    "gaps=",
    "gather=",
    "payload=",
    "bitrate=",
    "format=",
    "limit=",
    "sort=",
    "to=",
    "_=",
    "&",
    "&",
    "&",
    "skip-to-live",
    "drop-newest",
    "latest",
    "disconnect",
    "block",
    "1s",
    "500ms",
    "10m",
    "0s",
    "1h",
    "off",
    "lag",
    "lost",
    "0",
    "7",
    "18446744073709551615",
    "18446744073709551616",
    "2026-11-27T14:03:00Z",
    "2026-11-27T15:03:00%2B01:00",
    "s16le",
    "s24le",
    "f32le",
    "f32",
    "s16",
    "opus",
    "mp3",
    "wav",
    "flac",
    "96k",
    "96000",
    "silence",
    "skip",
    "%",
    "%0a",
    "%ff",
];
/// Words of the fields of proxies.
const PROXY_WORDS: [&str; 32] = [
    "for=",
    "for=",
    "by=",
    "proto=",
    "host=",
    "192.0.2.7",
    "192.0.2.1",
    "10.0.0.9",
    "127.0.0.1",
    "[2001:db8::1]",
    "\"[2001:db8::1]:4711\"",
    "\"",
    "\\",
    ",",
    ",",
    ";",
    ";",
    " ",
    "unknown",
    "_hidden",
    "https",
    "http",
    "x",
    ":80",
    ":",
    "[",
    "]",
    "::ffff:10.0.0.9",
    "=",
    "evil.example",
    "\t",
    "For=",
];
/// Words of header fields.
const FIELD_WORDS: [&str; 40] = [
    "bytes=0-",
    "bytes=0-1",
    "bytes=",
    "-",
    ",",
    "4503599627370495",
    "4503599627370496",
    "0",
    "1",
    "7",
    "18446744073709551615",
    "18446744073709551616",
    "audio/ogg",
    "audio/flac",
    "audio/mpeg",
    "audio/*",
    "*/*",
    "text/event-stream",
    "application/json",
    "application/openmetrics-text",
    ";version=1.0.0",
    ";q=0.5",
    "text/plain",
    "127.0.0.1",
    "[::1]",
    "[",
    "]",
    "::",
    "localhost",
    "studio.example",
    ":8700",
    ":",
    ".",
    "http://",
    "https://",
    "null",
    "evil.example",
    "@",
    "/",
    "\u{fc}",
];

fn format() -> Format {
    Format::new(48_000, 2, std::time::Duration::from_millis(10)).unwrap()
}

/// Returns header fields, or `None` where hyper does not take the text as a value.
fn fields<const COUNT: usize>(fields: [(HeaderName, &str); COUNT]) -> Option<HeaderMap> {
    fields.into_iter().map(|(name, value)| Some((name, HeaderValue::from_str(value).ok()?))).collect()
}

/// Asserts that a sentence begins with the name of a parameter, or quotes the unknown one.
fn assert_names_a_parameter(sentence: &str, query: &str) {
    assert_one_line_reply(sentence);
    let named = StreamParam::ALL.iter().any(|param| sentence.contains(param.name()));
    assert!(named, "{query:?} is refused without a name: {sentence}");
}

/// Asserts that the reply with this sentence is one line on a terminal.
fn assert_one_line_reply(sentence: &str) {
    assert_one_line(&body(error(StatusCode::BAD_REQUEST, sentence), "error"));
}

/// Returns the text of a member of a reply, or without a name all of its body.
fn body(reply: Reply, member: &str) -> String {
    use http_body_util::BodyExt as _;
    let mut body = reply.into_body();
    let frame = std::pin::pin!(body.frame());
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Some(Ok(frame))) = std::future::Future::poll(frame, &mut task) else {
        panic!("a reply without a whole body");
    };
    let bytes = frame.into_data().unwrap();
    if member.is_empty() {
        return String::from_utf8(bytes.to_vec()).unwrap();
    }
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()[member].as_str().unwrap().to_owned()
}

#[test]
fn stream_query() {
    let (config, format) = (Config::default().first_mount().clone(), format());
    check!().with_max_len(64).for_each(|bytes: &[u8]| {
        let words = text(bytes, &QUERY_WORDS);
        let query = match Query::parse(&words, &config) {
            Ok(query) => query,
            Err(sentence) => return assert_names_a_parameter(&sentence, &words),
        };
        for rendition in Rendition::ALL {
            let checked = query.check_gaps(rendition).and_then(|()| query.encoding(rendition, 16));
            let gather = checked.and_then(|_| query.gather(rendition, &config));
            if let Err(sentence) = gather {
                assert_names_a_parameter(&sentence, &words);
                continue;
            }
            // The ring of a listener is bounded by these.
            let options = query.subscribe(&config, format, Some(u64::MAX));
            assert!(options.buffer <= 1000, "{words:?}: {} blocks", options.buffer);
            let limits = query.limits(&config, format);
            assert!(limits.behind <= limits.far_behind, "{words:?}: {limits:?}");
            let name = query.name.as_deref().unwrap_or_default();
            assert!(name.chars().count() <= 64 && !name.chars().any(char::is_control), "{name:?}");
        }
    });
}

#[test]
fn table_query() {
    check!().with_max_len(64).for_each(|bytes: &[u8]| {
        let words = text(bytes, &QUERY_WORDS);
        match TableQuery::parse(&words) {
            Ok(query) => assert_ne!(query.limit, Some(0), "{words:?}"),
            Err(sentence) => {
                assert_one_line_reply(&sentence);
                let named = ["limit", "sort", "name"].iter().any(|name| sentence.contains(name));
                assert!(named, "{words:?} is refused without a name: {sentence}");
            }
        }
    });
}

#[test]
fn recording_query() {
    check!().with_max_len(64).for_each(|bytes: &[u8]| {
        let words = text(bytes, &QUERY_WORDS);
        if let Err(sentence) = times(&words) {
            assert_one_line_reply(&sentence);
            assert!(sentence.contains("from") || sentence.contains("to"), "{words:?}: {sentence}");
        }
    });
}

#[test]
fn playlist_query() {
    check!().with_max_len(64).for_each(|bytes: &[u8]| {
        let (query, host) = bytes.split_at(bytes.len() / 2);
        let (query, host) = (text(query, &QUERY_WORDS), text(host, &FIELD_WORDS));
        let Some(headers) = fields([(header::HOST, &host)]) else { return };
        // As in `routes`: without a name of this server there is no playlist.
        if guard::check(&headers, Reached::default(), Sites::Allowed, &["studio.example".to_owned()], &[]).is_err() {
            return;
        }
        for playlist in [Playlist::M3u, Playlist::Pls] {
            let reply = playlist.answer("", &query, &format!("http://{host}/"), |_, _| None);
            if reply.status() != StatusCode::OK {
                let sentence = body(reply, "error");
                assert_one_line(&sentence);
                assert!(sentence.starts_with("format: "), "{query:?}: {sentence}");
                continue;
            }
            let text = body(reply, "");
            let lines = if playlist == Playlist::M3u { 3 } else { 6 };
            assert_eq!(text.lines().count(), lines, "{query:?} adds lines: {text:?}");
            let url =
                text.lines().find_map(|line| line.strip_prefix("File1=").or(line.starts_with("http").then_some(line)));
            let url = url.unwrap();
            assert!(!url.contains(|c: char| c.is_control() || c == '"'), "{query:?}: {url:?}");
        }
    });
}

#[test]
fn last_event_id() {
    check!().with_max_len(24).for_each(|bytes: &[u8]| {
        let id = text(bytes, &FIELD_WORDS);
        let name = HeaderName::from_static("last-event-id");
        let Some(headers) = fields([(name, &id)]) else { return };
        match last_event(&headers) {
            // A number reads back as it was written, but for zeros and a sign before it.
            Ok(Some(last)) => assert_eq!(
                id.trim_start_matches('+').trim_start_matches('0'),
                match last {
                    0 => String::new(),
                    last => last.to_string(),
                }
            ),
            Ok(None) => assert!(id.trim().is_empty(), "{id:?} is passed over"),
            Err(sentence) => {
                assert_one_line_reply(&sentence);
                assert!(sentence.starts_with("Last-Event-ID: "), "{sentence}");
            }
        }
    });
}

#[test]
fn first_event_of_a_query() {
    check!().with_max_len(32).for_each(|bytes: &[u8]| {
        let query = text(bytes, &QUERY_WORDS);
        let Ok(request) = Request::get(format!("/api/v1/events?{query}")).body(()) else { return };
        if let Err(sentence) = first_event(&request) {
            assert_one_line_reply(&sentence);
            assert!(sentence.starts_with("from: "), "{query:?}: {sentence}");
        }
    });
}

#[test]
fn range() {
    check!().with_max_len(24).for_each(|bytes: &[u8]| {
        let value = text(bytes, &FIELD_WORDS);
        let Some(headers) = fields([(header::RANGE, &value)]) else { return };
        for rendition in Rendition::ALL {
            let mut reply = error(StatusCode::OK, "");
            let range = Range::of(&headers, rendition);
            range.apply(&mut reply);
            // A part is answered only where it was asked for.
            let content_range =
                reply.headers().get(header::CONTENT_RANGE).map(|value| value.to_str().unwrap().to_owned());
            match range {
                Range::All => assert!(content_range.is_none() && reply.status() == StatusCode::OK, "{value:?}"),
                Range::FirstBytes(_) | Range::AllBytes => {
                    let (part, _) =
                        content_range.as_deref().unwrap().trim_start_matches("bytes ").split_once('/').unwrap();
                    let (first, last) = part.split_once('-').unwrap();
                    let asked = value.trim().strip_prefix("bytes=0-").unwrap().trim_start_matches('+');
                    assert_eq!((first, last), ("0", asked.trim_start_matches('0')), "{value:?}");
                }
            }
        }
    });
}

#[test]
fn accept() {
    check!().with_max_len(48).for_each(|bytes: &[u8]| {
        let value = text(bytes, &FIELD_WORDS);
        let rendition = accepted(&value);
        assert!(rendition != Rendition::WebSocket && rendition != Rendition::Pcm, "{value:?}");
        // What is not in the header is not the answer.
        let asked = value.to_ascii_lowercase();
        let family = content_type(rendition).split('/').next().unwrap();
        assert!(rendition == Rendition::Wav || asked.contains(family) || asked.contains("application/"), "{value:?}");
        assert!(HeaderValue::from_str(Exposition::for_accept(&value).content_type()).is_ok());
    });
}

#[test]
fn host_and_origin() {
    let (hosts, origins) = (["studio.example".to_owned()], ["https://radio.example".to_owned()]);
    check!().with_max_len(48).for_each(|bytes: &[u8]| {
        let (host, origin) = bytes.split_at(bytes.len() / 2);
        let (host, origin) = (text(host, &FIELD_WORDS), text(origin, &FIELD_WORDS));
        let Some(headers) = fields([(header::HOST, &host), (header::ORIGIN, &origin)]) else { return };
        let assert_let_in = |verdict: Result<_, (_, String)>| match verdict {
            Err((_, sentence)) => assert_one_line_reply(&sentence),
            Ok(_) => {
                // What is let in is this server by its name or an address, and its own page or the configured one.
                let name = host.to_ascii_lowercase();
                assert!(
                    name.starts_with("localhost") || name.starts_with("studio.example") || name.contains(['.', ':']),
                    "{host:?}"
                );
                assert!(!name.contains("evil"), "{host:?}");
                let own = origin.strip_prefix("http://").or(origin.strip_prefix("https://")) == Some(&host);
                assert!(own || origin.eq_ignore_ascii_case(&origins[0]), "{host:?} lets {origin:?} in");
            }
        };
        assert_let_in(guard::check(&headers, Reached::default(), Sites::Allowed, &hosts, &origins));
        // The same host, told by a trusted proxy that has put another one into `Host`.
        let Some(headers) = fields([(header::HOST, "127.0.0.1:8700"), (header::ORIGIN, &origin)]) else { return };
        if origin != "http://127.0.0.1:8700" && origin != "https://127.0.0.1:8700" {
            let reached = Reached { forwarded_host: Some(&host), is_https: false };
            assert_let_in(guard::check(&headers, reached, Sites::Allowed, &hosts, &origins));
        }
    });
}

/// Whatever a client writes, a trusted proxy's word about it counts, or none, and the word of others never does.
#[test]
fn forwarded() {
    let (proxy, client): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [192, 0, 2, 7].into());
    let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
    check!().with_max_len(96).for_each(|bytes: &[u8]| {
        let (one, other) = bytes.split_at(bytes.len() / 2);
        let (list, forwarded) = (text(one, &PROXY_WORDS), text(other, &PROXY_WORDS));
        let name = |name| HeaderName::from_static(name);
        let fields_from = |list: &str| {
            let mut headers = fields([(name("x-forwarded-for"), list)])?;
            if !forwarded.is_empty() {
                headers.append(name("forwarded"), HeaderValue::from_str(&forwarded).ok()?);
            }
            Some(headers)
        };
        let Some(written) = fields_from(&list) else { return };
        let stranger = Client::direct(SocketAddr::new([198, 51, 100, 1].into(), 9));
        assert_eq!(Forwarding::read(&written, stranger.clone(), &proxies).client, stranger);
        // The proxy adds what it sees to the end of the one list, and passes the other field on.
        let Some(passed) = fields_from(&format!("{list}, {client}")) else { return };
        let told = Forwarding::read(&passed, Client::direct(SocketAddr::new(proxy, 9)), &proxies);
        assert!([client, proxy].contains(&told.client.ip()), "{list:?} and {forwarded:?} make it {}", told.client);
        assert_one_line(&told.client.to_string());
    });
}

#[test]
fn words_are_those_of_the_parsers() {
    let has = |word: &str| QUERY_WORDS.contains(&word);
    for param in StreamParam::ALL {
        assert!(has(&format!("{}=", param.name())), "{} is not fuzzed", param.name());
    }
    assert!(Payload::from_name("f32").is_some() && has("f32"));
}
