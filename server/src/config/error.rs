//! The error of a configuration.

use std::fmt;

use crate::one_line::one_line;

/// A wrong setting, flag or file. The message is one line with the place, the fault and values that work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// Makes one line of a message, whatever a file or an argument brings in.
    pub(super) fn new(line: impl AsRef<str>) -> Self {
        Self(one_line(line.as_ref()))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
