//! Settings from a TOML file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::nearest::nearest;
use super::setting::{Key, Kind, Origin};

/// Most that is read of a file, in bytes. Every setting there is takes less than 1 KiB; the rest is for comments and
/// long lists. It keeps a path such as `/dev/zero` from filling the memory.
const MAX_BYTES: u64 = 1 << 20;

/// A setting as it stands in a file.
pub(super) struct Entry {
    pub(super) key: Key,
    /// The value as text; a list has commas between its words.
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Reads a file. How the values are written is checked, what they are is not.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let path_text = path.display().to_string();
    let text = read(path).map_err(|error| ConfigError::new(format!("cannot read {path_text}: {error}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let place = |offset: usize| {
        let before = text.get(..offset).unwrap_or(text);
        (path_text.clone(), 1 + before.matches('\n').count())
    };
    let fail = |offset: usize, message: String| {
        let (path, line) = place(offset);
        ConfigError::new(format!("{path}:{line}: {message}"))
    };

    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        fail(offset, format!("not TOML: {}", error.message().replace('\n', "; ")))
    })?;
    let mut items: Vec<_> = table.get_ref().iter().collect();
    // In the order of the file, so that the first mistake is told first.
    items.sort_by_key(|(name, _)| name.span().start);
    let mut entries = Vec::new();
    for (name, value) in items {
        let Some(key) = Key::ALL.into_iter().find(|key| key.name() == name.get_ref().as_ref()) else {
            return Err(fail(name.span().start, unknown(name.get_ref())));
        };
        let text = write(key, value.get_ref())
            .map_err(|found| fail(name.span().start, format!("`{}` must be {}", key.name(), found)))?;
        let (path, line) = place(name.span().start);
        entries.push(Entry { key, text, origin: Origin::File { path, line } });
    }
    Ok(entries)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

fn unknown(name: &str) -> String {
    let names = Key::ALL.map(Key::name);
    match nearest(name, names) {
        Some(meant) => format!("unknown key `{name}`; did you mean `{meant}`?"),
        None => format!("unknown key `{name}`; there are {}", names.join(", ")),
    }
}

/// The value as text, or what it must be and is not.
fn write(key: Key, value: &DeValue<'_>) -> Result<String, String> {
    match (key.kind(), value) {
        (Kind::Text, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::Number, DeValue::Integer(integer)) => {
            // One that does not fit is out of bounds, which is told with the text as it stands.
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            Ok(number.map_or_else(|_| integer.to_string(), |number| number.to_string()))
        }
        (Kind::List, DeValue::Array(items)) => {
            let words = items.iter().map(|item| match item.get_ref() {
                DeValue::String(word) => Ok(word.as_ref()),
                other => Err(format!("a list of {}, not of {}", key.takes(), plural(other))),
            });
            Ok(words.collect::<Result<Vec<_>, _>>()?.join(","))
        }
        (Kind::List, other) => Err(format!("a list of {}, not {}", key.takes(), singular(other))),
        (_, other) => Err(format!("{}, not {}", key.takes(), singular(other))),
    }
}

fn singular(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn plural(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "strings",
        DeValue::Integer(_) => "integers",
        DeValue::Float(_) => "floats",
        DeValue::Boolean(_) => "booleans",
        DeValue::Datetime(_) => "dates or times",
        DeValue::Array(_) => "lists",
        DeValue::Table(_) => "tables",
    }
}
