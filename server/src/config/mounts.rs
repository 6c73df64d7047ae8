//! Mounts, as the tables `[[mount]]` of a file have them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

use super::check::Broken;
use super::file::unknown;
use super::schema::MountConfig;
use super::settings::{is_of_mount, settings};
use super::source::SourceSpec;
use super::value::{Value, ValueError};
use crate::access::token::check_name;

/// One table, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a table with name, source and other keys of a source")]
pub(super) struct MountTable {
    name: String,
    #[serde(flatten)]
    keys: BTreeMap<String, toml::Value>,
}

/// Reads a list of tables.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<MountTable>, D::Error> {
    deserializer.deserialize_seq(ListVisitor)
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<MountTable>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables with name and source, each headed [[mount]]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Self::Value, A::Error> {
        let mut mounts = Vec::new();
        loop {
            let number = mounts.len() + 1;
            match tables.next_element() {
                Ok(Some(table)) => mounts.push(table),
                Ok(None) => return Ok(mounts),
                Err(wrong) => return Err(A::Error::custom(format!("number {number}: {wrong}"))),
            }
        }
    }
}

/// Returns the mounts of these tables, or `main` if there are none. A table has the keys of a source for itself; those that it leaves
/// out have the value that `given` has for all, or their default.
pub(super) fn read(
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
        if let Some(key) = keys.keys().find(|key| !is_of_mount(key)) {
            return Err(unknown(key, is_of_mount));
        }
        if !keys.contains_key("source") {
            return Err("`source` is missing".to_owned());
        }
        // One by one, so that the message names the key.
        for (key, value) in &keys {
            let only = |other: &str| (other == key).then(|| Value::Toml(value.clone()));
            MountConfig::read(String::new(), only).map_err(|wrong| format!("`{key}` {wrong}"))?;
        }
        let value = |key: &str| keys.get(key).cloned().map(Value::Toml);
        let mut mount =
            MountConfig::read(name, |key| value(key).or_else(|| given(key))).map_err(|wrong| wrong.to_string())?;
        if !keys.contains_key("record") {
            // Two recordings in one directory would delete each other's files.
            mount.recorder.record = main.recorder.record.as_ref().map(|record| record.join(&mount.name));
        }
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
    Ok(())
}

/// Refuses a mount as a flag: the command line has no such flag, and the schema must have a parser for it.
pub(super) fn not_a_text(_: &str) -> Result<MountTable, String> {
    Err("only a file can have a mount".to_owned())
}
