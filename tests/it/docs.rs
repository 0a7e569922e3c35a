//! What the documents list is all there is: commands, options and keys of the configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use roomlift::command::{Command, Incoming, help, parse};

const README: &str = include_str!("../../README.md");

/// Where the tables are.
const TABLES: [&str; 2] = [
    include_str!("../../docs/commands.md"),
    include_str!("../../docs/configuration.md"),
];

const SUMMARY: &str = include_str!("../../docs/SUMMARY.md");

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Rows of the tables: the code in the first cell, and the other cells.
fn rows() -> BTreeMap<String, Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        // A bar within a cell is written `\|`.
        let cells = line.replace("\\|", "\0");
        let cells = cells.trim().trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('\0', "|")).collect()
    };
    TABLES
        .iter()
        .flat_map(|page| page.lines())
        .filter(|line| line.starts_with("| `"))
        .map(cells)
        .map(|mut cells| (cells.remove(0).trim_matches('`').to_owned(), cells))
        .collect()
}

/// What stands between backticks at the beginning of the lines of a help.
fn listed(help: &str) -> Vec<&str> {
    let items = help.lines().filter_map(|line| line.strip_prefix("- `"));
    items.filter_map(|item| item.split('`').next()).collect()
}

/// Keys of the example with their tables, and what stands behind the equals sign.
fn keys() -> BTreeMap<String, String> {
    let mut table = String::new();
    let mut keys = BTreeMap::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.trim_start_matches("# ").strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned() + ".";
        }
        let line = line.trim_start_matches('#').trim_start();
        let Some((key, value)) = line.split_once(" = ") else {
            continue;
        };
        if key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            keys.insert(format!("{table}{key}"), value.to_owned());
        }
    }
    keys
}

#[test]
fn the_documents_list_every_command_and_option() {
    let rows = rows();
    let overview = help(None);
    let commands = listed(&overview);
    assert!(commands.len() > 5, "{commands:?}");
    for command in &commands {
        assert!(
            rows.contains_key(*command),
            "no row for the command {command}"
        );
    }
    let gone: Vec<_> = rows
        .keys()
        .filter(|row| row.starts_with("!upgrade") && !commands.contains(&row.as_str()))
        .collect();
    assert!(gone.is_empty(), "rows for no command: {gone:?}");

    let parsed = parse(&Incoming {
        body: "!upgrade help upgrade",
        formatted_body: None,
    });
    let Some(Ok(Command::Help(topic))) = parsed else {
        panic!("{parsed:?}");
    };
    let explained = help(topic.as_ref());
    let options: Vec<_> = listed(&explained)
        .into_iter()
        .filter(|argument| argument.starts_with("--"))
        .collect();
    assert!(options.len() > 5, "{options:?}");
    for option in options {
        assert!(rows.contains_key(option), "no row for the option {option}");
    }
}

#[test]
fn the_documents_list_every_key_with_its_default() {
    let rows = rows();
    let keys = keys();
    assert!(keys.len() > 20, "{keys:?}");
    for (key, value) in &keys {
        let row = rows.get(key);
        let default = row.unwrap_or_else(|| panic!("no row for the key {key}"));
        // A default that cannot be written in a cell is said in words.
        if default[0].starts_with('`') {
            assert_eq!(default[0], format!("`{value}`"), "the default of {key}");
        }
    }
    let tables: Vec<_> = keys.keys().filter_map(|key| key.split_once('.')).collect();
    let gone: Vec<_> = rows
        .keys()
        .filter(|row| {
            let table = row.split_once('.').map(|(table, _)| table);
            let is_key = tables.iter().any(|(known, _)| table == Some(known));
            is_key && !keys.contains_key(*row)
        })
        .collect();
    assert!(gone.is_empty(), "rows for no key: {gone:?}");
}

/// UPGRADING.md says of every schema version how to go back, and has no version that is not there.
#[test]
fn the_table_of_schema_versions_names_each() {
    let upgrading = include_str!("../../UPGRADING.md");
    let rows = upgrading.lines().filter_map(|line| {
        let (version, _) = line.strip_prefix("| ")?.split_once(" |")?;
        version.parse::<usize>().ok()
    });
    let known: Vec<_> = (1..=roomlift::store::SCHEMA_VERSION).collect();
    assert_eq!(rows.collect::<Vec<_>>(), known);
}

/// Whoever decides in a minute reads the README; the rest is in the book, which has every page.
#[test]
fn the_readme_is_short_and_every_page_is_in_the_book() {
    let words = README.split_whitespace().count();
    assert!(words <= 1_200, "{words}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).expect("docs");
    let pages = pages.map(|entry| entry.expect("an entry").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let pages: Vec<_> = pages.collect();
    for page in &pages {
        let name = page.file_name().and_then(|name| name.to_str());
        let name = name.expect("a name");
        let is_listed = name == "SUMMARY.md" || SUMMARY.contains(&format!("({name})"));
        assert!(is_listed, "{name} is not in the book");
    }
    // Links between files lead somewhere.
    for page in pages.into_iter().chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let target = page.parent().expect("a folder").join(file);
            assert!(target.exists(), "{} links to {link}", page.display());
        }
    }
}
