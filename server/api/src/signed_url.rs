//! URLs that listen without a header: signed by a token, for one path and query, until a moment.
//!
//! The key is derived from the token's hash, because the server has no more than that. So a reader of the server's
//! configuration can sign, too, but a reader of a signed URL can neither change it nor find the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::token::TokenHash;

/// The parameter with the Unix time at which a signed URL expires.
pub const EXPIRES: &str = "expires";
/// The parameter with the signature.
pub const SIGNATURE: &str = "signature";

/// Keeps signatures of URLs apart from all else that is derived from a hash.
const CONTEXT: &[u8] = b"aircheck signed URL 1\n";

/// Returns `path` with a query that has `query`'s parameters, the expiry and the signature.
///
/// ```
/// use aircheck_api::{TokenHash, sign_url};
///
/// let url = sign_url(&TokenHash::of("ac_secret"), "/stream.opus", "name=kitchen", 1_800_000_000);
/// assert!(url.starts_with("/stream.opus?name=kitchen&expires=1800000000&signature="));
/// ```
#[must_use]
pub fn sign_url(hash: &TokenHash, path: &str, query: &str, expires: u64) -> String {
    let before = if query.is_empty() { String::new() } else { format!("{query}&") };
    let query = format!("{before}{EXPIRES}={expires}");
    let signature = URL_SAFE_NO_PAD.encode(mac(hash, path, &query).finalize().into_bytes());
    format!("{path}?{query}&{SIGNATURE}={signature}")
}

/// A signed URL as a request brings it, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedUrl {
    path: String,
    /// The query without the signature, in its order and as it was written.
    query: String,
    /// `None` if it is missing or not a number.
    expires: Option<u64>,
    signature: String,
}

impl SignedUrl {
    /// Takes a path and its query apart. Returns `None` if the query has no signature.
    #[must_use]
    pub fn parse(path: &str, query: &str) -> Option<Self> {
        let value = |pair: &'_ str, name: &str| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        let mut signature = None;
        let mut others = Vec::new();
        for pair in query.split('&') {
            match value(pair, SIGNATURE) {
                // A second one belongs to what is signed, and so to what does not fit.
                Some(found) if signature.is_none() => signature = Some(found),
                _ => others.push(pair),
            }
        }
        let mut expiries = others.iter().filter_map(|pair| value(pair, EXPIRES));
        let expires = expiries.next().and_then(|expires| expires.parse().ok());
        let expires = expires.filter(|_| expiries.next().is_none());
        Some(Self { path: path.to_owned(), query: others.join("&"), expires, signature: signature? })
    }

    /// Returns whether the token with this hash has signed it. Takes the same time wherever the signature differs.
    #[must_use]
    pub fn is_signed_by(&self, hash: &TokenHash) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(&self.signature).unwrap_or_default();
        mac(hash, &self.path, &self.query).verify_slice(&signature).is_ok()
    }

    /// Returns the Unix time at which it expires. Without one, it has expired.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires.unwrap_or(0)
    }
}

fn mac(hash: &TokenHash, path: &str, query: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(hash.bytes()).unwrap_or_else(|_| unreachable!("any key will do"));
    for part in [CONTEXT, path.as_bytes(), b"\n", query.as_bytes()] {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Option<SignedUrl> {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        SignedUrl::parse(path, query)
    }

    #[test]
    fn a_signed_url_is_that_of_its_token_and_no_character_of_it_can_change() {
        let hash = TokenHash::of("ac_a");
        for query in ["", "name=k%20x&buffer=2s"] {
            let url = sign_url(&hash, "/stream.opus", query, 1_800_000_000);
            let signed = parse(&url).unwrap();
            assert!(signed.is_signed_by(&hash) && !signed.is_signed_by(&TokenHash::of("ac_b")));
            assert_eq!(signed.expires(), 1_800_000_000);
            for at in 0..url.len() {
                let mut changed = url.clone().into_bytes();
                changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(!parse(&changed).is_some_and(|url| url.is_signed_by(&hash)), "{changed}");
            }
        }
    }

    #[test]
    fn parameters_can_be_neither_added_nor_removed() {
        let hash = TokenHash::of("ac_a");
        let url = sign_url(&hash, "/stream", "name=x", 9);
        for changed in [
            format!("{url}&from=0"),
            format!("{url}&expires=99"),
            format!("{url}&signature=x"),
            url.replace("name=x&", ""),
            url.replace("/stream?", "/stream?expires=99&"),
            url.replace("signature=", "signature=="),
        ] {
            assert!(!parse(&changed).unwrap().is_signed_by(&hash), "{changed}");
        }
        assert_eq!(parse("/stream?expires=9"), None);
        assert_eq!(parse("/stream"), None);
        assert_eq!(parse("/stream?expires=x&signature=").unwrap().expires(), 0);
    }
}
