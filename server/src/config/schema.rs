//! The table of settings, read off the fields of [`Config`].

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{Args as _, Command};

use super::{Config, Value};

/// A setting: its names, its default and its meaning.
#[derive(Debug)]
pub struct Setting {
    /// Its key in a file, such as `max_listeners`.
    pub key: String,
    /// Its environment variable, such as `AIRCHECK_MAX_LISTENERS`.
    pub env: String,
    /// Its flag, such as `--max-listeners`.
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
        let command = Config::augment_args(Command::new("settings"));
        let settings = command.get_arguments().map(|arg| {
            let flag = arg.get_long().unwrap_or_default();
            Setting {
                key: arg.get_id().to_string(),
                env: format!("AIRCHECK_{}", flag.replace('-', "_").to_uppercase()),
                flag: format!("--{flag}"),
                default: arg.get_default_values().first().map(|default| default.to_string_lossy().into_owned()),
                help: arg.get_help().unwrap_or_default().to_string(),
            }
        });
        settings.collect()
    });
    &SETTINGS
}

impl Setting {
    /// Returns the default as a value.
    pub(super) fn default_value(&self) -> Option<Value> {
        self.default.clone().map(Value::Text)
    }
}

/// Adds a flag for each setting, which takes any text: the flags are read as the other layers are.
pub(super) fn add_flags(command: Command) -> Command {
    let mut settings = settings().iter();
    Config::augment_args(command).mut_args(|arg| match settings.next() {
        Some(Setting { env, help, .. }) => {
            arg.required(false).value_parser(clap::value_parser!(OsString)).help(format!("{help}\n[env: {env}]"))
        }
        None => arg,
    })
}
