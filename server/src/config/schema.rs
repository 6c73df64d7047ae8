//! The table of settings, read off the fields of [`Config`].

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{Args as _, Command};

use super::Config;

/// A setting: its names, its default and its meaning.
#[derive(Debug)]
pub struct Setting {
    /// Its key in a file, such as `max_listeners`.
    pub key: String,
    /// Its environment variable, such as `AIRCHECK_MAX_LISTENERS`.
    pub env: String,
    /// Its flag, such as `--max-listeners`.
    pub flag: String,
    /// What it means, in a sentence without a stop.
    pub help: String,
    pub(super) default: toml::Value,
}

impl Setting {
    /// Returns the default as it is written in a file.
    #[must_use]
    pub fn default_in_toml(&self) -> String {
        self.default.to_string()
    }
}

/// Returns all settings, in the order in which users read them.
#[must_use]
pub fn settings() -> &'static [Setting] {
    static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
        let mut defaults =
            values(Config { capture: Config::default().capture.with_stdin_format(), ..Config::default() });
        let command = Config::augment_args(Command::new("settings"));
        let settings = command.get_arguments().map(|arg| {
            let key = arg.get_id().to_string();
            let flag = format!("--{}", arg.get_long().unwrap_or_default());
            let env = format!("AIRCHECK_{}", flag[2..].replace('-', "_").to_uppercase());
            let default = defaults.remove(&key).unwrap_or_else(|| unreachable!("`{key}` has no default"));
            Setting { key, env, flag, help: arg.get_help().unwrap_or_default().to_string(), default }
        });
        settings.collect()
    });
    &SETTINGS
}

/// Adds a flag for each setting, which takes any text: the flags are read as the other layers are.
pub(super) fn add_flags(command: Command) -> Command {
    let mut settings = settings().iter();
    Config::augment_args(command).mut_args(|arg| {
        let Some(Setting { env, help, default, .. }) = settings.next() else { return arg };
        let note = match show(default) {
            default if default.is_empty() => format!("[env: {env}, with commas]"),
            default => format!("[default: {default}] [env: {env}]"),
        };
        arg.required(false).value_parser(clap::value_parser!(OsString)).help(format!("{help}\n{note}"))
    })
}

/// Returns the value of each key.
pub(super) fn values(config: Config) -> toml::Table {
    toml::Table::try_from(config).unwrap_or_else(|error| unreachable!("settings are TOML: {error}"))
}

/// Shows a value as a flag takes it.
pub(super) fn show(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(show).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
