//! The commands and their options, as clap knows them. `help` is made from the same definition.
//!
//! clap only sorts words here: what they mean is read in `from_words` and `reference`, and errors
//! become [`Problem`]s, since clap's own texts are made for terminals.

use std::fmt;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use super::{Problem, Shown};
use crate::model::{InvitePolicy, JoinRulePolicy, MethodChoice, Policies, RoomType};

/// The command that explains the others.
pub(super) const HELP_VERB: &str = "help";

/// The command that is meant when the first word is none.
pub(super) const DEFAULT_VERB: &str = "upgrade";

/// The words after `!upgrade`, beginning with the command.
#[derive(Debug, Parser)]
#[command(
    name = "!upgrade",
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true
)]
pub(super) struct Line {
    #[command(subcommand)]
    verb: Verb,
}

/// A command with its words. The doc comment is its help; `after_help` is an example, for which
/// every command has one.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Upgrade a room. You see the plan first, and nothing changes before you say yes.
    #[command(
        name = DEFAULT_VERB,
        after_help = "!upgrade #community:example.org 12 --reason \"New rules about creators\""
    )]
    Upgrade {
        #[command(flatten)]
        upgrade: UpgradeWords,
        /// Begin at once, without asking.
        #[arg(long)]
        yes: bool,
        /// Confirm that you mean the admin room itself.
        #[arg(long)]
        yes_this_room: bool,
    },
    /// Upgrade every room in a space and its subspaces. You get one plan first.
    #[command(after_help = "!upgrade space #community:example.org 12")]
    Space {
        /// The space: its address, its id, or a link to it.
        #[arg(value_name = "space")]
        space: String,
        #[command(flatten)]
        how: HowWords,
        /// This room of the space, and no other. Can be given several times.
        #[arg(long, value_name = "room")]
        only: Vec<String>,
        /// Not this room. Can be given several times.
        #[arg(long, value_name = "room")]
        skip: Vec<String>,
        /// The rooms of this version only.
        #[arg(long, value_name = "version")]
        from: Option<String>,
        /// Begin at once, without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Show what an upgrade would do, without doing it. Works for spaces too.
    #[command(after_help = "!upgrade plan #community:example.org 12")]
    Plan(UpgradeWords),
    /// Finish an upgrade that was done outside Roomlift. You get a plan first.
    #[command(after_help = "!upgrade adopt #community:example.org")]
    Adopt {
        /// The old room: the one that was replaced.
        #[arg(value_name = "old room")]
        room: String,
        /// What becomes of the rules of a policy room (ban list): I copy them, or they stay and both rooms are watched.
        #[arg(long, value_name = "what", value_parser = one_of(&Policies::WORDS))]
        policies: Option<Policies>,
        /// Begin at once, without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Approve a plan, or a new room under review.
    #[command(after_help = "!upgrade confirm 7")]
    Confirm {
        /// The number in the plan, such as `7`, or `C7` for a whole space.
        #[arg(value_name = "id")]
        id: String,
    },
    /// Drop a plan, or stop a job while that is still possible.
    #[command(after_help = "!upgrade cancel 7")]
    Cancel {
        /// The number of the plan or job.
        #[arg(value_name = "id")]
        id: String,
    },
    /// Pause after the current step. Without an id: everything.
    #[command(after_help = "!upgrade pause C7")]
    Pause {
        /// The number of the job or campaign.
        #[arg(value_name = "id")]
        id: Option<String>,
    },
    /// Resume after a pause. Without an id: everything.
    #[command(after_help = "!upgrade resume C7")]
    Resume {
        /// The number of the job or campaign.
        #[arg(value_name = "id")]
        id: Option<String>,
    },
    /// Show one upgrade, or all that are running.
    #[command(after_help = "!upgrade status 7")]
    Status {
        /// The number of a job, or its room.
        #[arg(value_name = "id|room")]
        job: Option<String>,
    },
    /// List the latest jobs.
    #[command(after_help = "!upgrade list --all")]
    List {
        /// List up to 100 jobs.
        #[arg(long)]
        all: bool,
    },
    /// Try again after a job got stuck.
    #[command(after_help = "!upgrade retry 7")]
    Retry {
        /// The number of the job.
        #[arg(value_name = "id")]
        id: String,
    },
    /// Compare the rooms once more, mend what can be mended, and tick off what is done.
    #[command(after_help = "!upgrade verify 7")]
    Verify {
        /// The number of the job, or its room.
        #[arg(value_name = "id|room")]
        job: String,
    },
    /// List the rooms I can upgrade, and what blocks the rest.
    #[command(after_help = "!upgrade rooms #community:example.org")]
    Rooms {
        /// Only the rooms of this space, nested ones too.
        #[arg(value_name = "space")]
        space: Option<String>,
    },
    /// Send the full log of an upgrade, as files.
    #[command(after_help = "!upgrade report 7")]
    Report {
        /// The number of the job.
        #[arg(value_name = "id")]
        id: String,
    },
    /// List members who have not joined the new room.
    #[command(after_help = "!upgrade stragglers 7")]
    Stragglers {
        /// The number of the job, or its room.
        #[arg(value_name = "id|room")]
        job: String,
    },
    /// Ping members who have not joined: show or change the schedule, or ping now.
    #[command(after_help = "!upgrade ping 7 1d,3d")]
    Ping {
        /// The number of the job, or its room.
        #[arg(value_name = "id|room")]
        job: String,
        /// `now`; `off`; or when from now on, such as `1d,3d`. Without it, I say what is planned.
        #[arg(value_name = "now|off|durations", allow_hyphen_values = true)]
        when: Vec<String>,
    },
    /// Health check: server, rate limits, encryption, database, clock, power levels.
    #[command(after_help = "!upgrade doctor")]
    Doctor {
        /// Have the server lift its rate limits from me. My account must be a server admin.
        #[arg(long, conflicts_with = "power")]
        lift_limits: bool,
        /// Have the server give me the power in a room that somebody of it has. My account must be
        /// a server admin.
        #[arg(long, value_name = "room")]
        power: Option<String>,
    },
    /// Explain the commands, or one of them.
    #[command(name = HELP_VERB, after_help = "!upgrade help plan")]
    Help {
        /// The command to explain.
        #[arg(value_name = "command")]
        command: Option<String>,
    },
}

/// The words that say what to upgrade, and how.
#[derive(Debug, Args)]
pub(super) struct UpgradeWords {
    /// The room: its address, its id, or a link to it.
    #[arg(value_name = "room")]
    pub(super) room: String,
    #[command(flatten)]
    pub(super) how: HowWords,
}

/// The words that say how.
#[derive(Debug, Args)]
pub(super) struct HowWords {
    /// The room version to upgrade to. Without it, the configured one.
    #[arg(value_name = "version")]
    pub(super) version: Option<String>,
    /// Same as [version].
    #[arg(long = "version", id = "version-option", value_name = "version")]
    pub(super) version_option: Vec<String>,
    /// Who creates the new room: the `server`, or me (`staged`). `auto` picks what suits the room.
    #[arg(long, value_name = "method", value_parser = one_of(&MethodChoice::WORDS))]
    pub(super) method: Option<MethodChoice>,
    /// Make the new room and let moderators look at it, before anybody is sent there.
    #[arg(long)]
    pub(super) review: bool,
    /// Who is invited to the new room.
    #[arg(long, value_name = "who", value_parser = one_of(&InvitePolicy::WORDS))]
    pub(super) invite: Option<InvitePolicy>,
    /// For invite-only rooms: `restricted` lets members of the old room join by themselves; `keep` leaves the join rule alone.
    #[arg(long, value_name = "rule", value_parser = one_of(&JoinRulePolicy::WORDS))]
    pub(super) join_rule: Option<JoinRulePolicy>,
    /// What becomes of the rules of a policy room (ban list): I copy them, or they stay and both rooms are watched.
    #[arg(long, value_name = "what", value_parser = one_of(&Policies::WORDS))]
    pub(super) policies: Option<Policies>,
    /// The type that the new room of a policy room gets; without it, that of the old room.
    #[arg(long, value_name = "type", value_parser = one_of(&RoomType::WORDS))]
    pub(super) room_type: Option<RoomType>,
    /// One more creator of the new room. Can be given several times.
    #[arg(long, value_name = "@user:server")]
    pub(super) creator: Vec<String>,
    /// Why, in quotation marks. Members will read it.
    #[arg(long, value_name = "text")]
    pub(super) reason: Option<String>,
    /// When those who have not come are pinged after the switch, such as `1d,3d,7d`; or `off`.
    #[arg(long, value_name = "durations|off", allow_hyphen_values = true)]
    pub(super) ping: Option<String>,
    /// When to begin, with the time zone: `20:00 Europe/Berlin` or `2026-12-01T20:00+01:00`.
    #[arg(long, value_name = "time")]
    pub(super) at: Option<String>,
    /// How long to wait before it begins, such as `2h` or `3d`.
    #[arg(long = "in", value_name = "duration")]
    pub(super) wait: Option<String>,
    /// Tell the members beforehand.
    #[arg(long)]
    pub(super) announce: bool,
}

/// One of some words, for what it stands for.
fn one_of<T: Copy + Send + Sync + 'static>(
    words: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let parser = PossibleValuesParser::new(words.iter().map(|(word, _)| *word));
    parser.try_map(|chosen| {
        let found = words.iter().find(|(word, _)| *word == chosen);
        found.map(|(_, value)| *value).ok_or("is no such word")
    })
}

