//! A value as it was written, which serde reads into a setting.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

/// A value that a setting does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The text has another form than the setting takes.
    #[error("has another form than the setting takes")]
    Form,
    /// The end of a sentence that begins with the setting's name.
    #[error("{0}")]
    Because(String),
}

impl Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Because(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, takes: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Signed(_) => "an integer",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            Unexpected::Other(kind) => kind,
            _ => "a string",
        };
        Self::Because(format!("must be {}, not {found}", expectation(takes)))
    }

    fn unknown_field(field: &str, takes: &'static [&'static str]) -> Self {
        Self::Because(format!("unknown key `{field}`; there are {}", takes.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Because(format!("`{field}` is missing"))
    }

    fn invalid_value(found: Unexpected<'_>, takes: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => text.to_owned(),
            Unexpected::Signed(number) => number.to_string(),
            other => other.to_string(),
        };
        Self::Because(format!("must be {}, not `{found}`", expectation(takes)))
    }
}

/// Returns the values that a setting takes, in words. serde's own visitors expect "a boolean" and "a sequence".
fn expectation(takes: &dyn Expected) -> String {
    takes.to_string().replace("a boolean", "true or false").replace("a sequence", "a list")
}

/// A value as it was given, which serde reads into a setting.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A value in a file, which must have the setting's type.
    Toml(toml::Value),
    /// A text in a flag, a variable or a default. It is read as the setting's type: a number, a switch, or a list with commas
    /// between its words.
    Text(String),
}

/// Shows a value as a flag takes it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Toml(toml::Value::String(text)) => f.write_str(text),
            Self::Toml(toml::Value::Array(items)) => {
                let words: Vec<_> = items.iter().map(|item| Self::Toml(item.clone()).to_string()).collect();
                f.write_str(&words.join(", "))
            }
            Self::Toml(value) => value.fmt(f),
        }
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let kind = match self {
            Self::Text(text) | Self::Toml(toml::Value::String(text)) => return visitor.visit_str(&text),
            Self::Toml(toml::Value::Integer(number)) => return visitor.visit_i64(number),
            Self::Toml(toml::Value::Boolean(is_on)) => return visitor.visit_bool(is_on),
            Self::Toml(toml::Value::Array(items)) => {
                return visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Self::Toml)));
            }
            Self::Toml(toml::Value::Table(table)) => {
                return visitor
                    .visit_map(MapDeserializer::new(table.into_iter().map(|(key, item)| (key, Self::Toml(item)))));
            }
            Self::Toml(toml::Value::Float(_)) => "a float",
            Self::Toml(toml::Value::Datetime(_)) => "a date or time",
        };
        Err(ValueError::invalid_type(Unexpected::Other(kind), &visitor))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let Self::Text(text) = self else { return self.deserialize_any(visitor) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => visitor.visit_bool(true),
            "false" | "no" | "off" | "0" => visitor.visit_bool(false),
            _ => Err(ValueError::invalid_value(Unexpected::Str(&text), &visitor)),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let Self::Text(text) = self else { return self.deserialize_any(visitor) };
        match text.trim().parse() {
            Ok(number) => visitor.visit_i64(number),
            Err(_) => Err(ValueError::invalid_value(Unexpected::Str(&text), &visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let Self::Text(text) = self else { return self.deserialize_any(visitor) };
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        visitor.visit_seq(SeqDeserializer::new(words.map(|word| Self::Text(word.to_owned()))))
    }

    /// Skips a key of another group.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier
    }
}

impl IntoDeserializer<'_, ValueError> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
