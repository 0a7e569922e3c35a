//! What a post of the outbox is for.
//!
//! The key is stored as text: two posts with equal keys are one post, and a reaction to a question is
//! understood by reading the key of the question back. The texts are kept by databases, so they never change.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use ruma::{EventId, OwnedEventId, OwnedRoomId};
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::Phase;
use crate::model::{CampaignId, JobId, WorkId, WorkKey};

/// What a post is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostKey {
    /// Asks for a yes.
    Question(Question),
    /// A reaction of the bot below a question, to be clicked.
    Choice(Choice, Question),
    /// Takes [`Self::Choice`] back.
    ChoiceGone(Choice, Question),
    /// A reaction: a command is worked on.
    Acknowledged(OwnedEventId),
    /// Takes [`Self::Acknowledged`] back.
    AcknowledgedGone(OwnedEventId),
    /// A reaction: what became of a command.
    Ended(OwnedEventId),
    /// Answers a command or a reaction.
    Reply(OwnedEventId),
    /// The file with all rooms, for a command.
    Rooms(OwnedEventId),
    /// The picture of a move, for a command.
    Picture(OwnedEventId),
    /// The record of an upgrade, for a command.
    Record(OwnedEventId, RecordFormat),
    /// How far the planning of a campaign is.
    Planning(OwnedEventId),
    /// How far an upgrade or a campaign is.
    Progress(WorkKey),
    /// How an upgrade or a campaign ended, or why it cannot go on.
    Report {
        /// Where it stands.
        phase: Phase,
        /// Which.
        work: WorkKey,
        /// How often somebody asked for another try or another look before.
        asked: usize,
    },
    /// The server made this second room.
    SecondRoom(WorkKey, OwnedRoomId),
    /// Tells the old room when an upgrade begins; with how often it was told before.
    Announcement(WorkKey, usize),
    /// Tells the old room that what was announced does not come.
    CalledOff(WorkKey),
    /// Why what a command asked for begins late.
    Late(OwnedEventId),
    /// A last look at the to-dos failed; with the length of the log by then.
    Unchecked(WorkKey, usize),
    /// A ping was refused.
    PingRefused(WorkKey),
    /// The follow-up of an upgrade ended for the nth time.
    FollowUpEnded(u32, WorkKey),
    /// The same of a campaign.
    CampaignFollowUpEnded(CampaignId, u32),
    /// A job or campaign was set aside.
    SetAside(SetAside, WorkId),
    /// A room was closed.
    Tombstone {
        /// The tombstone, where its id is known.
        event: Option<OwnedEventId>,
        /// Why the bot does not go along; absent: it does, or there is nothing to go along to.
        stays: Option<Stays>,
        /// The room that is told.
        told: OwnedRoomId,
    },
    /// Another database has taken over.
    Replaced {
        /// The room that is told.
        told: OwnedRoomId,
        /// Since when.
        since: Timestamp,
    },
    /// The bot is not in an admin room any more.
    Lost {
        /// That room.
        room: OwnedRoomId,
        /// The room that is told.
        told: OwnedRoomId,
        /// When, in seconds.
        at: i64,
    },
    /// Said so often in an hour, and then no more.
    RateLimited {
        /// What it is about.
        about: Unasked,
        /// The room that is told.
        told: OwnedRoomId,
        /// The hour.
        hour: i64,
        /// How often it was said in that hour before.
        nth: usize,
    },
}

/// A message that asks for a yes. A reaction to it is bound to the plan with this hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub asked: Asked,
    /// Of which job or campaign.
    pub work: WorkKey,
    /// The hash of the plan.
    pub hash: String,
}

/// What a yes is asked to. A plan that was shown before, and is asked about again, is another message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The plan of a job.
    Plan {
        /// How often it was shown before.
        shown_before: usize,
    },
    /// The new room in review.
    Review,
    /// The plan of a campaign.
    Campaign {
        /// How often a plan of it was shown before.
        shown_before: usize,
    },
}

/// An answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Yes.
    Yes,
    /// No.
    No,
}

/// The form of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// Text.
    Txt,
    /// JSON.
    Json,
}

/// Why work was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetAside {
    /// Its log cannot be read.
    Unreadable,
    /// A bug.
    Panicked,
}

/// Why the bot stays in an admin room that was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stays {
    /// Who closed it may not command the bot, or the new room is not safe.
    Power,
    /// See [`crate::room::finding::FalseWhy`].
    NoRoom,
    /// The same.
    Itself,
    /// The same.
    CannotEnter,
    /// The same.
    NotPredecessor,
}

/// What is said without having been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unasked {
    /// A message cannot be decrypted.
    Unreadable,
    /// Somebody invited the bot.
    Invitation,
}

