//! What may have to be changed for an upgrade to be complete, and what was observed. Which changes those are is
//! the question of `diff`; how they are sent, of the worker.

use std::collections::BTreeMap;

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::finding::Holder;
use super::invitation::Role;
use super::join_rules::JOIN_RULES;
use super::state::{Content, Listing, RoomState, Slot, slot};
use super::target::is_link;

/// Both rooms and their surroundings as they are at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    pub old: RoomState,
    pub new: RoomState,
    /// Where each address of the target leads now.
    pub aliases: BTreeMap<OwnedRoomAliasId, Option<OwnedRoomId>>,
    /// Whether the directory lists the old room.
    pub old_listing: Listing,
    /// Whether the directory lists the new room.
    pub new_listing: Listing,
    /// When the old room was closed, if that was not the bot's doing; milliseconds since the
    /// epoch, 0 otherwise. What others set in the new room after it is their decision, and stays.
    pub since: u64,
    /// State of other rooms, as far as the target speaks of it. Empty content: no such event.
    pub others: BTreeMap<OwnedRoomId, BTreeMap<Slot, Content>>,
}

/// A change that is still to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A state event of the new room.
    NewState {
        /// Type and state key.
        slot: Slot,
        content: Content,
    },
    /// Somebody is to be banned from the new room.
    Ban {
        /// Who; plain text, as it may be no user id.
        user: String,
        /// The reason given in the old room.
        reason: Option<String>,
    },
    /// An address on the bot's server is to lead to the new room.
    MoveAlias {
        alias: OwnedRoomAliasId,
        /// Whether it leads anywhere now, and has to be taken away from there first.
        now: Option<OwnedRoomId>,
    },
    /// An address on another server still leads elsewhere. Only people there can move it.
    RemoteAlias {
        alias: OwnedRoomAliasId,
        now: Option<OwnedRoomId>,
        /// Who last changed what addresses the old room shows, and may know whose it is.
        #[serde(default)]
        shown_by: Option<OwnedUserId>,
    },
    /// The directory of another server lists the old room. Only people there can change that.
    RemoteListing { server: OwnedServerName },
    /// The addresses that a room shows. Content of `m.room.canonical_alias`.
    ShowAliases {
        side: Side,
        content: Content,
        /// Addresses that the new room does not show.
        #[serde(default)]
        missing: Vec<OwnedRoomAliasId>,
    },
    /// A room's place in the directory.
    List { side: Side, listing: Listing },
    /// A state event of another room.
    OtherState {
        room: OwnedRoomId,
        /// Type and state key.
        slot: Slot,
        content: Content,
    },
    /// The room names a space that the bot is not in: whether it lists the new room cannot be seen.
    UnseenSpace { space: OwnedRoomId },
    /// People need an invitation, and the bot was told to invite nobody.
    Uninvited { people: usize },
    /// Somebody is to be invited to the new room.
    Invite { user: OwnedUserId, role: Role },
    /// Somebody was invited to the new room who is needed there, and has not come yet.
    Arrival { user: OwnedUserId, role: Role },
    /// Somebody asked to be let into the old room, and waits. Only moderators decide about that.
    Knock { user: OwnedUserId },
    /// Somebody changed where the old room leads after it led to the new one. Only people can decide which
    /// of them is right.
    Tombstone {
        /// Where it leads; absent where it leads nowhere.
        now: Option<OwnedRoomId>,
        /// Who changed that, where that is known.
        by: Option<OwnedUserId>,
    },
    /// The old room is to be closed: content of its power levels.
    Lock { content: Content },
}

/// One of the two rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The one that is left.
    Old,
    /// The one that replaces it.
    New,
}

/// A part of the difference; one step closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// State and bans of the new room.
    Complete,
    /// Addresses, and which are shown.
    Aliases,
    Directory,
    /// Links between spaces and their rooms.
    Spaces,
    /// Join rules of other rooms.
    Access,
    /// Power levels of the old room.
    Lock,
    Invite,
}

/// Why the bot cannot make a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "obstacle", rename_all = "snake_case")]
pub enum Obstacle {
    /// It has too little power there.
    Power {
        room: OwnedRoomId,
        /// What people call it.
        label: String,
        /// Power that is needed.
        needed: i64,
        have: i64,
        holders: Vec<Holder>,
    },
    /// It is on another server.
    OtherServer,
    /// Somebody led it to a third room.
    LeadsElsewhere { room: OwnedRoomId },
    /// Only they can come.
    TheirMove,
    /// The server said no.
    Refused { code: String, message: String },
    /// It was sent and accepted, and still reads otherwise.
    DidNotTake,
}

impl Part {
    /// All of them, in the order in which they are closed.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::Aliases,
        Self::Directory,
        Self::Spaces,
        Self::Access,
        Self::Lock,
        Self::Invite,
    ];
}

impl Change {
    /// The part it belongs to.
    #[must_use]
    pub fn part(&self) -> Part {
        match self {
            Self::NewState { .. } | Self::Ban { .. } => Part::Complete,
            Self::MoveAlias { .. } | Self::RemoteAlias { .. } | Self::ShowAliases { .. } => {
                Part::Aliases
            }
            Self::List { .. } | Self::RemoteListing { .. } => Part::Directory,
            Self::OtherState { slot, .. } if slot.0 == JOIN_RULES => Part::Access,
            Self::OtherState { .. } | Self::UnseenSpace { .. } => Part::Spaces,
            Self::Lock { .. } | Self::Tombstone { .. } => Part::Lock,
            Self::Invite { .. }
            | Self::Arrival { .. }
            | Self::Knock { .. }
            | Self::Uninvited { .. } => Part::Invite,
        }
    }

