//! The grammar of `!upgrade`: from a message to a [`Command`], or to an answer that says what is
//! wrong with it.
//!
//! Everything here is pure. Left out on purpose: who may do what (`permissions`), what a command
//! does (`handlers`), and which messages are read at all (edits, notices and the bot's own messages
//! are dropped before they get here).
//!
//! To add a command, add a variant to `grammar::Verb`, whose doc comment is its help, one to [`Command`], and
//! its arm in `from_words`.

mod address;
mod error;
mod from_words;
mod grammar;
mod help;
mod pills;
mod ping;
mod reference;
mod spread;
pub(crate) mod when;
mod words;

use std::time::Duration;

use ruma::RoomVersionId;

use self::from_words::read;

pub use self::address::addressed;
pub use self::error::{CommandError, Expected, Found, Problem, Shown};
pub use self::grammar::Topic;
pub use self::help::help;
use self::when::When;
use crate::model::{Confirmation, JobRef, RoomRef, UpgradeOptions, WorkId};

/// The word that a command begins with.
pub const PREFIX: &str = "!upgrade";

/// Longest command that is read, in bytes of the plain body without a quoted reply.
///
/// Room for a long reason and many creators; anything longer is a text that was pasted by accident.
pub const MAX_COMMAND_BYTES: usize = 4_000;

/// Longest `--reason`, in characters. Every member gets to read it.
pub const MAX_REASON_CHARS: usize = 500;

/// Most `--creator` options in one command.
pub const MAX_CREATORS: usize = 20;

/// A text message as it came from the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// `body` of the event.
    pub body: &'a str,
    /// `formatted_body` of the event, where its format is `org.matrix.custom.html`.
    pub formatted_body: Option<&'a str>,
}

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Upgrade a room, or only plan to.
    Upgrade(UpgradeCommand),
    /// Upgrade every room of a space, or only plan to.
    Space(SpaceCommand),
    /// Say yes to a plan.
    Confirm(WorkId),
    /// Give up a plan, or stop a job.
    Cancel(WorkId),
    /// Stop between steps for a while: one job or campaign, or everything.
    Pause(Option<WorkId>),
    /// Go on after a pause.
    Resume(Option<WorkId>),
    /// Show one job, or all active ones.
    Status(Option<JobRef>),
    /// Show the jobs there were.
    List(ListScope),
    /// Go on with a job that is stuck.
    Retry(WorkId),
    /// Compare the rooms of a job once more.
    Verify(JobRef),
    /// List the rooms that can be upgraded from here, or those of a space.
    Rooms(Option<RoomRef>),
    /// Send the full record of a job as files.
    Report(WorkId),
    /// Look after the bot itself.
    Doctor(DoctorAction),
    /// List who has not come to the new room.
    Stragglers(JobRef),
    /// Show or change when they are pinged.
    Ping(JobRef, PingCommand),
    /// Explain the commands, or one of them.
    Help(Option<Topic>),
}

/// What `!upgrade doctor` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoctorAction {
    /// Say how the bot is.
    Look,
    /// Have the server lift its rate limits from the bot.
    LiftLimits,
    /// Have the server give the bot power in a room.
    TakePower(RoomRef),
}

/// What `!upgrade ping` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PingCommand {
    /// Say what is planned.
    Show,
    /// Ping now.
    Now,
    /// End the follow-up.
    Off,
    /// Ping at these times from now on, shortest first.
    After(Vec<Duration>),
}

/// The words of `!upgrade <room>` and `!upgrade plan <room>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeCommand {
    /// The room to upgrade.
    pub room: RoomRef,
    /// How; the start is not filled in yet.
    pub options: UpgradeOptions,
    /// When it is to begin, as it was written.
    pub when: Option<When>,
    /// Whether to wait for a yes.
    pub confirmation: Confirmation,
}

