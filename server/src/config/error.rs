//! The error of a configuration.

use std::fmt;

/// A wrong setting, flag or file. The message is one line with the place, the fault and values that work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// Escapes line breaks and other control characters, which a file or an argument may bring in.
    pub(super) fn new(line: impl AsRef<str>) -> Self {
        let mut clean = String::new();
        for c in line.as_ref().chars() {
            if c.is_control() { clean.extend(c.escape_default()) } else { clean.push(c) }
        }
        Self(clean)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
