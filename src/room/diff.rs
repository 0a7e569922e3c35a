//! What is still to be changed: the target against what is there now. Pure.
//!
//! An upgrade is done when the difference is empty, or consists of what only people can do. Each
//! [`Change`] is a request that may be repeated; each belongs to one [`Part`], which one step
//! closes.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::finding::Holder;
use super::state::{Content, Listing, RoomState, Slot};
use super::target::{Target, is_link, slot, via_of};

/// Both rooms and their surroundings as they are at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The old room.
    pub old: RoomState,
    /// The new room.
    pub new: RoomState,
    /// Where each address of the target leads now.
    pub aliases: BTreeMap<OwnedRoomAliasId, Option<OwnedRoomId>>,
    /// Whether the directory lists the old room.
    pub old_listing: Listing,
    /// Whether the directory lists the new room.
    pub new_listing: Listing,
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
        /// Wanted content.
        content: Content,
    },
    /// Somebody is to be banned from the new room.
    Ban {
        /// Who.
        user: OwnedUserId,
        /// The reason given in the old room.
        reason: Option<String>,
    },
    /// An address on the bot's server is to lead to the new room.
    MoveAlias {
        /// The address.
        alias: OwnedRoomAliasId,
        /// Whether it leads anywhere now, and has to be taken away from there first.
        now: Option<OwnedRoomId>,
    },
    /// An address on another server still leads elsewhere. Only people there can move it.
    RemoteAlias {
        /// The address.
        alias: OwnedRoomAliasId,
        /// Where it leads.
        now: Option<OwnedRoomId>,
    },
    /// The addresses that a room shows. Content of `m.room.canonical_alias`.
    ShowAliases {
        /// Old or new.
        side: Side,
        /// Wanted content.
        content: Content,
    },
    /// A room's place in the directory.
    List {
        /// Old or new.
        side: Side,
        /// Wanted.
        listing: Listing,
    },
    /// A state event of another room.
    OtherState {
        /// The other room.
        room: OwnedRoomId,
        /// Type and state key.
        slot: Slot,
        /// Wanted content.
        content: Content,
    },
    /// The old room is to be closed: content of its power levels.
    Lock {
        /// Wanted content.
        content: Content,
    },
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
    /// The directory.
    Directory,
    /// Spaces and join rules of other rooms.
    Spaces,
    /// Power levels of the old room.
    Lock,
}

