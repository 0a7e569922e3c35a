//! What can be wrong with a command, in words for the person who typed it.
//!
//! Errors of clap are translated in `grammar`; its own texts, made for terminals, are never shown.

use std::fmt;

use thiserror::Error;

use super::words::is_invisible;
use super::{MAX_COMMAND_BYTES, MAX_CREATORS, MAX_REASON_CHARS, Topic};
use crate::model::{PING_AFTER, PINGS_MAX};

/// Longest piece of a command that an answer repeats, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// A command that cannot be understood. The `Display` is the answer: plain text in one line, with
/// `code` between backticks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct CommandError {
    /// What is wrong.
    pub problem: Problem,
    /// The command it happened in, where one is known.
    pub topic: Option<Topic>,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem)?;
        match &self.topic {
            Some(topic) => write!(f, " Type `!upgrade help {topic}` to see how it is used."),
            None => f.write_str(" Type `!upgrade help` to see all commands."),
        }
    }
}

/// A word of the sender's, shortened and made safe to stand between backticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl<T: AsRef<str> + ?Sized> From<&T> for Shown {
    fn from(word: &T) -> Self {
        let mut chars = word.as_ref().chars();
        let mut text = String::new();
        for c in chars.by_ref().take(MAX_SHOWN_CHARS) {
            match c {
                '`' => text.push('\''),
                // Else there is nothing to be seen of what is wrong.
                c if is_invisible(c) => text.extend(format!("⟨U+{:04X}⟩", u32::from(c)).chars()),
                c if c.is_control() => text.push(' '),
                c => text.push(c),
            }
        }
        if chars.next().is_some() {
            text.push('…');
        }
        Self(text)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.trim().is_empty() {
            return f.write_str("an empty word");
        }
        write!(f, "`{}`", self.0)
    }
}

/// What a word should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A room.
    Room,
    /// The number of a job, or a room.
    JobOrRoom,
    /// The number of a job.
    Job,
    /// A user.
    User,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Room => "a room: `#name:server`, `!id:server` or a link to it",
            Self::JobOrRoom => {
                "the number of a job, such as `7`, or a room, such as `#name:server`"
            }
            Self::Job => "the number of a job, such as `7`",
            Self::User => "a user with server, such as `@name:server`",
        })
    }
}

/// What a word is instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing we recognise.
    Unknown,
    /// One of our commands, in the wrong place.
    Command,
    /// A room.
    Room,
    /// `#name` without `:server`.
    AliasWithoutServer,
    /// A room id or alias that breaks the rules.
    BadRoom,
    /// A user.
    User,
    /// A link to a message.
    Event,
    /// A link of Matrix that leads nowhere.
    BadLink,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "does not fit here",
            Self::Command => "is a command; put it right after `!upgrade`",
            Self::Room => "is a room",
            Self::AliasWithoutServer => "has no server part",
            Self::BadRoom => "is not a valid room name",
            Self::User => "is a user",
            Self::Event => "is a link to a message",
            Self::BadLink => "is a broken link",
        })
    }
}

