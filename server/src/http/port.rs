//! The addresses at which the server listens, and the sockets there.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use listenfd::ListenFd;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::{TcpListener, UnixListener};

use crate::config::ListenAddress;
use crate::delivery::remote::Remote;
use crate::http::context::Serves;
use crate::http::tls::ServerTls;
use crate::http::transport::Transport;

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// For TCP.
    Tcp(TcpListener, SocketAddr),
    /// For programs of this machine. The file goes away with it, unless the service manager made it.
    Unix(UnixListener, PathBuf, Option<SocketFile>),
}

/// A socket, and what its connections speak.
#[derive(Debug)]
pub struct Listening {
    pub(super) socket: Socket,
    pub(super) port: Arc<Port>,
}

/// What the connections of one address speak and get.
#[derive(Debug)]
pub(super) struct Port {
    /// The address as a URL.
    pub(super) url: Arc<str>,
    /// Their TLS, if they have any.
    pub(super) tls: Option<Arc<ServerTls>>,
    /// The routes that they reach.
    pub(super) serves: Serves,
}

/// The file of a Unix socket, which is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens on `address`. A Unix socket's file has these permissions.
    ///
    /// # Errors
    ///
    /// When the address is not available.
    pub async fn bind(address: &ListenAddress, mode: u32) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => Self::tcp(TcpListener::bind(address).await?),
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                // The file has its permissions from the beginning.
                let before = umask(Mode::from_raw_mode(!mode & 0o777));
                let listener = UnixListener::bind(path);
                umask(before);
                Ok(Self::Unix(listener?, path.clone(), Some(SocketFile(path.clone()))))
            }
        }
    }

    /// Returns the sockets that the service manager has opened for this process, systemd's `LISTEN_FDS`.
    ///
    /// # Errors
    ///
    /// When one of them is neither for TCP nor a Unix socket that listens.
    pub fn inherited() -> io::Result<Vec<Self>> {
        let mut given = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..given.len() {
            if let Ok(Some(listener)) = given.take_tcp_listener(index) {
                listener.set_nonblocking(true)?;
                sockets.push(Self::tcp(TcpListener::from_std(listener)?)?);
            } else if let Some(listener) = given.take_unix_listener(index)? {
                listener.set_nonblocking(true)?;
                let path = listener.local_addr()?.as_pathname().unwrap_or(Path::new("?")).to_owned();
                sockets.push(Self::Unix(UnixListener::from_std(listener)?, path, None));
            }
        }
        Ok(sockets)
    }

    fn tcp(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self::Tcp(listener, address))
    }

    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> ListenAddress {
        match self {
            Self::Tcp(_, address) => ListenAddress::Tcp(*address),
            Self::Unix(_, path, _) => ListenAddress::Unix(path.clone()),
        }
    }

    /// Accepts a connection.
    pub(super) async fn accept(&self) -> io::Result<(Transport, Remote)> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, remote) = listener.accept().await?;
                Ok((Transport::Plain(stream), remote.into()))
            }
            Self::Unix(listener, ..) => {
                let (stream, _) = listener.accept().await?;
                Ok((Transport::Unix(stream), Remote::Unix))
            }
        }
    }
}

impl Listening {
    /// Serves these routes on a socket, with TLS on a TCP port if there is some.
    #[must_use]
    pub fn new(socket: Socket, tls: Option<&Arc<ServerTls>>, serves: Serves) -> Self {
        let address = socket.address();
        let tls = tls.filter(|_| matches!(socket, Socket::Tcp(..))).cloned();
        let url = match address {
            ListenAddress::Tcp(address) if tls.is_some() => format!("https://{address}/"),
            ListenAddress::Tcp(address) => format!("http://{address}/"),
            ListenAddress::Unix(_) => address.to_string(),
        };
        Self { socket, port: Arc::new(Port { url: url.into(), tls, serves }) }
    }

    /// Returns its address as a URL; that of a Unix socket is `unix:PATH`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.port.url
    }
}

/// Removes the file of a Unix socket on which nothing listens any more, such as after a power cut.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_stale = || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && is_stale() { fs::remove_file(path) } else { Ok(()) }
}
