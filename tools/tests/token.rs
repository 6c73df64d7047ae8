//! Every command that talks to a server, with a token, and `sign-url`.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

#[path = "aircheck/mod.rs"]
mod aircheck;

use std::process::{Command, Output, Stdio};

use aircheck::Server;
use aircheck_api::TokenHash;
use tempfile::TempDir;

const BOSS: &str = "ac_boss-token";
const KITCHEN: &str = "ac_kitchen-token";

/// Starts a server with two tokens.
fn guarded() -> (Server, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("aircheck.toml");
    let table = |name, token, scopes| {
        format!("[[token]]\nname = '{name}'\nhash = '{}'\nscopes = [{scopes}]\n", TokenHash::of(token))
    };
    let text = table("boss", BOSS, "'listen', 'stats', 'admin'") + &table("kitchen", KITCHEN, "'listen'");
    std::fs::write(&file, text).unwrap();
    let takes = directory.path().join("takes");
    let flags = ["--source", "tone:440", "--config", file.to_str().unwrap(), "--record", takes.to_str().unwrap()];
    (Server::start(&flags), directory)
}

/// Runs `aircheckctl` with the variable of the token, or without it.
fn run(variable: Option<&str>, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aircheckctl"));
    command.env_remove("AIRCHECK_TOKEN").args(arguments).stdin(Stdio::null());
    if let Some(variable) = variable {
        command.env("AIRCHECK_TOKEN", variable);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn every_command_takes_a_token() {
    let (server, directory) = guarded();
    let at = server.authority.as_str();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{BOSS}\n")).unwrap();
    let (file, wav) = (file.to_str().unwrap(), directory.path().join("part.wav"));
    let commands: [&[&str]; 5] = [
        &["listen", at, "--for", "200ms"],
        &["load", at, "--listeners", "2", "--for", "1s"],
        &["load", at, "--listeners", "2", "--for", "1s", "--format", "ws"],
        &["top", at, "--once"],
        &["export", at, "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T00:00:01Z", "-o", wav.to_str().unwrap()],
    ];
    for command in commands {
        let ways = [
            (None, &[][..], false),
            (Some(BOSS), &[], true),
            (Some("ac_wrong"), &[], false),
            (Some("ac_wrong"), &["--token-file", file], true),
            (None, &["--token", BOSS], true),
        ];
        // All ways lead to the same request.
        let ways = if command[0] == "top" { &ways[..] } else { &ways[..2] };
        for &(variable, more, is_good) in ways {
            let (code, out, err) = run(variable, &[command, more].concat());
            let said = format!("{out}{err}");
            // What it says to a right token about a time at which nothing was recorded.
            let is_granted = code == 0 || said.contains("the recording begins at");
            assert_eq!(is_granted, is_good, "{command:?} {variable:?} {more:?}: {code}: {said}");
            assert!(is_good || said.contains("token"), "{command:?} {variable:?}: {said}");
            assert!(!said.contains("ac_"), "{said}");
        }
    }
    let (code, _, err) = run(Some(KITCHEN), &["top", at, "--once"]);
    assert!(code == 1 && err.contains("the token `kitchen` lacks the scope `stats`"), "{err}");
    let (code, _, err) = run(None, &["top", at, "--once", "--token-file", "/nonexistent/token"]);
    assert!(code == 2 && err.contains("cannot read /nonexistent/token"), "{err}");
    let (code, _, err) = run(None, &["top", at, "--once", "--token", "a b"]);
    assert!(code == 2 && err.contains("a token is one word") && !err.contains("a b"), "{err}");
    let (code, _, err) = run(None, &["listen", &format!("http://x:{BOSS}@{at}/")]);
    assert!(code == 2 && err.contains("--token-file"), "{err}");
}

#[test]
fn a_signed_url_is_opened_by_curl_until_it_expires() {
    let (server, _directory) = guarded();
    let status = |url: &str| {
        let arguments = ["--silent", "--head", "--output", "/dev/null", "--write-out", "%{http_code}", url];
        String::from_utf8(Command::new("curl").args(arguments).output().unwrap().stdout).unwrap()
    };
    let url = server.url("stream.opus?name=tv");
    assert_eq!(status(&url), "401");
    let (code, signed, err) = run(Some(KITCHEN), &["sign-url", &url, "--for", "1m"]);
    assert_eq!(code, 0, "{err}");
    let signed = signed.trim_end();
    assert!(signed.starts_with(&format!("{url}&expires=")) && !signed.contains("ac_"), "{signed}");
    assert_eq!(status(signed), "200");
    assert_eq!(status(&signed.replace("name=tv", "name=radio")), "403");
    let (_, soon, _) = run(Some(KITCHEN), &["sign-url", &url, "--for", "1s"]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(status(soon.trim_end()), "403");
    let (code, _, err) = run(None, &["sign-url", &url, "--for", "1m"]);
    assert!(code == 2 && err.contains("a token is needed"), "{err}");
}
