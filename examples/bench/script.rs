//! The script that the bot is compared with: one request after the other, and nothing else.
//!
//! It knows the room by heart: it looks for nothing, repeats nothing, tells nobody, and a crash in
//! the middle leaves the room half moved.

use std::time::{Duration, Instant};

use roomlift_testbed::User;
use serde_json::{Value, json};

use crate::village::Home;

/// How much a script does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent<'a> {
    /// The least that somebody who knows the room by heart would type into it.
    Least,
    /// Also what Roomlift owes people in every room: the notice is pinned.
    Owed,
    /// In this admin room, a report as well.
    OwedAndTold(&'a str),
}

/// An upgrade by a script.
pub(crate) async fn by_script(
    bot: &User,
    space: &str,
    home: &Home,
    extent: Extent<'_>,
) -> Duration {
    let old = home.room.as_str();
    let server = bot.user_id.split_once(':').map_or("", |(_, server)| server);
    let begun = Instant::now();
    let state = bot.state(old).await;
    let is = |event: &Value, kind: &str| event["type"] == kind;
    let left = [
        "m.room.create",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.tombstone",
    ];
    let initial: Vec<Value> = state
        .iter()
        .filter(|event| !left.iter().any(|kind| is(event, kind)))
        .filter(|event| !is(event, "m.room.member") || event["content"]["membership"] == "ban")
        .map(|event| {
            json!({
                "type": event["type"],
                "state_key": event["state_key"],
                "content": event["content"],
            })
        })
        .collect();
    let content = |kind: &str| {
        let event = state.iter().find(|event| is(event, kind));
        event
            .map(|event| event["content"].clone())
            .unwrap_or_default()
    };
    let old_levels = content("m.room.power_levels");
    let mut levels = old_levels.clone();
    if let Some(users) = levels["users"].as_object_mut() {
        users.remove(&bot.user_id);
    }
    levels["events"]["m.room.tombstone"] = json!(150);
    let new = bot
        .create_room(json!({
            "room_version": "12",
            "preset": "private_chat",
            "creation_content": {"predecessor": {"room_id": old}},
            "power_level_content_override": levels,
            "initial_state": initial,
        }))
        .await;
    let tombstone = json!({"body": "This room has been replaced", "replacement_room": new});
    bot.put_state(old, "m.room.tombstone", "", tombstone).await;
    let shown = content("m.room.canonical_alias");
    bot.put_state(old, "m.room.canonical_alias", "", json!({}))
        .await;
    for alias in &home.aliases {
        bot.remove_alias(alias).await;
        bot.set_alias(alias, &new).await;
    }
    bot.put_state(&new, "m.room.canonical_alias", "", shown)
        .await;
    bot.set_listed(old, false).await;
    bot.set_listed(&new, true).await;
    let link = json!({"via": [server], "order": "a1", "suggested": true});
    bot.put_state(space, "m.space.child", &new, link).await;
    bot.put_state(space, "m.space.child", old, json!({})).await;
    let mut locked = old_levels;
    locked["events_default"] = json!(50);
    locked["invite"] = json!(50);
    bot.put_state(old, "m.room.power_levels", "", locked).await;
    let link = format!("https://matrix.to/#/{new}?via={server}");
    let notice = bot.send_text(old, &link).await;
    if !matches!(extent, Extent::Least) {
        let pinned = json!({"pinned": [notice]});
        bot.put_state(old, "m.room.pinned_events", "", pinned).await;
    }
    if let Extent::OwedAndTold(admin_room) = extent {
        bot.send_text(admin_room, "done").await;
    }
    begun.elapsed()
}
