//! Splits a command into words, with quotation marks as in a shell.
//!
//! `shlex` splits. Before that, what phones and people make of ASCII is turned back: curly quotation
//! marks, dashes instead of `--`, unusual spaces; and `#`, which begins a comment for a shell but a
//! room for us, is escaped. No variables, globs or other features of a shell.

use super::{Problem, Shown};

/// The words of `text`.
///
/// # Errors
///
/// [`Problem::UnclosedQuote`].
pub(super) fn split(text: &str) -> Result<Vec<String>, Problem> {
    let plain = in_ascii(text)?;
    shlex::split(&plain).ok_or_else(|| Problem::UnclosedQuote {
        text: Shown::from(text),
    })
}

/// The same words, written the way `shlex` reads them.
fn in_ascii(text: &str) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // A mark opens a quotation, and a dash an option, only where a word or a value begins.
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let begins_word = before.is_whitespace();
        let begins_value = begins_word || before == '=';
        let mut consumed = c.len_utf8();
        before = c;
        match c {
            c if c.is_whitespace() => out.push(' '),
            '#' if begins_word => out.push_str("\\#"),
            '—' | '–' if begins_word && after.starts_with(char::is_alphanumeric) => {
                out.push_str("--");
            }
            '\\' => match after.chars().next() {
                Some(escaped) => {
                    out.push('\\');
                    out.push(escaped);
                    consumed += escaped.len_utf8();
                }
                // Nothing to escape: the sender meant a backslash.
                None => out.push_str("\\\\"),
            },
            '"' | '\'' => {
                let length = straight_quotation(after, c).ok_or_else(|| unclosed(rest))?;
                out.push(c);
                out.push_str(&after[..length]);
                consumed += length;
            }
            '“' | '”' | '„' | '‟' => {
                let length = double_quotation(after).ok_or_else(|| unclosed(rest))?;
                consumed += push_quoted(&mut out, after, length);
            }
            // Inside a word it is an apostrophe.
            '‘' | '’' | '‚' | '‛' if begins_value => {
                let length = single_quotation(after).ok_or_else(|| unclosed(rest))?;
                consumed += push_quoted(&mut out, after, length);
            }
            c => out.push(c),
        }
        rest = &rest[consumed..];
    }
    Ok(out)
}

fn unclosed(text: &str) -> Problem {
    Problem::UnclosedQuote {
        text: Shown::from(text),
    }
}

/// Bytes up to and including the ASCII mark that closes.
fn straight_quotation(text: &str, mark: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            // Single quotation marks know no escape.
            '\\' if mark == '"' => escaped = true,
            c if c == mark => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Bytes before the mark that closes a curly quotation. German ones close with the mark that opens
/// English ones, and a keyboard may have curled only the first of the two.
fn double_quotation(text: &str) -> Option<usize> {
    text.find(['”', '“']).or_else(|| text.find('"'))
}

/// Bytes before the single mark that closes: the first at the end of a word, because it is the
/// apostrophe too.
fn single_quotation(text: &str) -> Option<usize> {
    let ends_word = |(at, mark): &(usize, &str)| {
        text[at + mark.len()..]
            .chars()
            .next()
            .is_none_or(char::is_whitespace)
    };
    let first = |marks: &[char]| text.match_indices(marks).find(ends_word).map(|(at, _)| at);
    first(&['’', '‘']).or_else(|| first(&['\'']))
}

/// Pushes a quotation of `length` bytes literally; returns the bytes consumed, with the mark.
fn push_quoted(out: &mut String, text: &str, length: usize) -> usize {
    let (quotation, rest) = text.split_at(length);
    out.push('\'');
    out.push_str(&quotation.replace('\'', r"'\''"));
    out.push('\'');
    length + rest.chars().next().map_or(0, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            (" \u{a0}\n\t ", &[]),
            ("#a:b 12", &["#a:b", "12"]),
            ("a\r\nb\u{2003}c", &["a", "b", "c"]),
            ("a#b", &["a#b"]),
            (r#"--reason "two words" x"#, &["--reason", "two words", "x"]),
            (r#"--reason="two words""#, &["--reason=two words"]),
            ("--reason=“two words”", &["--reason=two words"]),
            ("“a \"b\" c”", &["a \"b\" c"]),
            ("„zwei Worte“", &["zwei Worte"]),
            ("“mixed\"", &["mixed"]),
            (r#""it's “so”""#, &["it's “so”"]),
            ("‘don’t stop’ now", &["don’t stop", "now"]),
            ("‘it's'", &["it's"]),
            ("don’t", &["don’t"]),
            ("—yes –version 12", &["--yes", "--version", "12"]),
            ("a — b–c", &["a", "—", "b–c"]),
            (r"a\ b c\", &["a b", r"c\"]),
            (r"\ü", &["ü"]),
            (r#"'' """#, &["", ""]),
            (r"'#a' \#b", &["#a", "#b"]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text).unwrap(), *expected, "{text}");
        }
    }

    #[test]
    fn unclosed_quotations_are_named() {
        for text in ["a \"b c", "a 'b", "a “b", "a ‘b", "a \"b\\\""] {
            let shown = Shown::from(&text[2..]);
            assert_eq!(
                split(text),
                Err(Problem::UnclosedQuote { text: shown }),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_splits_or_is_unclosed(text in r#"[ -~“”„‘’—–\\"'#=\n]{0,40}|.*"#) {
            let _ = split(&text);
        }

        #[test]
        fn quoted_words_survive(words in proptest::collection::vec("[^\0]*", 0..5)) {
            let line = words
                .iter()
                .map(|word| shlex::try_quote(word).unwrap())
                .collect::<Vec<_>>()
                .join(" ");
            // shlex only escapes with backslashes what ASCII marks cannot hold.
            prop_assert_eq!(shlex::split(&line).unwrap(), words.clone());
            let quoted = words
                .iter()
                .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
                .collect::<Vec<_>>()
                .join(" ");
            prop_assert_eq!(split(&quoted).unwrap(), words);
        }
    }
}
