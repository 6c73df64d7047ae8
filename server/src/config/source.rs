//! The source of the sound, as users write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::nats_url::NatsUrl;
use super::notation::Notation;
use super::value::ValueError;

/// The sources there are, for messages.
const TAKES: &str = "auto, mic, mic:NAME, wav:PATH, file:PATH, tone:HZ, stdin, put or nats://HOST:PORT/SUBJECT";
/// Ends of the names of files that `file:` plays.
const FILE_ENDS: [&str; 8] = [".mp3", ".flac", ".ogg", ".oga", ".opus", ".m3u", ".m3u8", ".pls"];
/// Highest test tone in Hz: the upper end of hearing, and below half of the 48 kHz at which tones are made.
const MAX_TONE_HZ: f64 = 20_000.0;

/// A source that is not opened yet.
///
/// ```
/// use aircheck_server::config::SourceSpec;
///
/// assert_eq!("mic:USB Audio".parse(), Ok(SourceSpec::Mic(Some("USB Audio".into()))));
/// assert_eq!("tone:440".parse(), Ok(SourceSpec::Tone(440.0)));
/// assert_eq!(SourceSpec::Wav("a.wav".into()).to_string(), "wav:a.wav");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum SourceSpec {
    /// The default input device, or the demo sound where there is none.
    Auto,
    /// The input device of this name, or the default one.
    Mic(Option<String>),
    /// A WAV file; a relative path starts at the working directory.
    Wav(PathBuf),
    /// A sound file, or a playlist of some; a relative path starts at the working directory.
    File(PathBuf),
    /// A test tone of this many Hz, above 0 and at most 20,000.
    Tone(f64),
    /// Raw sound on stdin.
    Stdin,
    /// Whichever source client sends sound to the mount by HTTP.
    Put,
    /// The blocks of another aircheck server, through NATS.
    Nats(NatsUrl),
}

impl SourceSpec {
    /// Returns whether the source takes a rate and a channel count: raw sound has none of its own, a device may offer several, and
    /// source clients come with any.
    #[must_use]
    pub const fn takes_format(&self) -> bool {
        matches!(self, Self::Auto | Self::Mic(_) | Self::Stdin | Self::Put)
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Mic(None) => f.write_str("mic"),
            Self::Mic(Some(name)) => write!(f, "mic:{name}"),
            Self::Wav(path) => write!(f, "wav:{}", path.display()),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Tone(hz) => write!(f, "tone:{hz}"),
            Self::Stdin => f.write_str("stdin"),
            Self::Put => f.write_str("put"),
            Self::Nats(url) => write!(f, "{url}"),
        }
    }
}

impl Notation for SourceSpec {
    type Value = Self;
    const TAKES: &str = TAKES;

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for SourceSpec {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        let must_be = |takes: &str| ValueError::Because(format!("must be {takes}, not `{word}`"));
        let (kind, detail) = match word.split_once(':') {
            Some((kind, detail)) => (kind, Some(detail)),
            None => (word, None),
        };
        match (kind, detail) {
            ("auto", None) => Ok(Self::Auto),
            ("mic", None) => Ok(Self::Mic(None)),
            ("mic", Some(name)) if name.trim().is_empty() => {
                Err(must_be("mic:NAME with a name, or mic for the default device"))
            }
            ("mic", Some(name)) => Ok(Self::Mic(Some(name.to_owned()))),
            ("wav", None | Some("")) => Err(must_be("wav:PATH with a path")),
            ("wav", Some(path)) => Ok(Self::Wav(path.into())),
            ("file", None | Some("")) => Err(must_be("file:PATH with the path of a sound file or a playlist")),
            ("file", Some(path)) => Ok(Self::File(path.into())),
            ("tone", hz) => match hz.and_then(|hz| hz.parse::<f64>().ok()) {
                Some(hz) if hz > 0.0 && hz <= MAX_TONE_HZ => Ok(Self::Tone(hz)),
                _ => Err(must_be("tone:HZ with a number above 0 and at most 20000")),
            },
            ("stdin", None) => Ok(Self::Stdin),
            ("put", None) => Ok(Self::Put),
            ("nats" | "tls", _) => word.parse().map(Self::Nats),
            _ if word.to_ascii_lowercase().ends_with(".wav") => {
                Err(ValueError::Because(format!("must be {TAKES}, not `{word}`; did you mean `wav:{word}`?")))
            }
            _ if FILE_ENDS.iter().any(|end| word.to_ascii_lowercase().ends_with(end)) => {
                Err(ValueError::Because(format!("must be {TAKES}, not `{word}`; did you mean `file:{word}`?")))
            }
            _ => Err(ValueError::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_reads_back_as_it_was_written() {
        let words = [
            "auto",
            "mic",
            "mic:USB Audio: front",
            "wav:/tmp/a b.wav",
            "wav:C:\\a.wav",
            "file:/tmp/a b.mp3",
            "file:list.m3u8",
            "put",
            "tone:440",
            "tone:0.5",
            "tone:20000",
            "stdin",
            "nats://edge.example:4222/aircheck.studio-1",
            "nats://[::1]:4222/live",
            "tls://hub.example:4222/live",
        ];
        for word in words {
            match word.parse::<SourceSpec>() {
                Ok(spec) => assert_eq!(spec.to_string(), word),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn every_wrong_source_says_what_would_be_right() {
        for word in ["", "auto:x", "stdin:", "put:x", "Mic", "http://example/x"] {
            assert_eq!(word.parse::<SourceSpec>(), Err(ValueError::Form));
        }
        let wrong = [
            ("mic:", "mic:NAME with a name, or mic for the default device"),
            ("mic:  ", "mic:NAME with a name, or mic for the default device"),
            ("wav", "wav:PATH with a path"),
            ("wav:", "wav:PATH with a path"),
            ("file", "file:PATH with the path of a sound file or a playlist"),
            ("file:", "file:PATH with the path of a sound file or a playlist"),
        ];
        let tones = ["tone", "tone:", "tone:a", "tone:0", "tone:-1", "tone:20001", "tone:inf", "tone:NaN"];
        let tones = tones.map(|word| (word, "tone:HZ with a number above 0 and at most 20000"));
        for (word, takes) in wrong.into_iter().chain(tones) {
            let error = word.parse::<SourceSpec>().unwrap_err();
            assert_eq!(error.to_string(), format!("must be {takes}, not `{word}`"));
        }
    }

    #[test]
    fn a_bare_file_gets_a_suggestion() {
        let error = "list.M3U".parse::<SourceSpec>().unwrap_err();
        assert!(error.to_string().ends_with("not `list.M3U`; did you mean `file:list.M3U`?"), "{error}");
        let error = "song.WAV".parse::<SourceSpec>().unwrap_err();
        assert!(error.to_string().ends_with("not `song.WAV`; did you mean `wav:song.WAV`?"), "{error}");
    }
}
