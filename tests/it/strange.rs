//! What nobody plans for: spaces that contain each other, settings that a server refuses, people
//! who are at work in the same rooms.

use roomlift_testbed::{
    Community, Entry, Fault, Kind, Outcome, Presence, Rule, Seen, User, Wanted, user,
};
use serde_json::{Value, json};

use crate::scene::{Scene, said};

/// An entry of `allow` that no server knows today.
fn unknown_entry() -> Value {
    json!({"type": "org.example.paid", "plan": "gold"})
}

fn member_of(room: &str) -> Value {
    json!({"type": "m.room_membership", "room_id": room})
}

async fn content(reader: &User, room: &str, kind: &str, key: &str) -> Value {
    reader
        .state_event(room, kind, key)
        .await
        .unwrap_or_default()
}

/// Upgrades a room by id; the text of the report.
async fn upgraded(scene: &mut Scene, room: &str, id: usize, options: &str) -> String {
    scene.say(&format!("!upgrade {room} {options} --yes")).await;
    let report = scene.hear(&format!("Upgrade #{id} is done")).await;
    user::text(&report).to_owned()
}

async fn replacement(reader: &User, room: &str) -> String {
    let tombstone = content(reader, room, "m.room.tombstone", "").await;
    let new = tombstone["replacement_room"].as_str();
    new.expect("a replacement").to_owned()
}

