//! The layout of the modules: each uses only those that stand before it in the order, and files form no circle.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files at the top of `src`, in the order in which they may use each other.
const ORDER: [&str; 17] = [
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
    "listen",
    "load",
    "top",
    "cli",
    "lib",
    "main",
];
/// The commands, which do not use each other.
const COMMANDS: [&str; 3] = ["listen", "load", "top"];

/// Returns the modules with the modules that each uses, as paths such as `load::reader::pages`.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let name = |file: &PathBuf| {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        path.components().map(|part| part.as_os_str().to_str().unwrap()).collect::<Vec<_>>().join("::")
    };
    // Tests may use what they like.
    files.retain(|file| !file.ends_with("tests.rs") && !file.ends_with("fixture.rs"));
    let modules: BTreeSet<String> = files.iter().map(name).collect();
    let of_file = |file: &PathBuf| {
        let module = name(file);
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let bases = [("crate::", ""), ("super::", parent), ("self::", &*module)];
        let paths = bases.into_iter().flat_map(|(keyword, base)| {
            code.match_indices(keyword).map(move |(at, _)| format!("{base}::{}", &code[at + keyword.len()..]))
        });
        let used = paths.filter_map(|path| {
            let path = path.trim_start_matches(':');
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
            let mut used = path[..end].trim_end_matches(':');
            // The longest prefix that is a module; what follows is an item of it.
            while !modules.contains(used) {
                used = used.rsplit_once("::")?.0;
            }
            (used != module).then(|| used.to_owned())
        });
        (module.clone(), used.collect())
    };
    files.iter().map(of_file).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap()
}

fn place(module: &str) -> usize {
    let top = top(module);
    ORDER.iter().position(|name| *name == top).unwrap_or_else(|| panic!("{top} has no place in the order"))
}

#[test]
fn a_module_uses_only_those_that_stand_before_it() {
    let uses = uses();
    assert!(uses.len() > 60, "only {} files were found", uses.len());
    let arrows = uses.iter().flat_map(|(from, used)| used.iter().map(move |to| (from, to)));
    let are_commands = |from: &str, to: &str| COMMANDS.contains(&top(from)) && COMMANDS.contains(&top(to));
    let is_wrong = |from: &str, to: &str| place(from) < place(to) || (top(from) != top(to) && are_commands(from, to));
    let wrong: Vec<_> = arrows.filter(|(from, to)| is_wrong(from, to)).collect();
    assert!(wrong.is_empty(), "arrows that point back, or from one command to another: {wrong:?}");
}

#[test]
fn files_form_no_circle() {
    let uses = uses();
    let mut open: BTreeMap<&str, &BTreeSet<String>> = uses.iter().map(|(from, used)| (&from[..], used)).collect();
    // A file that uses nothing that is still open is no part of a circle.
    loop {
        let done: Vec<&str> = open
            .iter()
            .filter(|(_, used)| used.iter().all(|to| !open.contains_key(&to[..])))
            .map(|(from, _)| *from)
            .collect();
        if done.is_empty() {
            break;
        }
        open.retain(|from, _| !done.contains(from));
    }
    assert!(open.is_empty(), "these files use each other in a circle, or one that does: {open:#?}");
}
