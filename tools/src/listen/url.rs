//! The URL to listen to: a server's address, and the query for its WebSocket.

use std::fmt;

use crate::client::{Address, Token, Url};

/// A server's stream as aircheckctl listens to it: always its WebSocket, which tells every loss and has a way back.
#[derive(Clone, Debug)]
pub(crate) struct ListenUrl {
    url: Url,
}

impl ListenUrl {
    /// Reads a server's address or the URL of one of its streams in which gaps can be seen, with or without a query. An
    /// error says in one line what is wrong with `text`, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)?;
        let authority = url.address.authority();
        match url.path.as_str() {
            "" | "/" | "/stream" => Ok(Self { url }),
            // The same blocks and gaps come through the WebSocket.
            "/stream.json" if !url.is_ws => Ok(Self { url }),
            "/stream.json" => Err(format!("/stream.json is not a WebSocket (use ws://{authority}/)")),
            path if path.starts_with("/stream") => {
                Err(format!("gaps cannot be seen in {path} (use http://{authority}/)"))
            }
            path => Err(format!("there is no stream at {path} (use http://{authority}/)")),
        }
    }

    /// Sets the token that requests have.
    pub(crate) fn set_token(&mut self, token: Option<Token>) {
        self.url.address.set_token(token);
    }

    /// Returns the server.
    pub(crate) fn address(&self) -> &Address {
        &self.url.address
    }

    /// Returns path and query of the request.
    pub(crate) fn path_and_query(&self) -> String {
        match &self.url.query {
            Some(query) => format!("/stream?{query}"),
            None => "/stream".to_owned(),
        }
    }

    /// Returns the sequence number that the stream is asked to start at. Blocks that are missing from there on count as
    /// lost.
    pub(crate) fn first_sequence(&self) -> Option<u64> {
        self.url.pairs().find_map(|pair| pair.strip_prefix("from=")?.parse().ok())
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ws://{}{}", self.url.address.authority(), self.path_and_query())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_server_means_its_websocket() {
        for text in
            ["h:1", "http://h:1", "http://h:1/", "h:1/stream.json", "ws://h:1/", "ws://h:1/stream", "h:1/stream"]
        {
            let url = ListenUrl::parse(text).unwrap();
            assert_eq!((&*url.to_string(), url.address().endpoint()), ("ws://h:1/stream", ("h", 1)), "{text}");
        }
        assert_eq!(ListenUrl::parse("studio").unwrap().to_string(), "ws://studio:8700/stream");
        for (text, request, first) in [
            ("http://h:1/?name=x&from=12&burst=1s", "/stream?name=x&from=12&burst=1s", Some(12)),
            ("h:1?from=7", "/stream?from=7", Some(7)),
            ("h:1?from=x", "/stream?from=x", None),
        ] {
            let url = ListenUrl::parse(text).unwrap();
            assert_eq!((&*url.path_and_query(), url.first_sequence()), (request, first), "{text}");
        }
    }

    #[test]
    fn a_url_without_such_a_stream_is_refused_with_the_way_out() {
        let cases = [
            ("http://h:1/stream.wav", "gaps cannot be seen in /stream.wav (use http://h:1/)"),
            ("ws://h:1/stream.json", "not a WebSocket (use ws://h:1/)"),
            ("http://h:1/metrics", "there is no stream at /metrics"),
            ("ftp://h:1/", "'ftp' is not supported"),
            ("http://me:secret@h:1/", "--token-file"),
            ("h:99999", "there is no port 99999"),
            ("h:0", "there is no port 0"),
            ("", "not a URL"),
            ("http://", "not a URL"),
            ("a b", "not a URL"),
            (":8700", "no host"),
        ];
        for (text, words) in cases {
            let error = ListenUrl::parse(text).unwrap_err();
            assert!(error.contains(words), "{text:?} gives {error:?}");
        }
    }
}
