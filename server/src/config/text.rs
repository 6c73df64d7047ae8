//! Settings that are written as text, in the file, the environment and flags alike.
//!
//! For use as `#[serde(with = "text")]`.

use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use aircheck_engine::Overflow;
use aircheck_engine::source::PcmEncoding;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::ser::Serializer;

use super::ValueError;

/// A type that a setting's text is read as.
pub(super) trait Text: Sized {
    /// Returns what the setting takes, for messages: `must be {takes}`.
    fn takes() -> String;

    /// Reads a text without white space around it.
    fn read(text: &str) -> Result<Self, ValueError>;

    /// Shows the value as [`read`](Self::read) takes it.
    fn show(&self) -> String;
}

/// Names other than `localhost` are refused, because one name may be several addresses.
impl Text for SocketAddr {
    fn takes() -> String {
        "ADDR:PORT such as 127.0.0.1:8700, [::1]:8700 or localhost:8700".to_owned()
    }

    fn read(text: &str) -> Result<Self, ValueError> {
        let address = match text.strip_prefix("localhost:") {
            Some(port) => port.parse().map(|port: u16| Self::from((Ipv4Addr::LOCALHOST, port))).ok(),
            None => text.parse().ok(),
        };
        address.ok_or(ValueError::Form)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// [`Overflow::Block`] is refused, because live sound does not wait for a listener.
impl Text for Overflow {
    fn takes() -> String {
        "skip-to-live, drop-newest, latest or disconnect".to_owned()
    }

    fn read(text: &str) -> Result<Self, ValueError> {
        match text.parse() {
            Ok(Self::Block) => Err(ValueError::Because(format!(
                "must be {}, not `block`: live sound does not wait for a listener",
                Self::takes()
            ))),
            policy => policy.map_err(|_| ValueError::Form),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Text for PcmEncoding {
    fn takes() -> String {
        "s16le, s24le or f32le".to_owned()
    }

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|_| ValueError::Form)
    }

    fn show(&self) -> String {
        self.label().to_owned()
    }
}

/// A directory, which need not be there yet.
impl Text for PathBuf {
    fn takes() -> String {
        "a directory".to_owned()
    }

    fn read(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() { Err(ValueError::Form) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// A setting that can be `off`.
impl<T: Text> Text for Option<T> {
    fn takes() -> String {
        format!("{}, or off", T::takes())
    }

    fn read(text: &str) -> Result<Self, ValueError> {
        if text.eq_ignore_ascii_case("off") { Ok(None) } else { T::read(text).map(Some) }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "off".to_owned(), T::show)
    }
}

/// Reads a text.
pub(super) fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

/// Writes a text.
pub(super) fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.show())
}

/// Reads a list of texts: an array in the file, words with commas between them elsewhere.
pub(super) fn list<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_seq(ListVisitor::<T>(PhantomData))
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Text> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::takes())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let text = text.trim();
        T::read(text).map_err(|error| match error {
            ValueError::Form => E::invalid_value(Unexpected::Str(text), &self),
            ValueError::Because(sentence) => E::custom(sentence),
        })
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Text> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", T::takes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        std::iter::from_fn(|| items.next_element_seed(Item::<T>(PhantomData)).transpose()).collect()
    }
}

/// Reads one text of a list.
struct Item<T>(PhantomData<T>);

impl<'de, T: Text> serde::de::DeserializeSeed<'de> for Item<T> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserialize::<T, D>(deserializer).map(|item| item.show())
    }
}
