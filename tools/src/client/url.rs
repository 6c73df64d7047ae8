//! The address of a server, as people write it.

use hyper::Uri;

use super::token::Token;

/// aircheck's own port, for an address without a scheme.
const AIRCHECK_PORT: u16 = 8700;
/// The ports of HTTP and HTTPS, for a URL that names none.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
const ACCEPTED: &str = "write HOST, HOST:PORT, http://HOST:PORT/ or ws://HOST:PORT/, or https or wss in their place";

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    authority: String,
    host: String,
    port: u16,
    /// Whether the port is HTTP's because a URL named none.
    is_http_port: bool,
    /// Whether it is reached by TLS.
    is_secure: bool,
    /// The token that requests have.
    token: Option<Token>,
}

/// A URL, taken apart as far as that is the same for all commands.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    pub(crate) address: Address,
    /// Whether the scheme is `ws` or `wss`.
    pub(crate) is_ws: bool,
    /// The path; `/` if there is none.
    pub(crate) path: String,
    /// The query without its question mark.
    pub(crate) query: Option<String>,
}

impl Url {
    /// Reads `HOST` or `HOST:PORT`, with or without path and query, or a URL of the scheme `http`, `https`, `ws` or `wss`. Without a
    /// scheme, the port is aircheck's own unless another is named. An error says in one line what is wrong with `text`,
    /// and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let has_scheme = text.contains("://");
        let full = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|error| format!("not a URL: {error} ({ACCEPTED})"))?;
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let (is_ws, is_secure) = match uri.scheme_str() {
            Some("http") => (false, false),
            Some("ws") => (true, false),
            Some("https") => (false, true),
            Some("wss") => (true, true),
            other => return Err(format!("'{}' is not supported ({ACCEPTED})", other.unwrap_or_default())),
        };
        if authority.contains('@') {
            return Err(format!("a token is given by --token-file or AIRCHECK_TOKEN, not in the URL ({ACCEPTED})"));
        }
        let host = uri.host().unwrap_or_default();
        if host.is_empty() {
            return Err(format!("there is no host in it ({ACCEPTED})"));
        }
        let named = uri.port_u16();
        if named == Some(0) || (named.is_none() && authority != host) {
            return Err(format!(
                "there is no port {}; it must be 1 to 65535",
                authority[host.len()..].trim_matches(':')
            ));
        }
        let of_scheme = if is_secure { HTTPS_PORT } else { HTTP_PORT };
        let port = named.unwrap_or(if has_scheme { of_scheme } else { AIRCHECK_PORT });
        let address = Address {
            authority: if named.is_some() || has_scheme { authority.to_owned() } else { format!("{host}:{port}") },
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            is_http_port: named.is_none() && has_scheme && !is_secure,
            is_secure,
            token: None,
        };
        let query = uri.query().filter(|query| !query.is_empty()).map(str::to_owned);
        Ok(Self { address, is_ws, path: uri.path().to_owned(), query })
    }

    /// Returns the pairs of the query as they are written.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = &str> {
        self.query.iter().flat_map(|query| query.split('&'))
    }

    /// Returns whether the query has this key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.pairs().any(|pair| pair.split('=').next() == Some(key))
    }
}

impl Address {
    /// Reads the server from any URL of it: a stream's URL means that stream's server.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Url::parse(text).map(|url| url.address)
    }

    /// Returns the host and the port to connect to.
    pub(crate) fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Returns whether it is reached by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Returns host and port as a request's `Host` has them.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Sets the token that requests have.
    pub(crate) fn set_token(&mut self, token: Option<Token>) {
        self.token = token;
    }

    /// Returns the token that requests have.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Returns what may help where nothing can be reached.
    pub(crate) fn hint(&self) -> &'static str {
        if self.is_http_port { " (port 80, as the URL names none; aircheck's own is 8700)" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_url_of_a_server_names_it() {
        for text in ["h:1", "http://h:1", "h:1/stream.wav?name=x", "http://h:1/metrics", "h:1?from=2"] {
            assert_eq!(Address::parse(text).unwrap().endpoint(), ("h", 1), "{text}");
        }
        for text in ["https://h:1/stream.opus", "wss://h:1"] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.endpoint(), address.is_secure()), (("h", 1), true), "{text}");
        }
        assert!(!Address::parse("h:1").unwrap().is_secure());
        assert!(Address::parse("").is_err());
    }

    #[test]
    fn without_a_scheme_the_port_is_aircheck_s_own() {
        let cases = [
            ("studio", ("studio", 8700), "studio:8700"),
            ("studio/?from=0", ("studio", 8700), "studio:8700"),
            ("studio:80", ("studio", 80), "studio:80"),
            ("[::1]", ("::1", 8700), "[::1]:8700"),
            ("[::1]:9", ("::1", 9), "[::1]:9"),
            ("http://studio/", ("studio", 80), "studio"),
            ("ws://studio", ("studio", 80), "studio"),
            ("https://studio/", ("studio", 443), "studio"),
        ];
        for (text, endpoint, authority) in cases {
            let address = Url::parse(text).unwrap().address;
            assert_eq!((address.endpoint(), address.authority()), (endpoint, authority), "{text}");
            assert_eq!(Address::parse(text).unwrap(), address, "{text}");
        }
        assert!(Address::parse("http://h/").unwrap().hint().contains("8700"));
        assert_eq!(Address::parse("h").unwrap().hint(), "");
    }

    #[test]
    fn the_query_is_taken_apart() {
        let url = Url::parse("h:1/stream?name=x&from=7").unwrap();
        assert_eq!((url.path.as_str(), url.pairs().collect::<Vec<_>>()), ("/stream", vec!["name=x", "from=7"]));
        assert!(url.has_key("from") && !url.has_key("fro"));
        assert_eq!(Url::parse("h:1?").unwrap().query, None);
    }
}
