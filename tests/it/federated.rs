//! Rooms with members, creators and addresses on another server: they follow as those here do, and
//! what only people there can do is said until it is done (P7).

use std::time::Duration;

use roomlift_testbed::community::settings;
use roomlift_testbed::{
    ApiError, Community, Federation, Presence, SynapseOptions, User, Wanted, eventually, seg, user,
};
use serde_json::{Value, json};

use crate::scene::Scene;

/// How long news may take from one server to the other.
const NEWS: Duration = Duration::from_secs(20);

/// The bot on server `a`, and members on both.
async fn scene(pair: &Federation, wanted: &Wanted) -> Scene {
    let community = Community::make_federated(&pair.a, &pair.b, wanted).await;
    Scene::around(community, &pair.a, "").await
}

fn elsewhere(scene: &Scene) -> &[User] {
    &scene
        .community
        .remote
        .as_ref()
        .expect("members there")
        .members
}

/// Joins by way of server `a`.
async fn join(user: &User, room: &str, pair: &Federation) -> Result<Value, ApiError> {
    let via = pair.a.server_name();
    let path = format!("join/{}?server_name={}", seg(room), seg(&via));
    user.call("POST", &path, Some(json!({}))).await
}

async fn new_room(scene: &Scene) -> String {
    scene.community.replacement().await.expect("a new room")
}

/// Waits until server `b` knows that the old room leads to the new one.
async fn told(scene: &Scene, user: &User, new: &str) {
    let room = &scene.community.room;
    eventually("the tombstone to be seen elsewhere", NEWS, async || {
        let tombstone = user.state_event(room, "m.room.tombstone", "").await?;
        (tombstone["replacement_room"] == new).then_some(())
    })
    .await;
}

/// MSC3325: who is in the old room gets into the new one, and nobody else.
async fn members_follow(method: &str) {
    let pair = Federation::pair().await;
    let mut scene = scene(pair, &Wanted::private()).await;
    scene.upgrade(&format!("12 --method {method}")).await;
    scene.hear("Upgrade #1 is done").await;
    let new = new_room(&scene).await;
    for user in elsewhere(&scene) {
        let bot = &scene.community.bot;
        let before = bot.state_event(&new, "m.room.member", &user.user_id).await;
        assert_eq!(before, None, "{method}: invited though not needed");
        let joined = join(user, &new, pair).await;
        assert!(joined.is_ok(), "{method}: {joined:?}");
    }
    let stranger = pair.b.register("stranger").await;
    let refused = join(&stranger, &new, pair).await;
    assert!(refused.is_err(), "{method}: anybody gets in");
    scene.community.assert_moved("12").await;
}

