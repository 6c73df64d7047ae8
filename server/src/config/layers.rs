//! Defaults, file, environment and flags, laid over each other.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::setting::{Key, Origin};
use super::{Config, ConfigError, LAG_BLOCKS_LEAST, SourceSpec, file};
use aircheck_api::span::Short;

/// Settings so far, and where each comes from.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    config: Config,
    origins: BTreeMap<Key, Origin>,
}

impl Layers {
    /// Lays the settings of a file over what there is.
    pub(crate) fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        file::entries(path)?.into_iter().try_for_each(|entry| self.set(entry.key, &entry.text, entry.origin))
    }

    /// Lays the environment over what there is. An empty variable is like none: that is how container files and
    /// shells write "not set".
    pub(crate) fn env(&mut self, lookup: impl Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        for key in Key::ALL {
            let Some(value) = lookup(key.env()).filter(|value| !value.is_empty()) else { continue };
            self.set_os(key, &value, Origin::Env)?;
        }
        Ok(())
    }

    /// Lays a flag over what there is.
    pub(crate) fn flag(&mut self, key: Key, text: &OsStr) -> Result<(), ConfigError> {
        self.set_os(key, text, Origin::Flag)
    }

    fn set_os(&mut self, key: Key, text: &OsStr, origin: Origin) -> Result<(), ConfigError> {
        match text.to_str() {
            Some(text) => self.set(key, text, origin),
            None => Err(ConfigError::new(format!("{} must be UTF-8 text", origin.subject(key)))),
        }
    }

    fn set(&mut self, key: Key, text: &str, origin: Origin) -> Result<(), ConfigError> {
        self.config.read(key, text).map_err(|wrong| ConfigError::new(format!("{} {wrong}", origin.subject(key))))?;
        self.origins.insert(key, origin);
        Ok(())
    }

    /// Checks what can only be checked when everything is known.
    pub(crate) fn finish(self) -> Result<Finished, ConfigError> {
        let Config { source, block, buffer, .. } = &self.config;
        if let SourceSpec::Nats { .. } = source {
            return Err(self.wrong(Key::Source, &format!("{source} is not supported yet")));
        }
        if buffer < block {
            // The block is at fault only if it alone was asked for, which it can't: the default buffer is longer.
            let wrong = format!("must be at least one block of {}, not {}", Short(*block), Short(*buffer));
            return Err(self.wrong(Key::Buffer, &wrong));
        }
        if let Some(max_lag) = self.config.max_lag.filter(|max_lag| *max_lag < LAG_BLOCKS_LEAST * *block) {
            let least = Short(LAG_BLOCKS_LEAST * *block);
            let wrong = format!("must be at least {LAG_BLOCKS_LEAST} blocks, {least}, not {}", Short(max_lag));
            return Err(self.wrong(Key::MaxLag, &wrong));
        }
        let takers = [
            (Key::Loop, self.config.looped, matches!(source, SourceSpec::Wav(_)), "wav:PATH"),
            (Key::Rate, self.config.rate_hz.is_some(), source.takes_format(), "stdin, mic or auto"),
            (Key::Channels, self.config.channels.is_some(), source.takes_format(), "stdin, mic or auto"),
            (Key::Sample, self.config.sample.is_some(), matches!(source, SourceSpec::Stdin), "stdin"),
        ];
        for (key, is_asked, is_taken, takers) in takers {
            if is_asked && !is_taken {
                return Err(self.wrong(key, &format!("goes only with the source {takers}, not with {source}")));
            }
        }
        if self.config.record.is_none() && self.origins.contains_key(&Key::RecordSplit) {
            // Whoever says how long the files are to be believes that there are some.
            return Err(self.wrong(Key::RecordSplit, "goes only with a directory to record to: set --record"));
        }
        Ok(Finished { config: self.config, origins: self.origins })
    }

    fn origin(&self, key: Key) -> &Origin {
        self.origins.get(&key).unwrap_or(&Origin::Default)
    }

    fn wrong(&self, key: Key, wrong: &str) -> ConfigError {
        ConfigError::new(format!("{} {wrong}", self.origin(key).subject(key)))
    }
}

/// Settings that were checked, and where each comes from.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) config: Config,
    pub(super) origins: BTreeMap<Key, Origin>,
}
