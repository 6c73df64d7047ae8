//! The paths of the server, and their answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use serde_json::json;

use crate::access::policy::Granted;
use crate::access::scope::Scope;
use crate::http::api;
use crate::http::audience::audience;
use crate::http::context::{Context, Serves};
use crate::http::denied::{asked, denied};
use crate::http::events::EventsBody;
use crate::http::forwarded::{Forwarding, Scheme, reached_url};
use crate::http::guard::{self, Reached, Sites};
use crate::http::hls::{self, HlsRequest, HlsRoute};
use crate::http::listener_table::MAX_WORST_ROWS;
use crate::http::metadata;
use crate::http::page::{self, PageFile};
use crate::http::permitted::while_permitted;
use crate::http::playlist::Playlist;
use crate::http::put::put;
use crate::http::query::Query;
use crate::http::recording::recording;
use crate::http::reply::{Reply, busy, error, json as json_reply, set, whole};
use crate::http::server::Server;
use crate::http::session::session;
use crate::http::station::station;
use crate::http::stream::{StreamRequest, last_event, listen, websocket, without_upgrade};
use crate::http::table_query::TableQuery;
use crate::http::watch::WatchBody;
use crate::mounts::ServedMount;
use crate::telemetry::metrics::{Exposition, RefusalReason};
use aircheck_api::{Rendition, Status, StreamState};

/// The page takes everything from here, has no forms and no plug-ins, and is in no frame; `base-uri`, `form-action` and
/// `frame-ancestors` don't follow `default-src` (CSP Level 3, section 6).
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     object-src 'none'";

/// The path of a mount's own paths, before its name.
const MOUNTS: &str = "/mounts/";

