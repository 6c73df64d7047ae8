//! The head of a stream's response. hyper writes all other heads; a stream's connection is taken from it.

use std::time::SystemTime;

use hyper::header::{self, HeaderValue};
use hyper::{StatusCode, Version};

use crate::http::reply::Reply;

/// Returns the head of a stream's response to a request of this version, with the fields of `reply`. The stream is the last
/// response of its connection.
pub(super) fn response_head(version: Version, mut reply: Reply) -> Vec<u8> {
    let fields = reply.headers_mut();
    if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
        fields.insert(header::DATE, date);
    }
    if version == Version::HTTP_11 && reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        reply.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let mut head = format!("{version:?} {}\r\n", reply.status()).into_bytes();
    for (name, value) in reply.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
