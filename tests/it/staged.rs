//! The bot makes the new room itself: complete before anybody can enter, taken back when something
//! fails (P6), never made twice (P2).

use std::collections::BTreeSet;
use std::time::Duration;

use roomlift_testbed::{
    Community, Entry, Fault, Kind, Rule, Seen, Synapse, SynapseOptions, Wanted, eventually, user,
};
use serde_json::json;

use crate::scene::{SPEECH, Scene, said};

const STAGED: &str = "12 --method staged";

fn is_create(seen: &Seen) -> bool {
    seen.kind == Kind::CreateRoom
}

#[tokio::test]
async fn a_staged_room_is_all_that_the_old_one_was() {
    let mut scene = Scene::new().await;
    scene.upgrade(STAGED).await;
    let report = scene.hear("Upgrade #1 is done").await;
    let text = user::text(&report);
    assert!(text.contains("Nothing is left to do."), "{text}");
    scene.community.assert_moved("12").await;
    assert!(scene.proxy.log_of(&Kind::Upgrade).is_empty());
}

/// Until the switch, nobody can enter and the old room is as it was; then everything at once.
#[tokio::test]
async fn moderators_look_first() {
    let mut scene = Scene::new().await;
    let before = state(&scene.community).await;
    scene.upgrade("12 --method staged --review").await;
    let shown = scene.hear("please look at the new room").await;
    let text = user::text(&shown);
    assert!(text.contains("It matches the old room"), "{text}");
    let new = made(&scene.community).await.expect("a new room");
    assert_eq!(
        state(&scene.community).await,
        before,
        "the old room is as it was"
    );
    let member = scene.community.members[0].clone();
    let refused = member
        .call(
            "POST",
            &format!("join/{}", roomlift_testbed::seg(&new)),
            Some(json!({})),
        )
        .await;
    assert!(refused.is_err(), "a member entered before the switch");
    let moderator = scene.community.moderator.clone();
    moderator.join(&new).await;
    // What happens meanwhile comes along: a ban in the old room, another topic in the new one.
    moderator
        .ban(&scene.community.room, &member.user_id, "late")
        .await;
    moderator
        .put_state(
            &new,
            "m.room.topic",
            "",
            json!({"topic": "Chosen in review"}),
        )
        .await;
    scene.restart().await;
    let event = shown["event_id"].as_str().expect("an id").to_owned();
    let admin = scene.community.admin_room.clone();
    moderator.react(&admin, &event, "✅").await;
    scene.hear("Upgrade #1 is done").await;
    assert_eq!(scene.community.replacement().await, Some(new.clone()));
    let banned = moderator
        .state_event(&new, "m.room.member", &member.user_id)
        .await
        .expect("a member event");
    assert_eq!(banned["membership"], "ban");
    let topic = moderator.state_event(&new, "m.room.topic", "").await;
    assert_eq!(topic.expect("a topic")["topic"], "Chosen in review");
}

