//! Where a request carries its token.
//!
//! A token in a query (`?token=`) is not accepted, because URLs stand in logs and histories: a signed URL is for that.

use std::fmt;

use aircheck_api::SignedUrl;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap};

/// The name of the page's cookie.
pub const COOKIE_NAME: &str = "aircheck";

/// The first credential of a request, in this order.
#[derive(PartialEq, Eq)]
pub(super) enum Credential {
    /// A token, as Bearer or as the password of Basic.
    Token(String),
    /// A signed URL.
    Url(SignedUrl),
    /// The cookie of the page's sign-in.
    Session(String),
}

/// Shows the kind alone: the rest is secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(…)",
            Self::Url(_) => "Url(…)",
            Self::Session(_) => "Session(…)",
        })
    }
}

impl Credential {
    /// Finds the credential of a request with these headers, path and query.
    pub(super) fn find(headers: &HeaderMap, path: &str, query: &str) -> Option<Self> {
        let url = || SignedUrl::parse(path, query).map(Self::Url);
        token(headers).map(Self::Token).or_else(url).or_else(|| session(headers).map(Self::Session))
    }
}

/// Returns the token in `Authorization`. A header of another form has a token that is none.
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?;
    let (scheme, rest) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    let rest = rest.trim();
    Some(match () {
        () if scheme.eq_ignore_ascii_case("bearer") => rest.to_owned(),
        () if scheme.eq_ignore_ascii_case("basic") => password(rest).unwrap_or_default(),
        () => String::new(),
    })
}

/// Returns the password of Basic, with any user name. Some players take no password, and have it as the user name.
fn password(encoded: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(if password.is_empty() { user } else { password }.to_owned())
}

fn session(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE_NAME).then(|| value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn find(headers: &[(&str, &str)], query: &str) -> Option<Credential> {
        let header = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        Credential::find(&headers.iter().map(header).collect(), "/stream.wav", query)
    }

    fn token(value: &str) -> Option<Credential> {
        Some(Credential::Token(value.to_owned()))
    }

    #[test]
    fn a_token_is_found_in_every_place() {
        assert_eq!(find(&[], ""), None);
        assert_eq!(find(&[("authorization", "Bearer ac_x")], ""), token("ac_x"));
        assert_eq!(find(&[("authorization", "bearer  ac_x ")], ""), token("ac_x"));
        // any:ac_x
        assert_eq!(find(&[("authorization", "Basic YW55OmFjX3g=")], ""), token("ac_x"));
        // ac_x:
        assert_eq!(find(&[("authorization", "basic YWNfeDo=")], ""), token("ac_x"));
        let session = Some(Credential::Session("9.a".to_owned()));
        assert_eq!(find(&[("cookie", "a=b; aircheck=9.a; c=d")], ""), session);
        assert!(matches!(find(&[], "expires=9&signature=x"), Some(Credential::Url(_))));
        assert_eq!(find(&[], "token=ac_x"), None, "URLs stand in logs");
    }

    #[test]
    fn a_token_goes_before_a_url_and_a_url_before_a_cookie() {
        let cookie = ("cookie", "aircheck=9.a");
        assert!(matches!(find(&[cookie], "signature=x"), Some(Credential::Url(_))));
        assert_eq!(find(&[("authorization", "Bearer ac_x"), cookie], "signature=x"), token("ac_x"));
    }

    #[test]
    fn a_header_that_cannot_be_read_has_a_wrong_token() {
        for value in ["", "Bearer", "ac_x", "Digest x", "Basic ///", "Basic YWI=", "Bearer \u{fc}"] {
            let found = find(&[("authorization", value)], "");
            assert_eq!(found, token(""), "{value}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", [token("ac_x"), find(&[("cookie", "aircheck=9.secret")], "")]);
        assert!(!shown.contains("ac_x") && !shown.contains("secret"), "{shown}");
    }
}
