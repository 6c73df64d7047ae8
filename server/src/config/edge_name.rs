//! The name under which a server reports on its listeners.

use super::notation::Notation;
use super::value::ValueError;

/// Longest name: as that of a token or a mount.
const MAX_NAME_CHARS: usize = 32;

/// A name that is one word of a subject of NATS. Without one, the machine's is used.
pub(super) struct EdgeName;

impl Notation for EdgeName {
    type Value = Option<String>;
    const TAKES: &str = "up to 32 letters, digits, hyphens and underscores";

    fn read(text: &str) -> Result<Option<String>, ValueError> {
        if is_edge_name(text) { Ok(Some(text.to_owned())) } else { Err(ValueError::Form) }
    }
}

/// Returns whether a text is the name of an edge.
#[must_use]
pub fn is_edge_name(text: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&text.len()) && text.chars().all(is_good)
}

/// Returns the name of an edge on a machine of this name: its first word, with hyphens for what no name has.
///
/// ```
/// use aircheck_server::config::{edge_name_of, is_edge_name};
///
/// assert_eq!(edge_name_of("studio-2.radio.example"), "studio-2");
/// assert!(is_edge_name(&edge_name_of("")) && is_edge_name(&edge_name_of("größe")));
/// ```
#[must_use]
pub fn edge_name_of(machine: &str) -> String {
    let word = machine.split('.').next().unwrap_or_default();
    let name: String = word.chars().take(MAX_NAME_CHARS).map(|c| if is_good(c) { c } else { '-' }).collect();
    if name.is_empty() { "edge".to_owned() } else { name }
}

fn is_good(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}
