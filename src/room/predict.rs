//! What the rooms will look like right after the switch, before the bot mends the rest.
//!
//! For estimates, for saying beforehand what the bot may not do, and for going on after a switch of
//! its own without reading again what it read just before. Whether it came true is read from the
//! server in the end (`verify`). Source: Synapse 1.163, `clone_existing_room` and what follows it; other
//! servers do less, so that the estimate is a little low there.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomAliasId, OwnedRoomId, RoomId};
use serde_json::json;

use super::authority::shortage;
use super::change::Observed;
use super::intent::Intent;
use super::power;
use super::state::{Content, Listing, RoomState, Slot, Snapshot, content, slot};
use super::target::Target;
use crate::model::Method;

/// Types that Synapse copies.
const COPIED: [&str; 8] = [
    "m.room.join_rules",
    "m.room.name",
    "m.room.topic",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.avatar",
    "m.room.encryption",
    "m.room.server_acl",
];

/// The rooms right after the switch.
pub(crate) fn after_switch(
    old: &Snapshot,
    intent: &Intent,
    target: &Target,
    new_room: &RoomId,
) -> Observed {
    if intent.method == Method::Server {
        return after_server_upgrade(old, intent, new_room);
    }
    let mut new = RoomState::new(new_room.to_owned(), []);
    for (slot, content) in &target.new_state {
        new.put(slot.clone(), &intent.bot, content.clone());
    }
    let ban = content(json!({"membership": "ban"}));
    for user in target.bans.keys() {
        new.put(slot("m.room.member", user), &intent.bot, ban.clone());
    }
    let lead_to = |aliases: &BTreeSet<OwnedRoomAliasId>| -> Vec<_> {
        aliases
            .iter()
            .map(|alias| (alias.clone(), Some(old.room.room_id.clone())))
            .collect()
    };
    Observed {
        since: 0,
        aliases: [lead_to(&target.aliases), lead_to(&target.remote_aliases)]
            .concat()
            .into_iter()
            .collect(),
        old: old.room.clone(),
        new,
        old_listing: old.listing,
        new_listing: Listing::Private,
        others: others(old),
    }
}

/// The rooms right after the server's own upgrade.
fn after_server_upgrade(old: &Snapshot, intent: &Intent, new_room: &RoomId) -> Observed {
    let mut new = RoomState::new(new_room.to_owned(), []);
    let is_space = old.room.is_space();
    for (key, event) in &old.room.events {
        let copied = COPIED.contains(&key.0.as_str()) && key.1.is_empty();
        let child = is_space && key.0 == "m.space.child" && !event.content.is_empty();
        let ban = event.content.get("membership").and_then(|m| m.as_str()) == Some("ban");
        if copied || child || (key.0 == "m.room.member" && ban) {
            new.put(key.clone(), &intent.bot, event.content.clone());
        }
    }
    let mut lone = old.room.clone();
    let may_close = shortage(&lone, &intent.bot, power::POWER_LEVELS).is_none();
    if let Some(levels) = power::locked(&lone).filter(|_| may_close) {
        lone.put(slot("m.room.power_levels", ""), &intent.bot, levels);
    }
    if let Some(shown) = old.room.content("m.room.canonical_alias", "") {
        new.put(
            slot("m.room.canonical_alias", ""),
            &intent.bot,
            shown.clone(),
        );
        lone.put(
            slot("m.room.canonical_alias", ""),
            &intent.bot,
            Content::new(),
        );
    }
    Observed {
        since: 0,
        aliases: old
            .aliases
            .iter()
            .map(|alias| (alias.clone(), Some(new_room.to_owned())))
            .chain(
                old.room
                    .published_aliases()
                    .into_iter()
                    .filter(|alias| alias.server_name() != intent.bot.server_name())
                    .map(|alias| (alias, Some(old.room.room_id.clone()))),
            )
            .collect(),
        old: lone,
        new,
        old_listing: Listing::Private,
        new_listing: old.listing,
        others: others(old),
    }
}

fn others(old: &Snapshot) -> BTreeMap<OwnedRoomId, BTreeMap<Slot, Content>> {
    old.referrers
        .iter()
        .map(|room| {
            let slots = room
                .events
                .iter()
                .map(|(slot, event)| (slot.clone(), event.content.clone()));
            (room.room_id.clone(), slots.collect())
        })
        .collect()
}
