//! What a job is: a list of steps, fixed by its method, an append-only log, and the one decision
//! what comes next.
//!
//! The state of a job is a fold over its log ([`State::fold`]); [`State::next_action`] is the only
//! thing that decides, on the first run and after a crash alike. Pure: no clock, no database. Left
//! out: doing the steps (`worker`) and telling about them (`message`).

mod fold;
pub mod follow_up;
pub mod log;
pub mod plan;
pub mod schedule;
pub mod state;
pub mod summary;

pub use follow_up::{FollowUp, FollowUpEvent};
pub use log::{Entry, StepEvent, WaitReason};
pub use plan::{Asks, Counts, Plan};
pub use schedule::Schedule;
pub use state::{Action, Phase, State};
pub use summary::{Following, Summary};

use std::fmt;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::model::{CampaignId, Confirmation, Method, Review, RoomRef, UpgradeOptions, WorkKey};
use crate::room::change::{Change, Obstacle};
use crate::room::finding::Unreadable;
use crate::work::{self, Logged};

/// What was asked for, and where. Stored with the job, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The room as it was named.
    pub named: RoomRef,
    /// The room to be upgraded.
    pub old_room: OwnedRoomId,
    /// Version, creators and so on.
    pub options: UpgradeOptions,
    /// Whether a yes is needed.
    pub confirmation: Confirmation,
    /// Who asked.
    pub sender: OwnedUserId,
    /// Where they asked; the only room that is told about the job.
    pub admin_room: OwnedRoomId,
    /// The command.
    pub command_event: OwnedEventId,
    /// The campaign that the job is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Turn>,
}

impl Request {
    /// What belongs to this job and to no other.
    #[must_use]
    pub fn key(&self) -> WorkKey {
        let room = self.campaign.as_ref().map(|_| self.old_room.clone());
        WorkKey {
            command: self.command_event.clone(),
            room,
        }
    }
}

/// Since when the step at hand has waited for one rate limit without getting any further.
#[must_use]
pub fn limited_since(log: &[(Timestamp, Entry)]) -> Option<Timestamp> {
    let mut found: Option<(Timestamp, Option<log::Progress>)> = None;
    for (at, entry) in log.iter().rev() {
        let Entry::Step { event, .. } = entry else {
            break;
        };
        match event {
            StepEvent::Waiting {
                reason: WaitReason::RateLimit { .. },
                progress,
                ..
            } if found.is_none_or(|(_, known)| known == *progress) => {
                found = Some((*at, *progress));
            }
            // What a try leaves in the log before it is refused.
            StepEvent::Started | StepEvent::Called { .. } | StepEvent::Undone => {}
            _ => break,
        }
    }
    found.map(|(since, _)| since)
}

/// A job's turn in a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The campaign.
    pub campaign: CampaignId,
    /// When it goes: after all jobs of lower ranks.
    pub rank: u32,
    /// Whose yes it needs.
    pub consent: Consent,
}

/// Whose yes a job of a campaign needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// That to the campaign, whose plan shows it.
    Campaign,
    /// None, if its plan has this hash: that was confirmed when it was tried before.
    Given(String),
    /// One of its own.
    Own,
}

impl Turn {
    /// Who says yes to a plan with this hash.
    #[must_use]
    pub fn asks(&self, hash: &str) -> Asks {
        match &self.consent {
            Consent::Campaign => Asks::Campaign,
            Consent::Given(given) if given == hash => Asks::Campaign,
            Consent::Given(_) | Consent::Own => Asks::Itself,
        }
    }
}

/// A job as it is stored.
pub type Job = Logged<State>;

impl work::Request for Request {
    fn command(&self) -> &OwnedEventId {
        &self.command_event
    }

    fn admin_room(&self) -> &OwnedRoomId {
        &self.admin_room
    }

    fn admin_room_mut(&mut self) -> &mut OwnedRoomId {
        &mut self.admin_room
    }
}

