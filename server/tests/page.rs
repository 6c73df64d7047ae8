//! The page in a real browser: each test here is a script of `page/`, which Node runs with Playwright and Chromium
//! against this program. What they need on top, `make setup-test` installs.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Runs one script. One at a time: what is heard in a browser is to be compared with what is sent, and a small machine
/// can play only so much at once.
fn prove(script: &str) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    assert!(
        directory.join("node_modules/playwright-core").exists(),
        "Playwright is not installed: `make setup-test` or `npm ci` in {}",
        directory.display()
    );
    let mut node = Command::new("node");
    node.arg("--test").args(["--test-reporter", "spec"]).arg(script).current_dir(directory);
    node.env("AIRCHECK_PROGRAM", env!("CARGO_BIN_EXE_aircheck"));
    if std::env::var_os("AIRCHECK_PICTURES").is_none() {
        // `target/tmp`, and beside it what is for people.
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("page");
        println!("pictures are in {}", pictures.display());
        node.env("AIRCHECK_PICTURES", pictures);
    }
    let output = node.output().expect("Node runs: Debian's package is nodejs");
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {}", output.status);
}

#[test]
fn it_plays_the_microphone_shows_who_listens_and_disconnects_them() {
    prove("plays.test.js");
}

#[test]
fn its_buffer_and_clock_keep_their_promises() {
    prove("buffer.test.js");
}

#[test]
fn it_comes_back_to_live_by_itself() {
    prove("returns.test.js");
}

#[test]
fn it_plays_opus_where_that_fits() {
    prove("opus.test.js");
}

#[test]
fn a_frozen_listener_is_seen_at_once() {
    prove("listeners.test.js");
}

#[test]
fn it_says_what_it_plays_and_how() {
    prove("says.test.js");
}

#[test]
fn it_can_be_read_by_everybody_everywhere() {
    prove("looks.test.js");
}
