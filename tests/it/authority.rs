//! P5 where it takes more than a level in the admin room: the scope, and power in the room itself.

use roomlift::homeserver::REQUEST_TIMEOUT;
use roomlift_testbed::{Community, Fault, Kind, Rule, Seen, Synapse, User, Wanted};
use serde_json::json;

use crate::scene::Scene;

/// An address on a server that is gone: nothing listens on that port.
const GONE: &str = "#gone:localhost:1";

/// A scene whose scope is an address that leads nowhere, and the space.
async fn scene_with_a_dead_scope() -> Scene {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let scope = format!("scope = [\"{GONE}\", \"{}\"]\n", community.space);
    Scene::around(community, synapse, &scope).await
}

/// What is in the rest of the scope can be upgraded, and what is not is refused, not left hanging.
async fn the_rest_of_the_scope_holds(mut scene: Scene) {
    let other = scene
        .community
        .moderator
        .create_room(json!({"room_version": "10"}))
        .await;
    scene.say(&format!("!upgrade {other} --yes")).await;
    scene
        .hear("not among those that can be upgraded from here")
        .await;
    scene.upgrade("12").await;
    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
}

#[tokio::test]
async fn a_dead_server_in_the_scope_holds_up_nothing() {
    the_rest_of_the_scope_holds(scene_with_a_dead_scope().await).await;
}

/// The homeserver waits for the other one longer than the bot waits for the homeserver.
#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn a_silent_server_in_the_scope_holds_up_nothing() {
    let mut scene = scene_with_a_dead_scope().await;
    scene.chat = scene.chat.within(10 * REQUEST_TIMEOUT);
    let asked = |seen: &Seen| seen.kind == Kind::ReadAlias && seen.path.contains("#gone");
    let silence = Fault::Delay(2 * REQUEST_TIMEOUT);
    let fired = scene.proxy.add(Rule::new(asked, silence).for_ever());
    the_rest_of_the_scope_holds(scene).await;
    assert!(fired.count() > 0, "the address was asked for");
}

const TARGET_POWER: &str = "require_target_power = true\n";

/// Somebody with power 50 in the admin room and none in the room to be upgraded.
async fn weak_moderator(scene: &Scene) -> User {
    let community = &scene.community;
    let (moderator, admin) = (&community.moderator, &community.admin_room);
    let weak = community.members[0].clone();
    moderator.invite(admin, &weak.user_id).await;
    weak.join(admin).await;
    set_level(moderator, admin, &weak.user_id, 50).await;
    weak
}

async fn set_level(by: &User, room: &str, user: &str, level: i64) {
    let levels = by.state_event(room, "m.room.power_levels", "").await;
    let mut levels = levels.expect("power levels");
    levels["users"][user] = level.into();
    by.put_state(room, "m.room.power_levels", "", levels).await;
}

#[tokio::test]
async fn power_in_the_room_itself_is_asked_for() {
    let mut scene = Scene::with(&Wanted::default(), TARGET_POWER).await;
    let weak = weak_moderator(&scene).await;
    let (admin, alias) = (
        scene.community.admin_room.clone(),
        scene.community.alias.clone(),
    );
    weak.send_text(&admin, &format!("!upgrade {alias} 12 --yes"))
        .await;
    scene
        .hear("you also need power level 100 in the room itself")
        .await;
    // Who could upgrade it themselves can; a yes of somebody who could not does not count.
    scene.say(&format!("!upgrade {alias} 12")).await;
    let plan = scene.hear("Plan #1").await;
    weak.send_text(&admin, "!upgrade confirm 1").await;
    scene.hear("you also need power level 100").await;
    let plan = plan["event_id"].as_str().expect("an event id").to_owned();
    weak.react(&admin, &plan, "✅").await;
    scene.hear("you also need power level 100").await;
    assert_eq!(scene.community.replacement().await, None);
    scene.community.moderator.react(&admin, &plan, "✅").await;
    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
}

/// A creator is above all levels and in none of the lists.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_creator_needs_no_level_in_the_room() {
    let mut scene = Scene::with(&Wanted::default(), TARGET_POWER).await;
    let weak = weak_moderator(&scene).await;
    let bot = scene.community.bot.clone();
    let moderator = scene.community.moderator.clone();
    let room = moderator
        .create_room(json!({
            "preset": "public_chat",
            "room_version": "12",
            "power_level_content_override": {"users": {&bot.user_id: 150, &weak.user_id: 100}},
        }))
        .await;
    bot.join(&room).await;
    let command = format!("!upgrade {room} 12");
    weak.send_text(&scene.community.admin_room, &command).await;
    scene.hear("you also need power level 150").await;
    scene.say(&command).await;
    scene.hear("Plan #1").await;
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    let tombstone = bot.state_event(&room, "m.room.tombstone", "").await;
    assert!(tombstone.is_some());
}

/// Power in the room is taken away after the yes; the job waits at its start meanwhile.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn power_in_the_room_is_asked_for_again_when_the_job_starts() {
    let mut scene = Scene::with(&Wanted::default(), TARGET_POWER).await;
    let room = scene.community.room.clone();
    let moderator = scene.community.moderator.clone();
    scene.say(&format!("!upgrade {room} 12")).await;
    scene.hear("Plan #1").await;
    let old = room.clone();
    let reads = move |seen: &Seen| seen.kind == Kind::ReadState && seen.path.contains(&old);
    // The yes itself reads less, and so does the question that is asked again.
    let fault = Fault::error(502, "M_UNKNOWN");
    scene.proxy.add(Rule::new(reads, fault).for_ever());
    scene.say("!upgrade confirm 1").await;
    scene.hear("I try again").await;
    set_level(&moderator, &room, &moderator.user_id, 0).await;
    scene.proxy.clear_rules();
    scene.hear("may not upgrade this room any more").await;
    assert_eq!(scene.community.replacement().await, None);
}

/// Who was sent away from the admin room keeps the level there; what they began does not begin any more.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn who_was_sent_away_upgrades_nothing() {
    let mut scene = Scene::new().await;
    let weak = weak_moderator(&scene).await;
    let (admin, alias) = (
        scene.community.admin_room.clone(),
        scene.community.alias.clone(),
    );
    weak.send_text(&admin, &format!("!upgrade {alias} 12 --in 15s --yes"))
        .await;
    scene.hear("Waiting until").await;
    let moderator = &scene.community.moderator;
    moderator
        .ban(&admin, &weak.user_id, "the account was stolen")
        .await;
    scene
        .hear("is not in the room any more in which this was asked for")
        .await;
    assert_eq!(scene.community.replacement().await, None);
}

/// What somebody may not change by its number, they do not change along with others either.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_pause_of_everything_is_of_what_one_may_change() {
    let mut scene = Scene::with(&Wanted::default(), TARGET_POWER).await;
    let weak = weak_moderator(&scene).await;
    let (admin, alias) = (
        scene.community.admin_room.clone(),
        scene.community.alias.clone(),
    );
    scene
        .say(&format!("!upgrade {alias} 12 --in 1h --yes"))
        .await;
    scene.hear("Waiting until").await;
    weak.send_text(&admin, "!upgrade pause").await;
    scene.hear("Nothing is running").await;
    scene.say("!upgrade pause").await;
    scene.hear("Paused: it will not start").await;
    weak.send_text(&admin, "!upgrade resume").await;
    scene.hear("Nothing is paused").await;
    scene.say("!upgrade resume").await;
    scene.hear("Waiting until").await;
}
