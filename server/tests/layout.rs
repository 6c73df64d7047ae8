//! The layout of the server's modules: a folder uses what stands before it, nothing points back, and files form no circle.

#![allow(clippy::unwrap_used, reason = "what is unexpected here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files at the top of `server/src`, in the order in which they may use each other.
const ORDER: [&str; 11] =
    ["config", "source", "mount", "rendition", "delivery", "sink", "telemetry", "http", "app", "lib", "main"];

/// Returns the modules of the server with the modules that each uses, as paths such as `delivery::socket::in_flight`.
fn uses() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let name = |file: &PathBuf| {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        path.components().map(|part| part.as_os_str().to_str().unwrap()).collect::<Vec<_>>().join("::")
    };
    let modules: BTreeSet<String> = files.iter().map(name).collect();
    let of_file = |file: &PathBuf| {
        let module = name(file);
        let text = fs::read_to_string(file).unwrap();
        // Tests may use what they like.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
        let absolute = code.match_indices("crate::").map(|(at, _)| &code[at + "crate::".len()..]);
        let relative =
            code.match_indices("super::").map(|(at, _)| format!("{parent}::{}", &code[at + "super::".len()..]));
        let paths = absolute.map(str::to_owned).chain(relative);
        let used = paths.filter_map(|path| {
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

fn place(module: &str) -> usize {
    let top = module.split("::").next().unwrap();
    ORDER.iter().position(|name| *name == top).unwrap_or_else(|| panic!("{top} has no place in the order"))
}

#[test]
fn a_folder_uses_only_what_stands_before_it() {
    let uses = uses();
    assert!(uses.len() > 40, "only {} files were found", uses.len());
    let arrows = uses.iter().flat_map(|(from, used)| used.iter().map(move |to| (from, to)));
    let back: Vec<_> = arrows.filter(|(from, to)| place(from) < place(to)).collect();
    assert!(back.is_empty(), "arrows that point back: {back:?}");
}

#[test]
fn files_form_no_circle() {
    let uses = uses();
    let mut open: BTreeMap<&str, &BTreeSet<String>> = uses.iter().map(|(from, used)| (&from[..], used)).collect();
    // What uses nothing that is still open is no part of a circle.
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