/// The words of `!upgrade space <space>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceCommand {
    /// The space.
    pub space: RoomRef,
    /// How each of its rooms is upgraded; the start is not filled in yet.
    pub options: UpgradeOptions,
    /// When it is to begin, as it was written.
    pub when: Option<When>,
    /// These rooms only, if there are any.
    pub only: Vec<RoomRef>,
    /// Not these rooms.
    pub skip: Vec<RoomRef>,
    /// Rooms of this version only.
    pub from: Option<RoomVersionId>,
    /// Whether to wait for a yes.
    pub confirmation: Confirmation,
}

/// Which jobs `!upgrade list` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListScope {
    /// The latest.
    Recent,
    /// All there ever were.
    All,
}

/// What a sender must be allowed to do for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Ask: nothing changes in any room.
    Ask,
    /// Change rooms or jobs.
    Change,
}

impl PingCommand {
    /// What the sender must be allowed to do.
    #[must_use]
    pub fn needs(&self) -> Need {
        match self {
            Self::Show => Need::Ask,
            Self::Now | Self::Off | Self::After(_) => Need::Change,
        }
    }
}

impl Command {
    /// What the sender must be allowed to do.
    #[must_use]
    pub fn needs(&self) -> Need {
        match self {
            Self::Upgrade(UpgradeCommand { confirmation, .. })
            | Self::Space(SpaceCommand { confirmation, .. }) => match confirmation {
                Confirmation::PlanOnly => Need::Ask,
                Confirmation::Ask | Confirmation::Given => Need::Change,
            },
            Self::Status(_)
            | Self::List(_)
            | Self::Rooms(_)
            | Self::Report(_)
            | Self::Doctor(DoctorAction::Look)
            | Self::Stragglers(_)
            | Self::Help(_) => Need::Ask,
            Self::Confirm(_)
            | Self::Cancel(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Retry(_)
            | Self::Verify(_)
            | Self::Doctor(_) => Need::Change,
            Self::Ping(_, what) => what.needs(),
        }
    }
}

/// Whether a message with this body is a command. Cheap, for the receive loop.
///
/// [`parse`] returns `Some` for exactly these messages.
#[must_use]
pub fn concerns_us(body: &str) -> bool {
    arguments(without_quoted_reply(body)).is_some()
}

/// Reads a command. `None`: the message is not for us.
///
/// # Errors
///
/// The inner error says in its `Display` what is wrong and what to write instead; it is meant as
/// the answer to the sender.
#[must_use]
pub fn parse(message: &Incoming<'_>) -> Option<Result<Command, CommandError>> {
    let text = without_quoted_reply(message.body);
    let arguments_in_body = arguments(text)?;
    if text.len() > MAX_COMMAND_BYTES {
        let problem = Problem::TooLong { bytes: text.len() };
        return Some(Err(CommandError {
            problem,
            topic: None,
        }));
    }
    let with_links = message.formatted_body.and_then(pills::text_with_links);
    // The body decides whether a message is a command; HTML that says something else is ignored.
    let arguments = with_links
        .as_deref()
        .and_then(arguments)
        .unwrap_or(arguments_in_body);
    Some(read(arguments))
}

/// What follows the prefix, if `text` begins with it as a whole word. Phones capitalise the first
/// word of a message, hence any case.
fn arguments(text: &str) -> Option<&str> {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || words::is_invisible(c));
    let (prefix, rest) = text.split_at_checked(PREFIX.len())?;
    let rest = rest.trim_start_matches(words::is_invisible);
    let whole_word = rest.chars().next().is_none_or(char::is_whitespace);
    (prefix.eq_ignore_ascii_case(PREFIX) && whole_word).then_some(rest)
}

/// The body without the quotation that older clients put in front of a reply.
///
/// Its first line names the sender, `> <@user:server> text` or `> * <@user:server> text`; a quotation
/// that somebody typed does not, and stays.
fn without_quoted_reply(body: &str) -> &str {
    if !(body.starts_with("> <@") || body.starts_with("> * <@")) {
        return body;
    }
    let mut rest = body;
    while rest.starts_with('>') {
        rest = rest.split_once('\n').map_or("", |(_, after)| after);
    }
    rest
}

#[cfg(test)]
mod tests;