/// The meaning of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Page(PageFile),
    /// Something of the mount of this name, or of the first one.
    Mount(Option<&'a str>, MountRoute),
    /// The way to a stream of that mount.
    Playlist(Option<&'a str>, Playlist),
    /// The stream in segments.
    Hls(Option<&'a str>, HlsRoute),
    Mounts,
    Metrics,
    Listeners,
    Audience,
    Listener(&'a str),
    /// The change of metadata as source clients of Icecast ask for it.
    Update,
    Session,
    Health,
    Ready,
}

/// What there is of each mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MountRoute {
    Stream,
    Rendition(Rendition),
    Recording,
    Status,
    Events,
    Watch,
    Metadata,
    /// Where source clients send their sound.
    Put,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/metrics" => Self::Metrics,
            "/api/v1/mounts" => Self::Mounts,
            "/api/v1/status" => Self::Mount(None, MountRoute::Status),
            "/api/v1/events" => Self::Mount(None, MountRoute::Events),
            "/api/v1/watch" => Self::Mount(None, MountRoute::Watch),
            "/api/v1/listeners" => Self::Listeners,
            "/api/v1/audience" => Self::Audience,
            "/api/v1/session" => Self::Session,
            "/admin/metadata" => Self::Update,
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            _ => {
                if let Some(id) = path.strip_prefix("/api/v1/listeners/") {
                    return Some(Self::Listener(id));
                }
                if let Some(file) = page::file(path) {
                    return Some(Self::Page(file));
                }
                if let Some(name) = path.strip_prefix("/api/v1/mounts/").and_then(|rest| rest.strip_suffix("/metadata"))
                {
                    return Some(Self::Mount(Some(name), MountRoute::Metadata));
                }
                if let Some(name) = path.strip_prefix(MOUNTS).filter(|name| !name.is_empty() && !name.contains('/')) {
                    return Some(Self::Mount(Some(name), MountRoute::Put));
                }
                let named = path.strip_prefix(MOUNTS).and_then(|rest| rest.find('/').map(|end| rest.split_at(end)));
                let (name, path) = named.map_or((None, path), |(name, path)| (Some(name), path));
                match path {
                    "/listen.m3u" => Self::Playlist(name, Playlist::M3u),
                    "/listen.pls" => Self::Playlist(name, Playlist::Pls),
                    _ => match path.strip_prefix("/hls/") {
                        Some(path) => Self::Hls(name, HlsRoute::of(path)?),
                        None => Self::Mount(name, MountRoute::of(path)?),
                    },
                }
            }
        })
    }

    /// Returns whether the route is answered on a spare place: it is one of those that show how the server is and end
    /// what goes wrong, with a short answer, or the stream of a listener, which takes no place.
    const fn needs_no_regular_place(self) -> bool {
        match self {
            Self::Health
            | Self::Ready
            | Self::Metrics
            | Self::Mounts
            | Self::Listeners
            | Self::Audience
            | Self::Listener(_) => true,
            Self::Mount(_, MountRoute::Stream | MountRoute::Rendition(_)) => true,
            // A source client takes no place, either.
            Self::Mount(_, MountRoute::Status | MountRoute::Put) | Self::Playlist(..) => true,
            Self::Mount(_, MountRoute::Events | MountRoute::Watch | MountRoute::Recording | MountRoute::Metadata) => {
                false
            }
            Self::Page(_) | Self::Hls(..) | Self::Session | Self::Update => false,
        }
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Listener(_) => "DELETE",
            Self::Session => "GET, HEAD, POST, DELETE",
            Self::Mount(_, MountRoute::Metadata) => "GET, HEAD, PUT",
            // Of clients that were made before Icecast 2.4.
            Self::Mount(_, MountRoute::Put) => "PUT, SOURCE",
            _ => "GET, HEAD",
        }
    }

    /// Returns the scope of the token that it takes, if it takes one. `mount` is the name of the mount, `is_asked` whether the
    /// query has it, and `changes` whether the method changes something.
    fn scope(self, mount: &str, is_asked: bool, changes: bool) -> Option<Scope> {
        let listen = || Some(Scope::Listen(Some(mount.to_owned())));
        match self {
            // The address of a stream in a playlist opens it.
            Self::Playlist(..)
            | Self::Hls(..)
            | Self::Mount(_, MountRoute::Stream | MountRoute::Rendition(_) | MountRoute::Recording) => listen(),
            // It tells that there is a mount of this name, and whether sound comes from it.
            Self::Ready if is_asked => listen(),
            Self::Mount(_, MountRoute::Status | MountRoute::Events | MountRoute::Watch) => Some(Scope::Stats),
            Self::Metrics | Self::Mounts | Self::Listeners | Self::Audience => Some(Scope::Stats),
            // Who listens hears of it, too.
            Self::Mount(_, MountRoute::Metadata) if !changes => listen(),
            Self::Listener(_) | Self::Update | Self::Mount(_, MountRoute::Metadata | MountRoute::Put) => {
                Some(Scope::Admin)
            }
            // The page must load before it can ask for a token.
            Self::Page(_) | Self::Session | Self::Health | Self::Ready => None,
        }
    }

    /// Returns the web sites that may use it.
    const fn sites(self) -> Sites {
        match self {
            Self::Mount(_, MountRoute::Stream | MountRoute::Rendition(_) | MountRoute::Recording) | Self::Hls(..) => {
                Sites::Allowed
            }
            Self::Page(_) => Sites::OwnAsFarAsKnown,
            _ => Sites::Own,
        }
    }

    /// Returns whether an address with this part of the routes has it.
    const fn is_served(self, serves: Serves) -> bool {
        match self {
            Self::Health | Self::Ready => true,
            Self::Metrics | Self::Mounts | Self::Listeners | Self::Audience | Self::Listener(_) => {
                !matches!(serves, Serves::Streams)
            }
            Self::Mount(_, MountRoute::Status | MountRoute::Events | MountRoute::Watch | MountRoute::Metadata) => {
                !matches!(serves, Serves::Streams)
            }
            // Source clients have one address for their sound and its titles.
            Self::Page(_) | Self::Session | Self::Mount(..) | Self::Playlist(..) | Self::Hls(..) | Self::Update => {
                !matches!(serves, Serves::Admin)
            }
        }
    }
}

impl MountRoute {
    /// Finds what of a mount is at a path, below that of the mount or at the top.
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/stream" => Self::Stream,
            "/recording.wav" => Self::Recording,
            _ => {
                let rendition = Rendition::from_name(path.strip_prefix("/stream.")?)?;
                return rendition.path().map(|_| Self::Rendition(rendition));
            }
        })
    }
}

