//! The URL that is loaded: a server, one of its streams, and the rendition that comes.

use std::fmt;

use aircheck_api::{Rendition, StreamParam};

use crate::client::{Address, Token, Url};

/// A stream that is loaded.
#[derive(Clone, Debug)]
pub(crate) struct LoadUrl {
    url: Url,
    /// The rendition, or `None` for a path that is none of aircheck's: bytes of any kind.
    pub(crate) rendition: Option<Rendition>,
    /// Whether the URL left the rendition open.
    is_open: bool,
}

impl LoadUrl {
    /// Reads a URL with any path. The paths of aircheck's streams name the rendition. Without a path it is WAV, or the
    /// WebSocket for `ws://`, unless `--format` names another.
    ///
    /// # Errors
    ///
    /// Says in one line what is wrong with `text`, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)?;
        let is_root = matches!(url.path.as_str(), "" | "/" | "/stream");
        let named = Rendition::ALL.into_iter().find(|rendition| rendition.path().as_ref() == Some(&url.path));
        if url.is_ws && !is_root {
            let (authority, path) = (url.address.authority(), &url.path);
            return Err(format!("{path} is not a WebSocket (use ws://{authority}/, or http://{authority}{path})"));
        }
        let rendition = match (is_root, url.is_ws) {
            (true, true) => Some(Rendition::WebSocket),
            (true, false) => Some(Rendition::Wav),
            (false, _) => named,
        };
        let is_open = is_root && !url.is_ws;
        if url.has_key(StreamParam::Name.name()) {
            return Err("each listener has a name of its own, load-1 and so on (leave out name=)".to_owned());
        }
        if is_open && url.has_key(StreamParam::Format.name()) {
            return Err("name the format by --format, not in the query".to_owned());
        }
        Ok(Self { url, rendition, is_open })
    }

    /// Returns the same with the rendition that `--format` names.
    ///
    /// # Errors
    ///
    /// If the URL names another.
    pub(crate) fn with_rendition(self, rendition: Rendition) -> Result<Self, String> {
        if !self.is_open && Some(rendition) != self.rendition {
            let named = self.rendition.map_or("other bytes", Rendition::name);
            return Err(format!("--format {rendition}, but the URL names {named} (leave one of them out)"));
        }
        Ok(Self { rendition: Some(rendition), ..self })
    }

    /// Sets the token that requests have.
    pub(crate) fn set_token(&mut self, token: Option<Token>) {
        self.url.address.set_token(token);
    }

    /// Returns the server.
    pub(crate) fn address(&self) -> &Address {
        &self.url.address
    }

    /// Returns path and query of a listener's request, with the listener's name if the server knows names.
    pub(crate) fn path_and_query(&self, name: Option<&str>) -> String {
        let path = match self.rendition {
            Some(rendition) => rendition.path().unwrap_or_else(|| "/stream".to_owned()),
            None => self.url.path.clone(),
        };
        let name = name.map(|name| format!("name={name}"));
        let pairs: Vec<&str> = self.url.query.as_deref().into_iter().chain(name.as_deref()).collect();
        if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
    }

    /// Returns whether the query has this pair.
    pub(crate) fn asks_for(&self, param: StreamParam, value: &str) -> bool {
        self.url.pairs().any(|pair| pair.split_once('=') == Some((param.name(), value)))
    }
}

impl fmt::Display for LoadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.rendition == Some(Rendition::WebSocket) { "ws" } else { "http" };
        let secure = if self.url.address.is_secure() { "s" } else { "" };
        write!(f, "{scheme}{secure}://{}{}", self.url.address.authority(), self.path_and_query(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_or_the_flag_names_the_rendition() {
        let cases = [
            ("h:1", Some(Rendition::Wav), "http://h:1/stream.wav"),
            ("h:1/stream", Some(Rendition::Wav), "http://h:1/stream.wav"),
            ("studio", Some(Rendition::Wav), "http://studio:8700/stream.wav"),
            ("h:1/stream.opus?bitrate=6000", Some(Rendition::Opus), "http://h:1/stream.opus?bitrate=6000"),
            ("ws://h:1/?payload=s16", Some(Rendition::WebSocket), "ws://h:1/stream?payload=s16"),
            ("h:1/radio.mp3", None, "http://h:1/radio.mp3"),
            ("https://h:1/radio.mp3", None, "https://h:1/radio.mp3"),
            ("wss://h:1/", Some(Rendition::WebSocket), "wss://h:1/stream"),
        ];
        for (text, rendition, shown) in cases {
            let url = LoadUrl::parse(text).unwrap();
            assert_eq!((url.rendition, url.to_string().as_str()), (rendition, shown), "{text}");
        }
        let url = LoadUrl::parse("h:1?burst=1s").unwrap().with_rendition(Rendition::Events).unwrap();
        assert_eq!(url.path_and_query(Some("load-1")), "/stream?burst=1s&name=load-1");
        assert!(url.asks_for(StreamParam::Burst, "1s") && !url.asks_for(StreamParam::Burst, "2s"));
    }

    #[test]
    fn a_contradiction_is_refused_with_the_way_out() {
        let cases = [
            ("h:1?name=x", "leave out name="),
            ("h:1/stream?format=opus", "--format"),
            ("ws://h:1/stream.wav", "use ws://h:1/"),
            ("ftp://h/", "'ftp' is not supported"),
        ];
        for (text, words) in cases {
            let error = LoadUrl::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = LoadUrl::parse("h:1/stream.wav").unwrap().with_rendition(Rendition::Opus).unwrap_err();
        assert!(error.contains("the URL names wav"), "{error}");
    }
}
