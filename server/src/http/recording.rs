//! `/recording.wav`: a part of the recording as a file.

use aircheck_api::{EXPIRES, SIGNATURE, moment};
use http_body_util::BodyExt as _;
use hyper::{Response, StatusCode, header};

use crate::http::reply::{Reply, busy, error, set, set_display};
use crate::mounts::ServedMount;
use crate::replay::{Export, ReplayError};

/// Answers with what of a mount was recorded between the times `from` and `to` of a query.
pub(super) fn recording(served: &ServedMount, query: &str) -> Reply {
    let ServedMount { mount, replays, .. } = served;
    let recording = served.recording();
    let (from, to) = match times(query) {
        Ok(times) => times,
        Err(sentence) => return error(StatusCode::BAD_REQUEST, sentence),
    };
    let Some(recording) = recording else {
        return error(StatusCode::NOT_FOUND, "nothing is recorded (start the server with --record DIR)");
    };
    match Export::start(replays, recording.index(), mount.format(), from, to) {
        Ok(export) => {
            let bytes = export.bytes;
            let mut reply = Response::new(export.boxed_unsync());
            set(&mut reply, header::CONTENT_TYPE, "audio/wav");
            set(&mut reply, header::CACHE_CONTROL, "no-store, no-transform");
            set_display(&mut reply, "content-length", bytes);
            reply
        }
        Err(failed) => match failed {
            ReplayError::Future(..) | ReplayError::Length(_) => error(StatusCode::BAD_REQUEST, failed.to_string()),
            ReplayError::TooEarly(..) | ReplayError::NotRecorded(_) => error(StatusCode::NOT_FOUND, failed.to_string()),
            ReplayError::Full => busy(failed.to_string()),
            ReplayError::Unreadable(_) => error(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string()),
        },
    }
}

/// Reads the two times of the query.
pub(super) fn times(query: &str) -> Result<(u64, u64), String> {
    let (mut from, mut to) = (None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let time = match &*key {
            "from" => &mut from,
            "to" => &mut to,
            // Of a signed URL.
            EXPIRES | SIGNATURE => continue,
            _ => return Err(format!("`{key}` is not a parameter of the recording; it takes from and to")),
        };
        let read = moment::parse(&value);
        *time = Some(read.ok_or_else(|| format!("{key}: `{value}` is not {}", moment::TAKES))?);
    }
    from.zip(to).ok_or_else(|| "the recording takes from and to, such as from=2026-11-27T14:03:00Z".to_owned())
}
