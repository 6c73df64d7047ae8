//! The request of a listener, and the head of the answer to it. Written and read here and not by an HTTP library, whose
//! connection would have a task and buffers of its own for each of thousands of listeners.

use serde::Deserialize;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::load::chunked::{Body, Chunked};
use crate::load::mount::{Form, Mount};
use crate::units as words;

/// Longest head that is taken.
const HEAD_MOST: usize = 32 << 10;
const HEADERS_MOST: usize = 64;
/// How SHOUTcast and old Icecast begin instead of with `HTTP/1.0`.
const ICY: &[u8] = b"ICY ";
const WORDS_MOST: usize = 200;

/// A request, and what its answer must prove.
#[derive(Debug)]
pub(crate) struct Request {
    /// All of it.
    pub(crate) text: String,
    /// The answer of a WebSocket to its key.
    accept: Option<String>,
}

/// What the head of an answer says of a stream.
#[derive(Debug)]
pub(crate) struct Head {
    /// How its end is known; nothing for a WebSocket.
    pub(crate) body: Option<Body>,
    /// Bytes of a sample, where it is told.
    pub(crate) sample_bytes: Option<u64>,
}

/// Why there is no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// Another status than that of a stream.
    Refused {
        /// The status.
        status: u16,
        /// The server's own words, if it has any.
        why: String,
    },
    /// Something else came.
    Other(String),
}

impl Request {
    /// For a listener, which has a `name` where the server knows names.
    pub(crate) fn new(mount: &Mount, name: Option<&str>) -> Self {
        let accept = if mount.form == Form::Sse { "text/event-stream" } else { "*/*" };
        let mut text = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: aircheckctl/{}\r\nAccept: {accept}\r\n",
            mount.path_and_query(name),
            mount.address.authority(),
            env!("CARGO_PKG_VERSION")
        );
        let key = (mount.form == Form::Ws).then(generate_key);
        if let Some(key) = &key {
            text += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
            text += &format!("Sec-WebSocket-Key: {key}\r\n");
        }
        text += "\r\n";
        Self { text, accept: key.map(|key| derive_accept_key(key.as_bytes())) }
    }

    /// The head that `bytes` begin with and its length, once all of it is there.
    ///
    /// # Errors
    ///
    /// Why what comes is no stream.
    pub(crate) fn answer(&self, bytes: &[u8]) -> Result<Option<(Head, usize)>, NoStream> {
        let icy = bytes.strip_prefix(ICY).map(|rest| [b"HTTP/1.0 ", rest].concat());
        let text = icy.as_deref().unwrap_or(bytes);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MOST];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(text) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if text.len() < HEAD_MOST => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(NoStream::Other("its head has no end".to_owned())),
            Err(error) => return Err(NoStream::Other(format!("no HTTP answer: {error}"))),
        };
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok().map(str::trim)
        };
        let status = response.code.unwrap_or(0);
        if status != if self.accept.is_some() { 101 } else { 200 } {
            let why = words_of(&text[length..], response.reason.unwrap_or_default());
            return Err(NoStream::Refused { status, why });
        }
        let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let body = match &self.accept {
            Some(accept) if header("sec-websocket-accept") == Some(accept) => None,
            Some(_) => return Err(NoStream::Other("it switches protocols, but not to a WebSocket".to_owned())),
            None => {
                let kind = header("content-type").unwrap_or_default();
                if let Some(length) = header("content-length") {
                    let (kind, length) = (words::quoted(kind, 40), words::quoted(length, 20));
                    return Err(NoStream::Other(format!("no stream, but {length} bytes of {kind}")));
                }
                if kind.starts_with("text/html") {
                    return Err(NoStream::Other("no stream, but a page of text/html".to_owned()));
                }
                Some(if chunked { Body::Chunked(Chunked::default()) } else { Body::UntilClosed })
            }
        };
        let sample_bytes = match header("x-audio-sample") {
            Some("s16le") => Some(2),
            Some("s24le") => Some(3),
            Some("f32le") => Some(4),
            _ => None,
        };
        // `HTTP/1.0 ` is longer than what it stands for.
        let length = if icy.is_some() { length - (b"HTTP/1.0 ".len() - ICY.len()) } else { length };
        Ok(Some((Head { body, sample_bytes }, length)))
    }
}

/// The server's words from `{"error":"…"}`, if that has come already, else the status's.
fn words_of(body: &[u8], reason: &str) -> String {
    #[derive(Deserialize)]
    struct Complaint {
        error: String,
    }
    match serde_json::from_slice(body) {
        Ok(Complaint { error }) => words::quoted(&error, WORDS_MOST),
        Err(_) => words::quoted(&reason.to_lowercase(), WORDS_MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> Request {
        Request::new(&Mount::parse(url).unwrap(), Some("load-7"))
    }

    fn refusal(url: &str, answer: &str) -> NoStream {
        request(url).answer(answer.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_request_names_the_listener() {
        let text = request("h:1/stream.wav?burst=1s").text;
        assert!(text.starts_with("GET /stream.wav?burst=1s&name=load-7 HTTP/1.1\r\nHost: h:1\r\n"), "{text}");
        let text = request("ws://h:1").text;
        assert!(text.contains("Upgrade: websocket\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_head_says_how_the_end_is_known() {
        let answer = "HTTP/1.1 200 OK\r\nX-Audio-Sample: s24le\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
        let (head, length) = request("h:1").answer(answer.as_bytes()).unwrap().unwrap();
        assert!(matches!(head.body, Some(Body::Chunked(_))));
        assert_eq!((head.sample_bytes, length), (Some(3), answer.len() - 3));
        assert!(request("h:1").answer(&answer.as_bytes()[..40]).unwrap().is_none());
        let icy = "ICY 200 OK\r\nicy-br: 128\r\n\r\nmp3";
        let (head, length) = request("h:1/radio").answer(icy.as_bytes()).unwrap().unwrap();
        assert!(matches!(head.body, Some(Body::UntilClosed)));
        assert_eq!(length, icy.len() - 3);
    }

    #[test]
    fn what_is_no_stream_is_told() {
        let full = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n{\"error\":\"all 3 places are taken\"}";
        let why = "all 3 places are taken".to_owned();
        assert_eq!(refusal("h:1", full), NoStream::Refused { status: 503, why });
        let cases = [
            ("h:1", "HTTP/1.1 404 Not Found\r\n\r\n", "not found"),
            ("ws://h:1", "HTTP/1.1 200 OK\r\n\r\n", "ok"),
            ("ws://h:1", "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", "not to a WebSocket"),
            ("h:1", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\n", "5 bytes of a/b"),
            ("h:1", "HTTP/1.1 200 OK\r\nContent-Type: text/html; x\r\n\r\n", "a page"),
            ("h:1", "SSH-2.0-OpenSSH\r\n", "no HTTP answer"),
        ];
        for (url, answer, words) in cases {
            let why = format!("{:?}", refusal(url, answer));
            assert!(why.contains(words), "{why:?} should say {words:?}");
        }
    }
}
