//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::delivery::remote::{Client, Remote};
use crate::delivery::socket::options::prepare;
use crate::http::answer_pace;
use crate::http::connections::Place;
use crate::http::context::Context;
use crate::http::counted_stream::{CountedStream, Written};
use crate::http::head::response_head;
use crate::http::port::Port;
use crate::http::proxy_header::{self, HeaderError, Source};
use crate::http::refusal;
use crate::http::reply::set;
use crate::http::routes;
use crate::http::server::Server;
use crate::http::tls;
use crate::http::transport::Transport;
use crate::telemetry::metrics::RefusalReason;

/// A request's head must be there within this time, also on a connection that is kept open for the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The same on a spare place, which others need: a listener sends its request within a round trip.
const SPARE_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Header fields of a request: browsers send about 20.
const MAX_HEADERS: usize = 64;
/// hyper's read buffer: a head of this size holds what browsers and proxies send, several times. Its write buffer is
/// bounded by the bodies, which hand over one document or one event at a time.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long a connection that has to give way may take to send the end of an answer.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Refuses connections, and drains a limited number of them at a time.
#[derive(Clone, Debug)]
pub(super) struct Refusals(pub(super) Arc<Semaphore>);

impl Refusals {
    /// Counts a refused connection, answers it, and drains it in a task of its own.
    pub(super) fn refuse(&self, server: &Server, port: &Port, stream: Transport) {
        server.metrics().refuse(RefusalReason::Connections);
        if port.tls.is_some() {
            // An answer would need a handshake, which is what there is no place for.
            return;
        }
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
    mut stream: Transport,
    remote: Remote,
    port: Arc<Port>,
    server: Arc<Server>,
    refusals: Refusals,
    place: Place,
    mut closing: watch::Receiver<bool>,
) {
    let is_regular = place.is_regular();
    let head_timeout = if is_regular { HEAD_TIMEOUT } else { SPARE_HEAD_TIMEOUT };
    // A silent connection has no buffers of hyper's, and can still be given the answer that it is refused.
    let mut first_byte = [0];
    let is_proxy = server.trusted_proxies().contain(remote.ip());
    let begun = tokio::select! {
        begun = timeout(head_timeout, begin(&mut stream, &mut first_byte, is_proxy)) => Some(begun),
        () = place.evicted() => None,
        _ = closing.wait_for(|closing| *closing) => return,
    };
    let mut client = Client::direct(remote);
    let must_go = match begun {
        Some(Ok(Ok(None))) => false,
        Some(Ok(Ok(Some(source)))) => {
            client = source.client(remote);
            client.is_proxied() && !place.count_for(client.ip(), Instant::now())
        }
        Some(Ok(Err(HeaderError::Broken))) => return,
        Some(Ok(Err(HeaderError::Wrong(sentence)))) => {
            server.trusted_proxies().complain(remote.ip(), sentence);
            return refusal::refuse_header(stream, sentence).await;
        }
        Some(Err(_)) => {
            if is_regular {
                return;
            }
            true
        }
        None => true,
    };
    if must_go {
        drop(place);
        return refusals.refuse(&server, &port, stream);
    }
    let is_tls = first_byte == [tls::FIRST_BYTE];
    let transport = match (stream, &port.tls) {
        // Fails if the other side is gone.
        (Transport::Plain(stream), _) if prepare(&stream).is_err() => return,
        (stream, None) if is_tls => return refusal::alert(&stream),
        (stream @ Transport::Plain(_), Some(_)) if !is_tls => return refusal::ask_for_https(stream, &port.url).await,
        (Transport::Plain(stream), Some(tls)) => {
            let shaken = tokio::select! {
                shaken = timeout(head_timeout, tls.accept(stream)) => shaken,
                () = place.evicted() => return,
                _ = closing.wait_for(|closing| *closing) => return,
            };
            match shaken {
                Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
                Ok(Err(error)) => return tracing::debug!(%client, "TLS handshake failed: {error}"),
                Err(_) => return tracing::debug!(%client, "TLS handshake not complete within {head_timeout:?}"),
            }
        }
        (stream, _) => stream,
    };
    let stream = CountedStream::new(transport);
    let written = Arc::clone(stream.written());
    let written_below = Arc::clone(stream.get_ref().written_below(&written));
    // Open for as long as hyper has the connection.
    let socket = stream.as_fd().as_raw_fd();
    let context = Arc::new(Context::new(Arc::clone(&port.url), client.clone(), place, port.serves, closing.clone()));
    let of_requests = Arc::clone(&context);
    let shards = Arc::clone(server.shards());
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, context) = (Arc::clone(&server), Arc::clone(&of_requests));
        async move {
            context.place.begin_answer(Instant::now());
            let has_body = !request.body().is_end_stream();
            let request = request.map(|body| context.set_body(body));
            let mut reply = routes::answer(&server, &context, &request).await;
            drop(context.take_body());
            if context.has_source() {
                // What follows is its sound, which is none of hyper's.
                return pending().await;
            }
            if let Some(mut joined) = context.take_joined() {
                let mut head = response_head(request.version(), reply);
                head.append(&mut joined.head);
                (joined.head, joined.has_body) = (head, has_body);
                context.join(joined);
                // The connection is taken out of hyper's hands.
                return pending().await;
            }
            if has_body {
                // A proxy may see another end of the body than hyper does. What follows it here could be a request that the proxy has
                // not seen, so nothing that follows is answered.
                set(&mut reply, header::CONNECTION, "close");
            }
            Ok::<_, Infallible>(reply.map(|body| ReplyBody { body, context }))
        }
    });
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut ended = None;
    let mut is_stalled = false;
    let time_left = tokio::select! {
        it_ended = answer_requests(&mut serving, &context, &written) => {
            ended = Some(it_ended);
            Duration::ZERO
        }
        () = answer_pace::is_stalled(&written, &written_below, socket) => {
            is_stalled = true;
            Duration::ZERO
        }
        () = context.place.evicted() => EVICTION_TIMEOUT,
        // The server closes what is left some seconds later.
        _ = closing.wait_for(|closing| *closing) => Duration::MAX,
    };
    if is_stalled {
        tracing::debug!(%client, "closed a connection that did not read its answer");
        return serving.into_parts().io.into_inner().get_ref().reset();
    }
    if ended.is_none() {
        Pin::new(&mut serving).graceful_shutdown();
        ended = timeout(time_left, answer_requests(&mut serving, &context, &written)).await.ok();
    }
    match ended {
        Some(Ended::Stream(bytes)) => {
            let parts = serving.into_parts();
            let transport = parts.io.into_inner().into_inner();
            if let Some(source) = context.take_source() {
                return source.serve(transport, parts.read_buf, closing).await;
            }
            let connection = transport.into_connection(bytes);
            if let (Some(joined), Ok(connection)) = (context.take_joined(), connection) {
                shards.add(joined.into_session(connection, &parts.read_buf, closing));
            }
        }
        Some(Ended::Closed(Err(error))) => tracing::debug!(%client, "connection ended: {error}"),
        Some(Ended::Closed(Ok(()))) | None => {}
    }
}

