//! Responses with a whole body: JSON, text, files, and errors of one sentence.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::one_line::one_line;

/// Seconds after which a request that was refused for want of a place may be sent again.
pub(super) const RETRY_AFTER: &str = "5";

/// A response of any kind.
pub(super) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Makes a response with a whole body.
pub(super) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    *reply.status_mut() = status;
    set(&mut reply, header::CONTENT_TYPE, content_type);
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

/// Makes a response with a JSON document.
pub(super) fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => whole(StatusCode::OK, "application/json", body),
        // Fails for maps without string keys and for failing writers, of which there are none.
        Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()),
    }
}

/// Makes an error response of one sentence. What it repeats of the request cannot command the terminal that shows it.
pub(super) fn error(status: StatusCode, message: impl AsRef<str>) -> Reply {
    whole(status, "application/json", json!({ "error": one_line(message.as_ref()) }).to_string())
}

/// Returns the sentence of an error response.
pub(super) async fn sentence(reply: Reply) -> String {
    let body = reply.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    document["error"].as_str().unwrap_or_default().to_owned()
}

/// Makes a 503 of one sentence, with the time after which it makes sense to try again.
pub(super) fn busy(message: impl AsRef<str>) -> Reply {
    let mut reply = error(StatusCode::SERVICE_UNAVAILABLE, message);
    set(&mut reply, header::RETRY_AFTER, RETRY_AFTER);
    reply
}

/// Sets a header field to a constant.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: &'static str) {
    reply.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Sets a header field to a number or another value that prints as plain ASCII.
pub(super) fn set_display(reply: &mut Reply, name: &'static str, value: impl ToString) {
    if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
        reply.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
