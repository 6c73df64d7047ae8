//! Whose clock the sound on stdin follows.

use std::fmt;
use std::str::FromStr;

use super::notation::Notation;
use super::value::ValueError;

/// Whose clock the sound on stdin follows.
///
/// ```
/// use aircheck_server::config::Pace;
///
/// assert_eq!("clock".parse(), Ok(Pace::Clock));
/// assert_eq!(Pace::default().to_string(), "source");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// The writer's: samples stay as they are. Now and then, some come a little earlier or later than the ones before.
    #[default]
    Source,
    /// This machine's: the sound is resampled by up to 0.5 %, so that it comes evenly, whatever the writer's clock.
    Clock,
}

impl Pace {
    /// All paces.
    pub const ALL: [Self; 2] = [Self::Source, Self::Clock];

    /// Returns the pace as users write it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Clock => "clock",
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Notation for Pace {
    type Value = Self;
    const TAKES: &str = "source or clock";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl FromStr for Pace {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        Self::ALL.into_iter().find(|pace| pace.label() == word).ok_or(ValueError::Form)
    }
}
