//! One delivery: a POST over a connection of its own, and the outcome.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Form, Notification, Target};

/// Longest time for a delivery, from the look-up of the name to the head of the answer.
pub const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes and time in which the word of a refusal is read. Slack's are one short word.
const MAX_WORD_BYTES: usize = 64;
const WORD_TIMEOUT: Duration = Duration::from_secs(1);

/// The outcome of a delivery. Its sentences show no part of the URL but the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it.
    Delivered {
        /// The status of its answer.
        status: u16,
    },
    /// It may work later: no connection, no answer, or an answer that says so (408, 425, 429, 5xx).
    Retry {
        /// What failed.
        why: String,
        /// How long the receiver wants to be left alone.
        after: Option<Duration>,
    },
    /// It fails each time: the receiver refuses it or redirects it.
    Refused {
        /// What failed.
        why: String,
    },
}

/// Delivers a notification once, within [`POST_TIMEOUT`] and a second.
///
/// A redirect is not followed: a POST would become a GET, or the events would go to a host that the operator has not named.
/// Of the body of an answer, at most one short word is read.
pub async fn post(target: &Target, form: Form, notification: &Notification) -> Outcome {
    match timeout(POST_TIMEOUT, answer(target, form, notification)).await {
        Ok(Ok(response)) => outcome(target, response).await,
        Ok(Err(why)) => Outcome::Retry { why, after: None },
        Err(_) => Outcome::Retry { why: format!("no answer within {} s", POST_TIMEOUT.as_secs()), after: None },
    }
}

/// Sends the request and returns the head of the answer. An error is a sentence.
async fn answer(target: &Target, form: Form, notification: &Notification) -> Result<Response<Incoming>, String> {
    let request = request(target, form, notification)?;
    let tcp = match timeout(CONNECT_TIMEOUT, TcpStream::connect(target.endpoint())).await {
        Ok(tcp) => tcp.map_err(|error| format!("cannot connect: {}", words(&error)))?,
        Err(_) => return Err(format!("cannot connect: no answer within {} s", CONNECT_TIMEOUT.as_secs())),
    };
    #[cfg(feature = "https")]
    if target.is_https() {
        let tls = crate::tls::connect(target.endpoint().0, tcp).await;
        let tls = tls.map_err(|error| format!("cannot encrypt the connection: {}", words(&error)))?;
        return send(tls, request).await;
    }
    debug_assert!(!target.is_https(), "a build without TLS has no such target");
    send(tcp, request).await
}

fn request(target: &Target, form: Form, notification: &Notification) -> Result<Request<Full<Bytes>>, String> {
    let (headers, body) = form.encode(notification);
    let mut request = Request::post(target.path())
        .header(HOST, target.authority())
        .header(USER_AGENT, concat!("aircheck/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close");
    if let Some(authorization) = target.authorization() {
        let mut value = HeaderValue::from_str(authorization).map_err(|_| "the user name is none".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    // Not the error's own words, which may show a part of the URL.
    request.body(Full::from(body)).map_err(|_| "the path of the URL is none".to_owned())
}

async fn send<T>(io: T, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("no HTTP answer: {}", words(&error));
    let (mut sender, connection) = http1::Builder::new().handshake(TokioIo::new(io)).await.map_err(broken)?;
    // Ends with the answer, or when it is dropped. Its error is that of the request, too.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

async fn outcome(target: &Target, response: Response<Incoming>) -> Outcome {
    let (head, body) = response.into_parts();
    let status = head.status;
    if status.is_success() {
        return Outcome::Delivered { status: status.as_u16() };
    }
    let number = status.as_u16();
    if status.is_redirection() {
        return Outcome::Refused {
            why: format!("HTTP {number}: it redirects{} (name that URL)", place(&head.headers)),
        };
    }
    let word = word(target, body).await.map_or_else(String::new, |word| format!(" {word}"));
    let why = format!("HTTP {number}{word}");
    let may_work_later =
        matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
            || status.is_server_error();
    if may_work_later {
        return Outcome::Retry { why, after: retry_after(&head.headers, SystemTime::now()) };
    }
    Outcome::Refused { why }
}

/// Returns the host of a redirect in words.
fn place(headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok()?.parse::<Uri>().ok());
    let host = location.as_ref().and_then(Uri::host).map(|host| format!(" to {host}"));
    host.unwrap_or_default()
}

/// Returns the word with which a receiver explains a refusal, such as Slack's `no_service`. Any other text is left out,
/// because it may repeat the URL.
async fn word(target: &Target, mut body: Incoming) -> Option<String> {
    let frame = timeout(WORD_TIMEOUT, body.frame()).await.ok()??.ok()?;
    let text = std::str::from_utf8(frame.data_ref().filter(|data| data.len() <= MAX_WORD_BYTES)?).ok()?.trim();
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (is_word && !target.path().contains(text)).then(|| text.to_owned())
}

/// Returns the span of a header `Retry-After`, which has seconds or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// Returns the words of an error's innermost cause, which says more than its wrappers.
fn words(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => inner.to_string(),
        None => cause.to_string(),
    };
    // The number that the system gives its error says nothing more.
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_says_when_to_come_back() {
        let now = httpdate::parse_http_date("Sat, 28 Nov 2026 05:00:00 GMT").unwrap();
        let after = |value: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]), now)
        };
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sat, 28 Nov 2026 05:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(after("Sat, 28 Nov 2026 04:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!((after("soon"), after("-1")), (None, None));
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
