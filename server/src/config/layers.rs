//! Defaults, file, environment and flags, laid over each other.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::check::Broken;
use super::error::ConfigError;
use super::file;
use super::schema::Config;
use super::settings::{Setting, settings};
use super::value::Value;

/// The place where a value was given.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The place and the setting's name, for the beginning of a message.
    pub(super) subject: String,
    /// The place, for a table that names file and setting elsewhere.
    pub(super) label: String,
}

/// The values that were given so far, each by the last layer that has one.
#[derive(Debug, Default)]
pub(super) struct Layers(HashMap<&'static str, (Value, Origin)>);

impl Layers {
    /// Lays the settings of a file over the earlier layers.
    pub(super) fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        file::entries(path)?.into_iter().try_for_each(|(setting, value, line)| {
            let subject = format!("{}:{line}: `{}`", path.display(), setting.key);
            self.set(setting, value, Origin { subject, label: format!("line {line}") })
        })
    }

    /// Lays the environment over the earlier layers. An empty variable counts as not set, because container files and shells
    /// write it so.
    pub(super) fn env(&mut self, lookup: impl Fn(&str) -> Option<OsString>) -> Result<(), ConfigError> {
        let mut settings = settings().iter().filter(|setting| !setting.env.is_empty());
        settings.try_for_each(|setting| match lookup(&setting.env) {
            Some(value) if !value.is_empty() => self.set_text(setting, value, &setting.env),
            _ => Ok(()),
        })
    }

    /// Lays flags over the earlier layers.
    pub(super) fn flags(&mut self, lookup: impl Fn(&Setting) -> Option<OsString>) -> Result<(), ConfigError> {
        let mut settings = settings().iter().filter(|setting| !setting.flag.is_empty());
        settings.try_for_each(|setting| match lookup(setting) {
            Some(value) => self.set_text(setting, value, &setting.flag),
            None => Ok(()),
        })
    }

    fn set_text(&mut self, setting: &'static Setting, text: OsString, name: &str) -> Result<(), ConfigError> {
        match text.into_string() {
            Ok(text) => {
                self.set(setting, Value::Text(text), Origin { subject: name.to_owned(), label: name.to_owned() })
            }
            Err(_) => Err(ConfigError::new(format!("{name} must be UTF-8 text"))),
        }
    }

    /// Sets a value. It is read here, on its own, so that a mistake in it is reported even if a later layer hides it.
    fn set(&mut self, setting: &'static Setting, value: Value, origin: Origin) -> Result<(), ConfigError> {
        Config::read(|key| (key == setting.key).then(|| value.clone()))
            .map_err(|error| ConfigError::new(format!("{} {error}", origin.subject)))?;
        self.0.insert(&setting.key, (value, origin));
        Ok(())
    }

    /// Returns the settings, checked against each other.
    pub(super) fn finish(&self) -> Result<Config, ConfigError> {
        let config = Config::read(|key| self.get(key).map(|(value, _)| value.clone()))
            .map_err(|error| ConfigError::new(error.to_string()))?;
        let keys = settings().iter().map(|setting| setting.key.as_str());
        config.check(&keys.filter(|key| self.get(key).is_some()).collect()).map_err(|Broken { key, wrong }| {
            let subject = self.get(key).map_or_else(|| format!("`{key}`"), |(_, origin)| origin.subject.clone());
            ConfigError::new(format!("{subject} {wrong}"))
        })?;
        Ok(config)
    }

    /// Returns the places where settings were given, in the order of the schema.
    pub(super) fn places(&self) -> Vec<String> {
        let given = settings().iter().filter_map(|setting| self.get(&setting.key));
        given.map(|(_, origin)| origin.label.clone()).collect()
    }

    /// Returns the value of a setting and its origin, if it was given.
    pub(super) fn get(&self, key: &str) -> Option<&(Value, Origin)> {
        self.0.get(key)
    }
}
