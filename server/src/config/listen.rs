//! The addresses at which the server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::notation::{Address, Notation};
use super::value::ValueError;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns whether other machines can reach it.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().to_canonical().is_loopback())
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(ValueError::Form),
            Some(path) => Ok(Self::Unix(path.into())),
            None => Address::read(text).map(Self::Tcp),
        }
    }
}

impl Notation for ListenAddress {
    type Value = Self;
    const TAKES: &str = "ADDR:PORT such as 127.0.0.1:8700, [::1]:8700 or localhost:8700, or unix:PATH";

    fn read(text: &str) -> Result<Self, ValueError> {
        text.parse()
    }
}

/// The permissions of a file, in octal digits: in the configuration file as a text or as a number with these digits.
pub(super) struct FileMode;

struct FileModeVisitor;

impl Visitor<'_> for FileModeVisitor {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FileMode::TAKES)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
        FileMode::read(text.trim()).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, digits: i64) -> Result<u32, E> {
        self.visit_str(&digits.to_string())
    }
}

impl Notation for FileMode {
    type Value = u32;
    const TAKES: &str = "three octal digits such as 660";

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(FileModeVisitor)
    }

    fn read(text: &str) -> Result<u32, ValueError> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        u32::from_str_radix(digits, 8).ok().filter(|mode| digits.len() == 3 && *mode <= 0o777).ok_or(ValueError::Form)
    }
}
