//! What is still to be changed: the target against what is there now. Pure.
//!
//! An upgrade is done when the difference is empty, or consists of what only people can do. Each
//! [`Change`] is a request that may be repeated; each belongs to one [`Part`], which one step
//! closes.

use std::collections::BTreeSet;

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId};
use serde_json::Value;

use super::addresses::{addresses_in, showable, shown_by_new, shown_by_old};
use super::change::{Change, Observed, Side};
use super::invitation::{Guest, Role};
use super::join_rules::{self, JOIN_RULES};
use super::power::POWER_LEVELS;
use super::state::{Content, Listing, Membership, RoomState, Slot, slot};
use super::target::{Target, is_link, via_of};

/// What is still to be changed, in the order in which it is to be done.
pub(crate) fn diff(target: &Target, now: &Observed) -> Vec<Change> {
    [
        new_state,
        bans,
        addresses,
        shown,
        listings,
        others,
        unseen_spaces,
        lock,
        guests,
        waiting,
        uninvited,
    ]
    .into_iter()
    .flat_map(|part| part(target, now))
    .collect()
}

fn new_state(target: &Target, now: &Observed) -> Vec<Change> {
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
    changes
}

fn bans(target: &Target, now: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
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
    changes
}

/// Whether an address leads to the new room.
fn leads_to_new(now: &Observed, alias: &OwnedRoomAliasId) -> bool {
    let leads_to = now.aliases.get(alias).and_then(Option::as_ref);
    leads_to == Some(&now.new.room_id)
}

/// Addresses that do not lead to the new room yet.
fn addresses(target: &Target, now: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    let leads_to = |alias: &OwnedRoomAliasId| now.aliases.get(alias).cloned().flatten();
    let mut to_move: Vec<_> = target.aliases.iter().collect();
    to_move.retain(|alias| !leads_to_new(now, alias));
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
        .filter(|alias| !leads_to_new(now, alias))
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
    changes
}

/// Addresses that the rooms do not show as they should.
fn shown(target: &Target, now: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    // An address can be shown by a room only once it leads there (Synapse refuses others). If one cannot
    // be moved, the others are shown all the same.
    let shown = shown_by_new(target, |alias| {
        target.aliases.contains(alias) || leads_to_new(now, alias)
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
        target.aliases.contains(alias) || leads_to_new(now, alias)
    }) {
        changes.push(Change::ShowAliases {
            side: Side::Old,
            content: rest,
            missing: Vec::new(),
        });
    }
    changes
}

fn listings(target: &Target, now: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
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
    changes
}

/// State of other rooms: spaces, and join rules.
fn others(target: &Target, now: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
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
    changes
}

fn unseen_spaces(target: &Target, now: &Observed) -> Vec<Change> {
    let is_named = |space: &&OwnedRoomId| {
        let named = now.new.content("m.space.parent", space.as_str());
        named.is_some_and(is_link)
    };
    let unseen = target.unseen_spaces.iter().filter(is_named).cloned();
    unseen.map(|space| Change::UnseenSpace { space }).collect()
}

fn lock(target: &Target, now: &Observed) -> Vec<Change> {
    let is_wanted = target.lock.is_some();
    let locked = is_wanted.then(|| super::power::locked(&now.old)).flatten();
    locked
        .map(|content| Change::Lock { content })
        .into_iter()
        .collect()
}

fn guests(target: &Target, now: &Observed) -> Vec<Change> {
    target
        .guests
        .iter()
        .filter_map(|guest| missing(guest, now))
        .collect()
}

/// People who need an invitation that the bot is not to send.
fn uninvited(target: &Target, now: &Observed) -> Vec<Change> {
    let is_missing = |user: &&OwnedUserId| {
        let slot = slot("m.room.member", user.as_str());
        let is_here = now.old.members(Membership::Join).any(|here| here == **user);
        is_here && !now.new.events.contains_key(&slot)
    };
    let people = target.uninvited.iter().filter(is_missing).count();
    (people > 0)
        .then_some(Change::Uninvited { people })
        .into_iter()
        .collect()
}

/// Join rules of another room that let in members of the new room in the place of those of the old one;
/// `None` where they do, or where it does not matter any more.
pub(crate) fn repointed_rules(rules: &Content, now: &Observed) -> Option<Content> {
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

#[cfg(test)]
mod tests;
