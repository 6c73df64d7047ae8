//! Settings from a TOML file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize as _;
use toml::de::{DeTable, ValueDeserializer};

use super::error::ConfigError;
use super::settings::{Setting, settings};
use super::value::Value;

/// Largest file, in bytes: the settings take a few KiB, the rest is for comments and long lists. The limit keeps a path
/// such as `/dev/zero` from filling the memory.
const MAX_BYTES: u64 = 1 << 20;
/// Least similarity of a key to an unknown one, for a suggestion: one or two typing mistakes in ten letters.
const MIN_SIMILARITY: f64 = 0.7;

/// Returns the settings in a file, each with its line, in the file's order, so that the first mistake is reported first.
pub(super) fn entries(path: &Path) -> Result<Vec<(&'static Setting, Value, usize)>, ConfigError> {
    let path_text = path.display().to_string();
    let text = read(path).map_err(|error| ConfigError::new(format!("cannot read {path_text}: {error}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = |offset: usize| 1 + text.get(..offset).unwrap_or(text).matches('\n').count();
    let fail = |line: usize, message: String| ConfigError::new(format!("{path_text}:{line}: {message}"));

    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        fail(line(offset), format!("not TOML: {}", error.message().replace('\n', "; ")))
    })?;
    let mut items: Vec<_> = table.into_inner().into_iter().collect();
    items.sort_by_key(|(name, _)| name.span().start);
    let entries = items.into_iter().map(|(name, value)| {
        let line = line(name.span().start);
        let name = name.into_inner();
        let setting = settings()
            .iter()
            .find(|setting| setting.key == name)
            .ok_or_else(|| fail(line, unknown(&name, |_| true)))?;
        // TOML's numbers have no bounds; these have 64 bits.
        let value = toml::Value::deserialize(ValueDeserializer::from(value))
            .map_err(|_| fail(line, format!("`{name}` is too large a number")))?;
        Ok((setting, Value::Toml(value), line))
    });
    entries.collect()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

/// Returns the sentence about an unknown key, with those among which it stands.
pub(super) fn unknown(name: &str, is_known: impl Fn(&str) -> bool) -> String {
    let keys: Vec<_> = settings().iter().map(|setting| setting.key.as_str()).filter(|key| is_known(key)).collect();
    let similar = keys.iter().map(|key| (strsim::normalized_damerau_levenshtein(name, key), key));
    match similar.max_by(|(one, _), (other, _)| one.total_cmp(other)) {
        Some((similarity, key)) if similarity >= MIN_SIMILARITY => {
            format!("unknown key `{name}`; did you mean `{key}`?")
        }
        _ => format!("unknown key `{name}`; there are {}", keys.join(", ")),
    }
}
