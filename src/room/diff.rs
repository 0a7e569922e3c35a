//! What is still to be changed: the target against what is there now. Pure.
//!
//! An upgrade is done when the difference is empty, or consists of what only people can do. Each
//! [`Change`] is a request that may be repeated; each belongs to one [`Part`], which one step
//! closes.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::finding::Holder;
use super::invitation::{Guest, Role};
use super::join_rules::{self, JOIN_RULES};
use super::power::POWER_LEVELS;
use super::state::{Content, Listing, Membership, RoomState, Slot};
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
        /// Wanted content.
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
        /// Who last changed what addresses the old room shows, and may know whose it is.
        #[serde(default)]
        shown_by: Option<OwnedUserId>,
    },
    /// The directory of another server lists the old room. Only people there can change that.
    RemoteListing {
        /// The server.
        server: OwnedServerName,
    },
    /// The addresses that a room shows. Content of `m.room.canonical_alias`.
    ShowAliases {
        /// Old or new.
        side: Side,
        /// Wanted content.
        content: Content,
        /// Addresses that the new room does not show.
        #[serde(default)]
        missing: Vec<OwnedRoomAliasId>,
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
    /// The room names a space that the bot is not in: whether it lists the new room cannot be seen.
    UnseenSpace {
        /// Which.
        space: OwnedRoomId,
    },
    /// People need an invitation, and the bot was told to invite nobody.
    Uninvited {
        /// How many.
        people: usize,
    },
    /// Somebody is to be invited to the new room.
    Invite {
        /// Who.
        user: OwnedUserId,
        /// As what.
        role: Role,
    },
    /// Somebody was invited to the new room who is needed there, and has not come yet.
    Arrival {
        /// Who.
        user: OwnedUserId,
        /// As what.
        role: Role,
    },
    /// Somebody asked to be let into the old room, and waits. Only moderators decide about that.
    Knock {
        /// Who.
        user: OwnedUserId,
    },
    /// Somebody changed where the old room leads after it led to the new one. Only people can decide which
    /// of them is right.
    Tombstone {
        /// Where it leads; absent where it leads nowhere.
        now: Option<OwnedRoomId>,
        /// Who changed that, where that is known.
        by: Option<OwnedUserId>,
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
    /// Links between spaces and their rooms.
    Spaces,
    /// Join rules of other rooms.
    Access,
    /// Power levels of the old room.
    Lock,
    /// Invitations.
    Invite,
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
    /// Somebody led it to a third room.
    LeadsElsewhere {
        /// Which.
        room: OwnedRoomId,
    },
    /// Only they can come.
    TheirMove,
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

/// What is still to be changed, in the order in which it is to be done.
#[must_use]
#[expect(
    clippy::too_many_lines,
    reason = "one paragraph per kind of change, in their order"
)]
pub fn diff(target: &Target, now: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();

    // Power first, as what follows may need it; but last where the bot gives up what it has.
    let levels = slot(POWER_LEVELS, "");
    let create = now.new.event("m.room.create", "").cloned();
    let mut to_be = RoomState::new(now.new.room_id.clone(), create);
    if let Some(content) = target.new_state.get(&levels) {
        to_be.put(levels, &target.bot, content.clone());
    }
    let gives_up = to_be.power().power(&target.bot) < now.new.power().power(&target.bot);
    let mut slots: Vec<&Slot> = target.new_state.keys().collect();
    slots.sort_by_key(|slot| match slot.0 == POWER_LEVELS {
        true if gives_up => 2,
        true => 0,
        false => 1,
    });
    for slot in slots {
        let content = &target.new_state[slot];
        if now.new.content(&slot.0, &slot.1) != Some(content) && !is_theirs(target, now, slot) {
            changes.push(Change::NewState {
                slot: slot.clone(),
                content: content.clone(),
            });
        }
    }

    let banned: BTreeSet<_> = now.new.bans().into_keys().collect();
    for (user, reason) in &target.bans {
        let member = slot("m.room.member", user);
        let lifted = is_theirs(target, now, &member)
            && now
                .new
                .event(&member.0, &member.1)
                .map(|e| e.sender.as_str())
                != Some(user);
        if !banned.contains(user) && !lifted {
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
    let leads_to = |alias: &OwnedRoomAliasId| now.aliases.get(alias).cloned().flatten();
    let mut to_move: Vec<_> = target.aliases.iter().collect();
    to_move.retain(|alias| !leads_to_new(alias));
    // What leads nowhere is first. The main one is last: where the server stops showing it in the old room, the
    // new one shows it next (P11).
    let is_main = |alias: &OwnedRoomAliasId| target.canonical.alias.as_ref() == Some(alias);
    to_move.sort_by_key(|alias| (leads_to(alias).is_some(), is_main(alias)));
    changes.extend(to_move.into_iter().map(|alias| Change::MoveAlias {
        alias: alias.clone(),
        now: leads_to(alias),
    }));
    for alias in target
        .remote_aliases
        .iter()
        .filter(|alias| !leads_to_new(alias))
    {
        let shown = now.old.event("m.room.canonical_alias", "");
        changes.push(Change::RemoteAlias {
            alias: alias.clone(),
            now: leads_to(alias),
            shown_by: shown
                .map(|event| event.sender.clone())
                .filter(|user| *user != target.bot),
        });
    }
    // An address can be shown by a room only once it leads there (Synapse refuses others). If one cannot
    // be moved, the others are shown all the same.
    let shown = shown_by_new(target, |alias| {
        target.aliases.contains(alias) || leads_to_new(alias)
    });
    let showing = slot("m.room.canonical_alias", "");
    let there = now.new.content(&showing.0, &showing.1);
    if !shown.is_empty()
        && there != Some(&shown)
        && there != Some(&showable(target, now))
        && !is_theirs(target, now, &showing)
    {
        let there = there.map(addresses_in).unwrap_or_default();
        changes.push(Change::ShowAliases {
            side: Side::New,
            missing: addresses_in(&shown)
                .into_iter()
                .filter(|alias| !there.contains(alias))
                .collect(),
            content: shown,
        });
    }
    // Last: until then the old room shows what leads to it (P11).
    if let Some(rest) = shown_by_old(target, now, |alias| {
        target.aliases.contains(alias) || leads_to_new(alias)
    }) {
        changes.push(Change::ShowAliases {
            side: Side::Old,
            content: rest,
            missing: Vec::new(),
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
            let rules = there.and_then(|there| there.get(slot));
            if let Some(rules) = rules.filter(|rules| slot.0 == JOIN_RULES && !rules.is_empty()) {
                // Made from what is there: others may have changed it since the upgrade began.
                if let Some(content) = repointed_rules(rules, now) {
                    changes.push(Change::OtherState {
                        room: room.clone(),
                        slot: slot.clone(),
                        content,
                    });
                }
                continue;
            }
            if !satisfied(slot, content) {
                changes.push(Change::OtherState {
                    room: room.clone(),
                    slot: slot.clone(),
                    content: content.clone(),
                });
            }
        }
    }

    changes.extend(
        target
            .unseen_spaces
            .iter()
            .filter(|space| {
                let named = now.new.content("m.space.parent", space.as_str());
                named.is_some_and(is_link)
            })
            .map(|space| Change::UnseenSpace {
                space: space.clone(),
            }),
    );
    if let Some(content) = target
        .lock
        .as_ref()
        .and_then(|_| super::power::locked(&now.old))
    {
        changes.push(Change::Lock { content });
    }
    changes.extend(target.guests.iter().filter_map(|guest| missing(guest, now)));
    changes.extend(waiting(target, now));
    let is_missing = |user: &&OwnedUserId| {
        let slot = slot("m.room.member", user.as_str());
        let is_here = now.old.members(Membership::Join).any(|here| here == **user);
        is_here && !now.new.events.contains_key(&slot)
    };
    let people = target.uninvited.iter().filter(is_missing).count();
    if people > 0 {
        changes.push(Change::Uninvited { people });
    }
    changes
}

/// Join rules of another room that let in members of the new room in the place of those of the old one;
/// `None` where they do, or where it does not matter any more.
#[must_use]
pub fn repointed_rules(rules: &Content, now: &Observed) -> Option<Content> {
    let (old, new) = (&now.old.room_id, &now.new.room_id);
    if join_rules::lets_in(rules, new) {
        return None;
    }
    join_rules::repointed(rules, old, new)
}

/// Whether somebody else decided this in the new room, after the old one was closed. A mere copy of
/// what stands in the old room is no decision.
fn is_theirs(target: &Target, now: &Observed, slot: &Slot) -> bool {
    now.new.event(&slot.0, &slot.1).is_some_and(|event| {
        event.sender != target.bot
            && event.origin_server_ts > now.since
            && now.old.content(&slot.0, &slot.1) != Some(&event.content)
    })
}

/// What a guest still lacks. Who declined, was removed or is banned is left alone.
fn missing(guest: &Guest, now: &Observed) -> Option<Change> {
    let Guest { user, role } = guest.clone();
    let membership = now
        .new
        .content("m.room.member", user.as_str())
        .and_then(|content| content.get("membership"))
        .and_then(Value::as_str);
    match membership {
        None | Some("knock") => Some(Change::Invite { user, role }),
        Some("invite") if role != Role::Member => Some(Change::Arrival { user, role }),
        Some(_) => None,
    }
}

/// Those who knocked on the old room and have no answer in either room. They are no members of the old one,
/// so nobody tells them where it leads; a room that anybody can join asks no moderator.
fn waiting(target: &Target, now: &Observed) -> Vec<Change> {
    let rules = target.new_state.get(&slot(JOIN_RULES, ""));
    if rules.and_then(|rules| rules.get("join_rule")?.as_str()) == Some("public") {
        return Vec::new();
    }
    let is_known = |user: &OwnedUserId| {
        let is_guest = target.guests.iter().any(|guest| guest.user == *user);
        is_guest || now.new.event("m.room.member", user.as_str()).is_some()
    };
    let knocking = now.old.members(Membership::Knock);
    knocking
        .filter(|user| !is_known(user))
        .map(|user| Change::Knock { user })
        .collect()
}

/// Whether what is there serves as what is wanted. A link serves with other servers in its `via`
/// too, as people and other bots may have put better ones there.
fn is_satisfied(slot: &Slot, wanted: &Content, now: &Content) -> bool {
    if slot.0 == "m.space.child" {
        if wanted.is_empty() {
            return !is_link(now);
        }
        // A link that is there was put there by the bot, or by people who had their reasons; only
        // one that says nothing about its place gets the old one's.
        let is_placed = |content: &Content| {
            ["order", "suggested"]
                .iter()
                .any(|key| content.contains_key(*key))
        };
        return !via_of(now).is_empty() && (is_placed(now) || !is_placed(wanted));
    }
    if slot.0 == "m.space.parent" {
        return is_link(wanted) == is_link(now);
    }
    wanted == now
}

/// Content of the new room's canonical alias, with the addresses that lead there by now.
#[must_use]
pub fn showable(target: &Target, now: &Observed) -> Content {
    let leads_to_new = |alias: &OwnedRoomAliasId| {
        let leads_to = now.aliases.get(alias).and_then(Option::as_ref);
        leads_to == Some(&now.new.room_id)
    };
    shown_by_new(target, leads_to_new)
}

/// Content of the old room's canonical alias without the addresses that lead to the new room by now, and with
/// those that went back; `None` where it shows just that.
#[must_use]
pub fn left_in_old(target: &Target, now: &Observed) -> Option<Content> {
    let new_room = Some(&now.new.room_id);
    shown_by_old(target, now, |alias| {
        now.aliases.get(alias).and_then(Option::as_ref) == new_room
    })
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

/// Content of the old room's canonical alias without the addresses that are moved, and with those that the server
/// stopped showing as the bot removed them, and that lead there again; `None` where it shows just that.
fn shown_by_old(
    target: &Target,
    now: &Observed,
    moved: impl Fn(&OwnedRoomAliasId) -> bool,
) -> Option<Content> {
    let shown = now.old.event("m.room.canonical_alias", "")?;
    let mut rest = without(&shown.content, moved);
    if shown.sender == target.bot {
        let old_room = Some(&now.old.room_id);
        let went_back = |alias: &&OwnedRoomAliasId| {
            let leads_to = now.aliases.get(*alias).and_then(Option::as_ref);
            leads_to == old_room && target.aliases.contains(*alias)
        };
        if let Some(alias) = target.canonical.alias.as_ref().filter(went_back) {
            rest.entry("alias").or_insert_with(|| json!(alias));
        }
        let there = addresses_in(&rest);
        let others = target.canonical.alternatives.iter().filter(went_back);
        for alias in others.filter(|alias| !there.contains(alias)) {
            let others = rest.entry("alt_aliases").or_insert_with(|| json!([]));
            if let Value::Array(others) = others {
                others.push(json!(alias));
            }
        }
    }
    (rest != shown.content).then_some(rest)
}

/// The addresses that are shown, the main one first.
#[must_use]
pub fn addresses_in(content: &Content) -> Vec<OwnedRoomAliasId> {
    let others = content.get("alt_aliases").and_then(Value::as_array);
    let all = content
        .get("alias")
        .into_iter()
        .chain(others.into_iter().flatten());
    all.filter_map(|alias| OwnedRoomAliasId::try_from(alias.as_str()?).ok())
        .collect()
}

/// What is shown, without some addresses.
#[must_use]
pub fn without(content: &Content, left_out: impl Fn(&OwnedRoomAliasId) -> bool) -> Content {
    let is_left_out = |value: &Value| {
        value
            .as_str()
            .and_then(|alias| OwnedRoomAliasId::try_from(alias).ok())
            .is_some_and(|alias| left_out(&alias))
    };
    let mut rest = content.clone();
    if rest.get("alias").is_some_and(is_left_out) {
        rest.remove("alias");
    }
    if let Some(Value::Array(others)) = rest.get_mut("alt_aliases") {
        others.retain(|alias| !is_left_out(alias));
        if others.is_empty() {
            rest.remove("alt_aliases");
        }
    }
    rest
}

#[cfg(test)]
mod tests;
