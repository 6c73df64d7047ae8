//! Durations and numbers whose bounds are part of their type.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

use aircheck_api::span::{self, Short};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::ValueError;
use super::text::Text;

/// A duration from `MIN` to `MAX` milliseconds, written as `10ms`, `1s` or `2m`.
///
/// ```
/// use aircheck_server::config::Span;
/// use std::time::Duration;
///
/// let block: Span<1, 100> = "10ms".parse().unwrap();
/// assert_eq!(*block, Duration::from_millis(10));
/// assert!("1s".parse::<Span<1, 100>>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<const MIN: u64, const MAX: u64>(Duration);

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// Returns a duration of so many milliseconds.
    ///
    /// # Panics
    ///
    /// If it is out of bounds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        assert!(MIN <= millis && millis <= MAX, "out of bounds");
        Self(Duration::from_millis(millis))
    }
}

impl<const MIN: u64, const MAX: u64> Deref for Span<MIN, MAX> {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Span<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Short(self.0).fmt(f)
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Span<MIN, MAX> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let span = span::parse(text).ok_or(ValueError::Form)?;
        let (min, max) = (Duration::from_millis(MIN), Duration::from_millis(MAX));
        if (min..=max).contains(&span) {
            return Ok(Self(span));
        }
        Err(ValueError::Because(format!("must be from {} to {}, not {}", Short(min), Short(max), Short(span))))
    }
}

impl<const MIN: u64, const MAX: u64> Text for Span<MIN, MAX> {
    fn takes() -> String {
        span::TAKES.to_owned()
    }

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A whole number from `MIN` to `MAX`, in Hz if `HZ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Number<const MIN: u32, const MAX: u32, const HZ: bool = false>(u32);

impl<const MIN: u32, const MAX: u32, const HZ: bool> Number<MIN, MAX, HZ> {
    /// Returns a number.
    ///
    /// # Panics
    ///
    /// If it is out of bounds.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        assert!(MIN <= number && number <= MAX, "out of bounds");
        Self(number)
    }
}

impl<const MIN: u32, const MAX: u32, const HZ: bool> Deref for Number<MIN, MAX, HZ> {
    type Target = u32;

    fn deref(&self) -> &u32 {
        &self.0
    }
}

impl<const MIN: u32, const MAX: u32, const HZ: bool> FromStr for Number<MIN, MAX, HZ> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
        number.map(Self).ok_or(ValueError::Form)
    }
}

impl<'de, const MIN: u32, const MAX: u32, const HZ: bool> Deserialize<'de> for Number<MIN, MAX, HZ> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(NumberVisitor)
    }
}

struct NumberVisitor<const MIN: u32, const MAX: u32, const HZ: bool>;

impl<const MIN: u32, const MAX: u32, const HZ: bool> Visitor<'_> for NumberVisitor<MIN, MAX, HZ> {
    type Value = Number<MIN, MAX, HZ>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number {}from {MIN} to {MAX}", if HZ { "of Hz " } else { "" })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        match u32::try_from(number) {
            Ok(fitting) if (MIN..=MAX).contains(&fitting) => Ok(Number(fitting)),
            _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}
