//! A connection as hyper sees it: counts written bytes, and knows whether hyper holds some back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What hyper has written to a connection.
#[derive(Debug)]
pub(super) struct Written {
    bytes: AtomicU64,
    is_flushed: AtomicBool,
}

impl Written {
    /// Returns the number of bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Returns the number of bytes, if hyper holds none back; `None` while it does.
    pub(super) fn flushed_bytes(&self) -> Option<u64> {
        self.is_flushed.load(Ordering::Acquire).then(|| self.bytes())
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct CountedStream<S> {
    stream: S,
    written: Arc<Written>,
}

impl<S> CountedStream<S> {
    pub(super) fn new(stream: S) -> Self {
        let written = Written { bytes: AtomicU64::new(0), is_flushed: AtomicBool::new(true) };
        Self { stream, written: Arc::new(written) }
    }

    /// Returns its count, which can be read while hyper has the connection.
    pub(super) fn written(&self) -> &Arc<Written> {
        &self.written
    }

    /// Returns the connection, to look at.
    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Returns the connection.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        self.written.is_flushed.store(false, Ordering::Release);
        if let Poll::Ready(Ok(bytes)) = written {
            self.written.bytes.fetch_add(*bytes as u64, Ordering::AcqRel);
        }
    }
}

impl<S: AsFd> AsFd for CountedStream<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes once its own buffer is empty. TLS may still have records to write then.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.written.is_flushed.store(true, Ordering::Release);
        }
        flushed
    }

    /// TLS says its end, which a full socket may hold up.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written.is_flushed.store(ended.is_ready(), Ordering::Release);
        ended
    }
}
