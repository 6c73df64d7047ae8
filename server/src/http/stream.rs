//! From a request for a stream to a listener, which a shard serves from there on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aircheck_api::span::Short;
use aircheck_api::{LeaveReason, Rendition, StreamParam};
use aircheck_engine::{Format, SubscribeError, Timestamp};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode, Version};
use tungstenite::handshake::server::create_response_with_body;

use crate::access::policy::Granted;
use crate::delivery::histograms::RenditionHistograms;
use crate::delivery::listener::JoinRequest;
use crate::delivery::listeners::Full;
use crate::delivery::remote::Client;
use crate::delivery::session::Joined;
use crate::delivery::socket::options::SocketBuffer;
use crate::http::context::Context;
use crate::http::query::{Gaps, Query};
use crate::http::range::Range;
use crate::http::reply::{Reply, busy, error, sentence, set, set_display, whole};
use crate::http::server::Server;
use crate::mounts::ServedMount;
use crate::rendition::container::flac::FrameNumbering;
use crate::rendition::container::framing::Framing;
use crate::rendition::container::icy::{self, IcyBlocks};
use crate::rendition::container::message;
use crate::rendition::container::notices::NoticeForm;
use crate::rendition::container::wav::wav_header;
use crate::rendition::content_type::content_type;
use crate::rendition::encoders::EncoderError;
use crate::rendition::encoding::Encoding;
use crate::rendition::packet::{TEXT, Wire, push_frame};
use crate::replay::{Found, Moment, ReplayError};
use crate::telemetry::metrics::RefusalReason;

/// A stream as a request asks for it.
struct Wanted<'q> {
    rendition: Rendition,
    encoding: Encoding,
    /// Blocks in a packet.
    group: u64,
    wire: Wire,
    query: &'q Query,
    last_event: Option<u64>,
    /// The title, if the player asks for metadata between the bytes of MP3.
    icy_title: Option<&'q str>,
    /// Whether the server has connected to the listener.
    is_push: bool,
}

/// A request for the stream of a mount.
pub(super) struct StreamRequest<'r, B> {
    pub(super) server: &'r Server,
    pub(super) served: &'r ServedMount,
    pub(super) context: &'r Context,
    pub(super) request: &'r Request<B>,
    /// The token that permits it.
    pub(super) granted: Granted,
    /// The name that players show.
    pub(super) station: &'r str,
}

/// Answers a request for `rendition`: with the stream from here on, or with an error.
pub(super) fn listen<B>(asked: StreamRequest<'_, B>, rendition: Rendition, query: &Query) -> Reply {
    let StreamRequest { server, served, context, request, granted, station } = asked;
    let (mount, format) = (&served.mount, served.mount.format());
    let wanted = query.check_gaps(rendition).and_then(|()| {
        let encoding = query.encoding(rendition, mount.flac_bits())?;
        let gather = query.gather(rendition, &served.config())?;
        let last_event = if rendition == Rendition::Events { last_event(request.headers())? } else { None };
        let wire = if request.version() == Version::HTTP_11 { Wire::Chunked } else { Wire::Plain };
        let group = format.blocks_in(gather).max(1);
        let wants_icy =
            rendition == Rendition::Mp3 && request.headers().get("icy-metadata").is_some_and(|wants| wants == "1");
        Ok(Wanted {
            rendition,
            encoding,
            group,
            wire,
            query,
            last_event,
            icy_title: wants_icy.then_some(station),
            is_push: false,
        })
    });
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let range = Range::of(request.headers(), rendition);
    let content_type = content_type(rendition);
    let mut reply = Response::new(UnsyncBoxBody::default());
    if let Range::FirstBytes(bytes) = range {
        reply = whole(StatusCode::OK, content_type, &bytes[..]);
    } else if request.method() != hyper::Method::HEAD {
        match join(server, served, context.client(), &wanted, granted) {
            Ok(joined) => {
                context.place.become_listener();
                context.join(joined);
            }
            Err(reply) => return *reply,
        }
    }
    range.apply(&mut reply);
    set(&mut reply, header::CONTENT_TYPE, content_type);
    set(&mut reply, header::CACHE_CONTROL, "no-store, no-transform");
    set_display(&mut reply, "x-audio-rate", wanted.encoding.rate_hz(format));
    set_display(&mut reply, "x-audio-channels", format.channels());
    if let Encoding::Pcm(samples) = wanted.encoding {
        set_display(&mut reply, "x-audio-sample", samples.label());
    }
    if let Some(bitrate) = wanted.encoding.bitrate() {
        set_display(&mut reply, "x-audio-bitrate", bitrate);
    }
    if wanted.icy_title.is_some() {
        set_display(&mut reply, "icy-metaint", icy::INTERVAL);
    }
    // On other streams, VLC would ask again by HTTP/1.0, in which the time of FLAC is that of the server.
    if rendition == Rendition::Mp3 {
        set_display(&mut reply, "icy-name", station);
        // A relay lists its streams in public directories otherwise, if it does so by default.
        set_display(&mut reply, "icy-pub", 0);
        if let Some(bitrate) = wanted.encoding.bitrate() {
            set_display(&mut reply, "icy-br", bitrate / 1000);
        }
    }
    if wanted.group > 1 {
        set_display(&mut reply, "x-audio-gather", Short(format.span(format.position(wanted.group))));
    }
    reply
}