/// The mistakes there are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A look at the new room first, with the method that does not allow it.
    #[error(
        "`--review` needs a new room that nobody is sent to yet, which `--method server` cannot do; leave one of them out."
    )]
    ReviewNeedsStaged,
    /// `--review` for a whole space.
    #[error(
        "`--review` is for one room at a time; leave it out here, or upgrade that room by itself."
    )]
    ReviewOfSpace,
    /// Two starts.
    #[error("Please give either `--at` or `--in`, and not both.")]
    AtAndIn,
    /// Members are to be told of something that happens at once.
    #[error(
        "`--announce` needs `--at` or `--in`: an upgrade that starts right away cannot be announced."
    )]
    AnnounceNeedsStart,
    /// Not a time.
    #[error(
        "{word} is not a time. Write for example `--at \"20:00 Europe/Berlin\"`, \
         `--at \"2026-12-01 20:00 Europe/Berlin\"` or `--at 2026-12-01T20:00+01:00`."
    )]
    BadTime {
        /// What was given.
        word: Shown,
    },
    /// A time zone that nobody knows.
    #[error(
        "I do not know the time zone {word}. Write for example `Europe/Berlin`, `UTC` or `+02:00`."
    )]
    UnknownZone {
        /// What was given.
        word: Shown,
    },
    /// Not a duration.
    #[error("{word} is not a length of time. Write for example `90m`, `2h` or `3d`.")]
    BadDuration {
        /// What was given.
        word: Shown,
    },
    /// The message is longer than [`MAX_COMMAND_BYTES`].
    #[error(
        "This command is too long: {bytes} bytes, and I read at most {MAX_COMMAND_BYTES}. \
         Please shorten it."
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A quotation mark without its partner.
    #[error("Missing closing quote: {text}.")]
    UnclosedQuote {
        /// From the mark on.
        text: Shown,
    },
    /// Neither a command nor a room.
    #[error("I do not know {word}.{}", did_you_mean(suggestion.as_ref()))]
    UnknownCommand {
        /// The word.
        word: Shown,
        /// The command that looks most like it.
        suggestion: Option<String>,
    },
    /// An option that this command does not have.
    #[error("I do not know the option {word} here.{}", did_you_mean(suggestion.as_ref()))]
    UnknownOption {
        /// The option.
        word: Shown,
        /// The option that looks most like it.
        suggestion: Option<String>,
    },
    /// A word too many.
    #[error("I do not know what to do with {word}. Text with spaces needs quotation marks.")]
    UnexpectedWord {
        /// The first such word.
        word: Shown,
    },
    /// Text for members that may go on in the next words, or not.
    #[error(
        "Text of several words needs quotation marks: {text}. What is no part of the text goes in front of {option}."
    )]
    UnquotedText {
        /// The option.
        option: Shown,
        /// The same with quotation marks.
        text: Shown,
    },
    /// A required word is absent.
    #[error("Something is missing: `{what}`.")]
    Missing {
        /// Its name in the help.
        what: String,
    },
    /// An option without its value.
    #[error("{option} needs something after it.")]
    MissingValue {
        /// The option.
        option: Shown,
    },
    /// A value for an option that takes none.
    #[error("{option} takes no value; leave out the `=` and what follows.")]
    NeedlessValue {
        /// The option.
        option: Shown,
    },
    /// An option given twice.
    #[error("{option} was given more than once.")]
    Repeated {
        /// The option.
        option: Shown,
    },
    /// A value that is none of those an option knows.
    #[error("{option} cannot be {word}. It can be: {}.", in_backticks(known))]
    BadChoice {
        /// The option.
        option: Shown,
        /// What was given.
        word: Shown,
        /// What may be given.
        known: Vec<String>,
    },
    /// One kind of thing where another is needed.
    #[error("{word} {found}. I expected {expected}.")]
    WrongKind {
        /// The word.
        word: Shown,
        /// What it is.
        found: Found,
        /// What it should be.
        expected: Expected,
    },
    /// Not a room version by the grammar.
    #[error("{word} is not a room version. Write for example `12`.")]
    BadVersion {
        /// The word.
        word: Shown,
    },
    /// Two versions that differ.
    #[error("You gave two versions, {first} and {second}. Please give one.")]
    TwoVersions {
        /// The first.
        first: Shown,
        /// The one that differs.
        second: Shown,
    },
    /// More than [`MAX_CREATORS`].
    #[error("{given} creators is too many; the limit is {MAX_CREATORS}.")]
    TooManyCreators {
        /// How many.
        given: usize,
    },
    /// More than [`MAX_REASON_CHARS`].
    #[error(
        "The reason has {chars} characters. At most {MAX_REASON_CHARS} are possible; \
         please shorten it."
    )]
    ReasonTooLong {
        /// How many.
        chars: usize,
    },
    /// A length of time out of bounds.
    #[error(
        "{word} is too short or too long. It can be from `{}` to `{}`.",
        humantime::format_duration(*PING_AFTER.start()),
        humantime::format_duration(*PING_AFTER.end())
    )]
    DurationOutOfBounds {
        /// The word.
        word: Shown,
    },
    /// More than [`PINGS_MAX`].
    #[error("You gave {given} times. At most {PINGS_MAX} are possible.")]
    TooManyPings {
        /// How many.
        given: usize,
    },
    /// Anything else that clap refuses; the grammar leaves no known way to get here.
    #[error("I do not understand this command.")]
    Other,
}

fn did_you_mean(suggestion: Option<&String>) -> String {
    suggestion.map_or_else(String::new, |word| format!(" Did you mean `{word}`?"))
}

fn in_backticks(words: &[String]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_words_are_short_and_cannot_leave_their_backticks() {
        let long = "ä".repeat(MAX_SHOWN_CHARS + 1);
        let cases = [
            ("a`b\nc", "`a'b c`".to_owned()),
            ("", "an empty word".to_owned()),
            (&long, format!("`{}…`", "ä".repeat(MAX_SHOWN_CHARS))),
        ];
        for (word, shown) in cases {
            assert_eq!(Shown::from(word).to_string(), shown);
        }
    }
}
