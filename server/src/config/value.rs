//! A value as it was written, which serde reads into a setting.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

/// What a switch takes, for messages.
const SWITCH: &str = "true or false";

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
            Unexpected::Signed(_) | Unexpected::Unsigned(_) => "an integer",
            Unexpected::Float(_) => "a float",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            Unexpected::Other(kind) => kind,
            _ => "a string",
        };
        // serde's own visitor expects "a boolean".
        let takes = takes.to_string().replace("a boolean", SWITCH);
        Self::Because(format!("must be {takes}, not {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, takes: &dyn Expected) -> Self {
        Self::Because(match found {
            Unexpected::Str(text) => format!("must be {takes}, not `{text}`"),
            Unexpected::Signed(number) => format!("must be {takes}, not `{number}`"),
            Unexpected::Unsigned(number) => format!("must be {takes}, not `{number}`"),
            found => format!("must be {takes}, not {found}"),
        })
    }
}

/// A value of a setting, not read yet.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A flag's or a variable's text, which becomes what the setting takes: a number, a switch, a list or itself.
    Text(String),
    /// A value in a file, which must have the setting's type.
    Toml(toml::Value),
}

impl<'de> Deserializer<'de> for Value {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Text(text) | Self::Toml(toml::Value::String(text)) => visitor.visit_str(&text),
            Self::Toml(toml::Value::Integer(number)) => visitor.visit_i64(number),
            Self::Toml(toml::Value::Float(number)) => visitor.visit_f64(number),
            Self::Toml(toml::Value::Boolean(is_on)) => visitor.visit_bool(is_on),
            Self::Toml(toml::Value::Array(items)) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Self::Toml)))
            }
            Self::Toml(toml::Value::Table(table)) => {
                visitor.visit_map(MapDeserializer::new(table.into_iter().map(|(key, value)| (key, Self::Toml(value)))))
            }
            Self::Toml(toml::Value::Datetime(_)) => {
                Err(ValueError::invalid_type(Unexpected::Other("a date or time"), &visitor))
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => visitor.visit_bool(true),
                "false" | "no" | "off" | "0" => visitor.visit_bool(false),
                _ => Err(ValueError::invalid_value(Unexpected::Str(&text), &SWITCH)),
            },
            toml => toml.deserialize_any(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Text(text) => match text.trim().parse() {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(ValueError::invalid_value(Unexpected::Str(&text), &visitor)),
            },
            toml => toml.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Self::Text(text) => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                visitor.visit_seq(SeqDeserializer::new(words.map(|word| Self::Text(word.to_owned()))))
            }
            toml => toml.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    /// Skips a key of another group.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct map struct enum identifier
    }
}

impl IntoDeserializer<'_, ValueError> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