/// A space with rooms, a space in it that contains it in turn, and rooms that let its members in.
async fn community_of_spaces() -> Scene {
    let wanted = Wanted {
        entry: Entry::Restricted,
        nested: Presence::Present,
        guarded: Presence::Present,
        ..Wanted::default()
    };
    let scene = Scene::with(&wanted, "").await;
    let community = &scene.community;
    let (moderator, space) = (&community.moderator, &community.space);
    let nested = community.nested.as_ref().expect("a space in the space");
    let server = community.alias.split_once(':').expect("a server").1;
    let back = json!({"via": [server], "order": "q7"});
    moderator
        .put_state(&nested.space, "m.space.child", space, back)
        .await;
    let rules = json!({
        "join_rule": "restricted",
        "allow": [unknown_entry(), member_of(space)],
    });
    moderator
        .put_state(&community.room, "m.room.join_rules", "", rules)
        .await;
    scene
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_space_moves_and_its_rooms_stay_in_it() {
    let mut scene = community_of_spaces().await;
    let community = &scene.community;
    let (bot, room) = (community.bot.clone(), community.room.clone());
    let space = community.space.clone();
    let nested = community.nested.clone().expect("a space in the space");
    let mut links = Vec::new();
    for child in [&room, &nested.space] {
        links.push(content(&bot, &space, "m.space.child", child).await);
    }
    let report = upgraded(&mut scene, &space, 1, "12").await;
    assert!(report.contains("Nothing is left to do."), "{report}");
    let new = replacement(&bot, &space).await;

    for (child, link) in [&room, &nested.space].into_iter().zip(links) {
        let now = content(&bot, &new, "m.space.child", child).await;
        assert_eq!(now, link, "order and suggestion of {child}");
        let parent = content(&bot, child, "m.space.parent", &new).await;
        assert_eq!(parent["canonical"], true, "{parent}");
        let parent = content(&bot, child, "m.space.parent", &space).await;
        assert!(parent.get("via").is_none(), "{parent}");
    }
    let back = content(&bot, &nested.space, "m.space.child", &new).await;
    assert_eq!(back["order"], "q7", "the space that contains it");
    let back = content(&bot, &nested.space, "m.space.child", &space).await;
    assert!(back.get("via").is_none(), "{back}");
    let rules = content(&bot, &room, "m.room.join_rules", "").await;
    assert_eq!(rules["allow"], json!([unknown_entry(), member_of(&new)]));
    let rules = content(&bot, &nested.space, "m.room.join_rules", "").await;
    assert_eq!(rules["allow"], json!([member_of(&new)]));

    // Who was in the room still is, and who is in the new space gets in.
    let member = scene.community.members[0].clone();
    member.send_text(&room, "still here").await;
    let newcomer = scene.community.banned[0].clone();
    let moderator = &scene.community.moderator;
    moderator.unban(&room, &newcomer.user_id).await;
    newcomer.join(&new).await;
    newcomer.join(&room).await;
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_room_in_spaces_that_contain_each_other_moves() {
    let mut scene = community_of_spaces().await;
    let community = &scene.community;
    let (bot, room) = (community.bot.clone(), community.room.clone());
    let space = community.space.clone();
    let nested = community.nested.clone().expect("a space in the space");
    let report = upgraded(&mut scene, &room, 1, "12").await;
    assert!(report.contains("Nothing is left to do."), "{report}");
    let new = replacement(&bot, &room).await;
    let rules = content(&bot, &new, "m.room.join_rules", "").await;
    let allow = json!([unknown_entry(), member_of(&space), member_of(&room)]);
    assert_eq!(rules["allow"], allow);
    // The inner space, whose parent is also its child.
    let report = upgraded(&mut scene, &nested.space, 2, "12 --method staged").await;
    assert!(report.contains("Nothing is left to do."), "{report}");
    let inner = replacement(&bot, &nested.space).await;
    let link = content(&bot, &space, "m.space.child", &inner).await;
    assert_eq!(
        (&link["order"], &link["suggested"]),
        (&json!("b1"), &json!(true))
    );
    let back = content(&bot, &inner, "m.space.child", &space).await;
    assert_eq!(back["order"], "q7");
    let parent = content(&bot, &nested.room, "m.space.parent", &inner).await;
    assert_eq!(parent["canonical"], true);
}

/// One event that the server refuses for good is left to people, and by its name; the rest is done.
async fn refused_setting(method: &str, kind: &'static str, words: &str, check: &str) {
    let mut scene = Scene::new().await;
    let room = scene.community.room.clone();
    let bot = scene.community.bot.clone();
    let refused = move |seen: &Seen| {
        let puts = matches!(&seen.kind, Kind::PutState { event_type } if event_type == kind);
        // Not the one that takes the old link away, nor the settings with an empty key.
        let is_link = seen
            .body
            .as_ref()
            .is_some_and(|body| body.get("via").is_some());
        puts && (is_link || seen.path.ends_with("/other"))
    };
    let fault = Fault::error(403, "M_FORBIDDEN");
    let fired = scene.proxy.add(Rule::new(refused, fault).for_ever());
    let report = upgraded(&mut scene, &room, 1, &format!("12 --method {method}")).await;
    assert!(fired.count() > 0, "it was refused");
    assert!(report.contains("Left for you: 1 thing"), "{report}");
    assert!(report.contains(words), "{report}");
    let new = replacement(&bot, &room).await;
    assert_eq!(failing(&scene.community, &new).await, [check]);
    scene.proxy.clear_rules();
    scene.say("!upgrade verify 1").await;
    scene.hear("Nothing is left to do").await;
    scene.community.assert_moved("12").await;
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_named() {
    refused_setting(
        "server",
        "org.example.settings",
        "this is missing or differs: `org.example.settings` `other`",
        "org.example.settings other",
    )
    .await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_setting_that_the_server_refuses_is_named`"]
async fn a_link_that_the_server_refuses_is_named() {
    refused_setting(
        "staged",
        "m.space.child",
        "The space does not list the new room",
        "space lists the new room",
    )
    .await;
}

/// What does not hold of the new room.
async fn failing(community: &Community, new: &str) -> Vec<String> {
    let mut checks = community.checks(new, "12").await;
    checks.retain(|check| check.holds == Outcome::Fails);
    checks.into_iter().map(|check| check.what).collect()
}

/// Does something in the moment before the bot first touches the space.
fn meanwhile<F>(
    scene: &Scene,
    act: impl Fn(User, String, User) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()>,
{
    let community = &scene.community;
    let (moderator, room) = (community.moderator.clone(), community.room.clone());
    let member = community.members[0].clone();
    let act = move || {
        let (moderator, room) = (moderator.clone(), room.clone());
        let (member, act) = (member.clone(), act.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let new = replacement(&moderator, &room).await;
                act(moderator, new, member).await;
            });
        });
        thread.join().expect("it is done");
    };
    let touches = |seen: &Seen| matches!(&seen.kind, Kind::PutState { event_type } if event_type == "m.space.child");
    scene.proxy.add(Rule::new(touches, Fault::before(act)));
}

/// Somebody enters, and a moderator renames the new room, while the bot is at work.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn people_in_the_new_room_are_not_overruled() {
    let mut scene = Scene::new().await;
    let room = scene.community.room.clone();
    meanwhile(&scene, async |moderator, new, member| {
        member.join(&new).await;
        moderator.join(&new).await;
        let name = json!({"name": "Garden, at last"});
        moderator.put_state(&new, "m.room.name", "", name).await;
    });
    let report = upgraded(&mut scene, &room, 1, "12").await;
    assert!(report.contains("Nothing is left to do."), "{report}");
    let bot = scene.community.bot.clone();
    let new = replacement(&bot, &room).await;
    let name = content(&bot, &new, "m.room.name", "").await;
    assert_eq!(name["name"], "Garden, at last");
    assert_eq!(failing(&scene.community, &new).await, ["name"]);
}

/// The new room is itself replaced while the bot is still at work on it.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_new_room_that_is_replaced_at_once_is_finished_and_told() {
    let mut scene = Scene::new().await;
    let room = scene.community.room.clone();
    meanwhile(&scene, async |moderator, new, _| {
        moderator.join(&new).await;
        moderator.upgrade(&new, "11").await;
    });
    let report = upgraded(&mut scene, &room, 1, "11").await;
    let community = &scene.community;
    let new = replacement(&community.bot, &room).await;
    let newest = replacement(&community.bot, &new).await;
    assert!(report.contains("is now version 11"), "{report}");
    // Its addresses went on, and are left there.
    let leads_to = community.moderator.resolve_alias(&community.alias).await;
    assert_eq!(leads_to, Some(newest));
    let offer = format!("!upgrade adopt {new}");
    scene.say("!upgrade list").await;
    let said = said_until(&scene, &offer).await;
    assert_eq!(said, 1, "the offer to finish what the moderator began");
}

/// How often the bot said something, once it has.
async fn said_until(scene: &Scene, part: &str) -> usize {
    let community: &Community = &scene.community;
    roomlift_testbed::eventually(part, crate::scene::SPEECH, async || {
        let said = said(community, &community.admin_room).await;
        let count = said.iter().filter(|text| text.contains(part)).count();
        (count > 0).then_some(count)
    })
    .await
}
