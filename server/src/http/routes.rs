//! Which path is answered by what.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;

use crate::http::Connection;
use crate::http::api;
use crate::http::events::EventsBody;
use crate::http::guard;
use crate::http::query::Query;
use crate::http::reply::{Reply, error, json as json_reply, set, whole};
use crate::http::server::Server;
use crate::http::stream::{last_event, listen, websocket};
use crate::telemetry::metrics::Exposition;
use aircheck_api::{Rendition, StreamState};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The page: path, content type and text of its files.
const PAGE: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../../web/index.html")),
    ("/page.css", CSS, include_str!("../../web/page.css")),
    ("/icon.svg", SVG, include_str!("../../web/icon.svg")),
    ("/page.js", SCRIPT, include_str!("../../web/page.js")),
    ("/text.js", SCRIPT, include_str!("../../web/text.js")),
    ("/level.js", SCRIPT, include_str!("../../web/level.js")),
    ("/listeners.js", SCRIPT, include_str!("../../web/listeners.js")),
    ("/sparkline.js", SCRIPT, include_str!("../../web/sparkline.js")),
    ("/share.js", SCRIPT, include_str!("../../web/share.js")),
    ("/player.js", SCRIPT, include_str!("../../web/player.js")),
    ("/live.js", SCRIPT, include_str!("../../web/live.js")),
    ("/element.js", SCRIPT, include_str!("../../web/element.js")),
    ("/latency.js", SCRIPT, include_str!("../../web/latency.js")),
    ("/spectrogram.js", SCRIPT, include_str!("../../web/spectrogram.js")),
    ("/receiver.js", SCRIPT, include_str!("../../web/receiver.js")),
    ("/message.js", SCRIPT, include_str!("../../web/message.js")),
    ("/clock.js", SCRIPT, include_str!("../../web/clock.js")),
    ("/opus.js", SCRIPT, include_str!("../../web/opus.js")),
    ("/worklet.js", SCRIPT, include_str!("../../web/worklet.js")),
    ("/playout.js", SCRIPT, include_str!("../../web/playout.js")),
    ("/ring.js", SCRIPT, include_str!("../../web/ring.js")),
    ("/jitter.js", SCRIPT, include_str!("../../web/jitter.js")),
    ("/resampler.js", SCRIPT, include_str!("../../web/resampler.js")),
    ("/conceal.js", SCRIPT, include_str!("../../web/conceal.js")),
];

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Page(&'static str, &'static str),
    Stream,
    Rendition(Rendition),
    Metrics,
    Status,
    Listeners,
    Listener(&'a str),
    Events,
    Health,
    Ready,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/stream" => Self::Stream,
            "/metrics" => Self::Metrics,
            "/api/v1/status" => Self::Status,
            "/api/v1/listeners" => Self::Listeners,
            "/api/v1/events" => Self::Events,
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            _ => {
                if let Some(id) = path.strip_prefix("/api/v1/listeners/") {
                    return Some(Self::Listener(id));
                }
                if let Some((_, content_type, text)) = PAGE.iter().find(|(file, ..)| *file == path) {
                    return Some(Self::Page(content_type, text));
                }
                let rendition = Rendition::from_name(path.strip_prefix("/stream.")?)?;
                return rendition.path().map(|_| Self::Rendition(rendition));
            }
        })
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Listener(_) => "DELETE",
            _ => "GET, HEAD",
        }
    }
}

/// Answers a request. Everything here is quick; only a stream's body goes on afterwards.
pub(super) fn answer<B>(server: &Server, connection: &Arc<Connection>, request: &mut Request<B>) -> Reply {
    let config = server.config();
    // A request's own stays with it, to be upgraded.
    let headers = &request.headers().clone();
    let hosts = headers.get_all(header::HOST).iter().count();
    let mut reply = match guard::check(headers, &config.http.allow_hosts, &config.http.allow_origins) {
        // As RFC 9112 has it; with two, it would depend on who reads which.
        Ok(()) if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) => {
            error(StatusCode::BAD_REQUEST, "a request has one Host header")
        }
        Ok(()) => route(server, connection, request),
        Err((why, sentence)) => {
            server.metrics().refuse(why);
            error(StatusCode::FORBIDDEN, sentence)
        }
    };
    harden(&mut reply, headers, &config.http.allow_origins);
    if request.method() == Method::HEAD {
        let (parts, _) = reply.into_parts();
        reply = Response::from_parts(parts, UnsyncBoxBody::default());
    }
    reply
}

