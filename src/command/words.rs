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

/// Whether a character is shown as nothing at all: such come with copied text.
/// Source: Unicode, default ignorable code points, without what parts of emoji and letters are made of.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn is_quote(c: char) -> bool {
    "\"'“”„‟".contains(c)
}

/// Dashes that phones and people write for `-`.
fn is_dash(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}'
    )
}

/// The same words, written the way `shlex` reads them.
fn in_ascii(text: &str) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // A mark opens a quotation, and a dash an option, only where a word or a value begins.
    let mut before = ' ';
    let mut is_option_name = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let begins_word = before.is_whitespace();
        let begins_value = begins_word || before == '=';
        let mut consumed = c.len_utf8();
        let previous = std::mem::replace(&mut before, c);
        is_option_name &= !c.is_whitespace() && c != '=';
        match c {
            c if c.is_whitespace() => out.push(' '),
            c if is_invisible(c) => {
                let shown = after.trim_start_matches(is_invisible);
                let ends_word = shown
                    .chars()
                    .next()
                    .is_none_or(|c| c.is_whitespace() || is_quote(c));
                let hidden = &rest[..rest.len() - shown.len()];
                // Inside of a word it may be meant.
                if !begins_value && !ends_word && !is_quote(previous) {
                    out.push_str(hidden);
                }
                consumed = hidden.len();
                before = previous;
            }
            '#' if begins_word => out.push_str("\\#"),
            c if begins_word && is_dash(c) => {
                let name = after.trim_start_matches(is_dash);
                let dashes = &rest[..rest.len() - name.len()];
                is_option_name = dashes != "-" && name.starts_with(char::is_alphabetic);
                if is_option_name {
                    out.push_str("--");
                } else if name.starts_with(|c: char| c.is_ascii_digit()) {
                    // The sign of a number.
                    out.push('-');
                } else {
                    out.push_str(dashes);
                }
                consumed = dashes.len();
                before = '-';
            }
            c if is_option_name && is_dash(c) => out.push('-'),
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
            ("−5 -5 – --", &["-5", "-5", "–", "--"]),
            ("\u{200b} a\u{feff}=\u{200b}b", &["a\u{feff}=b"]),
            ("“\u{200b}a ”", &["\u{200b}a "]),
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
