//! What is loaded: a server, one of its streams, and in which form that comes.

use std::fmt;

use clap::ValueEnum;

use crate::client::url::{Address, Location};

/// The form of a stream, which says what of it can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Samples after a header.
    Wav,
    /// Samples.
    Pcm,
    /// FLAC.
    Flac,
    /// Ogg Opus.
    Opus,
    /// A line of JSON a block.
    Json,
    /// A server-sent event a block.
    Sse,
    /// A message of the WebSocket a block.
    Ws,
    /// Bytes of any kind.
    #[value(skip)]
    Other,
}

impl Form {
    /// Where aircheck serves it.
    const fn path(self) -> &'static str {
        match self {
            Self::Wav => "/stream.wav",
            Self::Pcm => "/stream.pcm",
            Self::Flac => "/stream.flac",
            Self::Opus => "/stream.opus",
            Self::Json => "/stream.json",
            Self::Sse | Self::Ws => "/stream",
            Self::Other => "/",
        }
    }

    /// Its name, as `--format` takes it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Pcm => "pcm",
            Self::Flac => "flac",
            Self::Opus => "opus",
            Self::Json => "json",
            Self::Sse => "sse",
            Self::Ws => "ws",
            Self::Other => "bytes",
        }
    }
}

/// A stream that is to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The server.
    pub(crate) address: Address,
    /// What comes.
    pub(crate) form: Form,
    /// Whether the URL left the form open.
    open: bool,
    path: String,
    query: Option<String>,
}

impl Mount {
    /// Reads a URL of any path. The paths of aircheck's streams say the form; without a path it is WAV, or for `ws://`
    /// the WebSocket, unless `--format` says another.
    ///
    /// # Errors
    ///
    /// Says in one line what is wrong with `text`, and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Location { address, is_ws, uri } = Location::parse(text)?;
        let mut open = false;
        let form = match uri.path() {
            "/stream.wav" => Form::Wav,
            "/stream.pcm" => Form::Pcm,
            "/stream.flac" => Form::Flac,
            "/stream.opus" => Form::Opus,
            "/stream.json" => Form::Json,
            "" | "/" | "/stream" if is_ws => Form::Ws,
            "" | "/" | "/stream" => {
                open = true;
                Form::Wav
            }
            _ => Form::Other,
        };
        if is_ws && form != Form::Ws {
            let (authority, path) = (address.authority(), uri.path());
            return Err(format!("{path} is no WebSocket; use ws://{authority}/, or http://{authority}{path}"));
        }
        let query = uri.query().filter(|query| !query.is_empty()).map(str::to_owned);
        let says = |key: &str| {
            query.as_deref().is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some(key)))
        };
        if says("name") {
            return Err("every listener has a name of its own, load-1 and so on; leave out name=".to_owned());
        }
        if open && says("format") {
            return Err("say the format by --format, not in the query".to_owned());
        }
        let path = if form == Form::Other { uri.path() } else { form.path() };
        Ok(Self { address, form, open, path: path.to_owned(), query })
    }

    /// The same with the form that `--format` says.
    ///
    /// # Errors
    ///
    /// If the URL says another.
    pub(crate) fn in_form(self, form: Form) -> Result<Self, String> {
        if !self.open && form != self.form {
            let (label, said) = (form.label(), self.form.label());
            return Err(format!("--format {label}, but the URL names {said}; leave one of them out"));
        }
        Ok(Self { form, path: form.path().to_owned(), ..self })
    }

    /// Path and query of a listener's request, with the name that it is found by.
    pub(crate) fn path_and_query(&self, name: Option<&str>) -> String {
        let name = name.map(|name| format!("name={name}"));
        let pairs: Vec<&str> = self.query.as_deref().into_iter().chain(name.as_deref()).collect();
        if pairs.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, pairs.join("&")) }
    }

    /// Whether the query has this pair.
    pub(crate) fn asks_for(&self, wanted: &str) -> bool {
        self.query.as_deref().is_some_and(|query| query.split('&').any(|pair| pair == wanted))
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.form == Form::Ws { "ws" } else { "http" };
        write!(f, "{scheme}://{}{}", self.address.authority(), self.path_and_query(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_or_the_flag_says_the_form() {
        let cases = [
            ("h:1", Form::Wav, "http://h:1/stream.wav"),
            ("h:1/stream", Form::Wav, "http://h:1/stream.wav"),
            ("h:1/stream.opus?bitrate=6000", Form::Opus, "http://h:1/stream.opus?bitrate=6000"),
            ("ws://h:1/?payload=s16", Form::Ws, "ws://h:1/stream?payload=s16"),
            ("h:1/radio.mp3", Form::Other, "http://h:1/radio.mp3"),
        ];
        for (text, form, url) in cases {
            let mount = Mount::parse(text).unwrap();
            assert_eq!((mount.form, mount.to_string().as_str()), (form, url), "{text}");
        }
        let mount = Mount::parse("h:1?burst=1s").unwrap().in_form(Form::Sse).unwrap();
        assert_eq!(mount.path_and_query(Some("load-1")), "/stream?burst=1s&name=load-1");
        assert!(mount.asks_for("burst=1s") && !mount.asks_for("burst"));
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_the_way_out() {
        let cases = [
            ("h:1?name=x", "leave out name="),
            ("h:1/stream?format=opus", "--format"),
            ("ws://h:1/stream.wav", "use ws://h:1/"),
            ("https://h/", "https is not supported"),
        ];
        for (text, words) in cases {
            let error = Mount::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let error = Mount::parse("h:1/stream.wav").unwrap().in_form(Form::Opus).unwrap_err();
        assert!(error.contains("the URL names wav"), "{error}");
    }
}