/// Answers a request. The table of listeners may take up to 250 ms; all other answers are there at once.
pub(super) async fn answer<B>(server: &Arc<Server>, context: &Arc<Context>, request: &Request<B>) -> Reply {
    let config = server.config();
    let headers = request.headers();
    let hosts = headers.get_all(header::HOST).iter().count();
    let found = Route::of(request.uri().path()).filter(|route| route.is_served(context.serves));
    let sites = found.map_or(Sites::Own, Route::sites);
    let forwarding = Forwarding::read(headers, context.connection.clone(), server.trusted_proxies());
    context.set_client(forwarding.client.clone());
    let is_shared = server.trusted_proxies().contain(context.connection.ip());
    let has_place = !is_shared || context.place.share_with(forwarding.client.ip(), Instant::now());
    let http = &config.http;
    let reached = Reached {
        forwarded_host: forwarding.host.as_deref(),
        is_https: forwarding.scheme.map_or(context.url.starts_with("https:"), |scheme| scheme == Scheme::Https),
    };
    let checked = guard::check(headers, reached, sites, &http.allow_hosts, &http.allow_origins);
    let allowed = checked.as_ref().ok().cloned().flatten();
    let mut reply = match checked {
        Ok(_) if !has_place => no_place(server, context),
        // RFC 9112, section 3.2. With two of them, a proxy and this server could take different ones.
        Ok(_) if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) => {
            error(StatusCode::BAD_REQUEST, "a request needs exactly one Host header")
        }
        Ok(_) => route(server, context, request, found, &forwarding).await,
        Err((why, sentence)) => {
            server.metrics().refuse(why);
            error(StatusCode::FORBIDDEN, sentence)
        }
    };
    if !has_place || !context.place.is_regular() {
        // A spare place serves one request.
        set(&mut reply, header::CONNECTION, "close");
    }
    harden(&mut reply, headers, allowed);
    if matches!(found, Some(Route::Hls(..))) {
        hls::permit_caches(&mut reply, !http.allow_origins.is_empty());
    }
    if request.method() == Method::HEAD {
        let (parts, _) = reply.into_parts();
        reply = Response::from_parts(parts, UnsyncBoxBody::default());
    }
    reply
}

async fn route<B>(
    server: &Arc<Server>,
    context: &Arc<Context>,
    request: &Request<B>,
    found: Option<Route<'_>>,
    forwarding: &Forwarding,
) -> Reply {
    let uri = request.uri().clone();
    let Some(route) = found else {
        return error(StatusCode::NOT_FOUND, "nothing is at this path (the page is at /, the sound at /stream.wav)");
    };
    let allow = route.allow();
    if !allow.split(", ").any(|method| method == request.method().as_str()) {
        let mut reply = error(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow}"));
        set(&mut reply, header::ALLOW, allow);
        return reply;
    }
    if !route.needs_no_regular_place() && !context.place.is_regular() {
        return no_place(server, context);
    }
    let query = uri.query().unwrap_or_default();
    let asked_mount = mount_of(query);
    let updated = metadata::mount_of_update(query);
    let first = server.mounts().first();
    let name = match route {
        Route::Mount(Some(name), _) | Route::Playlist(Some(name), _) | Route::Hls(Some(name), _) => name,
        Route::Mount(None, MountRoute::Status | MountRoute::Events | MountRoute::Watch)
        | Route::Session
        | Route::Ready => asked_mount.as_deref().unwrap_or_else(|| first.name()),
        Route::Update => updated.as_deref().unwrap_or_else(|| first.name()),
        _ => first.name(),
    };
    // Before the name is looked up: whoever may not listen does not learn which mounts there are.
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    let granted = match route.scope(name, asked_mount.is_some(), changes) {
        Some(scope) => {
            let asked = asked(request, &context.client());
            match server.access().admit(&asked, &scope) {
                Ok(granted) => granted,
                Err(why) => {
                    let (reason, reply) = denied(&why, &asked);
                    server.metrics().refuse(reason);
                    return reply;
                }
            }
        }
        None => None,
    };
    let mount = server.mounts().find(name);
    match route {
        Route::Page(PageFile { content_type, bytes }) => whole(StatusCode::OK, content_type, bytes),
        Route::Session => session(server, name, context, request),
        Route::Playlist(..) if mount.is_none() => no_mount(name),
        Route::Playlist(_, playlist) => {
            let scope = Scope::Listen(Some(name.to_owned()));
            let asked = asked(request, &context.client());
            let sign = |path: &str, query: &str| server.access().pass_on(&granted, &scope, &asked, path, query);
            let path = uri.path();
            let prefix = &path[..path.rfind('/').unwrap_or_default()];
            playlist.answer(prefix, query, &reached_url(forwarding, request.headers(), &context.url), sign)
        }
        Route::Update => match mount.map(|mount| mount.served()) {
            None => no_mount(name),
            Some(Ok(served)) => metadata::update(&served.mount, query),
            Some(Err(why)) => not_on_air(name, &why),
        },
        Route::Mount(_, of_mount) => match mount.map(|mount| mount.served()) {
            None => no_mount(name),
            Some(Ok(served)) if of_mount == MountRoute::Put => put(server, &served, context, request, granted).await,
            Some(Ok(served)) if of_mount == MountRoute::Metadata && changes => {
                metadata::put(&served.mount, context.take_body()).await
            }
            Some(Ok(served)) => route_of_mount(server, &served, context, request, of_mount, forwarding, granted),
            Some(Err(why)) => not_on_air(name, &why),
        },
        Route::Hls(_, route) => match mount.map(|mount| mount.served()) {
            None => no_mount(name),
            Some(Ok(served)) => {
                let scope = Scope::Listen(Some(name.to_owned()));
                let asked = asked(request, &context.client());
                let request = HlsRequest { access: server.access(), scope: &scope, asked: &asked, granted: &granted };
                hls::answer(&served, route, &request).await
            }
            Some(Err(why)) => not_on_air(name, &why),
        },
        Route::Mounts => json_reply(&api::mounts(server)),
        Route::Metrics => {
            let exposition = Exposition::for_accept(text(request.headers(), header::ACCEPT));
            whole(StatusCode::OK, exposition.content_type(), server.render_metrics(exposition))
        }
        Route::Listeners | Route::Audience => match TableQuery::parse(query) {
            Ok(query) => {
                let table =
                    if query.is_of_worst(MAX_WORST_ROWS) { server.recent_worst() } else { server.fresh_table().await };
                if route == Route::Audience {
                    json_reply(&audience(server, &table, &query))
                } else {
                    whole(StatusCode::OK, "application/json", table.json(&query))
                }
            }
            Err(message) => error(StatusCode::BAD_REQUEST, message),
        },
        Route::Listener(id) => match id.parse() {
            Ok(id) if server.listeners().disconnect(id) => json_reply(&json!({ "disconnected": id })),
            Ok(id) => error(StatusCode::NOT_FOUND, format!("no listener {id} is present")),
            Err(_) => error(StatusCode::NOT_FOUND, format!("`{id}` is not the number of a listener")),
        },
        // A server is healthy if a restart would not help it, and ready if sound comes.
        Route::Health if server.mounts().are_finished() => word(StatusCode::SERVICE_UNAVAILABLE, "ended"),
        Route::Health => word(StatusCode::OK, "ok"),
        Route::Ready if mount.is_none() => no_mount(name),
        Route::Ready => {
            let of_mount = mount.filter(|_| asked_mount.is_some());
            let state = of_mount.map_or_else(|| server.mounts().state(), |mount| mount.state_of_stream());
            let status = if state == StreamState::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            word(status, state.name())
        }
    }
}

