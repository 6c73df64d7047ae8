//! The settings: whether they can be read, and where they come from.

use std::ffi::OsString;

use super::finding::{Area, Finding};
use crate::config::{Given, settings};

/// Least similarity of an unknown variable to a known one, for a suggestion.
const MIN_SIMILARITY: f64 = 0.8;

/// Checks the settings, and looks for mistyped variables among those of the environment.
pub(super) fn check(given: &Given, variables: impl Iterator<Item = OsString>) -> Vec<Finding> {
    let mut findings = vec![match &given.config {
        Ok(config) => {
            let sources: Vec<_> = config.mounts.iter().map(|mount| mount.capture.source.to_string()).collect();
            Finding::ok(Area::Settings, format!("source {}; {}", sources.join(", "), origin(&given.places)))
        }
        Err(error) => Finding::fault(
            Area::Settings,
            error.to_string(),
            "correct it; what follows is about the default settings until then",
        )
        .with_command("aircheck --help"),
    }];
    findings.extend(variables.filter_map(|name| mistyped(name.to_str()?)));
    findings
}

/// Returns in words where settings were given.
fn origin(places: &[String]) -> String {
    let (lines, others): (Vec<_>, Vec<_>) = places.iter().partition(|place| place.starts_with("line "));
    let mut parts = Vec::new();
    match lines.len() {
        0 => {}
        1 => parts.push("1 line of the file".to_owned()),
        count => parts.push(format!("{count} lines of the file")),
    }
    parts.extend(others.into_iter().cloned());
    if parts.is_empty() {
        "every setting is the default".to_owned()
    } else {
        format!("settings from {}", parts.join(", "))
    }
}

/// A variable of `aircheckctl`, which looks like `AIRCHECK_LISTEN`.
const OF_THE_TOOLS: &str = "AIRCHECK_TOKEN";

/// Returns a note about a variable that looks like a setting and is none.
fn mistyped(name: &str) -> Option<Finding> {
    let is_setting = settings().iter().any(|setting| setting.env == name);
    if !name.starts_with("AIRCHECK_") || is_setting || name == OF_THE_TOOLS {
        return None;
    }
    let known = settings().iter().map(|setting| setting.env.as_str());
    let similar = known.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let (_, meant) =
        similar.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY).max_by(|a, b| a.0.total_cmp(&b.0))?;
    let text = format!("the variable {name} is no setting, and is ignored");
    Some(Finding::note(Area::Settings, text, format!("did you mean {meant}?")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_mistyped_variable_is_noted_and_a_foreign_one_is_not() {
        let given = Given { config: Ok(Config::default()), places: Vec::new(), file: None };
        let check = |name: &str| check(&given, std::iter::once(OsString::from(name)));
        assert_eq!(check("AIRCHECK_SORCE").len(), 2);
        assert!(check("AIRCHECK_SORCE")[1].text(false).contains("did you mean AIRCHECK_SOURCE?"));
        for name in ["AIRCHECK_SOURCE", "AIRCHECK_CONFIG", "AIRCHECK_PROGRAM", "AIRCHECK_TOKEN", "PATH"] {
            assert_eq!(check(name).len(), 1, "{name}");
        }
    }

    #[test]
    fn the_places_of_settings_are_told_in_words() {
        let places = |places: &[&str]| origin(&places.iter().map(|&place| place.to_owned()).collect::<Vec<_>>());
        assert_eq!(places(&[]), "every setting is the default");
        assert_eq!(places(&["line 1", "AIRCHECK_BLOCK"]), "settings from 1 line of the file, AIRCHECK_BLOCK");
        assert_eq!(places(&["line 1", "line 3"]), "settings from 2 lines of the file");
    }
}