/// P6: a no, or a failure, leaves no trace.
#[tokio::test]
async fn a_room_that_is_not_wanted_is_taken_back() {
    let mut scene = Scene::new().await;
    let before = state(&scene.community).await;
    scene.upgrade("12 --method staged --review").await;
    let shown = scene.hear("please look at the new room").await;
    let new = made(&scene.community).await.expect("a new room");
    scene.community.moderator.join(&new).await;
    let event = shown["event_id"].as_str().expect("an id").to_owned();
    let admin = scene.community.admin_room.clone();
    scene.community.moderator.react(&admin, &event, "❌").await;
    scene.hear("Nothing was changed.").await;
    untouched(&scene.community, &before).await;
    let members = scene.community.moderator.joined_rooms().await;
    assert!(!members.contains(&new), "the moderator is still in it");
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_room_that_is_not_wanted_is_taken_back`"]
async fn a_switch_that_is_refused_takes_the_new_room_back() {
    let mut scene = Scene::new().await;
    let before = state(&scene.community).await;
    let tombstone = |seen: &Seen| matches!(&seen.kind, Kind::PutState { event_type, .. } if event_type == "m.room.tombstone");
    scene
        .proxy
        .add(Rule::new(tombstone, Fault::error(403, "M_FORBIDDEN")));
    scene.upgrade(STAGED).await;
    scene.hear("The old room is unchanged").await;
    untouched(&scene.community, &before).await;
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn somebody_who_is_faster_wins_and_nothing_is_left_behind() {
    let mut scene = Scene::new().await;
    let moderator = scene.community.moderator.clone();
    let room = scene.community.room.clone();
    scene.upgrade("12 --method staged --review").await;
    let shown = scene.hear("please look at the new room").await;
    let ours = made(&scene.community).await.expect("a new room");
    let theirs = moderator.upgrade(&room, "11").await;
    let event = shown["event_id"].as_str().expect("an id").to_owned();
    let admin = scene.community.admin_room.clone();
    moderator.react(&admin, &event, "✅").await;
    scene.hear("The old room is unchanged").await;
    assert_eq!(scene.community.replacement().await, Some(theirs));
    assert!(!scene.community.bot.joined_rooms().await.contains(&ours));
}

async fn lost(fault: Fault, calls: usize) {
    let mut scene = Scene::new().await;
    let fired = scene.proxy.add(Rule::new(is_create, fault));
    scene.upgrade(STAGED).await;
    scene.hear("Upgrade #1 is done").await;
    assert_eq!(fired.count(), 1, "the fault happened");
    assert_eq!(scene.proxy.log_of(&Kind::CreateRoom).len(), calls);
    scene.community.assert_moved("12").await;
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_room() {
    lost(Fault::LoseAnswer, 1).await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_lost_answer_makes_no_second_room`"]
async fn a_room_that_was_never_made_is_made() {
    lost(Fault::Reset, 2).await;
}

/// Synapse makes the room and then refuses one event of it: that room serves.
#[tokio::test]
async fn one_event_that_is_refused_does_not_spoil_the_rest() {
    let mut scene = Scene::new().await;
    // A room may forbid its own server to the rest of the world; a new one must not.
    let acl = json!({"allow": ["elsewhere.example.org"], "deny": [], "allow_ip_literals": false});
    let moderator = scene.community.moderator.clone();
    let room = scene.community.room.clone();
    let refused = moderator
        .call(
            "PUT",
            &format!(
                "rooms/{}/state/m.room.server_acl/",
                roomlift_testbed::seg(&room)
            ),
            Some(acl),
        )
        .await;
    assert!(
        refused.is_err(),
        "this server takes it: the test needs another event"
    );
    let answer = Fault::AnswerInstead {
        status: 400,
        body: json!({"errcode": "M_UNKNOWN", "error": "Bad event"}),
    };
    scene.proxy.add(Rule::new(is_create, answer));
    scene.upgrade(STAGED).await;
    scene.hear("Upgrade #1 is done").await;
    assert_eq!(scene.proxy.log_of(&Kind::CreateRoom).len(), 1);
    scene.community.assert_moved("12").await;
}

/// The room that the bot made and nothing leads to.
async fn made(community: &Community) -> Option<String> {
    community.successors().await.into_iter().next()
}

async fn untouched(community: &Community, before: &BTreeSet<String>) {
    eventually("the new room is left", SPEECH, async || {
        community.successors().await.is_empty().then_some(())
    })
    .await;
    assert_eq!(community.replacement().await, None);
    assert_eq!(state(community).await, *before, "the old room is as it was");
    assert!(said(community, &community.room).await.is_empty());
}

/// The events that are the state of the old room.
async fn state(community: &Community) -> BTreeSet<String> {
    let events = community.bot.state(&community.room).await;
    events
        .iter()
        .map(|event| event["event_id"].to_string())
        .collect()
}

/// What people change in the old room while the upgrade is held up comes along into the new one, and is
/// not set back when the old one is closed.
async fn what_others_change_meanwhile_stays(method: &str, held_up: Rule) {
    let mut scene = Scene::new().await;
    let (room, moderator) = (
        scene.community.room.clone(),
        scene.community.moderator.clone(),
    );
    let other = scene.community.members[0].user_id.clone();
    let outcast = scene.community.members[1].user_id.clone();
    let levels = async |level: i64| {
        let levels = moderator.state_event(&room, "m.room.power_levels", "");
        let mut levels = levels.await.expect("power levels");
        levels["users"][&other] = level.into();
        moderator
            .put_state(&room, "m.room.power_levels", "", levels)
            .await;
    };
    levels(50).await;
    let held_up = scene.proxy.add(held_up);
    scene.upgrade(&format!("12 --method {method}")).await;
    eventually("the new room is asked for", SPEECH, async || {
        (held_up.count() > 0).then_some(())
    })
    .await;
    levels(10).await;
    moderator.ban(&room, &outcast, "spam").await;
    scene.hear("Upgrade #1 is done").await;
    let new = scene.community.replacement().await.expect("a new room");
    let bot = &scene.community.bot;
    for room in [&room, &new] {
        let now = bot.state_event(room, "m.room.power_levels", "");
        let now = now.await.expect("power levels");
        assert_eq!(now["users"][&other], 10, "{now:#}");
        let member = bot.state_event(room, "m.room.member", &outcast).await;
        assert_eq!(member.expect("a ban")["membership"], "ban");
    }
    let old = moderator
        .state_event(&room, "m.room.power_levels", "")
        .await;
    assert_eq!(old.expect("power levels")["events_default"], 50, "closed");
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn what_others_change_while_the_room_is_made_stays() {
    let slow = Fault::Delay(Duration::from_secs(12));
    what_others_change_meanwhile_stays("staged", Rule::on(Kind::CreateRoom, slow)).await;
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn what_others_change_while_the_server_makes_us_wait_stays() {
    let limit = Fault::too_many_requests(Duration::from_secs(12));
    what_others_change_meanwhile_stays("server", Rule::on(Kind::Upgrade, limit)).await;
}

/// On a server that encrypts rooms which are not public by its own choice, a public room stays as it is: its own
/// upgrade would encrypt that as well, and `auto` reads so beforehand.
#[tokio::test]
async fn a_public_room_is_not_encrypted_in_passing() {
    let key = "encryption_enabled_by_default_for_room_type";
    let options = SynapseOptions::default().with(key, "invite".into());
    let synapse = Synapse::start(options).await;
    let wanted = Wanted {
        entry: Entry::Public,
        ..Wanted::default()
    };
    let community = Community::make(&synapse, &wanted).await;
    let scene = Scene::around(community, &synapse, "").await;
    let alias = scene.community.alias.clone();
    // The admin room is encrypted there: what the bot says is not read here.
    scene.say(&format!("!upgrade {alias} --yes")).await;
    let new = eventually("the new room", SPEECH, async || {
        scene.community.replacement().await
    })
    .await;
    let bot = &scene.community.bot;
    let create = bot.state_event(&new, "m.room.create", "").await;
    assert_eq!(create.expect("a create event")["room_version"], "12");
    let encryption = bot.state_event(&new, "m.room.encryption", "").await;
    assert_eq!(encryption, None);
}

/// Where the server encrypts every new room, it is said and taken back: an encrypted room stays so for ever.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_room_that_the_server_encrypted_is_taken_back() {
    let mut scene = Scene::new().await;
    let bot = scene.community.bot.clone();
    let encrypting = Fault::custom(move |status, answer| {
        let (bot, room) = (bot.clone(), answer["room_id"].as_str().map(str::to_owned));
        let encrypt = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
            let room = room.expect("a room");
            runtime.expect("a runtime").block_on(bot.put_state(
                &room,
                "m.room.encryption",
                "",
                content,
            ));
        };
        std::thread::spawn(encrypt).join().expect("it is encrypted");
        (status, answer)
    });
    scene.proxy.add(Rule::new(is_create, encrypting));
    scene.upgrade(STAGED).await;
    scene.hear("encrypts every new room").await;
    assert_eq!(scene.community.replacement().await, None);
}