/// Answers a request for something of one mount.
fn route_of_mount<B>(
    server: &Arc<Server>,
    served: &Arc<ServedMount>,
    context: &Context,
    request: &Request<B>,
    route: MountRoute,
    forwarding: &Forwarding,
    granted: Granted,
) -> Reply {
    let query = request.uri().query().unwrap_or_default();
    let head_only = request.method() == Method::HEAD;
    let station = station(&reached_url(forwarding, request.headers(), &context.url));
    let asked = |granted| StreamRequest { server, served, context, request, granted, station: &station };
    match route {
        MountRoute::Stream => stream(asked(granted)),
        MountRoute::Rendition(rendition) => match Query::parse(query, &served.config()) {
            Ok(query) if query.format.is_some() => {
                error(StatusCode::BAD_REQUEST, "format: only /stream takes it; this path has its format already")
            }
            Ok(query) => listen(asked(granted), rendition, &query),
            Err(message) => error(StatusCode::BAD_REQUEST, message),
        },
        MountRoute::Status => {
            let status = api::status(server, served);
            let urls =
                forwarding.url(request.headers(), &context.url).map_or_else(|| status.urls.clone(), |url| vec![url]);
            json_reply(&Status { urls, ..status })
        }
        MountRoute::Watch if head_only => event_stream(UnsyncBoxBody::default()),
        MountRoute::Watch => {
            let body = WatchBody::new(Arc::clone(server), Arc::clone(served), context.closing.clone());
            event_stream(while_permitted(body.boxed_unsync(), server, granted, Scope::Stats))
        }
        MountRoute::Recording => {
            let scope = Scope::Listen(Some(served.mount.name().to_owned()));
            recording(served, query).map(|body| while_permitted(body, server, granted, scope))
        }
        MountRoute::Events => events(server, served, request, head_only, granted),
        MountRoute::Metadata | MountRoute::Put => json_reply(&metadata::status(&served.mount)),
    }
}

/// Returns the name of the mount that a query asks for.
fn mount_of(query: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "mount").map(|(_, name)| name.into_owned())
}

fn no_mount(name: &str) -> Reply {
    error(StatusCode::NOT_FOUND, format!("there is no mount `{name}` (/api/v1/mounts lists them)"))
}

