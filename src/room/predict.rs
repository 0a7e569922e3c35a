//! What the rooms will look like right after the server's own `/upgrade`, before the bot mends it.
//!
//! Only for estimates and for saying beforehand what the bot may not do: what really happened is
//! read from the server. Source: Synapse 1.163, `clone_existing_room` and what follows it; other
//! servers do less, so that the estimate is a little low there.

use ruma::RoomId;

use super::diff::Observed;
use super::power;
use super::state::{Listing, RoomState, Snapshot};
use super::target::{Intent, slot};

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

/// The rooms right after the server's own upgrade.
#[must_use]
pub fn after_server_upgrade(old: &Snapshot, intent: &Intent, new_room: &RoomId) -> Observed {
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
    if let Some(levels) = power::locked(&lone) {
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
            super::state::Content::new(),
        );
    }
    let others = old
        .referrers
        .iter()
        .map(|room| {
            let slots = room
                .events
                .iter()
                .map(|(slot, event)| (slot.clone(), event.content.clone()));
            (room.room_id.clone(), slots.collect())
        })
        .collect();
    Observed {
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
        others,
    }
}