/// The name of a command, to explain it. Only names of commands that exist can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// The name as it is typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a word is the name of a command. Phones capitalise, hence any case.
pub(super) fn is_verb(word: &str) -> bool {
    verb_name(word).is_some()
}

/// Finds the command that is explained under `word`.
///
/// # Errors
///
/// [`Problem::UnknownCommand`], with the most similar one.
pub(super) fn topic(word: &str) -> Result<Topic, Problem> {
    if let Some(name) = verb_name(word) {
        return Ok(Topic(name));
    }
    // clap knows what the word looks like.
    let suggestion = Line::try_parse_from([word]).err().and_then(|error| {
        if error.kind() == ErrorKind::InvalidSubcommand {
            suggested(&error)
        } else {
            None
        }
    });
    Err(Problem::UnknownCommand {
        word: Shown::from(word),
        suggestion,
    })
}

/// Puts the command in front that is meant, and names it. A first word that cannot be the beginning
/// of an upgrade stays, for clap to suggest what it could be.
pub(super) fn with_verb(mut words: Vec<String>) -> (Option<Topic>, Vec<String>) {
    let Some(first) = words.first_mut() else {
        return (None, words);
    };
    if let Some(name) = verb_name(first) {
        name.clone_into(first);
        return (Some(Topic(name)), words);
    }
    if first.starts_with(['#', '!', '@', '$', '-']) || first.contains([':', '/', '.']) {
        words.insert(0, DEFAULT_VERB.to_owned());
        return (Some(Topic(DEFAULT_VERB.to_owned())), words);
    }
    (None, words)
}

