//! From a request for a stream to its endless response.

use std::sync::Arc;
use std::time::Duration;

use aircheck_engine::{Format, SubscribeError, Timestamp};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode};
use hyper_tungstenite::tungstenite::error::ProtocolError;

use crate::delivery::body::StreamBody;
use crate::delivery::listener::JoinRequest;
use crate::delivery::listeners::Full;
use crate::delivery::packet_reader::PacketReader;
use crate::http::context::Context;
use crate::http::query::{Gaps, Query};
use crate::http::reply::{Reply, busy, error, set, set_display};
use crate::http::server::Server;
use crate::http::websocket::{self, Session};
use crate::rendition::codec::{FlacEncoder, OpusEncoder};
use crate::rendition::container::framing::Framing;
use crate::rendition::container::message;
use crate::rendition::container::ogg::OggOpus;
use crate::rendition::container::wav::wav_header;
use crate::rendition::content_type::content_type;
use crate::rendition::encoders::EncoderError;
use crate::rendition::encoding::Encoding;
use crate::telemetry::metrics::RefusalReason;
use aircheck_api::Rendition;

/// Answers a request for `rendition`: with the stream from here on, or with an error.
pub(super) fn listen(
    server: &Server,
    context: &Context,
    rendition: Rendition,
    query: &Query,
    headers: &HeaderMap,
    head_only: bool,
) -> Reply {
    let encoding = match query
        .check_gaps(rendition)
        .and_then(|()| query.encoding(rendition, server.first_mount().mount.flac_bits()))
    {
        Ok(encoding) => encoding,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let gather = match query.gather(rendition, server.config()) {
        Ok(gather) => gather,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let last_event = match if rendition == Rendition::Events { last_event(headers) } else { Ok(None) } {
        Ok(last_event) => last_event,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let format = server.first_mount().mount.format();
    let mut reply = if head_only {
        Response::new(UnsyncBoxBody::default())
    } else {
        let framing = match framing(rendition, encoding, query, format) {
            Ok(framing) => framing,
            Err(message) => return error(StatusCode::BAD_REQUEST, message),
        };
        match join(server, context, rendition, encoding, query, last_event, gather) {
            Ok(packets) => Response::new(StreamBody::new(packets, framing, gather).boxed_unsync()),
            Err(reply) => return *reply,
        }
    };
    set(&mut reply, header::CONTENT_TYPE, content_type(rendition));
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    set_display(&mut reply, "x-audio-rate", encoding.rate_hz(format));
    set_display(&mut reply, "x-audio-channels", format.channels());
    if let Encoding::Pcm(samples) = encoding {
        set_display(&mut reply, "x-audio-sample", samples.label());
    }
    if let Some(bitrate) = encoding.bitrate() {
        set_display(&mut reply, "x-audio-bitrate", bitrate.bits_per_second());
    }
    reply
}

/// Answers a request for the WebSocket, and starts its session.
pub(super) fn websocket<B>(server: &Server, context: &Arc<Context>, query: &Query, request: &mut Request<B>) -> Reply {
    let encoding = match query
        .check_gaps(Rendition::WebSocket)
        .and_then(|()| query.encoding(Rendition::WebSocket, server.first_mount().mount.flac_bits()))
    {
        Ok(encoding) => encoding,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let (reply, upgrading) = match hyper_tungstenite::upgrade(request, Some(websocket::config())) {
        Ok(upgraded) => upgraded,
        Err(refused) => return not_a_websocket(&refused),
    };
    if let Err(message) = query.gather(Rendition::WebSocket, server.config()) {
        return error(StatusCode::BAD_REQUEST, message);
    }
    let packets = match join(server, context, Rendition::WebSocket, encoding, query, None, Duration::ZERO) {
        Ok(packets) => packets,
        Err(reply) => return *reply,
    };
    let format = server.first_mount().mount.format();
    let hello = message::hello(format, encoding.payload(), encoding.packets(format), packets.listener().id());
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let serving = async {
            // Fails if the listener leaves before it is answered.
            if let Ok(socket) = upgrading.await {
                Session::new(socket, packets, hello).await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = context.hang_up.notified() => {}
        }
    });
    reply.map(|body| body.boxed_unsync())
}

fn not_a_websocket(refused: &ProtocolError) -> Reply {
    let mut reply = error(StatusCode::UPGRADE_REQUIRED, format!("not a WebSocket of version 13: {refused}"));
    set(&mut reply, header::SEC_WEBSOCKET_VERSION, "13");
    set(&mut reply, header::UPGRADE, "websocket");
    reply
}

/// Adds a listener, and returns the reader of its packets, or the answer that refuses it.
fn join(
    server: &Server,
    context: &Context,
    rendition: Rendition,
    encoding: Encoding,
    query: &Query,
    last_event: Option<u64>,
    gather: Duration,
) -> Result<PacketReader, Box<Reply>> {
    let format = server.first_mount().mount.format();
    let options = query.subscribe(server.config(), format, last_event);
    if server.listeners().is_full() {
        return Err(full(server).into());
    }
    let subscription = server.first_mount().encoders.subscribe(encoding, options).map_err(|refused| match refused {
        EncoderError::Subscribe(SubscribeError::Ended) => {
            server.metrics().refuse(RefusalReason::Ended);
            error(StatusCode::SERVICE_UNAVAILABLE, "the stream has ended")
        }
        EncoderError::Subscribe(refused @ SubscribeError::BlockOnLive) => {
            error(StatusCode::BAD_REQUEST, format!("overflow: {refused}"))
        }
        EncoderError::Encoding(sentence) => error(StatusCode::BAD_REQUEST, sentence),
        failed @ EncoderError::Thread(_) => error(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string()),
    })?;
    let joining = JoinRequest {
        name: query.name.clone().unwrap_or_default(),
        mount: Arc::clone(&server.first_mount().mount),
        rendition,
        histograms: Arc::clone(&server.first_mount().histograms.renditions[&rendition]),
        overflow: options.overflow,
        limits: query.limits(server.config(), format),
        tally: Arc::clone(subscription.packets.tally()),
        socket: Arc::clone(&context.socket),
        hang_up: Arc::clone(&context.hang_up),
    };
    let presence = server.listeners().join(joining).map_err(|Full| full(server))?;
    context.place.become_listener();
    let block_bytes = encoding.block_bytes(format);
    let bytes_per_second = (block_bytes as f64 / format.block_span().as_secs_f64()) as u64;
    let packet_bytes = block_bytes * format.blocks_in(gather).max(1);
    context.socket.bound_buffers(bytes_per_second, packet_bytes, server.config().delivery.socket_buffer);
    Ok(PacketReader::new(subscription, presence))
}

/// Returns the container of one listener's stream.
fn framing(rendition: Rendition, encoding: Encoding, query: &Query, format: Format) -> Result<Framing, String> {
    Ok(match (rendition, encoding) {
        (Rendition::Wav | Rendition::Pcm, Encoding::Pcm(samples)) => Framing::Plain {
            header: (rendition == Rendition::Wav).then(|| wav_header(format, samples)),
            silence: (query.gaps == Some(Gaps::Silence)).then(|| Framing::silence(format, samples.sample_bytes())),
        },
        (_, Encoding::Flac { bits }) => {
            let encoder = FlacEncoder::new(format, bits).map_err(|error| error.to_string())?;
            Framing::Plain { header: Some(encoder.header().map_err(|error| error.to_string())?), silence: None }
        }
        (_, Encoding::Opus { bitrate }) => {
            let pre_skip = OpusEncoder::pre_skip_for(format, bitrate).map_err(|error| error.to_string())?;
            // The serial numbers of chained streams must differ; this is a stream by itself, so the time is enough.
            let serial = Timestamp::now().as_nanos() as u32;
            let channels = format.channels() as u8;
            Framing::Ogg(Box::new(OggOpus::new(serial, channels, pre_skip, format.rate_hz())))
        }
        (Rendition::Events, _) => Framing::Events,
        _ => Framing::Json,
    })
}

fn full(server: &Server) -> Reply {
    server.metrics().refuse(RefusalReason::Limit);
    let most = server.config().http.max_listeners;
    busy(format!("all {most} places of listeners are taken (try again later)"))
}

/// Returns the number of the last event that an EventSource received before it lost its connection.
pub(super) fn last_event(headers: &HeaderMap) -> Result<Option<u64>, String> {
    match headers.get("last-event-id") {
        Some(id) if !id.is_empty() => id
            .to_str()
            .ok()
            .and_then(|id| id.parse().ok())
            .map(Some)
            .ok_or_else(|| format!("Last-Event-ID: {id:?} is not a sequence number")),
        _ => Ok(None),
    }
}
