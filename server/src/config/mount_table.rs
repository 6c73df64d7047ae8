//! Mounts, as the tables `[[mount]]` of a file have them.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// One table, as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(expecting = "a table with name, source and other keys of a source")]
pub(super) struct MountTable {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) keys: BTreeMap<String, toml::Value>,
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

/// Refuses a mount as a flag: the command line has no such flag, and the schema must have a parser for it.
pub(super) fn not_a_text(_: &str) -> Result<MountTable, String> {
    Err("only a file can have a mount".to_owned())
}
