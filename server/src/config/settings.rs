//! The table of settings, read off the fields of [`Config`].

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{Arg, Args as _, Command};
use serde::Deserialize as _;
use serde::de::value::MapDeserializer;

use super::schema::{
    CaptureConfig, Config, DeliveryConfig, FileConfig, HttpConfig, MountConfig, NotifyConfig, RecorderConfig,
    SilenceConfig,
};
use super::value::{Value, ValueError};
use crate::access::policy::Rules;
use aircheck_api::MAIN_MOUNT;

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
        let everywhere = augment(Command::new("settings"));
        let in_files = FileConfig::augment_args(Command::new("settings"));
        let in_files =
            in_files.get_arguments().map(|arg| Setting { env: String::new(), flag: String::new(), ..setting(arg) });
        everywhere.get_arguments().map(setting).chain(in_files).collect()
    });
    &SETTINGS
}

/// Adds all settings that flags can give, in the order in which users read them.
fn augment(command: Command) -> Command {
    let command = CaptureConfig::augment_args(command);
    let command = DeliveryConfig::augment_args(command);
    let command = RecorderConfig::augment_args(command);
    let command = HttpConfig::augment_args(command);
    SilenceConfig::augment_args(NotifyConfig::augment_args(command))
}

/// Returns whether a mount may have this setting for itself.
pub(super) fn is_of_mount(key: &str) -> bool {
    static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let command = CaptureConfig::augment_args(Command::new("mount"));
        let command = SilenceConfig::augment_args(RecorderConfig::augment_args(DeliveryConfig::augment_args(command)));
        command.get_arguments().map(|arg| arg.get_id().to_string()).collect()
    });
    KEYS.iter().any(|of_mount| of_mount == key)
}

/// Adds a flag for each setting, which takes any text: the flags are read as the other layers are.
pub(super) fn add_flags(command: Command) -> Command {
    augment(command).mut_args(|arg| match settings().iter().find(|setting| arg.get_id() == &*setting.key) {
        Some(Setting { env, help, .. }) => {
            arg.required(false).value_parser(clap::value_parser!(OsString)).help(format!("{help}\n[env: {env}]"))
        }
        None => arg,
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

    /// Returns the settings of the mount at `/stream*`.
    ///
    /// # Panics
    ///
    /// Without a mount.
    #[must_use]
    pub fn first_mount(&self) -> &MountConfig {
        &self.mounts[0]
    }

    /// Reads each setting from the value that `given` has for its key, or else from its default.
    ///
    /// Each group reads the keys that it knows from the same flat table: serde's `flatten` would not pass on the
    /// type that a text is read as. Unknown keys are refused before, where the line is known.
    pub(super) fn read(given: impl Fn(&str) -> Option<Value>) -> Result<Self, ValueError> {
        let values = values(&given);
        let FileConfig { tokens, mounts } = FileConfig::deserialize(MapDeserializer::new(values.clone()))?;
        let main = MountConfig::read(MAIN_MOUNT.to_owned(), &given)?;
        Ok(Self {
            mounts: super::mounts::read(mounts, main, &given)?,
            http: HttpConfig::deserialize(MapDeserializer::new(values.clone()))?,
            notify: NotifyConfig::deserialize(MapDeserializer::new(values))?,
            tokens,
        })
    }
}

impl MountConfig {
    /// Reads the settings of the mount with this name in the same way.
    pub(super) fn read(name: String, given: impl Fn(&str) -> Option<Value>) -> Result<Self, ValueError> {
        let values = values(&given);
        Ok(Self {
            name,
            capture: CaptureConfig::deserialize(MapDeserializer::new(values.clone()))?,
            delivery: DeliveryConfig::deserialize(MapDeserializer::new(values.clone()))?,
            recorder: RecorderConfig::deserialize(MapDeserializer::new(values.clone()))?,
            silence: SilenceConfig::deserialize(MapDeserializer::new(values))?,
        })
    }
}

/// Returns the keys of all settings with the values that `given` has for them, or else with their defaults.
fn values(given: impl Fn(&str) -> Option<Value>) -> impl Iterator<Item = (&'static str, Value)> + Clone {
    let value = |setting: &'static Setting| {
        let value = given(&setting.key).or_else(|| setting.default.clone().map(Value::Text))?;
        Some((setting.key.as_str(), value))
    };
    settings().iter().filter_map(value).collect::<Vec<_>>().into_iter()
}
