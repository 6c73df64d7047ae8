//! The socket of a listener, and how fast it is read. Nothing reads ahead of it: what a slow or frozen listener does
//! not read stays in the kernel, as with a real one.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use aircheck_api::Rendition;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::handle::{ListenerHandle, Shared};
use super::measures::ListenerKind;
use crate::client::Transport;

/// How often a slow listener reads: a few times in the shortest ring of a listener.
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(50);
/// The share of the stream's pace at which a slow listener reads.
const SLOW_SHARE: f64 = 0.5;

/// A connection that is read as fast as its listener's kind allows.
#[derive(Debug)]
pub(crate) struct Gate {
    tcp: Transport,
    shared: Rc<Shared>,
    handle: Rc<ListenerHandle>,
    ration: Option<Ration>,
    pause: Option<Pin<Box<Sleep>>>,
    /// Whether this side has been closed, so that the server sees that the listener leaves.
    is_closed: bool,
}

/// The allowance of a slow listener.
#[derive(Debug)]
struct Ration {
    since: Instant,
    read: u64,
}

impl Ration {
    fn left(&self, bytes_per_second: f64) -> usize {
        let allowed = self.since.elapsed().as_secs_f64() * bytes_per_second;
        (allowed - self.read as f64).max(0.0) as usize
    }
}

impl Gate {
    /// Puts a gate before a connection.
    pub(crate) fn new(tcp: Transport, shared: Rc<Shared>, handle: Rc<ListenerHandle>) -> Self {
        Self { tcp, shared, handle, ration: None, pause: None, is_closed: false }
    }

    /// Reads at most half the stream's pace.
    fn poll_read_slowly(
        &mut self,
        pace: f64,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            let ration = self.ration.get_or_insert_with(|| Ration { since: Instant::now(), read: 0 });
            match ration.left(pace * SLOW_SHARE) {
                0 => self.pause = Some(Box::pin(sleep(SLOW_READ_INTERVAL))),
                left => break left.min(buffer.remaining()),
            }
        };
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.tcp).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        if let Some(ration) = &mut self.ration {
            ration.read += read as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let plan = &this.shared.plan;
        if this.handle.is_leaving() {
            // A WebSocket is closed by a message, and a server without rows has nothing to compare.
            if !this.is_closed && plan.format.is_some() && plan.url.rendition != Some(Rendition::WebSocket) {
                ready!(Pin::new(&mut this.tcp).poll_shutdown(context))?;
                this.is_closed = true;
            }
            ready!(Pin::new(&mut this.tcp).poll_read(context, buffer))?;
        } else if this.handle.kind == ListenerKind::Frozen && this.shared.is_frozen.get() && this.handle.is_streaming()
        {
            // Polled again when the listener leaves.
            return Poll::Pending;
        } else if this.handle.kind == ListenerKind::Slow
            && this.handle.is_streaming()
            && let Some(pace) = this.shared.pace.get()
        {
            ready!(this.poll_read_slowly(pace, context, buffer))?;
        } else {
            ready!(Pin::new(&mut this.tcp).poll_read(context, buffer))?;
        }
        let read = buffer.filled().len() - before;
        this.handle.socket_bytes.set(this.handle.socket_bytes.get() + read as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
