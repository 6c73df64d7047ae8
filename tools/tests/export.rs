//! `aircheckctl export` from the real server.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

#[path = "aircheck/mod.rs"]
mod aircheck;

use std::fs;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use aircheck::Server;

fn export(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_aircheckctl")).arg("export").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_part_is_cut_out_and_a_refusal_leaves_an_older_file_alone() {
    let directory = tempfile::tempdir().unwrap();
    let takes = directory.path().join("takes");
    let server = Server::start(&["--source", "tone:440", "--record", takes.to_str().unwrap()]);
    sleep(Duration::from_millis(2500));
    let ago = |millis| humantime::format_rfc3339_millis(SystemTime::now() - Duration::from_millis(millis)).to_string();
    let file = directory.path().join("part.wav");
    let path = file.to_str().unwrap();
    let (from, to) = (ago(2000), ago(1000));
    let (code, out, err) = export(&[&server.authority, "--from", &from, "--to", &to, "-o", path]);
    assert_eq!(code, 0, "{out} {err}");
    assert!(out.contains("part.wav: 0.2 MB"), "{out}");
    let reader = hound::WavReader::open(&file).unwrap();
    let seconds = f64::from(reader.duration()) / f64::from(reader.spec().sample_rate);
    assert!((seconds - 1.0).abs() < 0.003, "{seconds}");
    let loud = reader.into_samples::<f32>().filter(|sample| sample.as_ref().unwrap().abs() > 0.01).count();
    assert!(loud > 40_000, "{loud} samples are the tone's");

    let before = fs::read(&file).unwrap();
    assert_eq!(before[20..22], [0xFE, 0xFF], "floats have the extensible format: others miss a part of the header");
    let (code, _, err) = export(&[&server.authority, "--from", &ago(90_000), "--to", &ago(80_000), "-o", path]);
    assert!(code == 1 && err.contains("the recording begins at"), "{code}: {err}");
    assert!(fs::read(&file).unwrap() == before);
    let (code, _, err) = export(&["--from", "noon", "--to", &to, "-o", path]);
    assert!(code == 2 && err.contains("2026-11-27T14:03:00Z"), "{code}: {err}");
}
