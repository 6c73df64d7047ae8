//! The table of settings, read off the fields of [`Config`].

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{Arg, Args as _, Command};

use super::schema::{
    AudienceConfig, CaptureConfig, DeliveryConfig, FileConfig, HttpConfig, NotifyConfig, PublishConfig, RecorderConfig,
    SilenceConfig,
};

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
    let command = AudienceConfig::augment_args(PublishConfig::augment_args(command));
    let command = HttpConfig::augment_args(command);
    SilenceConfig::augment_args(NotifyConfig::augment_args(command))
}

/// Returns whether a mount may have this setting for itself.
pub(super) fn is_of_mount(key: &str) -> bool {
    static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let command = PublishConfig::augment_args(CaptureConfig::augment_args(Command::new("mount")));
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
