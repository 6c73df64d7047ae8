//! What carries a connection's HTTP: a socket, with TLS above it or not.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::delivery::session::Connection;
use crate::delivery::tls::Tls;
use crate::http::counted_stream::{CountedStream, Written};

/// A stream of bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection below HTTP.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    /// Of a program on this machine.
    Unix(UnixStream),
    /// The bytes are counted below TLS, because those of its records are followed. In a box, because TLS has a kilobyte of state.
    Tls(Box<TlsStream<CountedStream<TcpStream>>>),
}

impl Transport {
    /// Waits until the far end has sent something or has closed the connection, and looks at the first byte of it. That of a Unix
    /// socket is not seen.
    pub(super) async fn first_byte(&self, byte: &mut [u8; 1]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.peek(byte).await.map(drop),
            Self::Unix(stream) => stream.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }

    /// Returns the stream that HTTP reads and writes.
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream),
            Self::Unix(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
        }
    }

    /// Returns what TLS has written below `answers`, or these themselves where there is no TLS.
    pub(super) fn written_below<'w>(&'w self, answers: &'w Arc<Written>) -> &'w Arc<Written> {
        match self {
            Self::Plain(_) | Self::Unix(_) => answers,
            Self::Tls(stream) => stream.get_ref().0.written(),
        }
    }

    /// Closes the connection without sending what waits in the kernel, which is freed at once.
    pub(super) fn reset(&self) {
        // A Unix socket does so by itself.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    /// Gives the connection to a listener, after HTTP has written `plain_bytes` and has nothing left to write.
    pub(super) fn into_connection(self, plain_bytes: u64) -> io::Result<Connection> {
        match self {
            Self::Plain(stream) => Ok(Connection { stream: stream.into_std()?, tls: None, written: plain_bytes }),
            Self::Unix(stream) => {
                // The shard reads, writes and closes, which goes the same way for each kind of socket.
                let stream = OwnedFd::from(stream.into_std()?).into();
                Ok(Connection { stream, tls: None, written: plain_bytes })
            }
            Self::Tls(stream) => {
                let (stream, tls) = stream.into_inner();
                let written = Arc::clone(stream.written());
                let stream = stream.into_inner().into_std()?;
                Ok(Connection { stream, tls: Some(Box::new(Tls::new(tls))), written: written.bytes() })
            }
        }
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.get_ref().0.as_fd(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
