//! Where a server is, as people write it.

use hyper::Uri;

/// HTTP's own port, for a URL that names none.
const HTTP_PORT: u16 = 80;
const WANTED: &str = "write HOST:PORT, http://HOST:PORT/ or ws://HOST:PORT/";

/// A host and, if one was named, a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    authority: String,
    host: String,
    port: Option<u16>,
}

/// A URL, taken apart as far as that is the same for all commands.
#[derive(Debug)]
pub(crate) struct Location {
    /// The server.
    pub(crate) address: Address,
    /// Whether it was written as a WebSocket's.
    pub(crate) is_ws: bool,
    /// All of it; what has no scheme has got `http`.
    pub(crate) uri: Uri,
}

impl Location {
    /// Reads `HOST:PORT`, or a URL of the scheme `http` or `ws`.
    ///
    /// # Errors
    ///
    /// Says in one line what is wrong with `text`, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|error| format!("not a URL ({error}); {WANTED}"))?;
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let is_ws = match uri.scheme_str() {
            Some("http") => false,
            Some("ws") => true,
            Some("https") => return Err(format!("https is not supported; aircheck serves http://{authority}/")),
            Some("wss") => return Err(format!("wss is not supported; aircheck serves ws://{authority}/")),
            other => return Err(format!("'{}' is not supported; {WANTED}", other.unwrap_or_default())),
        };
        if authority.contains('@') {
            return Err(format!("aircheck knows no user names or passwords; {WANTED}"));
        }
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(format!("no host in it; {WANTED}"));
        }
        let port = uri.port_u16();
        if port == Some(0) || (port.is_none() && authority != host) {
            return Err(format!("no such port: {}; it must be 1 to 65535", &authority[host.len()..]));
        }
        let address = Address {
            authority: authority.to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
        };
        Ok(Self { address, is_ws, uri })
    }
}

impl Address {
    /// The server in whatever URL of it: who pastes a stream's means that stream's server.
    ///
    /// # Errors
    ///
    /// As [`Location::parse`].
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Location::parse(&format!("{scheme}://{authority}/")).map(|location| location.address)
    }

    /// What to connect to.
    pub(crate) fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port.unwrap_or(HTTP_PORT))
    }

    /// Host and port as they were written: the request's `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether a port was named.
    pub(crate) fn names_port(&self) -> bool {
        self.port.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Location::parse(text).unwrap().address
    }

    #[test]
    fn a_server_is_found_in_whatever_url_of_it() {
        for text in ["h:1", "http://h:1", "h:1/stream.wav?name=x", "http://h:1/metrics", "h:1?from=2"] {
            assert_eq!(Address::parse(text).unwrap().endpoint(), ("h", 1), "{text}");
        }
        assert!(Address::parse("https://h/").unwrap_err().contains("https is not supported"));
        assert!(Address::parse("").is_err());
    }

    #[test]
    fn addresses_of_ipv6_lose_their_brackets_only_where_they_are_connected_to() {
        let target = address("[::1]:8700");
        assert_eq!(target.endpoint(), ("::1", 8700));
        assert_eq!(target.authority(), "[::1]:8700");
    }

    #[test]
    fn no_port_means_http_s_own() {
        let target = address("http://h/");
        assert_eq!(target.endpoint(), ("h", 80));
        assert!(!target.names_port());
    }
}