    /// How many requests it takes.
    #[must_use]
    pub fn requests(&self) -> usize {
        match self {
            Self::MoveAlias { now: Some(_), .. } => 2,
            change if change.is_never_the_bots() => 0,
            _ => 1,
        }
    }

    /// Whether no account of the bot can ever make it.
    fn is_never_the_bots(&self) -> bool {
        matches!(
            self,
            Self::RemoteAlias { .. }
                | Self::RemoteListing { .. }
                | Self::Arrival { .. }
                | Self::Knock { .. }
                | Self::UnseenSpace { .. }
                | Self::Uninvited { .. }
                | Self::Tombstone { .. }
        )
    }

    /// Whether it is for people to make: the bot does not even try.
    #[must_use]
    pub fn is_for_people(&self, old_room: &RoomId) -> bool {
        match self {
            change if change.is_never_the_bots() => true,
            // Somebody led the address elsewhere on purpose.
            Self::MoveAlias { now, .. } => now.as_ref().is_some_and(|room| room != old_room),
            _ => false,
        }
    }

    /// Whether it could not be made before the other: an address is shown once it leads there.
    #[must_use]
    pub fn had_to_wait_for(&self, other: &Self) -> bool {
        matches!(self, Self::ShowAliases { .. })
            && matches!(other, Self::MoveAlias { .. } | Self::RemoteAlias { .. })
    }

    /// Whether it takes away what has no replacement yet (P11): the old room leaves the directory or a
    /// space only once the new one is there.
    #[must_use]
    pub fn is_too_early(&self, now: &Observed) -> bool {
        match self {
            Self::List {
                side: Side::Old,
                listing: Listing::Private,
            } => now.new_listing != Listing::Public,
            Self::OtherState {
                room,
                slot: (kind, key),
                content,
            } if kind == "m.space.child" && content.is_empty() => {
                let new_room = now.new.room_id.as_str();
                let links = now.others.get(room);
                let link = links.and_then(|links| links.get(&slot(kind, new_room)));
                key == now.old.room_id.as_str() && !link.is_some_and(is_link)
            }
            _ => false,
        }
    }

    /// Whether both are about the same thing, though it may be wanted otherwise now.
    #[must_use]
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NewState { slot: a, .. }, Self::NewState { slot: b, .. }) => a == b,
            (Self::Ban { user: a, .. }, Self::Ban { user: b, .. }) => a == b,
            (
                Self::Invite { user: a, .. } | Self::Arrival { user: a, .. },
                Self::Invite { user: b, .. } | Self::Arrival { user: b, .. },
            )
            | (Self::Knock { user: a }, Self::Knock { user: b }) => a == b,
            (
                Self::MoveAlias { alias: a, .. } | Self::RemoteAlias { alias: a, .. },
                Self::MoveAlias { alias: b, .. } | Self::RemoteAlias { alias: b, .. },
            ) => a == b,
            (Self::ShowAliases { side: a, .. }, Self::ShowAliases { side: b, .. })
            | (Self::List { side: a, .. }, Self::List { side: b, .. }) => a == b,
            (
                Self::OtherState {
                    room: a, slot: c, ..
                },
                Self::OtherState {
                    room: b, slot: d, ..
                },
            ) => a == b && c == d,
            (Self::RemoteListing { server: a }, Self::RemoteListing { server: b }) => a == b,
            (Self::UnseenSpace { space: a }, Self::UnseenSpace { space: b }) => a == b,
            // It can be seen by now.
            (Self::UnseenSpace { space }, Self::OtherState { room, .. })
            | (Self::OtherState { room, .. }, Self::UnseenSpace { space }) => room == space,
            (Self::Lock { .. }, Self::Lock { .. })
            | (Self::Uninvited { .. }, Self::Uninvited { .. })
            | (Self::Tombstone { .. }, Self::Tombstone { .. }) => true,
            _ => false,
        }
    }
}

impl Observed {
    /// What is there after a change was made, as far as this account can know without looking.
    pub fn apply(&mut self, change: &Change, bot: &UserId) {
        match change {
            Change::NewState { slot, content } => self.new.put(slot.clone(), bot, content.clone()),
            Change::Ban { user, reason } => {
                let mut ban = Content::new();
                ban.insert("membership".to_owned(), json!("ban"));
                if let Some(reason) = reason {
                    ban.insert("reason".to_owned(), json!(reason));
                }
                self.new.put(slot("m.room.member", user), bot, ban);
            }
            Change::MoveAlias { alias, .. } => {
                self.aliases
                    .insert(alias.clone(), Some(self.new.room_id.clone()));
            }
            Change::RemoteAlias { .. }
            | Change::RemoteListing { .. }
            | Change::Arrival { .. }
            | Change::Knock { .. }
            | Change::UnseenSpace { .. }
            | Change::Uninvited { .. }
            | Change::Tombstone { .. } => {}
            Change::Invite { user, .. } => {
                let mut invite = Content::new();
                invite.insert("membership".to_owned(), json!("invite"));
                self.new
                    .put(slot("m.room.member", user.as_str()), bot, invite);
            }
            Change::ShowAliases { side, content, .. } => {
                let room = match side {
                    Side::Old => &mut self.old,
                    Side::New => &mut self.new,
                };
                room.put(slot("m.room.canonical_alias", ""), bot, content.clone());
            }
            Change::List {
                side: Side::Old,
                listing,
            } => self.old_listing = *listing,
            Change::List {
                side: Side::New,
                listing,
            } => self.new_listing = *listing,
            Change::OtherState {
                room,
                slot,
                content,
            } => {
                self.others
                    .entry(room.clone())
                    .or_default()
                    .insert(slot.clone(), content.clone());
            }
            Change::Lock { content } => {
                self.old
                    .put(slot("m.room.power_levels", ""), bot, content.clone());
            }
        }
    }
}
