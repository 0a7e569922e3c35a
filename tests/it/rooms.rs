//! The inventory: which rooms are listed, in which group, and what it costs.

use std::collections::BTreeSet;

use roomlift_testbed::{Community, Kind, Synapse, Wanted, user};
use serde_json::json;

use crate::scene::Scene;

/// Lines below a heading, up to the next one.
fn group<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, rest) = text
        .split_once(heading)
        .unwrap_or_else(|| panic!("no {heading:?} in {text}"));
    // A line below the heading says what to do about it.
    rest.lines()
        .skip(1)
        .skip_while(|line| !line.starts_with("- "))
        .take_while(|line| line.starts_with("- "))
        .collect()
}

#[tokio::test]
async fn every_room_in_scope_is_listed_once_with_what_hinders() {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let (moderator, bot) = (community.moderator.clone(), community.bot.clone());
    let space = community.space.clone();
    let via = json!({ "via": [synapse.server_name()] });
    let room = async |name: &str, version: &str, power: i64| {
        let room = moderator
            .create_room(
                json!({ "preset": "public_chat", "name": name, "room_version": version,
                "power_level_content_override": { "users": { bot.user_id.as_str(): power } } }),
            )
            .await;
        moderator
            .put_state(&space, "m.space.child", &room, via.clone())
            .await;
        room
    };
    // From version 12 on, the creator is in no list of levels.
    let modern = room("Modern", "12", 0).await;
    let weak = moderator
        .create_room(json!({ "preset": "public_chat", "name": "Weak", "room_version": "10" }))
        .await;
    let inner = moderator
        .create_room(
            json!({ "preset": "public_chat", "name": "Inner", "room_version": "11",
            "creation_content": { "type": "m.space" } }),
        )
        .await;
    let unknown = moderator.create_room(json!({ "name": "Unknown" })).await;
    let outside = moderator
        .create_room(json!({ "preset": "public_chat", "name": "Outside" }))
        .await;
    let closed = moderator
        .create_room(json!({ "preset": "public_chat", "name": "Closed", "room_version": "9" }))
        .await;
    let link = async |space: &str, room: &str| {
        moderator
            .put_state(space, "m.space.child", room, via.clone())
            .await;
    };
    // A circle, and a room that two spaces list.
    for (space, room) in [
        (&space, &inner),
        (&inner, &weak),
        (&inner, &unknown),
        (&inner, &modern),
        (&inner, &space),
        (&inner, &closed),
    ] {
        link(space, room).await;
    }
    for room in [&modern, &weak, &inner, &outside, &closed] {
        bot.join(room).await;
    }
    let successor = moderator.upgrade(&closed, "12").await;

    let scope = format!("scope = [\"{space}\"]\n");
    let mut scene = Scene::around(community, synapse, &scope).await;
    // What sync told of the closed room is looked at first.
    scene.say("!upgrade help confirm").await;
    scene.hear("`!upgrade confirm").await;
    let before = scene.proxy.log().len();
    let asked = scene.say("!upgrade rooms").await;
    let answer = scene.hear("target version 12").await;
    scene.reacted(&asked, "✅").await;
    let text = user::text(&answer).to_owned();
    let has = |heading: &str, names: &[&str]| {
        let rows = group(&text, heading);
        let found: BTreeSet<_> = names
            .iter()
            .filter(|name| rows.iter().any(|row| row.contains(**name)))
            .collect();
        assert_eq!(found.len(), names.len(), "{heading} {names:?}: {text}");
        assert_eq!(rows.len(), names.len(), "{heading}: {text}");
    };
    has("Power level too low", &["Weak", "Inner"]);
    has("Ready", &[scene.community.room.as_str(), &space]);
    has("I am not in", &[&unknown]);
    has("Already on version 12", &["Modern"]);
    has("Already replaced", &["Closed"]);
    let weak_row = group(&text, "Power level too low").concat();
    assert!(
        weak_row.contains("2 members, needs 100, I have 0"),
        "{text}"
    );
    assert!(text.contains(&format!("replaced by {successor}")), "{text}");
    assert!(!text.contains("Outside"), "{text}");
    // No request per room: nothing is read but who asks.
    let reads = scene.proxy.log().split_off(before);
    let reads: Vec<_> = reads
        .iter()
        .filter(|seen| {
            seen.kind == Kind::ReadState && !seen.path.contains(&scene.community.admin_room)
        })
        .map(|seen| seen.path.clone())
        .collect();
    assert!(reads.is_empty(), "{reads:?}");

    // One space of the scope, and one that is none of it.
    scene.say(&format!("!upgrade rooms {inner}")).await;
    let answer = scene.hear("target version 12").await;
    assert!(user::text(&answer).contains("Weak"));
    let refused = scene.say(&format!("!upgrade rooms {outside}")).await;
    scene.hear("not among those that can be upgraded").await;
    scene.reacted(&refused, "❌").await;
    scene.say("!upgrade rooms #nowhere:localhost").await;
    scene.hear("#nowhere:localhost").await;
}
