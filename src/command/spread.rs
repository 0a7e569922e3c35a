//! Values of options that were written in several words, without quotation marks: put together where
//! it is plain what belongs to them, and refused where it is not.
//!
//! Left out: what the values mean.

use super::{Problem, Shown, reference, when};

/// How the value of an option goes on.
#[derive(Clone, Copy)]
enum Value {
    /// A date, a time and a zone.
    Time,
    /// Lengths of time that add up.
    Duration,
    /// Lengths of time, one by one.
    Durations,
    /// Anything, and so nothing but quotation marks tells where it ends.
    Text,
}

impl Value {
    fn of(option: &str) -> Option<Self> {
        match option {
            "--at" => Some(Self::Time),
            "--in" => Some(Self::Duration),
            "--ping" => Some(Self::Durations),
            "--reason" => Some(Self::Text),
            _ => None,
        }
    }

    /// The value with one more word, if that is a part of it.
    fn with(self, value: &str, word: &str) -> Option<String> {
        let longer = format!("{value} {word}");
        match self {
            Self::Time => when::goes_on(value, word).then_some(longer),
            Self::Duration => humantime::parse_duration(&longer).is_ok().then_some(longer),
            Self::Durations => word
                .split(',')
                .all(|part| part.is_empty() || humantime::parse_duration(part).is_ok())
                .then(|| format!("{value},{word}")),
            Self::Text => None,
        }
    }
}

/// Puts values together.
///
/// # Errors
///
/// [`Problem::UnquotedText`].
pub(super) fn joined(words: Vec<String>) -> Result<Vec<String>, Problem> {
    let mut joined: Vec<String> = Vec::with_capacity(words.len());
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let (option, inline) = match word.split_once('=') {
            Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        };
        let Some(kind) = Value::of(&option) else {
            joined.push(word);
            continue;
        };
        let is_value = |next: &String| !next.starts_with("--");
        let begins = if inline.is_some() {
            format!("{option}=")
        } else {
            joined.push(word);
            String::new()
        };
        let Some(mut value) = inline.or_else(|| words.next_if(is_value)) else {
            continue;
        };
        while let Some(longer) = words.peek().and_then(|next| kind.with(&value, next)) {
            value = longer;
            words.next();
        }
        // Quotation marks are gone by now: what has a space in it had them.
        if matches!(kind, Value::Text) && !value.contains(char::is_whitespace) {
            let has_room = joined.iter().any(|word| reference::is_room(word));
            let follows =
                |next: &String| !next.starts_with('-') && (has_room || !reference::is_room(next));
            let rest: Vec<String> = std::iter::from_fn(|| words.next_if(follows)).collect();
            if !rest.is_empty() {
                let text = format!("{option} \"{value} {}\"", rest.join(" "));
                return Err(Problem::UnquotedText {
                    option: Shown::from(&option),
                    text: Shown::from(&text),
                });
            }
        }
        joined.push(format!("{begins}{value}"));
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_several_words_are_put_together() {
        for (words, expected) in [
            (
                "#a:b --at 20:00 Europe/Berlin 12",
                "#a:b|--at|20:00 Europe/Berlin|12",
            ),
            (
                "--at 2026-12-01 20:00 UTC #a:b",
                "--at|2026-12-01 20:00 UTC|#a:b",
            ),
            (
                "--at=2026-12-01 20:00 Europe/Berlin",
                "--at=2026-12-01 20:00 Europe/Berlin",
            ),
            (
                "--at 20:00Z https://matrix.to/#/#a:b",
                "--at|20:00Z|https://matrix.to/#/#a:b",
            ),
            ("--at 20:00 matrix:r/a:b", "--at|20:00|matrix:r/a:b"),
            ("--at 20:00 --yes", "--at|20:00|--yes"),
            ("--at 20:00 12", "--at|20:00|12"),
            ("--at 20:00 --at 21:00", "--at|20:00|--at|21:00"),
            ("plan 20:00 Europe/Berlin", "plan|20:00|Europe/Berlin"),
            ("--at", "--at"),
        ] {
            let given = words.split(' ').map(ToOwned::to_owned).collect();
            assert_eq!(joined(given).unwrap().join("|"), expected, "{words}");
        }
    }
}
