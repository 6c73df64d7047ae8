//! The fingerprint of a certificate, by which people compare what the server shows with what a client sees.

use sha2::{Digest as _, Sha256};

/// Returns the SHA-256 of a certificate, whose bytes are DER, as browsers show it.
///
/// ```
/// let fingerprint = aircheck_api::fingerprint(b"abc");
/// assert!(fingerprint.starts_with("BA:78:16:BF:8F:01") && fingerprint.len() == 32 * 3 - 1);
/// ```
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> String {
    let bytes: Vec<_> = Sha256::digest(certificate).iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}