impl Job {
    /// Where people are told of it, and the command as something to reply to there. Once the bot has closed
    /// its own admin room, people are in the new one; it follows as soon as sync tells, which may be after
    /// the end.
    #[must_use]
    pub fn told_in<'a>(&'a self, state: &'a State) -> (&'a OwnedRoomId, Option<OwnedEventId>) {
        let admin_room = &self.request.admin_room;
        let moved = state
            .new_room()
            .filter(|_| *admin_room == self.request.old_room);
        match moved {
            Some(new_room) => (new_room, None),
            None => (admin_room, self.reply_to()),
        }
    }

    /// When the old room began to lead to the new one.
    #[must_use]
    pub fn switched_at(&self) -> Option<Timestamp> {
        self.log.iter().find_map(|(at, entry)| match entry {
            Entry::Step {
                step: Step::Switch,
                event: StepEvent::Succeeded { .. },
            } => Some(*at),
            _ => None,
        })
    }

    /// Whether a step ever was about to send its one request: before that there is nothing to look for.
    #[must_use]
    pub fn may_have_sent(&self, step: Step) -> bool {
        self.log.iter().any(|(_, entry)| {
            matches!(
                entry,
                Entry::Step {
                    step: of,
                    event: StepEvent::Called { .. },
                } if *of == step
            )
        })
    }

    /// Whether it ended before the old room led anywhere, and may have left a room behind all the same.
    #[must_use]
    pub fn ended_in_doubt(&self) -> bool {
        let ended = self.state().is_ok_and(|state| {
            let is_over = matches!(
                state.phase,
                Phase::Failed | Phase::Cancelled | Phase::Expired
            );
            is_over && state.new_room().is_none()
        });
        ended
            && [Step::Create, Step::Switch]
                .into_iter()
                .any(|step| self.may_have_sent(step))
    }

    /// Whether nothing comes of it any more by itself: it has ended, and so has its follow-up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state().is_ok_and(|state| {
            let is_followed = state.follow_up.as_ref().is_some_and(FollowUp::is_open);
            state.phase.is_end() && state.next_action() == Action::Finished && !is_followed
        })
    }
}

/// A step of an upgrade, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reads the room and says what would happen. Before any confirmation.
    Plan,
    /// Reads the old room again, whole, and stores it.
    Snapshot,
    /// Makes the new room; nobody can find it yet.
    Create,
    /// Completes it while nobody is in it.
    Populate,
    /// Shows it to the moderators, who decide.
    Review,
    /// The point of no return.
    Switch,
    /// Mends what is still missing in the new room.
    Complete,
    /// Pinned messages of the old room, posted again in the new one.
    Pins,
    /// Addresses.
    Aliases,
    /// The published listing.
    Directory,
    /// Links between spaces and their rooms.
    Spaces,
    /// Join rules of other rooms that let in members of the old one.
    Access,
    /// Closes the old room.
    Lock,
    /// Bots, creators, and members who cannot enter by themselves.
    Invite,
    /// The linked message in the old room.
    Notice,
    /// Compares everything once more.
    Verify,
}

/// What follows the switch, whatever the method: the rest of a list of steps.
macro_rules! steps {
    ($($first:ident),+) => {
        [
            $(Step::$first,)+
            Step::Complete,
            Step::Pins,
            Step::Aliases,
            Step::Directory,
            Step::Spaces,
            Step::Access,
            Step::Lock,
            Step::Invite,
            Step::Notice,
            Step::Verify,
        ]
    };
}

const SERVER: [Step; 12] = steps!(Snapshot, Switch);
const STAGED: [Step; 14] = steps!(Snapshot, Create, Populate, Switch);
const STAGED_AND_REVIEWED: [Step; 15] = steps!(Snapshot, Create, Populate, Review, Switch);

impl Step {
    /// Steps after the confirmation, in order. The tombstone stands before any invitation: remote
    /// servers move their users' settings on the first join only if it already names the new room.
    /// Source: Synapse, `handlers/federation.py`, unverified predecessors.
    #[must_use]
    pub fn of(method: Method, review: Review) -> &'static [Self] {
        match (method, review) {
            (Method::Staged, Review::Wanted) => &STAGED_AND_REVIEWED,
            (Method::Staged, Review::Skip) => &STAGED,
            (Method::Server | Method::Adopt, _) => &SERVER,
        }
    }

    /// The name as it stands in the log and in texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Snapshot => "snapshot",
            Self::Create => "create",
            Self::Populate => "populate",
            Self::Review => "review",
            Self::Switch => "switch",
            Self::Complete => "complete",
            Self::Pins => "pins",
            Self::Aliases => "aliases",
            Self::Directory => "directory",
            Self::Spaces => "spaces",
            Self::Access => "access",
            Self::Lock => "lock",
            Self::Invite => "invite",
            Self::Notice => "notice",
            Self::Verify => "verify",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a finished step leaves for later ones and for a re-run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "output", rename_all = "snake_case")]
