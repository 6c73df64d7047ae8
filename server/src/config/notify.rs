//! Targets of notifications, their form, and the level of silence.

use std::fmt;
use std::str::FromStr;

use aircheck_notify::{Form, Target};

use super::notation::Notation;
use super::value::ValueError;

/// The URL of a receiver of notifications. No message repeats it, because it is a secret.
pub(super) struct NotifyUrl;

impl Notation for NotifyUrl {
    type Value = Target;
    const TAKES: &str = "URLs such as https://hooks.example/aircheck";

    fn read(text: &str) -> Result<Target, ValueError> {
        text.parse().map_err(|error: aircheck_notify::TargetError| ValueError::Because(error.to_string()))
    }
}

/// The form of notifications.
pub(super) struct NotifyForm;

impl Notation for NotifyForm {
    type Value = Form;
    const TAKES: &str = "json, ntfy or slack";

    fn read(text: &str) -> Result<Form, ValueError> {
        text.parse().map_err(|_| ValueError::Form)
    }
}

/// A level in dB relative to full scale, such as `-60dBFS`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Level(pub f32);

impl Level {
    /// Below -120 dBFS, nothing that 20 bits hold is left; above -6 dBFS, music is silence.
    const BOUNDS: [f32; 2] = [-120.0, -6.0];
}

impl Notation for Level {
    type Value = Self;
    const TAKES: &str = "a level such as -60dBFS";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for Level {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.strip_suffix("dBFS").or_else(|| text.strip_suffix("dB")).ok_or(ValueError::Form)?;
        let level = number.trim_end().parse().map_err(|_| ValueError::Form)?;
        let [min, max] = Self::BOUNDS;
        if (min..=max).contains(&level) {
            return Ok(Self(level));
        }
        Err(ValueError::Because(format!("must be from {} to {}, not {}", Self(min), Self(max), Self(level))))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}dBFS", self.0)
    }
}
