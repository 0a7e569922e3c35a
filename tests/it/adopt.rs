//! Upgrades that somebody else began: offered once, finished whole, and never believed blindly.

use roomlift_testbed::{
    Community, Entry, Fault, Kind, Presence, Rule, Seen, Synapse, User, Wanted, seg, user,
};
use serde_json::{Value, json};

use crate::scene::{Scene, said};

/// What every offer says.
const OFFER: &str = "outside Roomlift";

/// Another room of the moderator, with the bot in it.
async fn other_room(community: &Community, bot_power: i64) -> String {
    let (moderator, bot) = (&community.moderator, &community.bot);
    let room = moderator
        .create_room(json!({
            "preset": "public_chat",
            "room_version": "10",
            "power_level_content_override": {
                "users": { &moderator.user_id: 100, &bot.user_id: bot_power },
            },
        }))
        .await;
    bot.join(&room).await;
    room
}

/// The offers in the management room, once the bot has handled all that happened before.
async fn offers(scene: &mut Scene) -> Vec<String> {
    let asked = scene.say("!upgrade list").await;
    scene.reacted(&asked, "✅").await;
    let mut said = said(&scene.community, &scene.community.admin_room).await;
    said.retain(|text| text.contains(OFFER));
    said
}

#[tokio::test]
async fn an_upgrade_by_somebody_else_is_offered_once() {
    let mut scene = Scene::new().await;
    let moderator = scene.community.moderator.clone();
    let room = scene.community.room.clone();
    let second = other_room(&scene.community, 100).await;
    let theirs = moderator.upgrade(&room, "11").await;
    let offer = scene.hear(OFFER).await;
    let text = user::text(&offer);
    assert!(
        text.contains(&format!("!upgrade adopt {room}")) && text.contains(&theirs),
        "{text}"
    );
    // One that happens while nobody listens.
    scene.bot.kill();
    moderator.upgrade(&second, "11").await;
    scene.restart().await;
    scene.hear(&format!("!upgrade adopt {second}")).await;
    scene.bot.kill();
    scene.bot.start_again();
    let offers = offers(&mut scene).await;
    assert_eq!(offers.len(), 2, "{offers:#?}");
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn no_offer_where_the_bot_could_do_nothing_or_did_it_itself() {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let outside = other_room(&community, 100).await;
    let powerless = other_room(&community, 0).await;
    let moderator = community.moderator.clone();
    let link = json!({"via": [synapse.server_name()]});
    moderator
        .put_state(&community.space, "m.space.child", &powerless, link)
        .await;
    let scope = format!("scope = [\"{}\"]\n", community.space);
    let mut scene = Scene::around(community, synapse, &scope).await;
    moderator.upgrade(&outside, "11").await;
    moderator.upgrade(&powerless, "11").await;
    scene.upgrade("12").await;
    scene.hear("Upgrade #1 is done").await;
    scene.restart().await;
    assert_eq!(offers(&mut scene).await, Vec::<String>::new());
}

/// Adopts the room that the moderator upgraded; the text of the report.
async fn adopt(scene: &mut Scene) -> String {
    let room = scene.community.room.clone();
    scene.say(&format!("!upgrade adopt {room}")).await;
    scene.hear("Plan #1").await;
    scene.say("!upgrade confirm 1").await;
    let report = scene.hear("Upgrade #1 is done").await;
    user::text(&report).to_owned()
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn adopting_finishes_everything() {
    for (entry, version) in [
        (Entry::Public, "11"),
        (Entry::Invite, "11"),
        (Entry::Knock, "12"),
        (Entry::Restricted, "12"),
    ] {
        let wanted = Wanted {
            entry,
            guarded: Presence::Present,
            pins: 2,
            ..Wanted::default()
        };
        let mut scene = Scene::with(&wanted, "").await;
        let (moderator, room) = (
            scene.community.moderator.clone(),
            scene.community.room.clone(),
        );
        let new = moderator.upgrade(&room, version).await;
        if let Entry::Invite | Entry::Knock = entry {
            moderator.invite(&new, &scene.community.bot.user_id).await;
        }
        let report = adopt(&mut scene).await;
        assert!(
            report.contains("Nothing is left to do."),
            "{entry:?} {version}: {report}"
        );
        scene.community.assert_moved_by(&moderator, version).await;
        // Whoever was in the old room gets in.
        scene.community.members[0].join(&new).await;
    }
}

#[tokio::test]
async fn what_people_changed_in_the_new_room_stays() {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    let (moderator, room) = (community.moderator.clone(), community.room.clone());
    let pardoned = community.banned[0].user_id.clone();
    let space = community.space.clone();
    let new = moderator.upgrade(&room, "11").await;
    let server = community.alias.split_once(':').expect("a server").1;
    let theirs = [
        (&new, "m.room.topic", "", json!({"topic": "A fresh start"})),
        (
            &new,
            "m.room.join_rules",
            "",
            json!({"join_rule": "invite"}),
        ),
        (
            &space,
            "m.space.child",
            new.as_str(),
            json!({"via": [server], "order": "z9", "suggested": false}),
        ),
    ];
    moderator.invite(&new, &community.bot.user_id).await;
    for (place, kind, key, content) in &theirs {
        moderator.put_state(place, kind, key, content.clone()).await;
    }
    moderator.unban(&new, &pardoned).await;
    adopt(&mut scene).await;
    for (place, kind, key, content) in &theirs {
        let now = moderator.state_event(place, kind, key).await;
        assert_eq!(now.as_ref(), Some(content), "{kind}");
    }
    let member = moderator
        .state_event(&new, "m.room.member", &pardoned)
        .await;
    assert_eq!(member.expect("a member event")["membership"], "leave");
    let other = scene.community.banned[1].user_id.clone();
    let member = moderator.state_event(&new, "m.room.member", &other).await;
    assert_eq!(member.expect("a member event")["membership"], "ban");
    // The rest came along.
    let extra = moderator.state_event(&new, "m.space.parent", &space).await;
    assert_eq!(extra.expect("a parent")["canonical"], true);
}

/// A room that other programs make: without anything, before the tombstone; and the old one is
/// closed to messages then. The new one must not be.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_bare_room_is_filled_and_stays_open() {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    let (moderator, room) = (community.moderator.clone(), community.room.clone());
    let bot = community.bot.user_id.clone();
    let new = moderator
        .create_room(json!({
            "preset": "public_chat",
            "room_version": "11",
            "creation_content": {"predecessor": {"room_id": room}},
            "power_level_content_override": {
                "users": { &moderator.user_id: 100, &bot: 100 },
            },
        }))
        .await;
    let tombstone = json!({"body": "moved", "replacement_room": new});
    moderator
        .put_state(&room, "m.room.tombstone", "", tombstone)
        .await;
    let levels = moderator
        .state_event(&room, "m.room.power_levels", "")
        .await;
    let mut levels = levels.expect("power levels");
    levels["events_default"] = 50.into();
    levels["invite"] = 50.into();
    moderator
        .put_state(&room, "m.room.power_levels", "", levels)
        .await;
    let report = adopt(&mut scene).await;
    assert!(report.contains("Nothing is left to do."), "{report}");
    scene.community.assert_moved_by(&moderator, "11").await;
    let member = scene.community.members[0].clone();
    member.join(&new).await;
    member.send_text(&new, "I can speak").await;
}

/// The outcome of `adopt` where there is nothing to adopt: words, no job, no change.
async fn refused(scene: &mut Scene, words: &str) {
    let room = scene.community.room.clone();
    let before = whole(&scene.community.moderator, &room).await;
    scene.proxy.clear_log();
    scene.say(&format!("!upgrade adopt {room} --yes")).await;
    let plan = scene.hear("What blocks it").await;
    let text = user::text(&plan);
    assert!(text.contains(words), "{words}: {text}");
    assert!(!text.contains("✅ or `!upgrade confirm"), "{text}");
    scene.say("!upgrade status").await;
    scene.hear("othing").await;
    assert_eq!(whole(&scene.community.moderator, &room).await, before);
    let said = said(&scene.community, &scene.community.admin_room).await;
    assert!(
        said.iter().all(|text| !text.contains("is done")),
        "{said:#?}"
    );
}

async fn whole(reader: &User, room: &str) -> Vec<Value> {
    let mut ids: Vec<_> = reader
        .state(room)
        .await
        .iter()
        .map(|event| event["event_id"].clone())
        .collect();
    ids.sort_by_key(ToString::to_string);
    ids
}

/// The tombstone as the bot sees it. Synapse takes of its own clients only some that make sense;
/// other servers take more.
fn shown(scene: &Scene, tombstone: &Value) {
    let (moderator, room) = (&scene.community.moderator, &scene.community.room);
    let event = json!({
        "type": "m.room.tombstone",
        "state_key": "",
        "sender": moderator.user_id,
        "room_id": room,
        "event_id": "$tombstone:localhost",
        "origin_server_ts": 1,
        "content": tombstone,
    });
    let path = room.clone();
    let reads = move |seen: &Seen| seen.kind == Kind::ReadState && seen.path.contains(&path);
    let fault = Fault::custom(move |status, mut body| {
        if let Some(events) = body.as_array_mut() {
            events.push(event.clone());
        }
        (status, body)
    });
    scene.proxy.clear_rules();
    scene.proxy.add(Rule::new(reads, fault).for_ever());
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_tombstone_that_leads_astray_is_not_followed() {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    let room = community.room.clone();
    let stranger = community.members[0].clone();
    let theirs = stranger.create_room(json!({"preset": "public_chat"})).await;
    let own = community.bot.clone();
    refused(&mut scene, "Nobody has upgraded this room yet").await;
    for (content, words) in [
        (
            json!({"body": "", "replacement_room": "!nowhere:localhost:1"}),
            "cannot join it",
        ),
        (
            json!({"body": "", "replacement_room": room}),
            "that is the room itself",
        ),
        (
            json!({"body": "", "replacement_room": ""}),
            "without naming a new room",
        ),
        (json!({"body": "gone"}), "without naming a new room"),
        (
            json!({"body": "", "replacement_room": 7}),
            "without naming a new room",
        ),
        (
            json!({"body": "", "replacement_room": theirs}),
            "does not say that it replaces this one",
        ),
    ] {
        shown(&scene, &content);
        refused(&mut scene, words).await;
        assert!(!own.joined_rooms().await.contains(&theirs), "stays nowhere");
    }
}

/// Each room says that it replaces the other.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn rooms_that_replace_each_other_are_no_loop() {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    let (moderator, bot) = (community.moderator.clone(), community.bot.clone());
    let space = community.space.clone();
    let powers = json!({"users": { &moderator.user_id: 100, &bot.user_id: 100 }});
    // A room can name one that comes later only by its id: versions before 12 do not tie it to
    // what is in it, but clients cannot choose it either. The second names the first, which then
    // leads to it, and back.
    let first = community.room.clone();
    let second = moderator
        .create_room(json!({
            "preset": "public_chat",
            "room_version": "11",
            "creation_content": {"predecessor": {"room_id": first}},
            "power_level_content_override": powers,
        }))
        .await;
    bot.join(&second).await;
    let lead = async |from: &str, to: &str| {
        let content = json!({"body": "", "replacement_room": to});
        moderator
            .put_state(from, "m.room.tombstone", "", content)
            .await;
    };
    lead(&first, &second).await;
    lead(&second, &first).await;
    let report = adopt(&mut scene).await;
    assert!(report.contains("is done"), "{report}");
    scene.say(&format!("!upgrade adopt {second} --yes")).await;
    let plan = scene.hear("What blocks it").await;
    let text = user::text(&plan);
    assert!(
        text.contains("does not say that it replaces this one"),
        "{text}"
    );
    let child = moderator
        .state_event(&space, "m.space.child", &second)
        .await;
    assert_eq!(child.expect("a link")["order"], "a1");
}

/// Where the new room is closed to the bot, the plan says what to type; after that it works.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_closed_new_room_takes_an_invitation() {
    let mut scene = Scene::with(&Wanted::private(), "").await;
    let community = &scene.community;
    let (moderator, room) = (community.moderator.clone(), community.room.clone());
    let bot = community.bot.user_id.clone();
    let new = moderator.upgrade(&room, "11").await;
    let kick = json!({"user_id": bot, "reason": "not yet"});
    let path = format!("rooms/{}/kick", seg(&new));
    // Synapse may have invited everybody that was in the old room.
    let _ = moderator.call("POST", &path, Some(kick)).await;
    refused(&mut scene, &format!("/invite {bot}")).await;
    moderator.invite(&new, &bot).await;
    scene.say(&format!("!upgrade adopt {room}")).await;
    scene.hear("Plan #2").await;
    scene.say("!upgrade confirm 2").await;
    scene.hear("Upgrade #2 is done").await;
    scene.community.assert_moved_by(&moderator, "11").await;
}
