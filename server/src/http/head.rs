//! The head of a stream's response. hyper writes all other heads; a stream's connection is taken from it.

use std::time::SystemTime;

use hyper::header;
use hyper::{StatusCode, Version};

use crate::http::reply::{Reply, set, set_display};

/// Returns the head of a stream's response to a request of this version, with the fields of `reply`. The stream is the last
/// response of its connection.
pub(super) fn response_head(version: Version, mut reply: Reply) -> Vec<u8> {
    set_display(&mut reply, "date", httpdate::fmt_http_date(SystemTime::now()));
    if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        if version == Version::HTTP_11 {
            set(&mut reply, header::TRANSFER_ENCODING, "chunked");
        }
        set(&mut reply, header::CONNECTION, "close");
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
