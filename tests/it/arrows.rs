//! Arrows between modules point down, never up: read from the `use` lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the top to the bottom. A module may use those below it.
const ORDER: [&str; 26] = [
    "cli",
    "init",
    "app",
    "health",
    "matrix",
    "handlers",
    "worker",
    "survey",
    "census",
    "announce",
    "homeserver",
    "store",
    "message",
    "campaign",
    "job",
    "permissions",
    "config",
    "command",
    "room",
    "checkup",
    "picture",
    "work",
    "model",
    "clock",
    "telemetry",
    "metrics",
];

/// Pairs that must not know each other although one stands above.
const APART: [(&str, &str); 2] = [("handlers", "worker"), ("matrix", "handlers")];

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == module)
}

/// Every file below a path.
fn files_below(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).expect("a folder");
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries.flat_map(|entry| files_below(&entry)).collect()
}

fn check(module: &str, path: &Path, wrong: &mut Vec<String>) {
    if path.file_name().is_some_and(|name| name == "tests.rs") {
        return;
    }
    let text = fs::read_to_string(path).expect("a file");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let used: String = rest
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        let Some(used_rank) = rank(&used) else {
            continue;
        };
        let own = rank(module).expect("a known module");
        let apart = APART.contains(&(module, used.as_str()));
        if used != module && (used_rank < own || apart) {
            wrong.push(format!("{} uses {used}", path.display()));
        }
    }
}

#[test]
fn arrows_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(&src).expect("src") {
        let path = entry.expect("an entry").path();
        let module = path
            .file_stem()
            .and_then(|name| name.to_str())
            .expect("a name")
            .to_owned();
        if module == "lib" || module == "main" {
            continue;
        }
        assert!(
            rank(&module).is_some(),
            "{module} has no place in the order"
        );
        for file in files_below(&path) {
            check(&module, &file, &mut wrong);
        }
        // A module of several files is a file and a folder.
        seen.insert(module);
    }
    assert_eq!(seen.len(), ORDER.len(), "every module of the order exists");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// An error is logged in its words, with its causes, not as the program's own structure.
#[test]
fn no_error_is_logged_as_the_program_holds_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files_below(&src) {
        let text = fs::read_to_string(&path).expect("a file");
        for form in ["(?error", " ?error", "= ?error", "error = ?"] {
            assert!(!text.contains(form), "{}: {form}", path.display());
        }
    }
}

#[test]
fn only_one_module_knows_each_library() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (library, home) in [("rusqlite", "store"), ("matrix_sdk", "matrix")] {
        for path in files_below(&src) {
            let inside = path.starts_with(src.join(home)) || path.ends_with("telemetry.rs");
            let text = fs::read_to_string(&path).expect("a file");
            let used = text.lines().any(|line| {
                line.contains(&format!("{library}::"))
                    && !line.trim_start().starts_with("//")
                    && !line.contains('"')
            });
            assert!(inside || !used, "{} uses {library}", path.display());
        }
    }
}

/// Which files of a folder each of them uses, read from what follows `super::` and the folder's own path.
fn uses_within(folder: &Path, path_of_folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("a name").to_owned();
        if path.is_dir() || name == "mod" || name == "tests" {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut used = BTreeSet::new();
        for prefix in ["super::", path_of_folder] {
            for (at, _) in code.match_indices(prefix) {
                let rest = &code[at + prefix.len()..];
                let list = match rest.strip_prefix('{') {
                    Some(list) => list.split('}').next().unwrap_or_default(),
                    None => rest.split([':', ';']).next().unwrap_or_default(),
                };
                used.extend(list.split(',').map(|name| name.trim().to_owned()));
            }
        }
        used.remove(&name);
        found.insert(name, used);
    }
    found
}

/// Files that need each other cannot be read one at a time.
#[test]
fn the_files_of_a_module_form_no_circle() {
    for module in [
        "room",
        "matrix",
        "job",
        "campaign",
        "store",
        "survey",
        "message",
        "homeserver",
        "command",
        "config",
        "worker",
        "handlers",
        "init",
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src")
            .join(module);
        let mut uses = uses_within(&folder, &format!("crate::{module}::"));
        assert!(uses.len() > 1, "{module} has files");
        // What uses nothing that is left stands at the bottom, and is taken away.
        loop {
            let left: BTreeSet<String> = uses.keys().cloned().collect();
            uses.retain(|_, used| used.iter().any(|name| left.contains(name)));
            if uses.len() == left.len() {
                break;
            }
        }
        assert!(uses.is_empty(), "a circle in {module}: {uses:#?}");
    }
}
