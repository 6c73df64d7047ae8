//! The layout of the modules: each uses only those that stand before it in the order, and files form no circle.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

#[path = "../../server/tests/common/modules.rs"]
mod modules;

use std::path::Path;

use modules::{Uses, assert_no_circle, place, top};

/// The folders and files at the top of `src`, in the order in which they may use each other.
const ORDER: [&str; 20] = [
    "units",
    "table",
    "sanitize",
    "args",
    "failure",
    "signals",
    "status_line",
    "client",
    "check",
    "play",
    "report",
    "export",
    "listen",
    "load",
    "notify_test",
    "sign_url",
    "top",
    "cli",
    "lib",
    "main",
];
/// The commands, which do not use each other.
const COMMANDS: [&str; 6] = ["export", "listen", "load", "notify_test", "sign_url", "top"];

fn uses() -> Uses {
    modules::uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn a_module_uses_only_those_that_stand_before_it() {
    let uses = uses();
    assert!(uses.len() > 60, "only {} files were found", uses.len());
    let arrows = uses.iter().flat_map(|(from, used)| used.iter().map(move |to| (from, to)));
    let are_commands = |from: &str, to: &str| COMMANDS.contains(&top(from)) && COMMANDS.contains(&top(to));
    let is_wrong = |from: &str, to: &str| {
        place(&ORDER, from) < place(&ORDER, to) || (top(from) != top(to) && are_commands(from, to))
    };
    let wrong: Vec<_> = arrows.filter(|(from, to)| is_wrong(from, to)).collect();
    assert!(wrong.is_empty(), "arrows that point back, or from one command to another: {wrong:?}");
}

#[test]
fn files_form_no_circle() {
    assert_no_circle(&uses());
}
