//! Why a step cannot be done, for people. Stored with the job as text.

use std::fmt;

use ruma::{OwnedRoomId, OwnedUserId};

/// What a server said with a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub message: String,
    /// The Matrix error code.
    pub code: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// Why a step cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// What is stored is missing or cannot be read: what it is.
    Stored(String),
    /// A template of the configuration cannot be rendered.
    Template(String),
    /// The program has a bug: what it said.
    Bug(String),
    /// The server refused something.
    Refused { request: String, said: Said },
    /// The server's answer makes no sense.
    UnknownAnswer,
    /// The server does not answer one of several changes: what was asked.
    ChangeUnanswered(String),
    /// Nothing came of making the room.
    RoomNotMade,
    /// The server refused to make the room.
    RoomRefused(Said),
    /// Somebody closed the new room before the switch.
    NewRoomClosed(OwnedUserId),
    /// The server refused the tombstone.
    TombstoneRefused(Said),
    /// The server answers `/upgrade` with the room of an earlier one.
    UpgradeRemembered(OwnedRoomId),
    /// The server says that somebody else is upgrading the room.
    UpgradeInProgress,
    /// The server has no `/upgrade`: the HTTP status it answered with.
    NoUpgradeOfItsOwn(u16),
    /// The server refused `/upgrade`.
    UpgradeRefused(Said),
    /// Nothing came of `/upgrade`.
    UpgradeNotDone,
    /// The bot is not in the old room.
    NotInOldRoom,
    /// It is not in the new one.
    NotInNewRoom,
    /// Somebody else upgraded the room.
    Overtaken {
        by: OwnedUserId,
        /// Where it points to.
        to: OwnedRoomId,
        old_room: OwnedRoomId,
    },
    /// The room that somebody upgraded does not point to its replacement any more.
    NotReplaced,
    /// The server encrypts every new room.
    EncryptsEveryRoom,
    /// Something is in the way by now.
    Blocked,
    /// The room the command stands in is no admin room any more.
    NoAdminRoom,
    /// Who said yes is not in the admin room any more.
    NotInAdminRoom(OwnedUserId),
    /// Who said yes may not upgrade the room any more.
    NotAllowed(OwnedUserId),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(what) => write!(f, "What I stored of it cannot be used: {what}."),
            Self::Template(why) => f.write_str(why),
            Self::Bug(said) => write!(f, "A bug stopped me here: {said}."),
            Self::Refused { request, said } => {
                write!(f, "The server refused a request ({}): {said}.", request.trim())
            }
            Self::UnknownAnswer => {
                f.write_str("The server gave an answer that I do not understand.")
            }
            Self::ChangeUnanswered(request) => {
                write!(f, "The server fails at one of the changes ({}).", request.trim())
            }
            Self::RoomNotMade => f.write_str("The server did not make the new room."),
            Self::RoomRefused(said) => write!(f, "The server refused to make the new room: {said}."),
            Self::NewRoomClosed(by) => {
                write!(f, "{by} closed the new room before anybody was sent there.")
            }
            Self::TombstoneRefused(said) => {
                write!(f, "The server did not let me close the old room: {said}.")
            }
            Self::UpgradeRemembered(room) => write!(
                f,
                "The server answers with {room}, the room of an earlier upgrade, which it remembers for five \
                 minutes."
            ),
            Self::UpgradeInProgress => f.write_str(
                "The server says that somebody else is upgrading this room. Synapse says so for five minutes \
                 after such an upgrade, too.",
            ),
            Self::NoUpgradeOfItsOwn(status) => write!(
                f,
                "This server has no upgrade of its own (error {status}). Send the command again with \
                 `--method staged`, and I make the new room myself."
            ),
            Self::UpgradeRefused(said) => write!(f, "The server refused the upgrade: {said}."),
            Self::UpgradeNotDone => f.write_str("The server did not carry out the upgrade."),
            Self::NotInOldRoom => f.write_str("I am not in the old room any more."),
            Self::NotInNewRoom => f.write_str("I am not in the new room any more."),
            Self::Overtaken { by, to, old_room } => write!(
                f,
                "{by} upgraded this room meanwhile; it leads to `{to}`. I changed nothing in it, and no room \
                 of mine is left. `!upgrade adopt {old_room}` finishes what they began."
            ),
            Self::NotReplaced => {
                f.write_str("The old room does not lead to a room that replaces it any more.")
            }
            Self::EncryptsEveryRoom => f.write_str(
                "This server encrypts every new room, which cannot be undone, and the old room is not \
                 encrypted. Its admin can change that (`encryption_enabled_by_default_for_room_type` on \
                 Synapse).",
            ),
            Self::Blocked => f.write_str(
                "Something is in the way of the upgrade by now. Send the command again to see what.",
            ),
            Self::NoAdminRoom => {
                f.write_str("The room this was asked in is no admin room any more.")
            }
            Self::NotInAdminRoom(user) => write!(
                f,
                "{user} is not in the room any more in which this was asked for."
            ),
            Self::NotAllowed(user) => write!(f, "{user} may not upgrade this room any more."),
        }
    }
}