#[tokio::test]
async fn members_elsewhere_follow_without_an_invitation() {
    members_follow("server").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `members_elsewhere_follow_without_an_invitation`"]
async fn members_elsewhere_follow_without_an_invitation_by_the_other_method() {
    members_follow("staged").await;
}

async fn creator_is_missed(method: &str) {
    let pair = Federation::pair().await;
    let mut scene = scene(pair, &Wanted::default()).await;
    let creator = pair.b.register("backup").await;
    let id = &creator.user_id;
    scene
        .upgrade(&format!("12 --method {method} --creator {id}"))
        .await;
    let report = scene.hear("Upgrade #1 is done").await;
    let text = user::text(&report);
    let missed = format!("This creator is invited to the new room and has not come yet: `{id}`");
    assert!(text.contains(&missed), "{method}: {text}");
    let new = new_room(&scene).await;
    let bot = &scene.community.bot;
    let create = bot.state_event(&new, "m.room.create", "").await;
    let creators = create.expect("a create event")["additional_creators"].clone();
    assert_eq!(creators, json!([id]), "{method}");

    join(&creator, &new, pair).await.expect("they come");
    move_alias(&scene, &new, pair).await;
    scene.say("!upgrade verify 1").await;
    scene.hear("Nothing is left to do.").await;
    // Above all levels: what takes 150 is theirs to do.
    let levels = json!({"events": {"m.room.tombstone": 150}, "users": {}});
    creator
        .put_state(&new, "m.room.power_levels", "", levels)
        .await;
}

#[tokio::test]
async fn a_creator_elsewhere_is_missed_until_they_come() {
    creator_is_missed("staged").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_creator_elsewhere_is_missed_until_they_come`"]
async fn a_creator_elsewhere_is_missed_until_they_come_by_the_other_method() {
    creator_is_missed("server").await;
}

/// Somebody there moves the address by hand.
async fn move_alias(scene: &Scene, new: &str, pair: &Federation) {
    let there = &elsewhere(scene)[0];
    let alias = &scene.community.remote.as_ref().expect("an address").alias;
    join(there, new, pair).await.expect("a member");
    there.remove_alias(alias).await;
    there.set_alias(alias, new).await;
}

#[tokio::test]
async fn an_address_elsewhere_is_left_to_people_there() {
    let pair = Federation::pair().await;
    let mut scene = scene(pair, &Wanted::default()).await;
    let alias = scene
        .community
        .remote
        .as_ref()
        .expect("an address")
        .alias
        .clone();
    scene
        .say(&format!("!upgrade {} 12", scene.community.room))
        .await;
    let plan = scene.hear("Plan #1").await;
    let text = user::text(&plan);
    assert!(
        text.contains(&format!("The address `{alias}` is on another server")),
        "{text}"
    );
    scene.say("!upgrade confirm 1").await;
    let report = scene.hear("Upgrade #1 is done").await;
    let new = scene.community.assert_moved("12").await;
    let text = user::text(&report);
    let server = pair.b.server_name();
    for part in [
        format!("The address `{alias}` still leads elsewhere"),
        format!("Somebody with an account on {server} removes it from the old room"),
        format!("adds it in the settings of the new one (`{new}`)"),
        "Left for you: 1 thing".to_owned(),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }

    move_alias(&scene, &new, pair).await;
    scene.say("!upgrade verify 1").await;
    scene.hear("Nothing is left to do.").await;
    // What leads there is shown there, as it was by the old room.
    let bot = &scene.community.bot;
    let shown = bot.state_event(&new, "m.room.canonical_alias", "").await;
    let others = json!([scene.community.second_alias, alias]);
    assert_eq!(shown.expect("addresses")["alt_aliases"], others);
    let left = bot.state_event(&scene.community.room, "m.room.canonical_alias", "");
    assert_eq!(left.await, Some(json!({})));
}

/// Everybody keeps the favourite and the muting.
#[tokio::test]
async fn the_servers_own_upgrade_keeps_everybodys_settings() {
    let pair = Federation::pair().await;
    let wanted = Wanted {
        settings: Presence::Present,
        ..Wanted::default()
    };
    let mut scene = scene(pair, &wanted).await;
    scene
        .say(&format!("!upgrade {} 12", scene.community.room))
        .await;
    let plan = scene.hear("Plan #1").await;
    let text = user::text(&plan);
    let why = "Method `server`, as this keeps favourites and notification settings of 4 people";
    assert!(text.contains(why), "{text}");
    assert!(!text.contains("do not come along"), "{text}");
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    // Those here at once: that is among the checks.
    let new = scene.community.assert_moved("12").await;
    settings_follow(&scene, &new, pair).await;
}

#[tokio::test]
async fn what_only_the_server_can_move_is_a_loss_that_the_plan_names() {
    let pair = Federation::pair().await;
    let wanted = Wanted {
        settings: Presence::Present,
        ..Wanted::default()
    };
    let mut scene = scene(pair, &wanted).await;
    scene
        .say(&format!(
            "!upgrade {} 12 --method staged",
            scene.community.room
        ))
        .await;
    let plan = scene.hear("Plan #1").await;
    let text = user::text(&plan);
    let loss = "Favourites and notification settings of 4 people on this server do not come along";
    assert!(text.contains(loss), "{text}");
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    let new = new_room(&scene).await;
    settings_follow(&scene, &new, pair).await;
    // Should a newer Synapse move these as well, the plan must not say so any more.
    let member = &scene.community.members[0];
    member.join(&new).await;
    let there = settings(member, &new).await;
    assert_eq!(there, json!({"actions": null, "tags": {}}));
}

/// A member elsewhere finds their settings in the new room when they come.
async fn settings_follow(scene: &Scene, new: &str, pair: &Federation) {
    let member = &elsewhere(scene)[0];
    let before = settings(member, &scene.community.room).await;
    assert_eq!(before["actions"], json!([]));
    told(scene, member, new).await;
    join(member, new, pair).await.expect("a member");
    eventually("the settings in the new room", NEWS, async || {
        (settings(member, new).await == before).then_some(())
    })
    .await;
}

/// What is on a server that is away does not hold up what is here; it is left to do, and ticks
/// itself off once the server is back.
async fn server_is_away(method: &str) {
    let defaults = SynapseOptions::default;
    let pair = Federation::start(defaults(), defaults()).await;
    let mut scene = scene(&pair, &Wanted::private()).await;
    let creator = pair.b.register("backup").await;
    let id = &creator.user_id;
    pair.b.kill();
    scene
        .say(&format!(
            "!upgrade {} 12 --method {method} --creator {id}",
            scene.community.room
        ))
        .await;
    let plan = scene.hear("Plan #1").await;
    let text = user::text(&plan);
    let unknown = format!("I could not find out whether `{id}` exists");
    assert!(text.contains(&unknown), "{method}: {text}");
    scene.say("!upgrade confirm 1").await;
    let report = scene.hear("Upgrade #1 is done").await;
    let text = user::text(&report);
    let alias = &scene.community.remote.as_ref().expect("an address").alias;
    assert!(text.contains(&format!("The address `{alias}`")), "{text}");
    assert!(text.contains(&format!("/invite {id}")), "{text}");
    let why = "did not work: their server does not answer.";
    assert!(text.contains(why), "{method}: {text}");
    let new = scene.community.assert_moved("12").await;

    pair.b.start_again().await;
    pair.meet().await;
    // What the bot could not do, it does now.
    scene.say("!upgrade verify 1").await;
    scene.hear("This creator is invited").await;
    join(&creator, &new, &pair).await.expect("they come");
    move_alias(&scene, &new, &pair).await;
    scene.say("!upgrade verify 1").await;
    scene.hear("Nothing is left to do.").await;
}

#[tokio::test]
async fn a_server_that_is_away_holds_nothing_up() {
    server_is_away("staged").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_server_that_is_away_holds_nothing_up`"]
async fn a_server_that_is_away_holds_nothing_up_by_the_other_method() {
    server_is_away("server").await;
}