/// Answers a request for the WebSocket: with the session from here on, or with an error.
pub(super) fn websocket<B>(asked: StreamRequest<'_, B>, query: &Query) -> Reply {
    let StreamRequest { server, served, context, request, granted, .. } = asked;
    let rendition = Rendition::WebSocket;
    let mount = &served.mount;
    let encoding = query.check_gaps(rendition).and_then(|()| query.encoding(rendition, mount.flac_bits()));
    let encoding = match encoding {
        Ok(encoding) => encoding,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let reply = match create_response_with_body(request, UnsyncBoxBody::default) {
        Ok(reply) => reply,
        Err(refused) => return not_a_websocket(&refused),
    };
    if let Err(message) = query.gather(rendition, &served.config()) {
        return error(StatusCode::BAD_REQUEST, message);
    }
    let wanted = Wanted {
        rendition,
        encoding,
        group: 1,
        wire: Wire::WebSocket,
        query,
        last_event: None,
        icy_title: None,
        is_push: false,
    };
    match join(server, served, context.client(), &wanted, granted) {
        Ok(mut joined) => {
            context.place.become_listener();
            let format = mount.format();
            let listener = joined.registration.listener().id();
            let hello = message::hello(format, encoding.payload(), encoding.packets(format), listener);
            push_frame(&mut joined.head, TEXT, hello.as_bytes());
            context.join(joined);
            reply
        }
        Err(reply) => *reply,
    }
}

/// Answers a request for the WebSocket from which a proxy has taken `Upgrade`.
pub(super) fn without_upgrade() -> Reply {
    upgrade_required("the proxy does not pass WebSockets on: let it pass Upgrade and Connection")
}

fn not_a_websocket(refused: &tungstenite::Error) -> Reply {
    upgrade_required(format!("not a WebSocket of version 13: {refused}"))
}

fn upgrade_required(sentence: impl AsRef<str>) -> Reply {
    let mut reply = error(StatusCode::UPGRADE_REQUIRED, sentence);
    set(&mut reply, header::SEC_WEBSOCKET_VERSION, "13");
    set(&mut reply, header::UPGRADE, "websocket");
    reply
}

/// Adds the server at the far end of a connection, to which the mount is pushed as `rendition`, as a listener of this `name`.
///
/// # Errors
///
/// Why it cannot be added, in a sentence.
pub(super) async fn join_push(
    server: &Server,
    served: &ServedMount,
    remote: SocketAddr,
    rendition: Rendition,
    name: String,
) -> Result<Joined, String> {
    let (config, format) = (served.config(), served.mount.format());
    let query = Query::named(name);
    let encoding = query.encoding(rendition, served.mount.flac_bits())?;
    let group = format.blocks_in(query.gather(rendition, &config)?).max(1);
    let (wire, query) = (Wire::Plain, &query);
    let wanted = Wanted { rendition, encoding, group, wire, query, last_event: None, icy_title: None, is_push: true };
    match join(server, served, Client::direct(remote), &wanted, None) {
        Ok(joined) => Ok(joined),
        Err(refused) => Err(sentence(*refused).await),
    }
}

/// Adds a listener, or returns the answer that refuses it.
fn join(
    server: &Server,
    served: &ServedMount,
    client: Client,
    wanted: &Wanted<'_>,
    granted: Granted,
) -> Result<Joined, Box<Reply>> {
    let Wanted { rendition, encoding, group, wire, query, last_event, is_push, .. } = *wanted;
    let format = served.mount.format();
    let options = query.subscribe(&served.config(), format, last_event);
    if server.listeners().is_full() {
        return Err(full(server).into());
    }
    let mut options = options;
    let mut replay = None;
    if let Some(moment) = query.moment(last_event) {
        // Reads the sidecar of a segment.
        let found = tokio::task::block_in_place(|| find(server, served, moment));
        match found.map_err(|error| not_found(moment, &error))? {
            Found::Live(start) => options.start = start,
            Found::Recorded(found) => replay = Some(found),
        }
    }
    let encoders = replay.as_ref().map_or(&served.encoders, |replay| &replay.encoders);
    let assignment = server.shards().assign();
    let shard = assignment.mailbox().number();
    let subscription = encoders.subscribe(encoding, group, shard, options).map_err(|refused| match refused {
        EncoderError::Subscribe(SubscribeError::Ended) => {
            server.metrics().refuse(RefusalReason::Ended);
            error(StatusCode::SERVICE_UNAVAILABLE, "the stream has ended")
        }
        EncoderError::Subscribe(refused @ SubscribeError::TooLong { .. }) => {
            error(StatusCode::BAD_REQUEST, format!("buffer: {refused}"))
        }
        EncoderError::Subscribe(refused) => error(StatusCode::BAD_REQUEST, format!("overflow: {refused}")),
        EncoderError::Encoding(sentence) => error(StatusCode::BAD_REQUEST, sentence),
        failed @ EncoderError::Thread(_) => error(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string()),
    })?;
    let framing = framing(format, wanted, subscription.header.clone());
    let block_bytes = encoding.block_bytes(format);
    let socket_buffer = SocketBuffer {
        bytes_per_second: (block_bytes as f64 / format.block_span().as_secs_f64()) as u64,
        packet_bytes: block_bytes * group,
        target: served.config().delivery.socket_buffer,
    };
    let joining = JoinRequest {
        name: query.name.clone().unwrap_or_default(),
        mount: Arc::clone(&served.mount),
        rendition,
        // Sound of an hour ago would make the latencies of all listeners meaningless.
        histograms: if replay.is_some() {
            Arc::new(RenditionHistograms::new(Arc::default()))
        } else {
            Arc::clone(&served.histograms.renditions[&rendition])
        },
        overflow: options.overflow,
        limits: query.limits(&served.config(), format),
        stats: Arc::clone(subscription.packets.stats()),
        client,
        granted,
        is_push,
        wire,
        bytes_per_second: socket_buffer.bytes_per_second,
        may_hold: query.may_hold(rendition, &served.config()),
        log: Arc::clone(&subscription.log),
        mailbox: Arc::clone(assignment.mailbox()),
    };
    let registration = server.listeners().join(joining).map_err(|Full| full(server))?;
    if let Some(replay) = replay {
        let system =
            |failed: io::Error| error(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot start a thread: {failed}"));
        replay.start().map_err(system)?;
    }
    // The rules may have changed since they permitted this, before the listener was in the list that the change looks at.
    if !registration.listener().is_permitted(&server.access().rules()) {
        registration.listener().end(LeaveReason::Revoked, Timestamp::now());
    }
    Ok(Joined {
        registration,
        subscription,
        wire,
        framing,
        socket_buffer,
        head: Vec::new(),
        has_body: false,
        assignment,
    })
}

/// Finds the moment at which a listener wants to start.
fn find(server: &Server, served: &ServedMount, moment: Moment) -> Result<Found, ReplayError> {
    let ServedMount { mount, replays, .. } = served;
    let history = served.config().capture.history;
    replays.find(mount, served.recording().as_ref(), history, moment, server.shards().wakers())
}

/// Returns the answer to a request for a moment that is not to be had.
fn not_found(moment: Moment, failed: &ReplayError) -> Reply {
    let param = if matches!(moment, Moment::At(_)) { StreamParam::At } else { StreamParam::Back };
    let sentence = format!("{}: {failed}", param.name());
    match failed {
        ReplayError::Future(..) | ReplayError::Length(_) => error(StatusCode::BAD_REQUEST, sentence),
        ReplayError::TooEarly(..) | ReplayError::NotRecorded(_) => error(StatusCode::NOT_FOUND, sentence),
        ReplayError::Full => busy(sentence),
        ReplayError::Unreadable(_) => error(StatusCode::INTERNAL_SERVER_ERROR, sentence),
    }
}

/// Returns the framing of one listener's stream, after the `header` of the codec.
fn framing(format: Format, wanted: &Wanted<'_>, header: Option<Bytes>) -> Framing {
    match (wanted.rendition, wanted.encoding) {
        (Rendition::Wav | Rendition::Pcm, Encoding::Pcm(samples)) => Framing::Plain {
            header: (wanted.rendition == Rendition::Wav).then(|| wav_header(format, samples)),
            silence: (wanted.query.gaps == Some(Gaps::Silence))
                .then(|| Framing::silence(format, samples.sample_bytes())),
        },
        (Rendition::Mp3, _) => Framing::Mp3(wanted.icy_title.map(|title| Box::new(IcyBlocks::new(title)))),
        (_, Encoding::Opus { .. }) => Framing::ogg(header.unwrap_or_default()),
        (Rendition::WebSocket, _) => Framing::notices(NoticeForm::Message),
        (Rendition::Events, _) => Framing::notices(NoticeForm::Event),
        (Rendition::Json, _) => Framing::notices(NoticeForm::Line),
        (Rendition::Flac, _) => Framing::Flac { header, numbering: FrameNumbering::default() },
        _ => Framing::Plain { header, silence: None },
    }
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
