//! Every public function has an example. `cargo test --doc` runs them.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Returns the public functions of a file that have no example.
fn without_example(source: &str) -> Vec<&str> {
    let mut missing = Vec::new();
    let mut has_example = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("///") {
            has_example |= line.starts_with("/// ```");
        } else if ["pub fn ", "pub const fn ", "pub async fn "].iter().any(|start| line.starts_with(start)) {
            if !has_example {
                missing.push(line);
            }
            has_example = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            has_example = false;
        }
    }
    missing
}

#[test]
fn every_public_function_has_an_example() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 50, "only {} files were found", files.len());
    let texts: Vec<_> = files.iter().map(|file| (file, fs::read_to_string(file).unwrap())).collect();
    let missing: Vec<_> = texts
        .iter()
        .flat_map(|(file, text)| without_example(text).into_iter().map(move |line| (file.file_name().unwrap(), line)))
        .collect();
    assert!(missing.is_empty(), "without an example: {missing:#?}");
}

#[test]
fn a_function_without_an_example_is_found() {
    let source = "/// ```\n/// a();\n/// ```\n#[must_use]\npub fn a() {}\n/// Does b.\npub const fn b() {}\n";
    assert_eq!(without_example(source), ["pub const fn b() {}"]);
}
