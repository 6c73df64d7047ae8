//! The receiver of notifications.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::Uri;
use percent_encoding::percent_decode_str;

/// Longest URL: that of most servers.
const MAX_URL_BYTES: usize = 8000;

/// A receiver of notifications. `Debug` and `Display` show its host and port only, because the rest of its URL is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Without user name and password.
    authority: String,
    host: String,
    port: u16,
    is_https: bool,
    path: String,
    /// The value of the header `Authorization`, if the URL has a user name.
    authorization: Option<String>,
}

/// The error of a URL that is no target. It never shows the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The text is no URL.
    #[error("must be a URL such as https://hooks.example/aircheck (it is not shown here, because it may be a secret)")]
    NotAUrl,
    /// The scheme is neither `http` nor `https`.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// The URL has no host.
    #[error("must have a host, such as https://hooks.example/aircheck")]
    Host,
    /// The port is none.
    #[error("must have a port from 1 to 65535, or none")]
    Port,
    /// This build has no TLS.
    #[error("must begin with http://, because this aircheck was built without the feature `https`")]
    NoTls,
}

impl Target {
    /// Returns the host, and the port if it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns the host and the port to connect to.
    pub(crate) fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Returns whether the connection is encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    /// Returns path and query, which are secret.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the value of the header `Authorization`, which is secret.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        // A URL is ASCII: other characters are encoded.
        if text.len() > MAX_URL_BYTES || !text.is_ascii() {
            return Err(TargetError::NotAUrl);
        }
        let uri: Uri = text.parse().map_err(|_| TargetError::NotAUrl)?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "https") => true,
            Some("https") => return Err(TargetError::NoTls),
            Some(_) => return Err(TargetError::Scheme),
            None => return Err(TargetError::NotAUrl),
        };
        let whole = uri.authority().map(hyper::http::uri::Authority::as_str).unwrap_or_default();
        let (user, authority) = match whole.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, whole),
        };
        let host = uri.host().unwrap_or_default();
        if host.trim_matches(['[', ']']).is_empty() {
            return Err(TargetError::Host);
        }
        let own_port = if is_https { 443 } else { 80 };
        let port = match uri.port_u16() {
            Some(0) => return Err(TargetError::Port),
            Some(port) => port,
            None if authority == host => own_port,
            None => return Err(TargetError::Port),
        };
        let authorization = user.map(|user| {
            let decoded: Vec<u8> = percent_decode_str(user).collect();
            let colon: &[u8] = if user.contains(':') { b"" } else { b":" };
            format!("Basic {}", BASE64.encode([&decoded, colon].concat()))
        });
        Ok(Self {
            authority: if port == own_port { host.to_owned() } else { format!("{host}:{port}") },
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            is_https,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authorization,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_is_shown() {
        let target: Target = "http://user:pass@hooks.example:81/services/T0/B0/secret?auth=token".parse().unwrap();
        assert_eq!(format!("{target} {target:?}"), "hooks.example:81 Target(hooks.example:81)");
        assert_eq!(target.path(), "/services/T0/B0/secret?auth=token");
        assert_eq!(target.authorization(), Some("Basic dXNlcjpwYXNz"));
        assert_eq!(target.endpoint(), ("hooks.example", 81));
    }

    #[test]
    fn a_target_is_a_url_of_http() {
        let target: Target = "http://[::1]".parse().unwrap();
        assert_eq!((target.endpoint(), target.path(), target.authority()), (("::1", 80), "/", "[::1]"));
        let cases = [
            ("", TargetError::NotAUrl),
            ("hooks.example/x", TargetError::NotAUrl),
            ("/x", TargetError::NotAUrl),
            ("http://", TargetError::NotAUrl),
            ("http:// x/", TargetError::NotAUrl),
            ("http://h/ü", TargetError::NotAUrl),
            ("ftp://h/", TargetError::Scheme),
            ("http://h:0/", TargetError::Port),
            ("http://h:/", TargetError::Port),
            ("http://h:70000/", TargetError::Port),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Target>(), Err(error), "{text}");
        }
    }

    #[test]
    #[cfg(feature = "https")]
    fn https_has_its_own_port() {
        let target: Target = "https://hooks.example/x".parse().unwrap();
        assert_eq!((target.endpoint(), target.is_https()), (("hooks.example", 443), true));
    }
}
