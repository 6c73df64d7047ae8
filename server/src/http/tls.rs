//! TLS by rustls: TLS 1.2 and 1.3, and HTTP/1.1 within. Its certificate can be replaced while connections go on.

mod files;
pub(super) mod renewal;
mod self_signed;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use aircheck_api::fingerprint;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, SupportedCipherSuite};
use tokio_rustls::server::TlsStream;

use crate::config::HttpConfig;
use crate::http::counted_stream::CountedStream;
use renewal::Version;

/// The first byte of a TLS connection: its first record is of the handshake.
pub(super) const FIRST_BYTE: u8 = 22;

/// The cipher suites, the preferred ones first. Processors have instructions for AES. Before TLS 1.3, however, a connection can't
/// change its keys, and AES-GCM uses them up in 16 million records, which is two days of blocks of 10 ms; ChaCha20 never does.
const CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
    ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

/// The reason why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {setting} {}: {error}", .path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// Its path.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// A file has something else in it.
    #[error("{setting} {}: {reason}", .path.display())]
    Content {
        /// The setting that names it.
        setting: &'static str,
        /// Its path.
        path: PathBuf,
        /// The reason, and what would work.
        reason: String,
    },
    /// The certificate that was made cannot be kept.
    #[error("cannot write the certificate of {setting} to {}: {error}", .path.display())]
    Write {
        /// The setting that asks for it.
        setting: &'static str,
        /// Its path.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// There is no directory for it.
    #[error("tls_self_signed: there is no place to keep the certificate (set STATE_DIRECTORY, XDG_DATA_HOME or HOME)")]
    NoDirectory,
}

/// The certificate that a configuration leads to.
#[derive(Debug)]
pub enum Certificate {
    /// None, because it asks for no TLS.
    None,
    /// None yet: the server makes one, and keeps it in this file.
    ToBeMade(PathBuf),
    /// One that can be used.
    Loaded {
        /// The file that has it.
        path: PathBuf,
        /// The file that has its key.
        key: PathBuf,
        /// The certificate, with those of its issuers behind it.
        chain: Vec<CertificateDer<'static>>,
    },
}

/// Looks at the certificate that `config` leads to. Makes none.
///
/// # Errors
///
/// When a file cannot be read, or is not what it should be.
pub fn inspect(config: &HttpConfig) -> Result<Certificate, TlsError> {
    let (path, key) = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => (cert.clone(), key.clone()),
        _ if config.tls_self_signed => {
            let path = self_signed::path()?;
            if self_signed::is_due(&path) {
                return Ok(Certificate::ToBeMade(path));
            }
            (path.clone(), path)
        }
        _ => return Ok(Certificate::None),
    };
    let chain = files::load(&path, &key, &provider())?.cert;
    Ok(Certificate::Loaded { path, key, chain })
}

/// The TLS of a server.
#[derive(Debug)]
pub struct ServerTls {
    acceptor: Arc<ServerConfig>,
    current: Arc<Current>,
    source: Source,
    http: HttpConfig,
    /// The files as they were before they were loaded.
    loaded: Version,
}

/// Where certificate and key come from.
#[derive(Debug)]
enum Source {
    Files {
        cert: PathBuf,
        key: PathBuf,
    },
    /// The server makes them, and keeps them in this file.
    SelfSigned(PathBuf),
}

/// The certificate and its key.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ServerTls {
    /// Loads the certificate that `config` names; `None` if that asks for no TLS.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or is not what it should be.
    pub fn load(config: &HttpConfig) -> Result<Option<Arc<Self>>, TlsError> {
        let source = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Source::Files { cert: cert.clone(), key: key.clone() },
            _ if config.tls_self_signed => Source::SelfSigned(self_signed::path()?),
            _ => return Ok(None),
        };
        let provider = provider();
        if let Source::SelfSigned(path) = &source {
            self_signed::ensure(path, config)?;
        }
        let loaded = Version::of(&source);
        let key = source.load(config, &provider)?;
        let current = Arc::new(Current(RwLock::new(Arc::new(key))));
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.ignore_client_order = true;
        Ok(Some(Arc::new(Self { acceptor: Arc::new(tls), current, source, http: config.clone(), loaded })))
    }

    /// Loads the certificate again, for connections from now on. If that fails, it stays as it was.
    fn renew(&self) {
        match self.source.load(&self.http, self.acceptor.crypto_provider()) {
            Ok(key) => *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key),
            Err(error) => tracing::error!("the certificate stays as it was: {error}"),
        }
    }

    /// Shakes hands on a connection.
    ///
    /// # Errors
    ///
    /// When the far end has closed it, or does not speak TLS as this server does.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<CountedStream<TcpStream>>> {
        TlsAcceptor::from(Arc::clone(&self.acceptor)).accept(CountedStream::new(stream)).await
    }
}

impl Source {
    fn load(&self, config: &HttpConfig, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let (path, key) = match self {
            Self::Files { cert, key } => (cert, files::load(cert, key, provider)?),
            Self::SelfSigned(path) => {
                self_signed::ensure(path, config)?;
                (path, files::load(path, path, provider)?)
            }
        };
        tracing::info!(
            "certificate of {}: SHA-256 {}",
            path.display(),
            fingerprint(key.end_entity_cert().map_or(&[], |cert| cert))
        );
        Ok(key)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: CIPHER_SUITES.to_vec(), ..ring::default_provider() })
}