/// A text is no key of a post.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key of a post")]
pub struct InvalidPostKey(String);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, shown_before) = match self {
            Self::Plan { shown_before } => ("plan", *shown_before),
            Self::Review => ("review", 0),
            Self::Campaign { shown_before } => ("campaign", *shown_before),
        };
        f.write_str(word)?;
        match shown_before {
            0 => Ok(()),
            again => again.fmt(f),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.asked, self.work, self.hash)
    }
}

/// Enums without data are written by the names that serde has for them.
struct Word<T>(T);

impl<T: Serialize> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.serialize(f)
    }
}

impl PostKey {
    /// The command that the post belongs to, or that its work comes from.
    #[must_use]
    pub fn command(&self) -> Option<&EventId> {
        match self {
            Self::Question(question)
            | Self::Choice(_, question)
            | Self::ChoiceGone(_, question) => Some(&question.work.command),
            Self::Acknowledged(command)
            | Self::AcknowledgedGone(command)
            | Self::Ended(command)
            | Self::Reply(command)
            | Self::Rooms(command)
            | Self::Picture(command)
            | Self::Record(command, _)
            | Self::Planning(command)
            | Self::Late(command) => Some(command),
            Self::Progress(work)
            | Self::Report { work, .. }
            | Self::SecondRoom(work, _)
            | Self::Announcement(work, _)
            | Self::CalledOff(work)
            | Self::Unchecked(work, _)
            | Self::PingRefused(work)
            | Self::FollowUpEnded(_, work) => Some(&work.command),
            Self::CampaignFollowUpEnded(..)
            | Self::SetAside(..)
            | Self::Tombstone { .. }
            | Self::Replaced { .. }
            | Self::Lost { .. }
            | Self::RateLimited { .. } => None,
        }
    }
}

impl fmt::Display for PostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Question(question) => question.fmt(f),
            Self::Choice(choice, question) => write!(f, "{}:{question}", Word(choice)),
            Self::ChoiceGone(choice, question) => write!(f, "un{}:{question}", Word(choice)),
            Self::Acknowledged(event) => write!(f, "ack:{event}"),
            Self::AcknowledgedGone(event) => write!(f, "unack:{event}"),
            Self::Ended(event) => write!(f, "end:{event}"),
            Self::Reply(event) => write!(f, "reply:{event}"),
            Self::Rooms(event) => write!(f, "rooms:{event}"),
            Self::Picture(event) => write!(f, "picture:{event}"),
            Self::Record(event, format) => write!(f, "record:{event}:{}", Word(format)),
            Self::Planning(event) => write!(f, "planning:{event}"),
            Self::Progress(work) => write!(f, "progress:{work}"),
            Self::Report { phase, work, asked } => write!(f, "{}:{work}:{asked}", phase.name()),
            Self::SecondRoom(work, room) => write!(f, "second:{work}:{room}"),
            Self::Announcement(work, nth) => write!(f, "announcement:{work}:{nth}"),
            Self::CalledOff(work) => write!(f, "called-off:{work}"),
            Self::Late(event) => write!(f, "late:{event}"),
            Self::Unchecked(work, entries) => write!(f, "unchecked:{work}:{entries}"),
            Self::PingRefused(work) => write!(f, "ping-refused:{work}"),
            Self::FollowUpEnded(nth, work) => write!(f, "followed:{nth}:{work}"),
            Self::CampaignFollowUpEnded(id, nth) => write!(f, "followed:{id}:{nth}"),
            Self::SetAside(why, id) => write!(f, "{}:{id}", Word(why)),
            Self::Tombstone { event, stays, told } => {
                let event = event.as_ref().map_or("", |event| event.as_str());
                write!(f, "tombstone:{event}:")?;
                if let Some(why) = stays {
                    write!(f, "{}:", Word(why))?;
                }
                told.fmt(f)
            }
            Self::Replaced { told, since } => write!(f, "replaced:{told}:{since}"),
            Self::Lost { room, told, at } => write!(f, "lost:{room}:{told}:{at}"),
            Self::RateLimited {
                about,
                told,
                hour,
                nth,
            } => write!(f, "{}:{told}:{hour}:{nth}", Word(about)),
        }
    }
}

impl FromStr for PostKey {
    type Err = InvalidPostKey;

    fn from_str(key: &str) -> Result<Self, Self::Err> {
        read(key).ok_or_else(|| InvalidPostKey(key.to_owned()))
    }
}

