//! Whole numbers within bounds.

use std::fmt;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A whole number from `MIN` to `MAX`, in Hz if `HZ`.
pub(super) struct Number<const MIN: u32, const MAX: u32, const HZ: bool = false>;

impl<const MIN: u32, const MAX: u32, const HZ: bool> Number<MIN, MAX, HZ> {
    /// Reads a field of a serde struct.
    pub(super) fn deserialize<'de, T: TryFrom<u32>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let number = deserializer.deserialize_i64(Self)?;
        T::try_from(number).map_err(|_| D::Error::invalid_value(Unexpected::Signed(number.into()), &Self))
    }

    /// Reads a field that is `None` where the key is missing.
    pub(super) fn some<'de, T: TryFrom<u32>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Self::deserialize(deserializer).map(Some)
    }
}

impl<const MIN: u32, const MAX: u32, const HZ: bool> Visitor<'_> for Number<MIN, MAX, HZ> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number {}from {MIN} to {MAX}", if HZ { "of Hz " } else { "" })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u32, E> {
        match u32::try_from(number) {
            Ok(fitting) if (MIN..=MAX).contains(&fitting) => Ok(fitting),
            _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}
