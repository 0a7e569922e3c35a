//! Other homeservers, played by the proxy: what their own upgrade leaves undone is done by the bot,
//! and where it cannot be used, the bot says so or takes its own way.
//!
//! The ways through an upgrade in detail are in `upgrade` and `staged`.

use std::path::Path;

use roomlift_testbed::play::{self, Maker, Refusal};
use roomlift_testbed::{
    Community, Fault, Federation, Kind, Proxy, Rule, Seen, Wanted, eventually, seg, user,
};
use serde_json::{Value, json};

use crate::scene::{SPEECH, Scene, said};

/// The server's own upgrade on a played server; in the end nobody can tell.
async fn all_the_same(play: impl Fn(&Proxy), wanted: Wanted, to: &str) {
    let mut scene = Scene::with(&wanted, "").await;
    play(&scene.proxy);
    scene.upgrade(&format!("{to} --method server")).await;
    let mut report = scene.hear("Upgrade #1 is done").await;
    let new = scene.community.replacement().await.expect("a new room");
    if wanted.creators > 0 {
        // Creators are needed in the new room: only their coming completes the upgrade.
        let (moderator, creators) = (&scene.community.moderator, &scene.community.creators);
        for user in creators.iter().chain([moderator]) {
            user.join(&new).await;
        }
        scene.say("!upgrade verify 1").await;
        report = scene.hear("Nothing is left to do.").await;
    }
    let text = user::text(&report);
    assert!(text.contains("Nothing is left to do."), "{text}");
    assert_eq!(scene.proxy.log_of(&Kind::Upgrade).len(), 1);
    assert_eq!(scene.community.assert_moved(to).await, new);

    // People can speak, which is easily lost: the copied levels may be those of a closed room.
    let member = &scene.community.members[0];
    member.join(&new).await;
    member.send_text(&new, "still here").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_server_that_closes_the_new_room_with_the_old`"]
async fn a_server_that_does_what_the_specification_says_and_no_more() {
    all_the_same(play::spec_only, Wanted::default(), "12").await;
    all_the_same(play::spec_only, Wanted::default(), "11").await;
}

#[tokio::test]
async fn a_server_that_closes_the_new_room_with_the_old() {
    all_the_same(play::palpo, Wanted::default(), "12").await;
    all_the_same(play::palpo, Wanted::default(), "11").await;
}

/// The server's creators stay creators where it forgets them.
#[tokio::test]
#[ignore = "outer ring: a variant of `a_server_that_closes_the_new_room_with_the_old`"]
async fn creators_are_asked_for() {
    let wanted = Wanted {
        version: "12",
        bot_power: 150,
        creators: 1,
        ..Wanted::default()
    };
    all_the_same(play::spec_only, wanted.clone(), "12").await;
    all_the_same(play::palpo, wanted, "12").await;
}

/// Refused with what helps, which is not to try the same once more; and what helps, helps.
#[tokio::test]
async fn a_server_without_upgrade() {
    for refusal in [Refusal::NotImplemented, Refusal::Unrecognized] {
        let mut scene = Scene::new().await;
        play::without_upgrade(&scene.proxy, refusal);
        let before = ids(&scene.community).await;
        scene.upgrade("12 --method server").await;
        let end = scene.hear("Not done, upgrade #1").await;
        let text = user::text(&end);
        assert!(text.contains("--method staged"), "{refusal:?}: {text}");
        assert!(!text.contains("retry"), "{refusal:?}: {text}");
        assert_eq!(scene.proxy.log_of(&Kind::Upgrade).len(), 1, "{refusal:?}");
        assert_eq!(ids(&scene.community).await, before, "{refusal:?}");
        assert!(scene.community.successors().await.is_empty());
        assert!(
            said(&scene.community, &scene.community.room)
                .await
                .is_empty()
        );

        scene
            .say(&format!(
                "!upgrade {} 12 --method staged --yes",
                scene.community.alias
            ))
            .await;
        scene.hear("Upgrade #2 is done").await;
        scene.community.assert_moved("12").await;
    }
}

/// Reading waits in its place, and the upgrade comes to its end.
#[tokio::test]
async fn a_server_that_limits_reads_and_does_not_say_for_how_long() {
    let mut scene = Scene::new().await;
    let refused = play::limits_reads(&scene.proxy, 5.0, 2.0);
    scene.upgrade("12 --method staged").await;
    scene.hear("Upgrade #1 is done").await;
    assert!(refused.count() > 0);
    scene.community.assert_moved("12").await;
}

/// The bot's own tombstone leads to a room that it can enter again: that one serves.
#[tokio::test]
async fn a_server_that_drops_an_upgrade_and_lets_its_maker_in() {
    let mut scene = Scene::new().await;
    play::drops_an_upgrade(&scene.proxy, Maker::IsLetIn);
    scene.upgrade("12 --method server").await;
    let end = scene.hear("Upgrade #1 is done").await;
    let text = user::text(&end);
    assert!(text.contains("Nothing is left to do."), "{text}");
    assert_eq!(scene.proxy.log_of(&Kind::Upgrade).len(), 1);
    assert_eq!(scene.proxy.log_of(&Kind::CreateRoom).len(), 0);
    scene.community.assert_moved("12").await;
}

/// It leads to a room that nobody can enter: the bot makes one that stands, and leads the old room there.
#[tokio::test]
async fn a_server_that_drops_an_upgrade_for_good() {
    let mut scene = Scene::new().await;
    play::drops_an_upgrade(&scene.proxy, Maker::StaysOut);
    scene.upgrade("12 --method server").await;
    let lost = "SELECT count(*) FROM job_log WHERE entry LIKE '%answer_lost%'";
    let path = scene.dir.path().join("data/roomlift.db");
    eventually("the loss is recorded", SPEECH, async || {
        let db = rusqlite::Connection::open(&path).expect("the database");
        let count = db.query_row(lost, [], |row| row.get::<_, usize>(0));
        (count.expect("a count") > 0).then_some(())
    })
    .await;
    scene.bot.kill();
    let closed = scene.community.replacement().await;
    lost_long_ago(&path);
    scene.start_again().await;
    let end = scene.hear("Upgrade #1 is done").await;
    let text = user::text(&end);
    assert!(text.contains("Nothing is left to do."), "{text}");
    assert_eq!(scene.proxy.log_of(&Kind::Upgrade).len(), 1);
    assert_eq!(scene.proxy.log_of(&Kind::CreateRoom).len(), 1);
    scene.community.assert_moved("12").await;
    assert_ne!(scene.community.replacement().await, closed);
}

/// Has the answer to `/upgrade` been lost so long ago that the server is done with it.
fn lost_long_ago(path: &Path) {
    let db = rusqlite::Connection::open(path).expect("the database");
    let changed = db.execute(
        "UPDATE job_log SET entry = json_set(entry, '$.event.at', '2026-01-01T00:00:00Z')
         WHERE entry LIKE '%answer_lost%'",
        [],
    );
    assert_eq!(changed.expect("an entry is changed"), 1);
    let due = db.execute("UPDATE job SET due_at = 0 WHERE id = 1", []);
    assert_eq!(due.expect("the job is due"), 1);
}

/// The addresses that it does show are shown, and the one that it does not is named.
#[tokio::test]
async fn a_server_that_shows_its_own_addresses_only() {
    let pair = Federation::pair().await;
    let community = Community::make_federated(&pair.a, &pair.b, &Wanted::default()).await;
    let mut scene = Scene::around(community, &pair.a, "").await;
    let refused = play::shows_own_addresses_only(&scene.proxy, &pair.a.server_name());
    scene.upgrade("12 --method staged").await;
    scene.hear("Upgrade #1 is done").await;
    let new = scene.community.replacement().await.expect("a new room");
    let remote = scene.community.remote.as_ref().expect("people elsewhere");
    let (there, far) = (remote.members[0].clone(), remote.alias.clone());
    let path = format!(
        "join/{}?server_name={}",
        seg(&new),
        seg(&pair.a.server_name())
    );
    let joined = there.call("POST", &path, Some(json!({}))).await;
    joined.expect("a member");
    there.remove_alias(&far).await;
    there.set_alias(&far, &new).await;
    scene.say("!upgrade verify 1").await;
    let end = scene.hear(&format!("does not show `{far}`")).await;
    assert!(refused.count() > 0);
    let text = user::text(&end);
    let own = &scene.community.second_alias;
    assert!(!text.contains(&format!("does not show `{own}`")), "{text}");
    let shown = scene
        .community
        .bot
        .state_event(&new, "m.room.canonical_alias", "")
        .await;
    assert_eq!(shown.expect("addresses")["alt_aliases"], json!([own]));
}

/// Somebody else upgrades the room while moderators look at the bot's: the end says who, where to, and what helps.
#[tokio::test]
async fn an_upgrade_by_somebody_else_during_the_review() {
    let mut scene = Scene::new().await;
    scene.upgrade("12 --method staged --review").await;
    scene.hear("please look at the new room").await;
    let (room, by) = (scene.community.room.clone(), &scene.community.moderator);
    let name = by.whoami().await["user_id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let new = by.upgrade(&room, "11").await;
    scene.say("!upgrade cancel 1").await;
    let end = scene.hear("upgraded this room").await;
    let text = user::text(&end);
    for part in [&name, &new, &format!("!upgrade adopt {room}")] {
        assert!(text.contains(part.as_str()), "{part}: {text}");
    }
    assert!(!text.contains("as it was"), "{text}");
}

/// The other changes are made, and the one that failed is named.
#[tokio::test]
async fn a_server_that_fails_at_one_change() {
    let mut scene = Scene::new().await;
    let links = |seen: &Seen| matches!(&seen.kind, Kind::PutState { event_type } if event_type == "m.space.child");
    let fault = Fault::error(502, "M_UNKNOWN");
    let failed = scene.proxy.add(Rule::new(links, fault).for_ever());
    scene.upgrade("12 --method staged").await;
    let end = scene.hear("Upgrade #1 is done").await;
    assert!(failed.count() > 0);
    let text = user::text(&end);
    assert!(text.contains("502"), "{text}");
    assert!(scene.community.replacement().await.is_some());
}

/// `auto` makes the room itself, says why, and does not touch the server's own upgrade.
async fn staged_by_itself(mut scene: Scene, to: &str, why: &str) -> Scene {
    scene
        .say(&format!("!upgrade {} {to}", scene.community.room))
        .await;
    let plan = scene.hear("Plan #1").await;
    let text = user::text(&plan);
    assert!(text.contains("`staged`"), "{text}");
    assert!(text.contains(why), "{text}");
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    assert!(scene.proxy.log_of(&Kind::Upgrade).is_empty());
    scene
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn software_that_is_not_known_well_is_not_relied_on() {
    let scene = Scene::new().await;
    play::other_software(&scene.proxy, "Dendrite");
    let scene = staged_by_itself(scene, "12", "safest way on this server").await;
    scene.community.assert_moved("12").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `versions::down_to_a_version_without_creators`"]
async fn down_to_a_version_without_creators() {
    let wanted = Wanted {
        version: "12",
        bot_power: 150,
        ..Wanted::default()
    };
    let scene = Scene::with(&wanted, "").await;
    let why = "the server would leave everybody without power";
    let scene = staged_by_itself(scene, "11", why).await;
    scene.community.assert_moved("11").await;
}

#[tokio::test]
async fn nobody_on_this_server_but_the_bot() {
    let pair = Federation::pair().await;
    let wanted = Wanted {
        members: 0,
        ..Wanted::default()
    };
    let community = Community::make_federated(&pair.a, &pair.b, &wanted).await;
    community.moderator.leave(&community.room).await;
    let scene = Scene::around(community, &pair.a, "").await;
    let scene = staged_by_itself(scene, "12", "nobody else on this server is in it").await;
    let community = &scene.community;
    let [new] = community.successors().await.try_into().expect("one room");
    let tombstone = community
        .bot
        .state_event(&community.room, "m.room.tombstone", "")
        .await
        .expect("a tombstone");
    assert_eq!(tombstone["replacement_room"], Value::from(new));
}

/// The events that are the state of the old room.
async fn ids(community: &Community) -> Vec<String> {
    let events = community.bot.state(&community.room).await;
    let ids = events.iter().map(|event| event["event_id"].to_string());
    let mut ids: Vec<_> = ids.collect();
    ids.sort();
    ids
}

/// A server that is updated because the bot said what it lacks is believed at once.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_server_that_was_updated_meanwhile_is_asked_again() {
    let mut scene = Scene::new().await;
    let old = Fault::custom(|status, mut body| {
        let versions = &mut body["capabilities"]["m.room_versions"];
        versions["default"] = "11".into();
        if let Some(available) = versions["available"].as_object_mut() {
            available.remove("12");
        }
        (status, body)
    });
    scene
        .proxy
        .add(Rule::on(Kind::Capabilities, old).for_ever());
    let command = format!("!upgrade {} 12", scene.community.alias);
    scene.say(&command).await;
    scene.hear("does not offer room version 12").await;
    scene.proxy.clear_rules();
    scene.say(&command).await;
    scene.hear("Plan #2").await;
    scene.say("!upgrade confirm 2").await;
    scene.hear("Upgrade #2 is done").await;
    scene.community.assert_moved("12").await;
}
