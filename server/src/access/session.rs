//! The value of the cookie that the page has after its sign-in.
//!
//! It is not the token but an expiry and a signature, by a key that this process alone has and by the token's hash. So it
//! ends with the token and with the process, a thief of the configuration file cannot make one, and a stolen one is of no
//! use after its expiry.

use aircheck_api::TokenHash;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How long a sign-in lasts: a page that is used once a month stays signed in.
pub const SESSION_SECONDS: u64 = 30 * 24 * 3600;

/// The key of this process's sessions. `Debug` shows nothing of it.
pub(super) struct SessionKey([u8; 32]);

impl SessionKey {
    /// Makes a key of the system's random bytes.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    /// Returns the value of a session of this token that begins at the Unix time `now`.
    pub(super) fn begin(&self, hash: &TokenHash, now: u64) -> String {
        let expires = now.saturating_add(SESSION_SECONDS);
        format!("{expires}.{}", URL_SAFE_NO_PAD.encode(self.mac(hash, expires).finalize().into_bytes()))
    }

    /// Returns whether `value` is a session of this token at `now`.
    pub(super) fn is_session(&self, value: &str, hash: &TokenHash, now: u64) -> bool {
        let (Some(expires), Some((_, signature))) = (expires(value), value.split_once('.')) else { return false };
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        now < expires && self.mac(hash, expires).verify_slice(&signature).is_ok()
    }

    fn mac(&self, hash: &TokenHash, expires: u64) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!("any key will do"));
        mac.update(hash.bytes());
        mac.update(&expires.to_be_bytes());
        mac
    }
}

/// Returns the Unix time at which a session ends by its own word, which only [`SessionKey::is_session`] proves.
pub(super) fn expires(value: &str) -> Option<u64> {
    value.split_once('.')?.0.parse().ok()
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_one_token_one_process_and_for_a_month() {
        let (key, other) = (SessionKey::random().unwrap(), SessionKey::random().unwrap());
        let (hash, another) = (TokenHash::of("a"), TokenHash::of("b"));
        let value = key.begin(&hash, 1000);
        assert!(key.is_session(&value, &hash, 1000) && key.is_session(&value, &hash, 999 + SESSION_SECONDS));
        assert!(!key.is_session(&value, &hash, 1000 + SESSION_SECONDS), "it has expired");
        assert!(!key.is_session(&value, &another, 1000) && !other.is_session(&value, &hash, 1000));
        let later = value.replacen("2593", "3593", 1);
        assert_ne!(later, value);
        for wrong in [&*later, "", ".", "x.y", "9999999999.", "9999999999"] {
            assert!(!key.is_session(wrong, &hash, 1000), "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "SessionKey(…)");
    }
}
