//! A certificate and its key in files of PEM, as ACME clients leave them.

use std::path::Path;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};

use crate::http::tls::TlsError;

/// Reads a certificate, with those of its issuers, and its key.
///
/// # Errors
///
/// When a file cannot be read, has no certificate or key in it, or when they do not belong together.
pub(super) fn load(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let of_cert = |error| fault("tls_cert", cert, "certificate", error);
    let chain =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(of_cert)?;
    if chain.is_empty() {
        return Err(of_cert(PemError::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault("tls_key", key, "private key", error))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            content("tls_key", key, format!("this key does not belong to the certificate {}", cert.display()))
        }
        Error::InvalidCertificate(error) => content("tls_cert", cert, format!("not a certificate: {error}")),
        error => content("tls_key", key, format!("this key cannot be used: {error} (ECDSA, Ed25519 and RSA can)")),
    })
}

fn fault(setting: &'static str, path: &Path, what: &str, error: PemError) -> TlsError {
    match error {
        PemError::Io(error) => TlsError::Read { setting, path: path.to_owned(), error },
        PemError::NoItemsFound => content(setting, path, format!("there is no {what} in PEM in it")),
        error => content(setting, path, format!("not a {what} in PEM: {error}")),
    }
}

fn content(setting: &'static str, path: &Path, reason: String) -> TlsError {
    TlsError::Content { setting, path: path.to_owned(), reason }
}
