//! The table of settings, read off the fields of [`Config`].

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{Arg, Args as _, Command};
use serde::Deserialize as _;
use serde::de::value::MapDeserializer;

use super::schema::{CaptureConfig, Config, DeliveryConfig, FileConfig, HttpConfig, NotifyConfig, RecorderConfig};
use super::value::{Value, ValueError};
use crate::access::policy::Rules;

/// A setting: its names, its default and its meaning.
#[derive(Debug)]
pub struct Setting {
    /// Its key in a file, such as `max_listeners`.
    pub key: String,
    /// Its environment variable, such as `AIRCHECK_MAX_LISTENERS`; empty if only a file can have it.
    pub env: String,
    /// Its flag, such as `--max-listeners`; empty if only a file can have it.
    pub flag: String,
    /// Its default as a flag takes it; `None` for an empty list, and where another setting decides.
    pub default: Option<String>,
    /// Its meaning, in a sentence without a stop.
    pub help: String,
}

/// Returns all settings, in the order in which users read them.
#[must_use]
pub fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
        let setting = |arg: &Arg| {
            let flag = arg.get_long().unwrap_or_default();
            Setting {
                key: arg.get_id().to_string(),
                env: format!("AIRCHECK_{}", flag.replace('-', "_").to_uppercase()),
                flag: format!("--{flag}"),
                default: arg.get_default_values().first().map(|default| default.to_string_lossy().into_owned()),
                help: arg.get_help().unwrap_or_default().to_string(),
            }
        };
        let everywhere = Config::augment_args(Command::new("settings"));
        let in_files = FileConfig::augment_args(Command::new("settings"));
        let in_files =
            in_files.get_arguments().map(|arg| Setting { env: String::new(), flag: String::new(), ..setting(arg) });
        everywhere.get_arguments().map(setting).chain(in_files).collect()
    });
    &SETTINGS
}

/// Adds a flag for each setting, which takes any text: the flags are read as the other layers are.
pub(super) fn add_flags(command: Command) -> Command {
    Config::augment_args(command).mut_args(|arg| {
        match settings().iter().find(|setting| arg.get_id() == &*setting.key) {
            Some(Setting { env, help, .. }) => {
                arg.required(false).value_parser(clap::value_parser!(OsString)).help(format!("{help}\n[env: {env}]"))
            }
            None => arg,
        }
    })
}

impl Default for Config {
    fn default() -> Self {
        Self::read(|_| None).unwrap_or_else(|error| unreachable!("a default {error}"))
    }
}

impl Config {
    /// Returns the rules by which requests may listen, read figures and change things.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules { tokens: self.tokens.clone(), is_public: self.http.insecure_public }
    }

    /// Reads each setting from the value that `given` has for its key, or else from its default.
    ///
    /// Each group reads the keys that it knows from the same flat table: serde's `flatten` would not pass on the
    /// type that a text is read as. Unknown keys are refused before, where the line is known.
    pub(super) fn read(given: impl Fn(&str) -> Option<Value>) -> Result<Self, ValueError> {
        let values = settings().iter().filter_map(|setting| {
            let value = given(&setting.key).or_else(|| setting.default.clone().map(Value::Text))?;
            Some((setting.key.as_str(), value))
        });
        Ok(Self {
            capture: CaptureConfig::deserialize(MapDeserializer::new(values.clone()))?,
            delivery: DeliveryConfig::deserialize(MapDeserializer::new(values.clone()))?,
            recorder: RecorderConfig::deserialize(MapDeserializer::new(values.clone()))?,
            http: HttpConfig::deserialize(MapDeserializer::new(values.clone()))?,
            notify: NotifyConfig::deserialize(MapDeserializer::new(values.clone()))?,
            tokens: FileConfig::deserialize(MapDeserializer::new(values))?.tokens,
        })
    }
}
