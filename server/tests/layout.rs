//! The layout of the server's modules: a folder uses only folders that stand before it, and files form no circle.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

#[path = "common/modules.rs"]
mod modules;

use std::path::Path;

use modules::{Uses, assert_no_circle, place};

/// The folders and files at the top of `server/src`, in the order in which they may use each other.
const ORDER: [&str; 24] = [
    "one_line",
    "shared",
    "metadata",
    "access",
    "config",
    "hop",
    "source",
    "mount",
    "rendition",
    "delivery",
    "sink",
    "replay",
    "mounts",
    "notify",
    "audience",
    "telemetry",
    "http",
    "on_air",
    "reload",
    "service_manager",
    "app",
    "doctor",
    "lib",
    "main",
];

fn uses() -> Uses {
    modules::uses(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn a_folder_uses_only_those_that_stand_before_it() {
    let uses = uses();
    assert!(uses.len() > 40, "only {} files were found", uses.len());
    let arrows = uses.iter().flat_map(|(from, used)| used.iter().map(move |to| (from, to)));
    let back: Vec<_> = arrows.filter(|(from, to)| place(&ORDER, from) < place(&ORDER, to)).collect();
    assert!(back.is_empty(), "arrows that point back: {back:?}");
}

#[test]
fn files_form_no_circle() {
    assert_no_circle(&uses());
}