/// Waits until a connection has sent something, and looks at the first byte of it. Takes the header of a proxy off before.
async fn begin(
    stream: &mut Transport,
    first_byte: &mut [u8; 1],
    is_proxy: bool,
) -> Result<Option<Source>, HeaderError> {
    let source = if is_proxy { proxy_header::take(stream).await? } else { None };
    stream.first_byte(first_byte).await?;
    Ok(source)
}

/// The end of a connection as one that answers requests.
enum Ended {
    /// It is closed.
    Closed(hyper::Result<()>),
    /// It becomes a stream, after so many bytes of other responses.
    Stream(u64),
}

/// Answers requests until the connection closes, or becomes a listener's and everything before is written.
async fn answer_requests<C>(serving: &mut C, context: &Context, written: &Written) -> Ended
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    poll_fn(|task| match Pin::new(&mut *serving).poll(task) {
        Poll::Ready(result) => Poll::Ready(Ended::Closed(result)),
        Poll::Pending => match written.flushed_bytes().filter(|_| context.is_taken()) {
            Some(bytes) => Poll::Ready(Ended::Stream(bytes)),
            None => Poll::Pending,
        },
    })
    .await
}

/// The body of a reply. The connection has answered when this is dropped: complete, or given up.
struct ReplyBody {
    body: UnsyncBoxBody<Bytes, Infallible>,
    context: Arc<Context>,
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        self.context.place.end_answer(Instant::now());
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
