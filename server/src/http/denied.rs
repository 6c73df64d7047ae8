//! Requests that lack a token, and the answers to them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};

use crate::access::policy::{Asked, Denied};
use crate::access::scope::Scope;
use crate::delivery::remote::Client;
use crate::http::reply::{Reply, error, set_display};
use crate::telemetry::metrics::RefusalReason;

/// Challenges (RFC 9110, section 11.6.1), each in a field of its own: ffmpeg, and mpv by it, do not find Basic behind another
/// one. A browser asks for a name and a password when it is offered Basic.
const BASIC: HeaderValue = HeaderValue::from_static(r#"Basic realm="aircheck""#);
const BEARER: HeaderValue = HeaderValue::from_static(r#"Bearer realm="aircheck""#);

/// Returns a request as the policy looks at it.
pub(super) fn asked<'a, B>(request: &'a Request<B>, client: &Client) -> Asked<'a> {
    Asked {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: request.headers(),
        remote: client.ip(),
        is_proxied: client.is_proxied(),
        now: Instant::now(),
        // Before 1970, nothing has expired.
        unix_now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    }
}

/// Returns the answer to a request that was denied, and the reason for the count.
pub(super) fn denied(denied: &Denied, asked: &Asked<'_>) -> (RefusalReason, Reply) {
    let (status, reason, sentence) = match denied {
        Denied::NoToken(scope) => (
            StatusCode::UNAUTHORIZED,
            RefusalReason::Token,
            match scope {
                Scope::Listen(_) => {
                    "listening takes a token (as `Authorization: Bearer TOKEN`, as the password of Basic, or by a \
                                     signed URL)"
                        .to_owned()
                }
                scope => format!(
                    "this path takes a token with the scope `{scope}` (as `Authorization: Bearer TOKEN`, or as the password of \
                     Basic)"
                ),
            },
        ),
        Denied::WrongToken => (
            StatusCode::UNAUTHORIZED,
            RefusalReason::Token,
            "this token is not one of this server's (ask for a new one)".to_owned(),
        ),
        Denied::TooManyWrong(_) => (
            StatusCode::TOO_MANY_REQUESTS,
            RefusalReason::Throttled,
            format!(
                "{} has sent too many wrong tokens (a right one is taken at any time)",
                asked.remote.to_canonical()
            ),
        ),
        Denied::Scope { token, needed } => (
            StatusCode::FORBIDDEN,
            RefusalReason::Scope,
            format!("the token `{token}` lacks the scope `{needed}`, which this path takes"),
        ),
        Denied::NotLocal(scope) => (
            StatusCode::FORBIDDEN,
            RefusalReason::Scope,
            format!(
                "without tokens, this path is for programs on the server's own machine, at its loopback address (make a token \
                 with `aircheck token new --name NAME --scope {scope}`)"
            ),
        ),
        Denied::WrongSignature => (
            StatusCode::FORBIDDEN,
            RefusalReason::Token,
            "the signature does not fit this URL: it was altered, or its token is gone (ask for a new URL)".to_owned(),
        ),
        Denied::Expired => {
            (StatusCode::FORBIDDEN, RefusalReason::Token, "this URL has expired (ask for a new one)".to_owned())
        }
        Denied::Forged => (
            StatusCode::FORBIDDEN,
            RefusalReason::Origin,
            "a sign-in is for this server's own page (give the token itself instead)".to_owned(),
        ),
    };
    let mut reply = error(status, sentence);
    if status == StatusCode::UNAUTHORIZED {
        if !is_of_a_script(asked.method, asked.headers) {
            reply.headers_mut().append(header::WWW_AUTHENTICATE, BASIC);
        }
        reply.headers_mut().append(header::WWW_AUTHENTICATE, BEARER);
    }
    if let Denied::TooManyWrong(wait) = denied {
        set_display(&mut reply, "retry-after", wait.as_secs().max(1));
    }
    (reason, reply)
}

/// Returns whether a script of a page sent a request. Basic would make the browser open a window over the page, which has a
/// form of its own. Browsers tell the mode of a request to secure servers only; the rest is what our page sends.
fn is_of_a_script(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found == value);
    let mode = headers.get("sec-fetch-mode");
    mode.is_some_and(|mode| mode != "navigate")
        || is("accept", "text/event-stream")
        || headers.contains_key(header::UPGRADE)
        || !matches!(*method, Method::GET | Method::HEAD)
}
