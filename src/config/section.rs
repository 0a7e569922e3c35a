//! One table of the TOML, read key by key.
//!
//! What is asked for is what is known: keys that are left at the end are reported as unknown, so that
//! no list of keys can get out of step. serde is not used, because it stops at the first mistake and
//! its messages repeat values, which may be secrets. What values mean is up to the caller.

use std::ops::RangeInclusive;

use toml::{Table, Value};

use super::Finding;
use super::values::shown;

/// Most edits by which an unknown key is taken for a known one.
const MAX_TYPO_EDITS: usize = 3;

/// A table, with what was found wrong in it.
#[derive(Debug)]
pub(super) struct Section {
    /// `account`, `admin_room[0]`; empty for the root.
    path: String,
    table: Table,
    known: Vec<&'static str>,
    findings: Vec<Finding>,
}

impl Section {
    pub(super) fn root(table: Table) -> Self {
        Self::at(String::new(), table)
    }

    fn at(path: String, table: Table) -> Self {
        Self {
            path,
            table,
            known: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Whether the key is there and has not been read.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports a mistake in a key.
    pub(super) fn report(&mut self, key: &str, text: impl Into<String>) {
        let key = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        self.report_about(&key, text);
    }

    /// Reports a mistake outside of the table.
    pub(super) fn report_about(&mut self, key: &str, text: impl Into<String>) {
        self.findings.push(Finding {
            key: key.to_owned(),
            text: text.into(),
        });
    }

    /// Reports a key that must be there and is not. To be called before the key is read.
    pub(super) fn require(&mut self, key: &'static str, what: &str) {
        if !self.has(key) {
            self.report(key, format!("is missing; write {what}"));
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => self.wrong_type(key, &other, "text in quotation marks"),
        }
    }

    /// A text that `parse` understands; its error says what to write.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        self.understood(key, parse(&text))
    }

    /// A list of such texts, without repetitions.
    pub(super) fn parsed_list<T: PartialEq>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let entries = match self.take(key)? {
            Value::Array(entries) => entries,
            other => return self.wrong_type(key, &other, "a list, such as `[\"…\", \"…\"]`"),
        };
        let mut list = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let key = format!("{key}[{index}]");
            let parsed = match entry {
                Value::String(text) => self.understood(&key, parse(&text)),
                other => self.wrong_type(&key, &other, "text in quotation marks"),
            };
            match parsed {
                Some(value) if list.contains(&value) => {
                    self.report(&key, "is in the list already; remove it");
                }
                Some(value) => list.push(value),
                None => {}
            }
        }
        Some(list)
    }

    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        match self.take(key)? {
            Value::Integer(number) if range.contains(&number) => Some(number),
            Value::Integer(_) => {
                let (least, most) = range.into_inner();
                self.report(key, format!("must be from {least} to {most}"));
                None
            }
            other => self.wrong_type(key, &other, "a whole number without quotation marks"),
        }
    }

    /// A number, with or without a point.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.take(key)? {
            Value::Float(number) => number,
            Value::Integer(number) => i32::try_from(number).map_or(f64::INFINITY, f64::from),
            other => {
                return self.wrong_type(key, &other, "a number without quotation marks");
            }
        };
        if range.contains(&number) {
            return Some(number);
        }
        let (least, most) = range.into_inner();
        self.report(key, format!("must be from {least} to {most}"));
        None
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(flag) => Some(flag),
            other => self.wrong_type(key, &other, "`true` or `false`"),
        }
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| {
            let chosen = words.iter().find(|(word, _)| *word == text);
            chosen.map(|(_, value)| *value).ok_or_else(|| {
                let known = in_backticks(words.iter().map(|(word, _)| format!("\"{word}\"")));
                format!("{} is not possible; possible: {known}", shown(text))
            })
        })
    }

    /// A table below this one; empty if absent.
    pub(super) fn child(&mut self, key: &'static str) -> Self {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => self
                .wrong_type(key, &other, &format!("a table `[{key}]`"))
                .unwrap_or_default(),
        };
        Self::at(key.to_owned(), table)
    }

    /// The tables of an array of tables below this one.
    pub(super) fn children(&mut self, key: &'static str) -> Vec<Self> {
        let expected = format!("tables `[[{key}]]`");
        let entries = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(entries)) if entries.is_empty() => {
                self.report(
                    key,
                    format!("is empty; write at least one table `[[{key}]]`"),
                );
                entries
            }
            Some(Value::Array(entries)) => entries,
            Some(other) => self.wrong_type(key, &other, &expected).unwrap_or_default(),
        };
        let mut sections = Vec::new();
        for (index, entry) in entries.into_iter().enumerate() {
            let path = format!("{key}[{index}]");
            match entry {
                Value::Table(table) => sections.push(Self::at(path, table)),
                other => {
                    self.wrong_type::<()>(&path, &other, &expected);
                }
            }
        }
        sections
    }

    /// All that is wrong, with the keys that nobody asked for.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        let unknown: Vec<String> = self.table.keys().cloned().collect();
        for key in unknown {
            let similar = self
                .known
                .iter()
                .map(|known| (strsim::levenshtein(&key, known), *known))
                .filter(|(edits, known)| *edits <= MAX_TYPO_EDITS && edits * 2 <= known.len() + 1)
                .min();
            let suggestion = similar.map_or_else(
                || ".".to_owned(),
                |(_, known)| format!("; did you mean `{known}`?"),
            );
            let known = in_backticks(self.known.iter().map(ToString::to_string));
            let place = match self.path.as_str() {
                "" => "before the first table".to_owned(),
                path => format!("in `{path}`"),
            };
            let shown = shown(&key);
            let key = shown.trim_matches('`');
            self.report(
                key,
                format!("is not a key{suggestion} Keys {place}: {known}"),
            );
        }
        self.findings
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn understood<T>(&mut self, key: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|text| self.report(key, text)).ok()
    }

    fn wrong_type<T>(&mut self, key: &str, value: &Value, expected: &str) -> Option<T> {
        let found = match value {
            Value::String(_) => "text",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Boolean(_) => "`true` or `false`",
            Value::Datetime(_) => "a date or time",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        };
        self.report(key, format!("is {found}; write {expected}"));
        None
    }
}

fn in_backticks(words: impl Iterator<Item = String>) -> String {
    words
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
