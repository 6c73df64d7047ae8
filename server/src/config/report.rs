//! What a configuration comes to, as people like to read it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::layers::Finished;
use super::setting::{Key, Origin};
use super::{Config, SourceSpec};
use aircheck_api::span::Short;

/// A file that was checked. It shows as a table of every setting, its value and where that comes from, ending in a
/// line break.
#[derive(Debug)]
pub struct Checked {
    path: PathBuf,
    finished: Finished,
}

impl Checked {
    pub(crate) const fn new(path: PathBuf, finished: Finished) -> Self {
        Self { path, finished }
    }

    /// What would run.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.finished.config
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<_> = Key::ALL
            .into_iter()
            .filter_map(|key| {
                let origin = match self.finished.origins.get(&key) {
                    None | Some(Origin::Default) => "default".to_owned(),
                    Some(Origin::File { line, .. }) => format!("line {line}"),
                    Some(Origin::Env) => key.env().to_owned(),
                    Some(Origin::Flag) => key.flag().to_owned(),
                };
                Some((key.name(), shown(self.config(), key)?, origin))
            })
            .collect();
        let names = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let values = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
        writeln!(f, "{} is good; with it would run:", self.path.display())?;
        for (name, value, origin) in &rows {
            writeln!(f, "  {name:names$}  {value:values$}  {origin}")?;
        }
        if !self.config().listen.ip().is_loopback() {
            writeln!(f, "Other machines can reach {}: whoever can connect can listen.", self.config().listen)?;
        }
        Ok(())
    }
}

/// The value of a setting; none where it has no meaning for the source.
fn shown(config: &Config, key: Key) -> Option<String> {
    let is_stdin = config.source == SourceSpec::Stdin;
    let (stdin_rate_hz, stdin_channels, stdin_sample) = config.stdin_format();
    let rate_hz = if is_stdin { Some(stdin_rate_hz) } else { config.rate_hz };
    let channels = if is_stdin { Some(stdin_channels) } else { config.channels };
    let own = || "the device's own".to_owned();
    let list = |words: &[String], none: &str| if words.is_empty() { none.to_owned() } else { words.join(", ") };
    Some(match key {
        Key::Source => config.source.to_string(),
        Key::Loop if matches!(config.source, SourceSpec::Wav(_)) => config.looped.to_string(),
        Key::Listen => config.listen.to_string(),
        Key::Block => Short(config.block).to_string(),
        Key::Buffer => Short(config.buffer).to_string(),
        Key::History => Short(config.history).to_string(),
        Key::Overflow => config.overflow.to_string(),
        Key::MaxLag => config.max_lag.map_or_else(|| "off".to_owned(), |max_lag| Short(max_lag).to_string()),
        Key::SocketBuffer => Short(config.socket_buffer).to_string(),
        Key::MaxListeners => config.max_listeners.to_string(),
        Key::Record => config.record.as_ref().map_or_else(|| "off".to_owned(), |path| path.display().to_string()),
        Key::RecordSplit if config.record.is_some() => config.record_split.to_string(),
        Key::Rate if config.source.takes_format() => rate_hz.map_or_else(own, |hz| format!("{hz} Hz")),
        Key::Channels if config.source.takes_format() => channels.map_or_else(own, |channels| channels.to_string()),
        Key::Sample if is_stdin => stdin_sample.label().to_owned(),
        Key::AllowHosts => list(&config.allow_hosts, "addresses and localhost only"),
        Key::AllowOrigins => list(&config.allow_origins, "none"),
        Key::Loop | Key::RecordSplit | Key::Rate | Key::Channels | Key::Sample => return None,
    })
}