pub enum Output {
    /// Snapshot: stored beside the log.
    Stored,
    /// Create: the room that is to replace the old one.
    Created {
        /// Its id.
        new_room: OwnedRoomId,
    },
    /// Review: the new room was shown, and waits for a yes.
    Reviewed {
        /// Until when.
        until: Timestamp,
    },
    /// Switch: the room that replaces the old one.
    Switched {
        /// Its id.
        new_room: OwnedRoomId,
    },
    /// A part of the difference was closed.
    Closed {
        /// Changes made by this run.
        made: usize,
        /// Changes the server refused.
        refused: Vec<Refusal>,
    },
    /// Pins: the messages as they stand in the new room.
    Pinned {
        /// How many were posted again.
        count: usize,
        /// How many could not be read any more.
        lost: usize,
        /// Why none was posted, where nobody could read them in the new room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unreadable: Option<Unreadable>,
    },
    /// The message in the old room.
    Noticed {
        /// Its event; absent where it could not be sent.
        event: Option<OwnedEventId>,
        /// What the server refused.
        refused: Vec<Refusal>,
    },
    /// Both rooms were compared.
    Verified {
        /// What is left to do, and cannot be done by the bot.
        todos: Vec<Todo>,
        /// When to look again whether people have done it.
        recheck_at: Option<Timestamp>,
        /// Whether the upgrade encrypted the room.
        #[serde(default)]
        encryption: Encryption,
    },
}

/// Whether an upgrade encrypted a room, which nobody can undo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// It did not.
    #[default]
    AsBefore,
    /// The new room was made encrypted, and the old one is not.
    New,
}

impl Output {
    /// Whether a step leaves this.
    #[must_use]
    pub fn is_of(&self, step: Step) -> bool {
        match self {
            Self::Stored => step == Step::Snapshot,
            Self::Created { .. } => step == Step::Create,
            Self::Reviewed { .. } => step == Step::Review,
            Self::Switched { .. } => step == Step::Switch,
            Self::Pinned { .. } => step == Step::Pins,
            Self::Noticed { .. } => step == Step::Notice,
            Self::Verified { .. } => step == Step::Verify,
            Self::Closed { .. } => matches!(
                step,
                Step::Populate
                    | Step::Complete
                    | Step::Aliases
                    | Step::Directory
                    | Step::Spaces
                    | Step::Access
                    | Step::Lock
                    | Step::Invite
            ),
        }
    }
}

/// A change that the homeserver refused, in its words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// What was tried.
    pub change: Change,
    /// Matrix error code.
    pub code: String,
    /// The server's message.
    pub message: String,
}

/// Whether an error code of an invitation says that the invited server does not know the version of
/// the room. Source: Matrix specification, federation, `/invite`; Synapse passes it on as the second.
#[must_use]
pub fn is_incompatible(code: &str) -> bool {
    matches!(
        code,
        "M_INCOMPATIBLE_ROOM_VERSION" | "M_UNSUPPORTED_ROOM_VERSION"
    )
}

impl Refusal {
    /// The server of somebody who could not be invited because it does not know the room's version.
    #[must_use]
    pub fn incompatible_server(&self) -> Option<OwnedServerName> {
        match &self.change {
            Change::Invite { user, .. } if is_incompatible(&self.code) => {
                Some(user.server_name().to_owned())
            }
            _ => None,
        }
    }
}

/// Something that is left to do by people (P7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Todo {
    /// What is missing.
    pub change: Change,
    /// What hinders the bot.
    pub obstacle: Obstacle,
}

impl From<Refusal> for Todo {
    fn from(refusal: Refusal) -> Self {
        Self {
            change: refusal.change,
            obstacle: Obstacle::Refused {
                code: refusal.code,
                message: refusal.message,
            },
        }
    }
}

/// Why a change is missing that the bot tried and may make, by what was refused.
#[must_use]
pub fn why_missing(change: &Change, refused: &[Refusal]) -> Obstacle {
    let refusal = refused
        .iter()
        .find(|refusal| refusal.change.is_about_the_same(change));
    refusal.map_or(Obstacle::DidNotTake, |refusal| {
        Todo::from(refusal.clone()).obstacle
    })
}

#[cfg(test)]
mod tests;
