//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use crate::delivery::socket::tracked_stream::TrackedStream;
use crate::http::connections::Place;
use crate::http::context::Context;
use crate::http::refusal;
use crate::http::reply::Reply;
use crate::http::routes;
use crate::http::server::Server;
use crate::telemetry::metrics::RefusalReason;

/// A request's head must be there within this time, also on a connection that is kept open for the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The same on a spare place, which others need: a listener sends its request within a round trip.
const SPARE_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Header fields of a request: browsers send about 20.
const MAX_HEADERS: usize = 64;
/// hyper's read buffer: a head of this size holds what browsers and proxies send, several times. Its write buffer is
/// bounded by the bodies, which hand over one packet at a time.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a connection that has to give way may take to send the end of an answer.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Refuses connections, and drains a limited number of them at a time.
#[derive(Clone, Debug)]
pub(super) struct Refusals(pub(super) Arc<Semaphore>);

impl Refusals {
    /// Counts a refused connection, answers it, and drains it in a task of its own.
    pub(super) fn refuse(&self, server: &Server, stream: TcpStream) {
        server.metrics().refuse(RefusalReason::Connections);
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => {
                tokio::spawn(async move {
                    refusal::refuse(stream).await;
                    drop(permit);
                });
            }
            Err(_) => refusal::write_answer(&stream),
        }
    }
}

/// Serves one connection, with as many requests as it sends, until it closes, has to give way, or the server ends.
pub(super) async fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    local: SocketAddr,
    server: Arc<Server>,
    refusals: Refusals,
    place: Place,
    mut closing: watch::Receiver<bool>,
) {
    let is_regular = place.is_regular();
    let head_timeout = if is_regular { HEAD_TIMEOUT } else { SPARE_HEAD_TIMEOUT };
    // A silent connection has no buffers of hyper's, and can still be given the answer that it is refused.
    let mut first_byte = [0];
    let must_go = tokio::select! {
        ready = timeout(head_timeout, stream.peek(&mut first_byte)) => match ready {
            Ok(_) => false,
            Err(_) if is_regular => return,
            Err(_) => true,
        },
        () = place.evicted() => true,
        _ = closing.wait_for(|closing| *closing) => return,
    };
    if must_go {
        drop(place);
        return refusals.refuse(&server, stream);
    }
    // Fails if the other side is gone.
    let Ok(stream) = TrackedStream::new(stream, remote) else { return };
    let context = Arc::new(Context {
        local,
        socket: Arc::clone(stream.socket()),
        hang_up: Arc::new(Notify::new()),
        place,
        closing: closing.clone(),
    });
    let of_requests = Arc::clone(&context);
    let service = service_fn(move |mut request| {
        let (server, context) = (Arc::clone(&server), Arc::clone(&of_requests));
        async move {
            context.place.begin_answer(Instant::now());
            let reply = routes::answer(&server, &context, &mut request).await;
            Ok::<_, Infallible>(ReplyBody::of(reply, context))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    let ended = async {
        let is_evicted = tokio::select! {
            result = &mut serving => return result,
            () = context.place.evicted() => true,
            _ = closing.wait_for(|closing| *closing) => false,
        };
        serving.as_mut().graceful_shutdown();
        if is_evicted { timeout(EVICTION_TIMEOUT, serving).await.unwrap_or(Ok(())) } else { serving.await }
    };
    tokio::select! {
        result = ended => {
            if let Err(error) = result {
                tracing::debug!(%remote, "connection ended: {error}");
            }
        }
        () = context.hang_up.notified() => {
            tracing::info!(%remote, "closed the connection of a listener that did not read the end of its stream");
        }
    }
}

/// The body of a reply. The connection has answered when this is dropped: complete, or given up.
struct ReplyBody {
    body: UnsyncBoxBody<Bytes, Infallible>,
    /// `None` if the connection becomes a WebSocket, whose answer goes on.
    context: Option<Arc<Context>>,
}

impl ReplyBody {
    fn of(reply: Reply, context: Arc<Context>) -> Response<Self> {
        let context = (reply.status() != StatusCode::SWITCHING_PROTOCOLS).then_some(context);
        reply.map(|body| Self { body, context })
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            context.place.end_answer(Instant::now());
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
