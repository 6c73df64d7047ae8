//! A connection to a server: TCP, with TLS above it where the URL says `https` or `wss`.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use aircheck_api::fingerprint;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::url::Address;

/// The file of `--cacert`.
static CA_FILE: OnceLock<PathBuf> = OnceLock::new();

/// Trusts the certificates in this file, besides those that the system trusts. The first call counts.
pub(crate) fn trust(file: &Path) {
    let _ = CA_FILE.set(file.to_owned());
}

/// A stream of bytes in both directions.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A connection.
#[derive(Debug)]
pub(crate) enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS above it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Speaks TLS on a connection to `address` if its URL says so.
    pub(crate) async fn secure(tcp: TcpStream, address: &Address) -> io::Result<Self> {
        if !address.is_secure() {
            return Ok(Self::Plain(tcp));
        }
        let name = ServerName::try_from(address.endpoint().0.to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(config().await?).connect(name, tcp).await?;
        Ok(Self::Tls(Box::new(tls)))
    }

    /// Returns the stream that is read and written.
    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn Stream> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp),
            Self::Tls(tls) => Pin::new(tls),
        }
    }

    /// Returns the TCP connection.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

/// Returns the configuration of all connections.
async fn config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    match CONFIG.get() {
        Some(config) => Ok(Arc::clone(config)),
        None => {
            // Reads some hundred files.
            let config = spawn_blocking(read_config).await.map_err(io::Error::other)??;
            Ok(Arc::clone(CONFIG.get_or_init(|| config)))
        }
    }
}

fn read_config() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // A file that can't be read matters only if its certificate is needed, which is said then.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = CA_FILE.get() {
        let failed =
            |why: String| io::Error::other(format!("cannot take the certificates of {}: {why}", file.display()));
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let verifier = Verifier(verifier.build().map_err(|_| {
        io::Error::other("the system has no certificates (install ca-certificates, or name one with --cacert)")
    })?);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A command keeps its connections, and a thousand listeners of a load test stand for as many machines, none of which knows
    // the session of another one.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// rustls' own verifier, which also says the fingerprint of a certificate that nothing vouches for. aircheck prints that of the
/// certificate that it makes itself.
#[derive(Debug)]
struct Verifier(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.verify_server_cert(certificate, issuers, name, ocsp, now).map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => Error::General(format!(
                "nothing that this machine trusts vouches for its certificate with the SHA-256 {} (name the certificate \
                 with --cacert FILE)",
                fingerprint(certificate)
            )),
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
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

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
