//! The ways to write a setting as text, in the file, the environment and flags alike.
//!
//! A notation stands in a field's `#[serde(deserialize_with = "…")]`, and the field has the plain type of its value.

use std::fmt;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use aircheck_api::span::{self, Short};
use aircheck_engine::OverflowPolicy;
use aircheck_engine::source::PcmEncoding;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Unexpected, Visitor};

use super::value::ValueError;

/// A way to write a value as text.
pub(super) trait Notation {
    /// The value that is written.
    type Value;
    /// The texts that are read, for messages: `must be {TAKES}`.
    const TAKES: &str;
    /// Whether `off` is read, too.
    const CAN_BE_OFF: bool = false;

    /// Reads a text without white space around it.
    fn read(text: &str) -> Result<Self::Value, ValueError>;

    /// Reads a field of a serde struct.
    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(TextVisitor::<Self>(PhantomData))
    }

    /// Reads a list: an array in the file, words with commas between them elsewhere.
    fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Self::Value>, D::Error> {
        deserializer.deserialize_seq(ListVisitor::<Self>(PhantomData))
    }

    /// Reads a list, or a single text.
    fn one_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Self::Value>, D::Error> {
        deserializer.deserialize_seq(OneOrListVisitor::<Self>(PhantomData))
    }
}

/// An address and its port. Names other than `localhost` are refused, because one name may be several addresses.
pub(super) struct Address;

impl Notation for Address {
    type Value = SocketAddr;
    const TAKES: &str = "ADDR:PORT such as 127.0.0.1:8700, [::1]:8700 or localhost:8700";

    fn read(text: &str) -> Result<SocketAddr, ValueError> {
        let address = match text.strip_prefix("localhost:") {
            Some(port) => port.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok(),
            None => text.parse().ok(),
        };
        address.ok_or(ValueError::Form)
    }
}

/// An overflow policy other than [`OverflowPolicy::Block`], because live sound does not wait for a listener.
pub(super) struct Policy;

impl Notation for Policy {
    type Value = OverflowPolicy;
    const TAKES: &str = "skip-to-live, drop-newest, latest or disconnect";

    fn read(text: &str) -> Result<OverflowPolicy, ValueError> {
        match text.parse() {
            Ok(OverflowPolicy::Block) => {
                let takes = Self::TAKES;
                Err(ValueError::Because(format!(
                    "must be {takes}, not `block`: live sound does not wait for a listener"
                )))
            }
            policy => policy.map_err(|_| ValueError::Form),
        }
    }
}

/// An encoding of samples.
pub(super) struct Encoding;

impl Notation for Encoding {
    type Value = PcmEncoding;
    const TAKES: &str = "s16le, s24le or f32le";

    fn read(text: &str) -> Result<PcmEncoding, ValueError> {
        text.parse().map_err(|_| ValueError::Form)
    }
}

/// A directory, which need not be there yet.
pub(super) struct Directory;

impl Notation for Directory {
    type Value = PathBuf;
    const TAKES: &str = "a directory";

    fn read(text: &str) -> Result<PathBuf, ValueError> {
        if text.is_empty() { Err(ValueError::Form) } else { Ok(text.into()) }
    }
}

/// A file's path.
pub(super) struct FileName;

impl Notation for FileName {
    type Value = PathBuf;
    const TAKES: &str = "a file";

    fn read(text: &str) -> Result<PathBuf, ValueError> {
        if text.is_empty() { Err(ValueError::Form) } else { Ok(text.into()) }
    }
}

/// A duration from `MIN` to `MAX` milliseconds, such as `10ms`.
pub(super) struct Span<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
}

impl<const MIN: u64, const MAX: u64> Notation for Span<MIN, MAX> {
    type Value = Duration;
    const TAKES: &str = span::TAKES;

    fn read(text: &str) -> Result<Duration, ValueError> {
        let span = span::parse(text).ok_or(ValueError::Form)?;
        if Self::BOUNDS.contains(&span) {
            return Ok(span);
        }
        let (min, max) = (Short(*Self::BOUNDS.start()), Short(*Self::BOUNDS.end()));
        Err(ValueError::Because(format!("must be from {min} to {max}, not {}", Short(span))))
    }
}

/// A setting that can be `off`.
pub(super) struct OrOff<N>(PhantomData<N>);

impl<N: Notation> Notation for OrOff<N> {
    type Value = Option<N::Value>;
    const TAKES: &str = N::TAKES;
    const CAN_BE_OFF: bool = true;

    fn read(text: &str) -> Result<Self::Value, ValueError> {
        if text.eq_ignore_ascii_case("off") { Ok(None) } else { N::read(text).map(Some) }
    }
}

struct TextVisitor<N: ?Sized>(PhantomData<N>);

impl<N: Notation + ?Sized> Visitor<'_> for TextVisitor<N> {
    type Value = N::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", N::TAKES, if N::CAN_BE_OFF { ", or off" } else { "" })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<N::Value, E> {
        let text = text.trim();
        N::read(text).map_err(|error| match error {
            ValueError::Form => E::invalid_value(Unexpected::Str(text), &self),
            ValueError::Because(sentence) => E::custom(sentence),
        })
    }
}

struct ListVisitor<N: ?Sized>(PhantomData<N>);

impl<'de, N: Notation + ?Sized> Visitor<'de> for ListVisitor<N> {
    type Value = Vec<N::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", N::TAKES)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| items.next_element_seed(TextVisitor::<N>(PhantomData)).transpose()).collect()
    }
}

struct OneOrListVisitor<N: ?Sized>(PhantomData<N>);

impl<'de, N: Notation + ?Sized> Visitor<'de> for OneOrListVisitor<N> {
    type Value = Vec<N::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TextVisitor::<N>(PhantomData).expecting(f)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        TextVisitor::<N>(PhantomData).visit_str(text).map(|value| vec![value])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        ListVisitor::<N>(PhantomData).visit_seq(items)
    }
}

impl<'de, N: Notation + ?Sized> DeserializeSeed<'de> for TextVisitor<N> {
    type Value = N::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<N::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}
