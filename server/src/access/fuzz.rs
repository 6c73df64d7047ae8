//! Fuzz targets of what a request can claim: `Authorization`, the cookie, a signed URL, and hashes in the configuration.

use aircheck_api::{SignedUrl, TokenHash, sign_url};
use aircheck_fuzz::{edited, text};
use bolero::check;
use hyper::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue};

use super::credentials::Credential;

const WORDS: [&str; 28] = [
    "Bearer ",
    "bearer\t",
    "Basic ",
    "basic  ",
    "Digest ",
    "YW55OmFjX3g=",
    "YWNfeDo=",
    "Og==",
    "////",
    "=",
    " ",
    ";",
    "; ",
    "aircheck=",
    "aircheck",
    "9.s3cret",
    "s3cret",
    "expires=",
    "expires=1800000000",
    "signature=",
    "&",
    "&signature=x",
    "%",
    "%3d",
    "name=k",
    "18446744073709551616",
    "\u{fc}",
    ",",
];

#[test]
fn credentials() {
    check!().with_max_len(48).for_each(|bytes: &[u8]| {
        let third = bytes.len() / 3;
        let [authorization, cookie, query] =
            [&bytes[..third], &bytes[third..2 * third], &bytes[2 * third..]].map(|bytes| text(bytes, &WORDS));
        let mut headers = HeaderMap::new();
        for (name, value) in [(AUTHORIZATION, &authorization), (COOKIE, &cookie)] {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
        let Some(found) = Credential::find(&headers, "/stream.wav", &query) else {
            assert!(!headers.contains_key(AUTHORIZATION), "{authorization:?} is passed over");
            return;
        };
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
        match found {
            // A header goes before everything else, and a part of it is never a token of its own.
            Credential::Token(token) => {
                let scheme = authorization.split(' ').next().unwrap_or_default();
                let is_known = ["bearer", "basic"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
                assert!(is_known || token.is_empty(), "{authorization:?} is {token:?}");
            }
            Credential::Url(url) => assert!(!url.is_signed_by(&TokenHash::of("ac_other")), "{query:?}"),
            Credential::Session(session) => assert!(cookie.contains(&session)),
        }
    });
}

/// A signed URL that is changed anywhere is that of no token.
#[test]
fn signed_url() {
    let hash = TokenHash::of("ac_secret");
    let url = sign_url(&hash, "/stream.opus", "name=kitchen", 1_800_000_000);
    check!().with_max_len(32).for_each(|bytes: &[u8]| {
        let changed = String::from_utf8_lossy(&edited(bytes, &[url.as_bytes()])).into_owned();
        let (path, query) = changed.split_once('?').unwrap_or((&changed, ""));
        let is_signed = SignedUrl::parse(path, query).is_some_and(|parsed| parsed.is_signed_by(&hash));
        assert!(!is_signed || changed == url, "{changed:?} counts as signed");
    });
}
