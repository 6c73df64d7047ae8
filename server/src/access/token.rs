//! A token as the server knows it: a name, a hash and scopes. The token itself is printed once, and kept nowhere.

use std::sync::Arc;

use aircheck_api::{TOKEN_BYTES, TokenHash};

use crate::access::scope::Scope;

/// Longest name: as many characters as fit into a column of the table.
const MAX_NAME_CHARS: usize = 32;

/// A token's name, hash and scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its name, for logs and for the row of a listener.
    pub name: String,
    /// The hash of the token.
    pub hash: TokenHash,
    /// All that it permits.
    pub scopes: Vec<Scope>,
}

impl Token {
    /// Returns whether it permits all that `needed` does.
    #[must_use]
    pub fn covers(&self, needed: &Scope) -> bool {
        self.scopes.iter().any(|scope| scope.covers(needed))
    }
}

/// Checks the name of a token.
///
/// # Errors
///
/// The end of a sentence that begins with the name's field.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(is_good) {
        let takes = format!("up to {MAX_NAME_CHARS} letters, digits, hyphens, underscores and dots");
        return Err(format!("must be {takes}, not `{name}`"));
    }
    Ok(())
}

/// Makes a token of the system's random bytes.
///
/// # Errors
///
/// When the system has none.
pub fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(aircheck_api::token(&bytes))
}

/// Returns the token whose hash this is. All hashes are compared, each in constant time, so that the time of an answer
/// says nothing of them.
pub(super) fn find<'t>(tokens: &'t [Arc<Token>], hash: &TokenHash) -> Option<&'t Arc<Token>> {
    tokens.iter().fold(None, |found, token| if token.hash == *hash { Some(token) } else { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "Kitchen-radio_2.1", &"x".repeat(32)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "a b", "küche", "a\nb", &"x".repeat(33)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn two_tokens_are_never_the_same() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert!(one.starts_with("ac_") && one.len() == 46 && one != other);
    }
}
