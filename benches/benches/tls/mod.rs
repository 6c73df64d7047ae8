//! A certificate of this run's own, and connections that trust it.
#![allow(dead_code, reason = "each bench uses a part of this")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::Result;

/// Lets OpenSSL take the one suite of TLS 1.3 that aircheck prefers. It would take the first that the listener names.
const OPENSSL_CONFIG: &str = "openssl_conf = start\n[start]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n\
     [tls]\nCiphersuites = TLS_AES_128_GCM_SHA256\n";

/// A certificate for loopback, with a key of the curve P-256, that both servers use.
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The key and the certificate in one file, as Icecast reads them.
    pub(crate) both: PathBuf,
    /// The configuration of OpenSSL, for Icecast.
    pub(crate) openssl: PathBuf,
    der: CertificateDer<'static>,
}

/// A connection to a contender.
pub(crate) trait Connection: Read + Write + Send {}

impl<C: Read + Write + Send> Connection for C {}

impl Tls {
    /// Makes the certificate, and writes it to `directory`.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Ok(Self {
            both: write("both.pem", format!("{key}{certificate}"))?,
            certificate: write("certificate.pem", certificate)?,
            key: write("key.pem", key)?,
            openssl: write("openssl.cnf", OPENSSL_CONFIG.to_owned())?,
            der: made.cert.der().clone(),
        })
    }

    /// Returns what a client needs that trusts the certificate and speaks these versions of TLS. It resumes no session, because
    /// each of its connections stands for another machine.
    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut client = client.with_protocol_versions(versions)?.with_root_certificates(roots).with_no_client_auth();
        client.resumption = Resumption::disabled();
        Ok(Arc::new(client))
    }
}

/// Connects to `address`, with TLS if there is some. A read waits for so long at most.
pub(crate) fn connect(
    address: SocketAddr,
    tls: Option<&Tls>,
    read_timeout: Option<Duration>,
) -> Result<Box<dyn Connection>> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(read_timeout)?;
    let Some(tls) = tls else { return Ok(Box::new(socket)) };
    let client = ClientConnection::new(tls.client(&[&TLS13])?, ServerName::from(address.ip()))?;
    Ok(Box::new(StreamOwned::new(client, socket)))
}