/// Sorts the words of a command.
///
/// # Errors
///
/// Whatever does not fit the grammar.
pub(super) fn parse(words: &[String]) -> Result<Verb, Problem> {
    Line::try_parse_from(words)
        .map(|line| line.verb)
        .map_err(|error| problem(&error))
}

fn verb_name(word: &str) -> Option<String> {
    let command = Line::command();
    let mut names = command.get_subcommands().map(clap::Command::get_name);
    names
        .find(|name| name.eq_ignore_ascii_case(word))
        .map(str::to_owned)
}

fn problem(error: &clap::Error) -> Problem {
    let argument = first_text(error, ContextKind::InvalidArg).unwrap_or_default();
    // clap names an option together with its value: `--reason <text>`.
    let option = Shown::from(
        argument
            .split_once(" <")
            .map_or(argument, |(option, _)| option),
    );
    match error.kind() {
        ErrorKind::InvalidSubcommand => Problem::UnknownCommand {
            word: first_text(error, ContextKind::InvalidSubcommand)
                .unwrap_or_default()
                .into(),
            suggestion: suggested(error),
        },
        ErrorKind::UnknownArgument if argument.starts_with('-') => Problem::UnknownOption {
            word: argument.into(),
            suggestion: first_text(error, ContextKind::SuggestedArg).map(str::to_owned),
        },
        ErrorKind::UnknownArgument => Problem::UnexpectedWord {
            word: argument.into(),
        },
        ErrorKind::MissingRequiredArgument => Problem::Missing {
            what: argument.to_owned(),
        },
        ErrorKind::InvalidValue => match first_text(error, ContextKind::InvalidValue) {
            None | Some("") => Problem::MissingValue { option },
            Some(word) => Problem::BadChoice {
                option,
                word: word.into(),
                known: texts(error, ContextKind::ValidValue)
                    .map(str::to_owned)
                    .collect(),
            },
        },
        ErrorKind::TooManyValues => Problem::NeedlessValue { option },
        ErrorKind::ArgumentConflict => Problem::Repeated { option },
        _ => Problem::Other,
    }
}

/// clap lists the most similar one last.
fn suggested(error: &clap::Error) -> Option<String> {
    texts(error, ContextKind::SuggestedSubcommand)
        .last()
        .map(str::to_owned)
}

fn first_text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    texts(error, kind).next()
}

fn texts(error: &clap::Error, kind: ContextKind) -> impl Iterator<Item = &str> {
    let texts = match error.get(kind) {
        Some(ContextValue::String(text)) => std::slice::from_ref(text),
        Some(ContextValue::Strings(texts)) => texts,
        _ => &[],
    };
    texts.iter().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Line::command().debug_assert();
    }

    #[test]
    fn methods_are_written_as_the_model_writes_them() {
        for (word, method) in MethodChoice::WORDS {
            assert_eq!(method.to_string(), word);
        }
    }
}
