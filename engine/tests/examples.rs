//! Every example runs to its end and prints the expected lines.

#![allow(clippy::unwrap_used, reason = "a test fails on anything unexpected")]

use std::env;
use std::process::Command;

/// Runs an example, which cargo builds for every `cargo test`, and returns its output.
fn run(name: &str) -> String {
    // This test lies in `deps`, the examples beside that.
    let this = env::current_exe().unwrap();
    let examples = this.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    let program = examples.join(name).with_extension(env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is not there; run `cargo build --examples` first", program.display());
    let output = Command::new(program).output().unwrap();
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{printed}{errors}", output.status);
    assert_eq!(errors, "", "{name} writes to stderr");
    assert!(printed.lines().count() <= 30, "{name} prints more than a few lines:\n{printed}");
    printed.into_owned()
}

/// The numbers in a line, in their order.
fn numbers(line: &str) -> Vec<u64> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn many_listeners_get_all_of_it() {
    let printed = run("many_listeners");
    let listeners: Vec<&str> = printed.lines().skip(1).collect();
    assert_eq!(listeners.len(), 4, "{printed}");
    for listener in listeners {
        assert!(listener.ends_with(": 80 blocks, 0 lost, peak 0.25"), "{printed}");
    }
}

#[test]
fn io_reader_loses_nothing() {
    let printed = run("io_reader");
    for name in ["quick", "leisurely", "slow"] {
        assert!(printed.contains(&format!("{name}: 1000000 bytes, the same, 0 lost")), "{printed}");
    }
}

#[test]
fn am_i_lagging_warns_and_counts_its_losses() {
    let printed = run("am_i_lagging");
    let warning = printed.lines().find(|line| line.contains("warning")).expect("it warns");
    assert!(numbers(warning)[1] > 20, "{printed}");
    let missed: u64 = printed.lines().filter(|line| line.contains("missed")).map(|line| numbers(line)[1]).sum();
    let account = numbers(printed.lines().last().unwrap());
    let &[offered, done, lost] = account.as_slice() else { panic!("{printed}") };
    assert_eq!((offered, lost), (400, offered - done));
    // Losses at the very end come with the end, and not with a tick.
    assert!(missed > 0 && missed <= lost, "{printed}");
}

#[test]
fn latest_only_is_never_stale() {
    let printed = run("latest_only");
    let lines: Vec<Vec<u64>> = printed.lines().map(numbers).collect();
    let (offered, done) = (lines[0][0], lines[0][1]);
    let (replaced, stale) = (lines[1][0], lines[1][1]);
    assert_eq!((offered, stale, offered), (500, 0, done + replaced), "{printed}");
    assert!(replaced > 0, "{printed}");
    assert_eq!(lines[2], [500, 500], "{printed}");
}

#[test]
fn backpressure_makes_two_perfect_copies() {
    let printed = run("backpressure");
    for name in ["quick", "slow"] {
        assert!(printed.contains(&format!("{name} copy: the same, 0 blocks lost")), "{printed}");
    }
}

#[test]
fn graceful_stop_ends_all_consumers() {
    let printed = run("graceful_stop");
    for name in ["player", "archive", "slow archive"] {
        let line = printed.lines().find(|line| line.starts_with(&format!("{name}: "))).expect(name);
        let &[got, all, lost] = numbers(line).as_slice() else { panic!("{printed}") };
        assert!(line.contains(": finished, ") && got > 0 && got + lost == all, "{printed}");
    }
    assert!(printed.ends_with("all ended\n"), "{printed}");
}
