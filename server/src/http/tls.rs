//! TLS by rustls: TLS 1.2 and 1.3, and HTTP/1.1 within. Its certificate can be replaced while connections go on.

mod files;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, SupportedCipherSuite};
use tokio_rustls::server::TlsStream;

use crate::config::HttpConfig;
use crate::http::counted_stream::CountedStream;

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
}

/// The TLS of a server.
#[derive(Debug)]
pub struct ServerTls {
    acceptor: Arc<ServerConfig>,
    current: Arc<Current>,
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
        let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
        let provider = provider();
        let key = files::load(cert, key, &provider)?;
        Ok(Some(Self::new(key, provider)))
    }

    fn new(key: CertifiedKey, provider: Arc<CryptoProvider>) -> Arc<Self> {
        let current = Arc::new(Current(RwLock::new(Arc::new(key))));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        Arc::new(Self { acceptor: Arc::new(config), current })
    }

    /// Takes this certificate for connections from now on.
    fn replace(&self, key: CertifiedKey) {
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
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

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: CIPHER_SUITES.to_vec(), ..ring::default_provider() })
}
