//! Where to listen: a server's address, and what of its stream is wanted.

use std::fmt;

use crate::client::url::{Address, Location};

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
    address: Address,
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
        let Location { address, is_ws, uri } = Location::parse(text)?;
        let authority = address.authority();
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
        Ok(Self { mount, query: uri.query().map(str::to_owned), address })
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
    pub(crate) fn address(&self) -> &Address {
        &self.address
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
        write!(f, "{}://{}{}", self.mount.scheme(), self.address.authority(), self.path_and_query())
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
            assert_eq!(target.address().endpoint(), ("localhost", 8700));
        }
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
