//! The scopes of a token.

use std::fmt;
use std::str::FromStr;

/// The scopes, for messages.
pub const TAKES: &str = "listen, listen:MOUNT, stats or admin";

/// What a token permits. No scope contains another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Listening to all mounts, or to the one of this name.
    Listen(Option<String>),
    /// Reading the status, the table of listeners with their names and addresses, events and metrics.
    Stats,
    /// Ending listeners.
    Admin,
}

impl Scope {
    /// Returns whether this scope permits all that `needed` does.
    #[must_use]
    pub fn covers(&self, needed: &Self) -> bool {
        matches!((self, needed), (Self::Listen(None), Self::Listen(_))) || self == needed
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(None) => f.write_str("listen"),
            Self::Listen(Some(mount)) => write!(f, "listen:{mount}"),
            Self::Stats => f.write_str("stats"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "listen" => Ok(Self::Listen(None)),
            None if text == "stats" => Ok(Self::Stats),
            None if text == "admin" => Ok(Self::Admin),
            Some(("listen", mount)) if !mount.is_empty() => Ok(Self::Listen(Some(mount.to_owned()))),
            _ => Err(format!("must be {TAKES}, not `{text}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_back_and_cover_what_they_permit() {
        let scopes: Vec<Scope> =
            ["listen", "listen:main", "stats", "admin"].into_iter().map(|text| text.parse().unwrap()).collect();
        let covered: Vec<Vec<String>> = scopes
            .iter()
            .map(|scope| scopes.iter().filter(|needed| scope.covers(needed)).map(Scope::to_string).collect())
            .collect();
        assert_eq!(covered, [vec!["listen", "listen:main"], vec!["listen:main"], vec!["stats"], vec!["admin"]]);
        for wrong in ["", "Listen", "listen:", "stats:main", "root", "listen,stats"] {
            assert!(wrong.parse::<Scope>().unwrap_err().ends_with(&format!("not `{wrong}`")));
        }
    }
}