fn not_on_air(name: &str, why: &str) -> Reply {
    busy(format!("the mount `{name}` is not on the air: {why} (it is tried again)"))
}

/// The answer to a request that needs a regular place, on a connection that has none.
fn no_place(server: &Server, context: &Context) -> Reply {
    server.metrics().refuse(RefusalReason::Connections);
    let most = context.place.limits().per_address;
    busy(format!(
        "too many connections: {} has {most}, or the server has all that it can have (close some, or try again later; \
         --max-connections-per-address allows more of one address)",
        context.client().ip().to_canonical()
    ))
}

/// Answers `/stream` of a mount, in the format of `?format=` or `Accept`, or as a WebSocket.
fn stream<B>(asked: StreamRequest<'_, B>) -> Reply {
    let request = asked.request;
    let query = match Query::parse(request.uri().query().unwrap_or_default(), &asked.served.config()) {
        Ok(query) => query,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    if text(request.headers(), header::UPGRADE).eq_ignore_ascii_case("websocket") {
        return match query.format {
            Some(_) => error(StatusCode::BAD_REQUEST, "format: the WebSocket does not take it; it takes payload"),
            None => websocket(asked, &query),
        };
    }
    let headers = request.headers();
    if headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        return without_upgrade();
    }
    match query.rendition(text(headers, header::ACCEPT)) {
        Ok(rendition) => listen(asked, rendition, &query),
        Err(message) => error(StatusCode::BAD_REQUEST, message),
    }
}

/// Answers `/api/v1/events`: with the events from now on, from the number `?from=` on, or after `Last-Event-ID`.
fn events<B>(
    server: &Arc<Server>,
    served: &ServedMount,
    request: &Request<B>,
    head_only: bool,
    granted: Granted,
) -> Reply {
    let from = match first_event(request) {
        Ok(from) => from,
        Err(message) => return error(StatusCode::BAD_REQUEST, message),
    };
    if head_only {
        return event_stream(UnsyncBoxBody::default());
    }
    match served.mount.events().subscribe(from) {
        Ok(events) => {
            event_stream(while_permitted(EventsBody::new(events).boxed_unsync(), server, granted, Scope::Stats))
        }
        Err(ended) => error(StatusCode::SERVICE_UNAVAILABLE, ended.to_string()),
    }
}

/// Returns the number of the first event that a request asks for. An EventSource that reconnects asks for the URL of its first
/// request again, so its `Last-Event-ID` goes before `from`.
pub(super) fn first_event<B>(request: &Request<B>) -> Result<Option<u64>, String> {
    if let Some(last) = last_event(request.headers())? {
        return Ok(Some(last.saturating_add(1)));
    }
    let query = request.uri().query().unwrap_or_default();
    let from = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "from");
    from.map(|(_, from)| from.parse().map_err(|_| format!("from: `{from}` is not the number of an event, such as 0")))
        .transpose()
}

/// A response of server-sent events.
fn event_stream(body: UnsyncBoxBody<Bytes, Infallible>) -> Reply {
    let mut reply = Response::new(body);
    set(&mut reply, header::CONTENT_TYPE, "text/event-stream");
    set(&mut reply, header::CACHE_CONTROL, "no-store, no-transform");
    reply
}

/// Returns a field's value, or an empty string.
fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default()
}

/// Makes a response of one word.
fn word(status: StatusCode, word: &'static str) -> Reply {
    whole(status, "text/plain; charset=utf-8", word)
}

/// Sets the header fields by which browsers keep a response from other sites, or let the site `allowed` have it, and by which proxies
/// do not hold it back.
fn harden(reply: &mut Reply, request: &HeaderMap, allowed: Option<String>) {
    set(reply, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(reply, header::X_FRAME_OPTIONS, "DENY");
    set(reply, header::REFERRER_POLICY, "no-referrer");
    // Tells nginx, and others after it, to pass on each byte as it comes.
    set(reply, header::HeaderName::from_static("x-accel-buffering"), "no");
    set(reply, header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    let policy = if allowed.is_some() { "cross-origin" } else { "same-origin" };
    set(reply, header::HeaderName::from_static("cross-origin-resource-policy"), policy);
    // A site that `Referer` names, from an element such as `<audio>`, may play the sound; its scripts cannot read it.
    if let Some(origin) = request.get(header::ORIGIN).filter(|_| allowed.is_some()) {
        reply.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        set(reply, header::ACCESS_CONTROL_EXPOSE_HEADERS, "X-Audio-Rate, X-Audio-Channels, X-Audio-Sample");
        set(reply, header::VARY, "Origin");
    }
}
