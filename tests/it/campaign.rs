//! Campaigns: every room of a space, as one plan and one yes.

use roomlift_testbed::{User, eventually};
use serde_json::{Value, json};

use crate::scene::{SPEECH, Scene, said};

/// A room of the community's space, in which the bot may do everything.
pub(crate) async fn child(scene: &Scene, space: &str, name: &str, more: Value) -> String {
    let moderator = &scene.community.moderator;
    let bot = &scene.community.bot;
    let mut body = json!({
        "preset": "public_chat",
        "room_version": "10",
        "name": name,
        "power_level_content_override": {"users": {
            (moderator.user_id.clone()): 100,
            (bot.user_id.clone()): 100,
        }},
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    let room = moderator.create_room(body).await;
    bot_joins(moderator, bot, &room).await;
    link(moderator, space, &room, json!({})).await;
    room
}

async fn bot_joins(moderator: &User, bot: &User, room: &str) {
    moderator.invite(room, &bot.user_id).await;
    bot.join(room).await;
}

/// Lists a room in a space.
pub(crate) async fn link(user: &User, space: &str, room: &str, more: Value) {
    let mut content = json!({"via": [server(user)]});
    for (key, value) in more.as_object().expect("an object") {
        content[key] = value.clone();
    }
    user.put_state(space, "m.space.child", room, content).await;
}

pub(crate) fn server(user: &User) -> &str {
    user.user_id.split_once(':').expect("a server").1
}

/// Where a room leads.
pub(crate) async fn replacement(user: &User, room: &str) -> Option<String> {
    let tombstone = user.state_event(room, "m.room.tombstone", "").await?;
    Some(tombstone["replacement_room"].as_str()?.to_owned())
}

/// Rooms that a space lists.
pub(crate) async fn listed(user: &User, space: &str) -> Vec<String> {
    let mut rooms: Vec<String> = user
        .state(space)
        .await
        .iter()
        .filter(|event| event["type"] == "m.space.child" && event["content"]["via"].is_array())
        .map(|event| event["state_key"].as_str().unwrap_or_default().to_owned())
        .collect();
    rooms.sort();
    rooms
}

/// A space of version 10 with the bot in it, as powerful as it needs to be.
pub(crate) async fn space(scene: &Scene, name: &str) -> String {
    let (moderator, bot) = (&scene.community.moderator, &scene.community.bot);
    let space = moderator
        .create_room(json!({
            "preset": "public_chat",
            "room_version": "10",
            "name": name,
            "creation_content": {"type": "m.space"},
            "power_level_content_override": {"users": {
                (moderator.user_id.clone()): 100,
                (bot.user_id.clone()): 100,
            }},
        }))
        .await;
    bot_joins(moderator, bot, &space).await;
    space
}

/// Waits until the bot knows of a room: what it decides on is what sync told.
pub(crate) async fn until_told(scene: &mut Scene, space: &str, rooms: usize) {
    // A plan for nothing but looking; the bot says how many rooms it found.
    eventually("the bot to know the rooms", SPEECH, async || {
        scene.say(&format!("!upgrade plan {space}")).await;
        let plan = scene.hear("Plan C").await;
        let text = roomlift_testbed::user::text(&plan).to_owned();
        text.contains(&format!("upgrade {rooms} room"))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_moves_with_all_that_is_in_it() {
    let mut scene = Scene::new().await;
    let moderator = scene.community.moderator.clone();
    let outer = space(&scene, "Outer").await;
    let inner = space(&scene, "Inner").await;
    link(
        &moderator,
        &outer,
        &inner,
        json!({"order": "b", "suggested": true}),
    )
    .await;
    let hall = child(&scene, &outer, "Hall", json!({})).await;
    let cellar = child(&scene, &inner, "Cellar", json!({})).await;
    // Both let in members of the other and of both spaces.
    for (room, others) in [(&hall, [&cellar, &outer]), (&cellar, [&hall, &inner])] {
        let allow: Vec<_> = others
            .iter()
            .map(|other| json!({"type": "m.room_membership", "room_id": other}))
            .collect();
        let rules = json!({"join_rule": "restricted", "allow": allow});
        moderator
            .put_state(room, "m.room.join_rules", "", rules)
            .await;
    }
    // Spaces that contain each other.
    link(&moderator, &inner, &outer, json!({})).await;
    until_told(&mut scene, &outer, 4).await;

    scene.say(&format!("!upgrade space {outer} 12")).await;
    let plan = scene.hear("To begin").await;
    let text = roomlift_testbed::user::text(&plan);
    assert!(text.contains("upgrade 4 rooms"), "{text}");
    let id = campaign_of(text);
    scene.say(&format!("!upgrade confirm {id}")).await;
    scene.hear(&format!("Done, campaign {id}")).await;

    let mut new = Vec::new();
    for room in [&outer, &inner, &hall, &cellar] {
        new.push(replacement(&moderator, room).await.expect("a replacement"));
    }
    let (new_outer, new_inner, new_hall, new_cellar) = (&new[0], &new[1], &new[2], &new[3]);
    let mut wanted = vec![new_inner.clone(), new_hall.clone()];
    wanted.sort();
    assert_eq!(listed(&moderator, new_outer).await, wanted);
    let mut wanted = vec![new_outer.clone(), new_cellar.clone()];
    wanted.sort();
    assert_eq!(listed(&moderator, new_inner).await, wanted);
    let link = moderator
        .state_event(new_outer, "m.space.child", new_inner)
        .await
        .expect("a link");
    assert_eq!(link["order"], "b");
    assert_eq!(link["suggested"], true);
    for (room, own, others) in [
        (new_hall, &hall, [new_cellar, new_outer]),
        (new_cellar, &cellar, [new_hall, new_inner]),
    ] {
        let rules = moderator
            .state_event(room, "m.room.join_rules", "")
            .await
            .expect("join rules");
        let allowed: Vec<_> = rules["allow"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry["room_id"].as_str())
            .collect();
        for other in others {
            assert!(allowed.contains(&other.as_str()), "{rules}");
        }
        for old in [&outer, &inner, &hall, &cellar] {
            // Its own old room may stay: members of that may enter.
            assert!(old == own || !allowed.contains(&old.as_str()), "{rules}");
        }
    }
    // One message that was edited, and one report: nothing for each room.
    let messages = said(&scene.community, &scene.community.admin_room.clone()).await;
    assert!(
        !messages.iter().any(|message| message.contains("Upgrade #")),
        "{messages:#?}"
    );
}

/// The number of a campaign in its plan.
pub(crate) fn campaign_of(plan: &str) -> String {
    let rest = plan.split_once("Plan ").expect("a plan").1;
    rest.split_once(':').expect("a number").0.to_owned()
}
