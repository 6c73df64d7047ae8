//! The modules of a crate, and which of them each uses. The tests of the server's and the tools' layout share it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules as paths such as `delivery::socket::in_flight`, each with the modules that it uses.
pub(crate) type Uses = BTreeMap<String, BTreeSet<String>>;

/// Reads the modules of a crate from the files below `src`. Tests and their fixtures may use any module.
pub(crate) fn uses(src: &Path) -> Uses {
    let mut files = Vec::new();
    collect(src, &mut files);
    files.retain(|file| !["tests.rs", "fixture.rs", "fuzz.rs"].iter().any(|name| file.ends_with(name)));
    let name = |file: &PathBuf| {
        let path = file.strip_prefix(src).unwrap().with_extension("");
        path.components().map(|part| part.as_os_str().to_str().unwrap()).collect::<Vec<_>>().join("::")
    };
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
            // The longest prefix that is a module; the rest is an item of it.
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

/// Returns the name at the top of a module's path.
pub(crate) fn top(module: &str) -> &str {
    module.split("::").next().unwrap()
}

/// Returns the place of a module in an order of names at the top.
pub(crate) fn place(order: &[&str], module: &str) -> usize {
    let top = top(module);
    order.iter().position(|name| *name == top).unwrap_or_else(|| panic!("{top} has no place in the order"))
}

/// Fails if modules use each other in a circle.
pub(crate) fn assert_no_circle(uses: &Uses) {
    let mut open: BTreeMap<&str, &BTreeSet<String>> = uses.iter().map(|(from, used)| (&from[..], used)).collect();
    // A module that uses no open one is no part of a circle.
    loop {
        let is_done = |used: &BTreeSet<String>| used.iter().all(|to| !open.contains_key(&to[..]));
        let done: Vec<&str> = open.iter().filter(|(_, used)| is_done(used)).map(|(from, _)| *from).collect();
        if done.is_empty() {
            break;
        }
        open.retain(|from, _| !done.contains(from));
    }
    assert!(open.is_empty(), "these modules use each other in a circle, or one that does: {open:#?}");
}
