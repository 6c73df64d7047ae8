//! All findings, and the verdict on them.

use serde_json::json;

use super::finding::{Finding, Level};

/// The findings of all checks.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Finding>);

impl Report {
    /// Adds the findings of a check.
    pub(super) fn add(&mut self, findings: Vec<Finding>) {
        self.0.extend(findings);
    }

    /// Returns whether the service can go on the air: there is no fault.
    pub(super) fn can_go_on_the_air(&self) -> bool {
        self.count(Level::Fault) == 0
    }

    /// Returns the verdict in a sentence, with a line before it.
    pub(super) fn verdict(&self) -> String {
        let number = |level, word: &str| match self.count(level) {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        };
        let notes = number(Level::Note, "note");
        match (self.count(Level::Fault), self.count(Level::Note)) {
            (0, 0) => "\nIt can go on the air.\n".to_owned(),
            (0, _) => format!("\nIt can go on the air; {notes} on what could be better.\n"),
            _ => format!("\nIt cannot go on the air: {}, {notes}.\n", number(Level::Fault, "fault")),
        }
    }

    /// Returns all findings as a JSON document.
    pub(super) fn json(&self) -> String {
        let findings: Vec<_> = self.0.iter().map(Finding::json).collect();
        format!("{:#}\n", json!({ "can_go_on_the_air": self.can_go_on_the_air(), "findings": findings }))
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level() == level).count()
    }
}
