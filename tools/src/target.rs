//! Where to listen: a server's address, and what of its stream is wanted.

use std::fmt;

use hyper::Uri;

/// HTTP's own port, for a URL that names none.
const HTTP_PORT: u16 = 80;

/// The two mounts in which a listener can see sequence numbers and gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// `/stream.json`: a line a block, with nothing but HTTP.
    Lines,
    /// `/stream`: a message a block, with a way back.
    WebSocket,
}

impl Mount {
    const fn path(self) -> &'static str {
        match self {
            Self::Lines => "/stream.json",
            Self::WebSocket => "/stream",
        }
    }

    const fn scheme(self) -> &'static str {
        match self {
            Self::Lines => "http",
            Self::WebSocket => "ws",
        }
    }
}

/// A server, which of its mounts, and the query for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    mount: Mount,
    authority: String,
    host: String,
    port: Option<u16>,
    query: Option<String>,
}

impl Target {
    /// Reads `HOST:PORT`, `http://HOST:PORT/` or `http://HOST:PORT/stream.json`, and for the WebSocket
    /// `ws://HOST:PORT/` or anything with the path `/stream`, each with or without a query.
    ///
    /// # Errors
    ///
    /// Says in one line what is wrong with `text`, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const WANTED: &str = "write HOST:PORT, http://HOST:PORT/ or ws://HOST:PORT/";
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
        let mount = match uri.path() {
            "/stream" => Mount::WebSocket,
            "" | "/" if is_ws => Mount::WebSocket,
            "" | "/" | "/stream.json" if !is_ws => Mount::Lines,
            "/stream.json" => return Err(format!("/stream.json is no WebSocket; use ws://{authority}/")),
            path if path.starts_with("/stream") => {
                return Err(format!("gaps can't be seen in {path}; use http://{authority}/"));
            }
            path => return Err(format!("no stream at {path}; use http://{authority}/")),
        };
        Ok(Self {
            mount,
            authority: authority.to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            query: uri.query().map(str::to_owned),
        })
    }

    /// The server alone, whatever of it `text` names: who pastes a stream's URL means that stream's server.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub(crate) fn parse_server(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Self::parse(&format!("{scheme}://{authority}/"))
    }

    /// The same server's WebSocket.
    pub(crate) fn over_websocket(self) -> Self {
        Self { mount: Mount::WebSocket, ..self }
    }

    /// Which mount it is.
    pub(crate) fn mount(&self) -> Mount {
        self.mount
    }

    /// What to connect to.
    pub(crate) fn address(&self) -> (&str, u16) {
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

    /// Path and query of the request.
    pub(crate) fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.mount.path()),
            None => self.mount.path().to_owned(),
        }
    }

    /// The sequence number that the stream was asked to start at. What is missing from there on was lost.
    pub(crate) fn first_sequence(&self) -> Option<u64> {
        let query = self.query.as_deref()?;
        query.split('&').find_map(|pair| pair.strip_prefix("from=")?.parse().ok())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.mount.scheme(), self.authority, self.path_and_query())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_server_reads_its_json_stream() {
        for text in ["localhost:8700", "http://localhost:8700", "http://localhost:8700/", "localhost:8700/stream.json"]
        {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.to_string(), "http://localhost:8700/stream.json");
            assert_eq!(target.address(), ("localhost", 8700));
        }
    }

    #[test]
    fn a_server_is_found_in_whatever_url_of_it() {
        for text in ["h:1", "http://h:1", "h:1/stream.wav?name=x", "http://h:1/metrics", "h:1?from=2"] {
            assert_eq!(Target::parse_server(text).unwrap(), Target::parse("http://h:1/").unwrap(), "{text}");
        }
        assert!(Target::parse_server("https://h/").unwrap_err().contains("https is not supported"));
        assert!(Target::parse_server("").unwrap_err().contains("not a URL"));
    }

    #[test]
    fn a_ws_url_or_the_path_stream_mean_the_websocket() {
        for text in ["ws://h:1", "ws://h:1/", "ws://h:1/stream", "h:1/stream", "http://h:1/stream"] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.mount(), target.to_string()), (Mount::WebSocket, "ws://h:1/stream".to_owned()));
        }
        let target = Target::parse("h:1/?name=x").unwrap().over_websocket();
        assert_eq!(target.to_string(), "ws://h:1/stream?name=x");
    }

    #[test]
    fn the_query_is_kept() {
        let target = Target::parse("http://h:1/?name=x&from=12&burst=1s").unwrap();
        assert_eq!(target.path_and_query(), "/stream.json?name=x&from=12&burst=1s");
        assert_eq!(target.first_sequence(), Some(12));
        assert_eq!(Target::parse("h:1?from=7").unwrap().path_and_query(), "/stream.json?from=7");
        assert_eq!(Target::parse("h:1?from=x").unwrap().first_sequence(), None);
    }

    #[test]
    fn addresses_of_ipv6_lose_their_brackets_only_where_they_are_connected_to() {
        let target = Target::parse("[::1]:8700").unwrap();
        assert_eq!(target.address(), ("::1", 8700));
        assert_eq!(target.authority(), "[::1]:8700");
    }

    #[test]
    fn no_port_means_http_s_own() {
        let target = Target::parse("http://h/").unwrap();
        assert_eq!(target.address(), ("h", 80));
        assert!(!target.names_port());
    }

    #[test]
    fn what_can_t_be_listened_to_is_refused_with_the_way_out() {
        let cases = [
            ("http://h:1/stream.wav", "gaps can't be seen in /stream.wav; use http://h:1/"),
            ("ws://h:1/stream.json", "no WebSocket; use ws://h:1/"),
            ("wss://h:1/", "wss is not supported"),
            ("http://h:1/metrics", "no stream at /metrics"),
            ("https://h:1/", "https is not supported"),
            ("ftp://h:1/", "'ftp' is not supported"),
            ("http://me:secret@h:1/", "user names"),
            ("h:99999", "no such port: :99999"),
            ("h:0", "no such port"),
            ("", "not a URL"),
            ("http://", "not a URL"),
            ("a b", "not a URL"),
            (":8700", "no host"),
        ];
        for (text, words) in cases {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?} gives {error:?}");
        }
    }
}
