//! From values to a configuration: each setting is read from the value that was given for it, or from its default.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aircheck_api::MAIN_MOUNT;
use serde::Deserialize as _;
use serde::de::value::MapDeserializer;

use super::check::Broken;
use super::file::unknown;
use super::mount_table::MountTable;
use super::schema::{
    AudienceConfig, CaptureConfig, Config, DeliveryConfig, FileConfig, HttpConfig, MountConfig, NotifyConfig,
    PublishConfig, RecorderConfig, SilenceConfig,
};
use super::settings::{Setting, is_of_mount, settings};
use super::source::SourceSpec;
use super::value::{Value, ValueError};
use crate::access::token::check_name;

impl Default for Config {
    fn default() -> Self {
        Self::read(|_| None).unwrap_or_else(|error| unreachable!("a default {error}"))
    }
}

impl Config {
    /// Reads each setting from the value that `given` has for its key, or else from its default.
    ///
    /// Each group reads the keys that it knows from the same flat table: serde's `flatten` would not pass on the
    /// type that a text is read as. Unknown keys are refused before, where the line is known.
    pub(super) fn read(given: impl Fn(&str) -> Option<Value>) -> Result<Self, ValueError> {
        let values = values(&given);
        let FileConfig { tokens, mounts } = FileConfig::deserialize(MapDeserializer::new(values.clone()))?;
        let main = MountConfig::read(MAIN_MOUNT.to_owned(), &given)?;
        Ok(Self {
            mounts: mounts_of(mounts, main, &given)?,
            http: HttpConfig::deserialize(MapDeserializer::new(values.clone()))?,
            audience: AudienceConfig::deserialize(MapDeserializer::new(values.clone()))?,
            notify: NotifyConfig::deserialize(MapDeserializer::new(values))?,
            tokens,
        })
    }
}

impl MountConfig {
    /// Reads the settings of the mount with this name in the same way.
    pub(super) fn read(name: String, given: impl Fn(&str) -> Option<Value>) -> Result<Self, ValueError> {
        let values = values(&given);
        let written = values.clone().filter(|(key, _)| is_of_mount(key));
        let mut written: BTreeMap<_, _> = written.map(|(key, value)| (key, value.to_string())).collect();
        let capture = CaptureConfig::deserialize(MapDeserializer::new(values.clone()))?;
        let publish = PublishConfig::deserialize(MapDeserializer::new(values.clone()))?;
        // Without user and password.
        written.insert("source", capture.source.to_string());
        if let Some(url) = &publish.publish {
            written.insert("publish", url.to_string());
        }
        let delivery = DeliveryConfig::deserialize(MapDeserializer::new(values.clone()))?;
        // It has passwords.
        written.remove("push");
        Ok(Self {
            name,
            written,
            notify: Vec::new(),
            capture,
            delivery,
            recorder: RecorderConfig::deserialize(MapDeserializer::new(values.clone()))?,
            publish,
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

/// Returns the mounts of these tables, or `main` if there are none. A table has the keys of a source for itself; those that it leaves
/// out have the value that `given` has for all, or their default.
fn mounts_of(
    tables: Vec<MountTable>,
    main: MountConfig,
    given: impl Fn(&str) -> Option<Value>,
) -> Result<Vec<MountConfig>, ValueError> {
    if tables.is_empty() {
        return Ok(vec![main]);
    }
    let mut mounts = Vec::<MountConfig>::new();
    for (index, table) in tables.into_iter().enumerate() {
        let wrong = |sentence: String| ValueError::Because(format!("number {}: {sentence}", index + 1));
        let mount = table.read(&main, &given).map_err(wrong)?;
        mounts.iter().try_for_each(|other| tell_apart(other, &mount)).map_err(wrong)?;
        mounts.push(mount);
    }
    Ok(mounts)
}

impl MountTable {
    fn read(self, main: &MountConfig, given: impl Fn(&str) -> Option<Value>) -> Result<MountConfig, String> {
        let Self { name, keys } = self;
        check_name(&name).map_err(|wrong| format!("`name` {wrong}"))?;
        let is_known = |key: &str| is_of_mount(key) || key == "notify";
        if let Some(key) = keys.keys().find(|key| !is_known(key)) {
            return Err(unknown(key, is_known));
        }
        if !keys.contains_key("source") {
            return Err("`source` is missing".to_owned());
        }
        // One by one, so that the message names the key.
        for (key, value) in &keys {
            let only = |other: &str| (other == key).then(|| Value::Toml(value.clone()));
            MountConfig::read(String::new(), only)
                .and_then(|_| NotifyConfig::deserialize(MapDeserializer::new(self::values(only))))
                .map_err(|wrong| format!("`{key}` {wrong}"))?;
        }
        let value = |key: &str| keys.get(key).cloned().map(Value::Toml);
        let mut mount =
            MountConfig::read(name, |key| value(key).or_else(|| given(key))).map_err(|wrong| wrong.to_string())?;
        if let Some(record) = main.recorder.record.as_ref().filter(|_| !keys.contains_key("record")) {
            // Two recordings in one directory would delete each other's files.
            let record = record.join(&mount.name);
            mount.written.insert("record", record.display().to_string());
            mount.recorder.record = Some(record);
        }
        // Beside those of the server, which are told of every mount.
        let own = |key: &str| (key == "notify").then(|| value(key)).flatten();
        let notify = NotifyConfig::deserialize(MapDeserializer::new(self::values(own)));
        mount.notify = notify.map_err(|wrong| format!("`notify` {wrong}"))?.targets;
        let own = settings().iter().map(|setting| setting.key.as_str()).filter(|key| keys.contains_key(*key)).collect();
        mount.check(&own).map_err(|Broken { key, wrong }| format!("`{key}` {wrong}"))?;
        Ok(mount)
    }
}

/// Fails if two mounts need the same thing that only one can have.
fn tell_apart(one: &MountConfig, other: &MountConfig) -> Result<(), String> {
    if one.name == other.name {
        return Err(format!("its name is that of another mount: `{}`", one.name));
    }
    if one.capture.source == SourceSpec::Stdin && other.capture.source == SourceSpec::Stdin {
        return Err(format!("`source` stdin is read by the mount `{}` already", one.name));
    }
    let directory =
        |mount: &MountConfig| mount.recorder.record.clone().map(|path| path.components().collect::<PathBuf>());
    if let Some(directory) = directory(one).filter(|of_one| directory(other).as_ref() == Some(of_one)) {
        return Err(format!("`record` {} is the directory of the mount `{}` already", directory.display(), one.name));
    }
    if let Some(target) = one.delivery.push.iter().find(|target| other.delivery.push.contains(target)) {
        return Err(format!("`push` {target} is that of the mount `{}` already", one.name));
    }
    Ok(())
}
