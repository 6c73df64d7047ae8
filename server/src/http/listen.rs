//! From a request for a stream to a response that does not end until the stream does.

use std::sync::Arc;

use aircheck_engine::SubscribeError;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode};

use crate::body::StreamBody;
use crate::encode::wav_header;
use crate::encoders::EncoderError;
use crate::http::Connection;
use crate::http::query::{Gaps, Query};
use crate::http::reply::{Reply, error, set, set_display};
use crate::listener::Joining;
use crate::metrics::Refusal;
use crate::mount::Mount;
use crate::station::Station;

/// Seconds after which somebody who was one too many may try again.
const RETRY_AFTER: &str = "5";

/// The response to a request for `mount`: the stream from here on, or why not.
pub(super) fn listen(
    station: &Station,
    connection: &Connection,
    mount: Mount,
    query: Query,
    headers: &HeaderMap,
    head_only: bool,
) -> Reply {
    let samples = match query.sample(mount) {
        Ok(samples) => samples,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    if let Err(message) = query.check_gaps(mount) {
        return error(StatusCode::BAD_REQUEST, message);
    }
    let last_event = match if mount == Mount::Events { last_event(headers) } else { Ok(None) } {
        Ok(last_event) => last_event,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let format = station.format();
    let mut reply = if head_only {
        Response::new(UnsyncBoxBody::default())
    } else {
        let options = query.subscribe(station.config(), format, last_event);
        if station.listeners().is_full() {
            return full(station);
        }
        let encoding = mount.encoding(samples);
        let packets = match station.encoders().subscribe(encoding, options) {
            Ok(packets) => packets,
            Err(EncoderError::Subscribe(SubscribeError::Ended)) => {
                station.metrics().refuse(Refusal::Ended);
                return error(StatusCode::SERVICE_UNAVAILABLE, "the stream has ended");
            }
            Err(EncoderError::Subscribe(refused @ SubscribeError::BlockOnLive)) => {
                return error(StatusCode::BAD_REQUEST, format!("overflow: {refused}"));
            }
            Err(failed @ EncoderError::Thread(_)) => {
                return error(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string());
            }
        };
        let joining = Joining {
            name: query.name.clone().unwrap_or_default(),
            mount,
            overflow: options.overflow,
            limits: query.limits(station.config(), format),
            tally: Arc::clone(packets.tally()),
            wire: Arc::clone(&connection.wire),
            hang_up: Arc::clone(&connection.hang_up),
            recorders: Arc::clone(station.metrics().recorders(mount)),
        };
        let Ok(presence) = station.listeners().join(joining) else { return full(station) };
        let block_bytes = encoding.block_bytes(format);
        let bytes_per_second = (block_bytes as f64 / format.block_span().as_secs_f64()) as u64;
        connection.wire.bound(bytes_per_second, block_bytes, station.config().socket_buffer);
        let header = (mount == Mount::Wav).then(|| wav_header(format, samples));
        let silence = if query.gaps == Some(Gaps::Silence) { encoding.encode_silence(format) } else { None };
        Response::new(StreamBody::new(packets, encoding, header, silence, presence).boxed_unsync())
    };
    set(&mut reply, header::CONTENT_TYPE, mount.content_type());
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    set_display(&mut reply, "x-audio-rate", format.rate_hz());
    set_display(&mut reply, "x-audio-channels", format.channels());
    if mount.has_samples() {
        set_display(&mut reply, "x-audio-sample", samples.label());
    }
    reply
}

fn full(station: &Station) -> Reply {
    station.metrics().refuse(Refusal::Limit);
    let most = station.config().max_listeners;
    let mut reply = error(StatusCode::SERVICE_UNAVAILABLE, format!("all {most} places are taken; try again later"));
    set(&mut reply, header::RETRY_AFTER, RETRY_AFTER);
    reply
}

/// The sequence number of the last event that an EventSource saw before it lost its connection.
pub(super) fn last_event(headers: &HeaderMap) -> Result<Option<u64>, String> {
    match headers.get("last-event-id") {
        Some(id) if !id.is_empty() => id
            .to_str()
            .ok()
            .and_then(|id| id.parse().ok())
            .map(Some)
            .ok_or_else(|| format!("Last-Event-ID: {id:?} is no sequence number")),
        _ => Ok(None),
    }
}
