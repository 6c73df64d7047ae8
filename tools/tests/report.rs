//! `aircheckctl report` on a log, on two, and on files that are not logs.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use aircheck_tools::report::log::{Interval, write};
use hdrhistogram::Histogram;

fn report(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_aircheckctl")).arg("report").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A log of two things: 1 to 1000 us times `factor`, and twice that.
fn log(path: &Path, factor: u64) -> String {
    let histogram = |factor: u64| {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000).for_each(|n| histogram.record(n * 1000 * factor).unwrap());
        histogram
    };
    let (ring, queue) = (histogram(factor), histogram(2 * factor));
    let second = Duration::from_secs(1);
    let interval = |tag, histogram| Interval { tag, start: Duration::ZERO, span: second, histogram };
    let intervals = [interval("ring", &ring), interval("queue", &queue)];
    write(path, &["a machine".to_owned()], SystemTime::now(), &intervals).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn one_log_is_shown_and_two_are_compared_and_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (before, after) = (log(&at("before.hlog"), 1), log(&at("after.hlog"), 3));

    let (code, out, _) = report(&[&before]);
    assert_eq!(code, 0);
    assert!(out.contains("a machine") && out.contains("500 us") && out.contains("p99.9"), "{out}");

    let (svg, html) = (at("both.svg"), at("both.html"));
    let (code, out, err) =
        report(&[&before, &after, "--only", "ring", "--svg", svg.to_str().unwrap(), "--html", html.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("3.00 x") && !out.contains("queue"), "{out}");
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.contains("ring (before)") && svg.contains("ring (after)"), "{svg}");
    assert!(std::fs::read_to_string(html).unwrap().contains("<td>1000</td>"));
}

#[test]
fn a_failure_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let good = log(&directory.path().join("good.hlog"), 1);
    let text = std::fs::read_to_string(&good).unwrap();
    let bad = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cut = bad("cut.hlog", &text[..text.len() - 9]);
    let other = bad("other.hlog", &text.replace("version 1.3", "version 9.0"));
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "FILE.hlog"),
        (&["/nonexistent.hlog"], 1, "No such file"),
        (&[&bad("empty.hlog", "")], 1, "empty"),
        (&[&cut], 1, "cut off"),
        (&[&other], 1, "version 9.0"),
        (&[&good, "--only", "ear"], 1, "ring, queue"),
        (&[&good, "--svg", "/nonexistent/a.svg"], 1, "cannot write"),
    ];
    for (arguments, status, word) in cases {
        let (code, _, err) = report(arguments);
        assert_eq!(code, *status, "{arguments:?}: {err}");
        assert!(err.starts_with("aircheckctl: ") && err.contains(word) && err.lines().count() == 1, "{err}");
    }
}