fn route<B>(server: &Server, connection: &Arc<Connection>, request: &mut Request<B>) -> Reply {
    let uri = request.uri().clone();
    let Some(route) = Route::of(uri.path()) else {
        return error(StatusCode::NOT_FOUND, "there is nothing here; the page is at /, the sound at /stream.wav");
    };
    let head_only = request.method() == Method::HEAD;
    let method_fits = match route {
        Route::Listener(_) => request.method() == Method::DELETE,
        _ => head_only || request.method() == Method::GET,
    };
    if !method_fits {
        let allow = route.allow();
        let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow}"));
        set(&mut reply, header::ALLOW, allow);
        return reply;
    }
    match route {
        Route::Page(content_type, text) => whole(StatusCode::OK, content_type, text),
        Route::Stream => stream(server, connection, request, head_only),
        Route::Rendition(rendition) => match query(server, request) {
            Ok(query) if query.format.is_some() => {
                error(StatusCode::BAD_REQUEST, "format: the path says it already; only /stream takes it")
            }
            Ok(query) => listen(server, connection, rendition, &query, request.headers(), head_only),
            Err(message) => error(StatusCode::BAD_REQUEST, message),
        },
        Route::Metrics => {
            let exposition = Exposition::for_accept(text(request.headers(), header::ACCEPT));
            whole(StatusCode::OK, exposition.content_type(), server.render_metrics(exposition))
        }
        Route::Status => json_reply(&api::status(server, connection.local)),
        Route::Listeners => json_reply(&api::listeners(server)),
        Route::Listener(id) => match id.parse() {
            Ok(id) if server.listeners().disconnect(id) => json_reply(&json!({ "disconnected": id })),
            Ok(id) => error(StatusCode::NOT_FOUND, format!("there is no listener {id} now")),
            Err(_) => error(StatusCode::NOT_FOUND, format!("`{id}` is no listener's number")),
        },
        Route::Events => events(server, request.headers(), head_only),
        // Healthy is who need not be started again; ready is whom it makes sense to listen to.
        Route::Health if server.mount().mount.state() == StreamState::Ended => {
            word(StatusCode::SERVICE_UNAVAILABLE, "ended")
        }
        Route::Health => word(StatusCode::OK, "ok"),
        Route::Ready => {
            let state = server.mount().mount.state();
            let status = if state == StreamState::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            word(status, state.name())
        }
    }
}

/// `/stream`, whose format is up to `?format=` and `Accept`.
fn stream<B>(server: &Server, connection: &Arc<Connection>, request: &mut Request<B>, head_only: bool) -> Reply {
    let query = match query(server, request) {
        Ok(query) => query,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    if text(request.headers(), header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return match query.format {
            Some(_) => error(StatusCode::BAD_REQUEST, "format: the WebSocket has none; it has a payload"),
            None => websocket(server, connection, &query, request),
        };
    }
    let headers = request.headers();
    match query.rendition(text(headers, header::ACCEPT)) {
        Ok(rendition) => listen(server, connection, rendition, &query, headers, head_only),
        Err(message) => error(StatusCode::BAD_REQUEST, message),
    }
}

/// What happens from here on, or since the last event that somebody who comes back has seen.
fn events(server: &Server, headers: &HeaderMap, head_only: bool) -> Reply {
    let last = match last_event(headers) {
        Ok(last) => last,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    let mut reply = if head_only {
        Response::new(UnsyncBoxBody::default())
    } else {
        match server.mount().mount.events().subscribe(last) {
            Ok(events) => Response::new(EventsBody::new(events).boxed_unsync()),
            Err(ended) => return error(StatusCode::SERVICE_UNAVAILABLE, ended.to_string()),
        }
    };
    set(&mut reply, header::CONTENT_TYPE, "text/event-stream");
    set(&mut reply, header::CACHE_CONTROL, "no-store");
    reply
}

/// A field's value, or nothing.
fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default()
}

fn query<B>(server: &Server, request: &Request<B>) -> Result<Query, String> {
    Query::parse(request.uri().query().unwrap_or_default(), server.config())
}

/// One word as text.
fn word(status: StatusCode, word: &'static str) -> Reply {
    whole(status, "text/plain; charset=utf-8", word)
}

/// What browsers should keep other pages from doing with a response.
fn harden(reply: &mut Reply, request: &HeaderMap, origins: &[String]) {
    set(reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(reply, header::X_FRAME_OPTIONS, "DENY");
    set(reply, header::REFERRER_POLICY, "no-referrer");
    set(reply, header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'");
    let origin = request.get(header::ORIGIN);
    match origin.filter(|origin| origin.to_str().is_ok_and(|origin| guard::allows(origins, origin))) {
        Some(origin) => {
            reply.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            set(reply, header::ACCESS_CONTROL_EXPOSE_HEADERS, "X-Audio-Rate, X-Audio-Channels, X-Audio-Sample");
            set(reply, header::VARY, "Origin");
        }
        None => set(reply, header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    }
}