/// Why the bot cannot make a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "obstacle", rename_all = "snake_case")]
pub enum Obstacle {
    /// It has too little power there.
    Power {
        /// The room.
        room: OwnedRoomId,
        /// What people call it.
        label: String,
        /// Power that is needed.
        needed: i64,
        /// Power it has.
        have: i64,
        /// Who has enough.
        holders: Vec<Holder>,
    },
    /// It is on another server.
    OtherServer,
    /// The server said no.
    Refused {
        /// Matrix error code.
        code: String,
        /// The server's message.
        message: String,
    },
    /// It was sent and accepted, and still reads otherwise.
    DidNotTake,
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
            Self::List { .. } => Part::Directory,
            Self::OtherState { .. } => Part::Spaces,
            Self::Lock { .. } => Part::Lock,
        }
    }

    /// How many requests it takes.
    #[must_use]
    pub fn requests(&self) -> usize {
        match self {
            Self::MoveAlias { now: Some(_), .. } => 2,
            Self::RemoteAlias { .. } => 0,
            _ => 1,
        }
    }

    /// Whether only people on another server can make it.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::RemoteAlias { .. })
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
                self.new.put(slot("m.room.member", user.as_str()), bot, ban);
            }
            Change::MoveAlias { alias, .. } => {
                self.aliases
                    .insert(alias.clone(), Some(self.new.room_id.clone()));
            }
            Change::RemoteAlias { .. } => {}
            Change::ShowAliases { side, content } => {
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

/// What is still to be changed, in the order in which it is to be done.
#[must_use]
#[expect(
    clippy::too_many_lines,
    reason = "one paragraph per kind of change, in their order"
)]
pub fn diff(target: &Target, now: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();

    // Power first: what follows may need it.
    let levels_first = |slot: &&Slot| u8::from(slot.0 != "m.room.power_levels");
    let mut slots: Vec<&Slot> = target.new_state.keys().collect();
    slots.sort_by_key(levels_first);
    for slot in slots {
        let content = &target.new_state[slot];
        if now.new.content(&slot.0, &slot.1) != Some(content) {
            changes.push(Change::NewState {
                slot: slot.clone(),
                content: content.clone(),
            });
        }
    }

    let banned: BTreeSet<_> = now.new.bans().into_keys().collect();
    for (user, reason) in &target.bans {
        if !banned.contains(user) {
            changes.push(Change::Ban {
                user: user.clone(),
                reason: reason.clone(),
            });
        }
    }

    let leads_to_new = |alias: &OwnedRoomAliasId| {
        now.aliases
            .get(alias)
            .is_some_and(|room| room.as_ref() == Some(&now.new.room_id))
    };
    for alias in target.aliases.iter().filter(|alias| !leads_to_new(alias)) {
        let leads_to = now.aliases.get(alias).cloned().flatten();
        changes.push(Change::MoveAlias {
            alias: alias.clone(),
            now: leads_to,
        });
    }
    for alias in target
        .remote_aliases
        .iter()
        .filter(|alias| !leads_to_new(alias))
    {
        let leads_to = now.aliases.get(alias).cloned().flatten();
        changes.push(Change::RemoteAlias {
            alias: alias.clone(),
            now: leads_to,
        });
    }
    // An address can be shown by a room only once it leads there (Synapse refuses others).
    let shown = shown_by_new(target, |alias| {
        target.aliases.contains(alias) || leads_to_new(alias)
    });
    if !shown.is_empty() && now.new.content("m.room.canonical_alias", "") != Some(&shown) {
        changes.push(Change::ShowAliases {
            side: Side::New,
            content: shown,
        });
    }
    if let Some(rest) = shown_by_old(now, |alias| {
        target.aliases.contains(alias) || leads_to_new(alias)
    }) {
        changes.push(Change::ShowAliases {
            side: Side::Old,
            content: rest,
        });
    }

    if target.listing == Listing::Public {
        if now.new_listing != Listing::Public {
            changes.push(Change::List {
                side: Side::New,
                listing: Listing::Public,
            });
        }
        if now.old_listing != Listing::Private {
            changes.push(Change::List {
                side: Side::Old,
                listing: Listing::Private,
            });
        }
    }

    for (room, wanted) in &target.others {
        let there = now.others.get(room);
        let satisfied = |slot: &Slot, content: &Content| {
            let empty = Content::new();
            let now = there.and_then(|there| there.get(slot)).unwrap_or(&empty);
            is_satisfied(slot, content, now)
        };
        // The new link before the old one goes: nobody sees the room missing from its space.
        let mut slots: Vec<_> = wanted.iter().collect();
        slots.sort_by_key(|(_, content)| content.is_empty());
        for (slot, content) in slots {
            if !satisfied(slot, content) {
                changes.push(Change::OtherState {
                    room: room.clone(),
                    slot: slot.clone(),
                    content: content.clone(),
                });
            }
        }
    }

    if let Some(content) = target
        .lock
        .as_ref()
        .and_then(|_| super::power::locked(&now.old))
    {
        changes.push(Change::Lock { content });
    }
    changes
}

/// Whether what is there serves as what is wanted. A link serves with other servers in its `via`
/// too, as people and other bots may have put better ones there.
fn is_satisfied(slot: &Slot, wanted: &Content, now: &Content) -> bool {
    if slot.0 == "m.space.child" {
        if wanted.is_empty() {
            return !is_link(now);
        }
        let without_via = |content: &Content| {
            let mut rest = content.clone();
            rest.remove("via");
            rest
        };
        return !via_of(now).is_empty() && without_via(wanted) == without_via(now);
    }
    wanted == now
}

/// Content of the new room's canonical alias, with those addresses that may be shown.
fn shown_by_new(target: &Target, may: impl Fn(&OwnedRoomAliasId) -> bool) -> Content {
    let mut content = Content::new();
    if let Some(alias) = target.canonical.alias.as_ref().filter(|alias| may(alias)) {
        content.insert("alias".to_owned(), json!(alias));
    }
    let others: Vec<_> = target
        .canonical
        .alternatives
        .iter()
        .filter(|alias| may(alias))
        .collect();
    if !others.is_empty() {
        content.insert("alt_aliases".to_owned(), json!(others));
    }
    content
}

/// Content of the old room's canonical alias without the addresses that are moved; `None` where
/// it shows none of them.
fn shown_by_old(now: &Observed, moved: impl Fn(&OwnedRoomAliasId) -> bool) -> Option<Content> {
    let content = now.old.content("m.room.canonical_alias", "")?;
    let is_moved = |value: &Value| {
        value
            .as_str()
            .and_then(|alias| OwnedRoomAliasId::try_from(alias).ok())
            .is_some_and(|a| moved(&a))
    };
    let mut rest = content.clone();
    if rest.get("alias").is_some_and(is_moved) {
        rest.remove("alias");
    }
    if let Some(Value::Array(others)) = rest.get_mut("alt_aliases") {
        others.retain(|alias| !is_moved(alias));
        if others.is_empty() {
            rest.remove("alt_aliases");
        }
    }
    (rest != *content).then_some(rest)
}
