//! TLS for tests: a certificate, and connections to servers that have it. A program that starts such a server finds it by its
//! address from then on, so that listeners need not be told.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

/// Servers with TLS, and the files of their certificates.
static SERVERS: Mutex<Vec<(SocketAddr, PathBuf)>> = Mutex::new(Vec::new());

/// Notes that the server at `address` has this certificate.
pub(crate) fn note(address: SocketAddr, certificate: &Path) {
    SERVERS.lock().unwrap().push((address, certificate.to_owned()));
}

/// Returns the file with the certificate of the server at `address`, if it has TLS.
pub(crate) fn certificate_of(address: SocketAddr) -> Option<PathBuf> {
    let servers = SERVERS.lock().unwrap();
    servers.iter().rev().find(|(noted, _)| *noted == address).map(|(_, path)| path.clone())
}

/// Returns the file with the certificate of the server that `url` names.
pub(crate) fn certificate_of_url(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("https://")?;
    certificate_of(rest.split('/').next()?.parse().ok()?)
}

/// Writes a certificate for this machine's loopback and its key to `directory`. Returns their paths.
pub(crate) fn write_certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

/// Returns the flags that serve with TLS, by a certificate of this program's own.
pub(crate) fn flags() -> [String; 4] {
    static FILES: OnceLock<(tempfile::TempDir, PathBuf, PathBuf)> = OnceLock::new();
    let (_, cert, key) = FILES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = write_certificate(directory.path(), "server");
        (directory, cert, key)
    });
    ["--tls-cert".into(), cert.to_str().unwrap().into(), "--tls-key".into(), key.to_str().unwrap().into()]
}

/// Returns what a client needs that trusts one certificate and speaks these versions of TLS.
pub(crate) fn client(certificate: &Path, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Arc::new(config.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth())
}

/// A connection, with TLS or without.
#[derive(Debug)]
pub(crate) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsConnection>),
}

impl Connection {
    /// Speaks TLS on `stream` if the server at its far end does.
    pub(crate) fn new(stream: TcpStream) -> Self {
        match certificate_of(stream.peer_addr().unwrap()) {
            Some(certificate) => {
                Self::Tls(Box::new(TlsConnection::new(stream, client(&certificate, &[&version::TLS13]))))
            }
            None => Self::Plain(stream),
        }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.socket,
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The client's side of TLS. It takes at most 4 KiB at a time from its socket, so what a program has read, and what has left its
/// machine's receive buffer, differ by no more.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    connection: ClientConnection,
    socket: TcpStream,
}

impl TlsConnection {
    pub(crate) fn new(stream: TcpStream, config: Arc<ClientConfig>) -> Self {
        let name = stream.peer_addr().unwrap().ip().into();
        let connection = ClientConnection::new(config, name).unwrap();
        Self { connection, socket: stream }
    }

    /// Returns the socket below.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<usize> {
        let count = self.connection.read_tls(&mut self.socket)?;
        self.connection.process_new_packets().map_err(io::Error::other)?;
        Ok(count)
    }

    /// Shakes hands, says that nothing follows, and waits until the server has done the same.
    pub(crate) fn open_and_close(mut self) -> io::Result<()> {
        // Nothing is written, but the hands are shaken before.
        let _nothing = self.write(&[])?;
        self.connection.send_close_notify();
        while self.read(&mut [0; 64])? > 0 {}
        Ok(())
    }

    /// Asks the server to use new keys.
    pub(crate) fn refresh_keys(&mut self) {
        self.connection.refresh_traffic_keys().unwrap();
    }

    /// Returns the client's side, to see what its connection has become.
    pub(crate) fn state(&self) -> &ClientConnection {
        &self.connection
    }
}

impl Read for TlsConnection {
    /// The end of the connection is zero bytes if the server has said so, and otherwise an error.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.send()?;
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.receive()?;
        }
    }
}

impl Write for TlsConnection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.connection.is_handshaking() {
            self.send()?;
            if self.connection.is_handshaking() && self.receive()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let count = self.connection.writer().write(bytes)?;
        self.send()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