/// Ids may have colons in them: what stands beside one is read from the end.
fn read(key: &str) -> Option<PostKey> {
    if let Some(question) = question(key) {
        return Some(PostKey::Question(question));
    }
    let (name, rest) = key.split_once(':')?;
    let event = || OwnedEventId::try_from(rest).ok();
    let work = || rest.parse().ok();
    Some(match name {
        "yes" | "no" => PostKey::Choice(word(name)?, question(rest)?),
        "unyes" | "unno" => PostKey::ChoiceGone(word(&name[2..])?, question(rest)?),
        "ack" => PostKey::Acknowledged(event()?),
        "unack" => PostKey::AcknowledgedGone(event()?),
        "end" => PostKey::Ended(event()?),
        "reply" => PostKey::Reply(event()?),
        "rooms" => PostKey::Rooms(event()?),
        "picture" => PostKey::Picture(event()?),
        "record" => {
            let (event, format) = rest.rsplit_once(':')?;
            PostKey::Record(event.try_into().ok()?, word(format)?)
        }
        "planning" => PostKey::Planning(event()?),
        "progress" => PostKey::Progress(work()?),
        "second" => {
            let (work, room) = before_room(rest)?;
            PostKey::SecondRoom(work.parse().ok()?, room)
        }
        "announcement" => {
            let (work, nth) = before_last(rest)?;
            PostKey::Announcement(work.parse().ok()?, nth)
        }
        "called-off" => PostKey::CalledOff(work()?),
        "late" => PostKey::Late(event()?),
        "unchecked" => {
            let (work, entries) = before_last(rest)?;
            PostKey::Unchecked(work.parse().ok()?, entries)
        }
        "ping-refused" => PostKey::PingRefused(work()?),
        "followed" => {
            let (first, second) = rest.split_once(':')?;
            match work_id(first)? {
                WorkId::Campaign(id) => PostKey::CampaignFollowUpEnded(id, second.parse().ok()?),
                WorkId::Job(_) => PostKey::FollowUpEnded(first.parse().ok()?, second.parse().ok()?),
            }
        }
        "unreadable" | "invitation" if rest.starts_with('!') => {
            let (rest, nth) = before_last(rest)?;
            let (told, hour) = before_last(rest)?;
            PostKey::RateLimited {
                about: word(name)?,
                told: told.try_into().ok()?,
                hour,
                nth,
            }
        }
        "unreadable" | "panicked" => PostKey::SetAside(word(name)?, work_id(rest)?),
        "tombstone" => {
            let (rest, told) = before_room(rest)?;
            let (event, stays) = match rest.rsplit_once(':') {
                Some((event, why)) if word::<Stays>(why).is_some() => (event, word(why)),
                _ => (rest, None),
            };
            let event = (!event.is_empty()).then(|| event.try_into());
            PostKey::Tombstone {
                event: event.transpose().ok()?,
                stays,
                told,
            }
        }
        "replaced" => {
            let ends = rest.match_indices(':').map(|(at, _)| rest.split_at(at));
            let mut parts = ends.map(|(told, since)| (told, since[1..].parse()));
            let (told, since) = parts.find(|(_, since)| since.is_ok())?;
            PostKey::Replaced {
                told: told.try_into().ok()?,
                since: since.ok()?,
            }
        }
        "lost" => {
            let (rooms, at) = before_last(rest)?;
            let (room, told) = before_room(rooms)?;
            PostKey::Lost {
                room: room.try_into().ok()?,
                told,
                at,
            }
        }
        _ => {
            let (work, asked) = before_last(rest)?;
            PostKey::Report {
                phase: word(name)?,
                work: work.parse().ok()?,
                asked,
            }
        }
    })
}

fn question(key: &str) -> Option<Question> {
    let (asked, rest) = key.split_once(':')?;
    let (work, hash) = rest.rsplit_once(':')?;
    let name = asked.trim_end_matches(|c: char| c.is_ascii_digit());
    let shown_before = match &asked[name.len()..] {
        "" => 0,
        again => again.parse().ok()?,
    };
    Some(Question {
        asked: match name {
            "plan" => Asked::Plan { shown_before },
            "review" => Asked::Review,
            "campaign" => Asked::Campaign { shown_before },
            _ => return None,
        },
        work: work.parse().ok()?,
        hash: hash.to_owned(),
    })
}

fn work_id(text: &str) -> Option<WorkId> {
    Some(match text.strip_prefix('C') {
        Some(number) => WorkId::Campaign(CampaignId(number.parse().ok()?)),
        None => WorkId::Job(JobId(text.parse().ok()?)),
    })
}

/// What stands after the last colon, and before it.
fn before_last<T: FromStr>(text: &str) -> Option<(&str, T)> {
    let (before, last) = text.rsplit_once(':')?;
    Some((before, last.parse().ok()?))
}

/// The room at the end, and what stands before it.
fn before_room(text: &str) -> Option<(&str, OwnedRoomId)> {
    let (before, _) = text.rsplit_once(":!")?;
    Some((before, text[before.len() + 1..].try_into().ok()?))
}

fn word<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    T::deserialize(StrDeserializer::<WordError>::new(text)).ok()
}

impl Serialize for PostKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PostKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        key.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
