//! Invitations: accepted from those who may command, or are listed; all others are left and told of
//! once.

use std::time::Duration;

use roomlift_testbed::{Community, Fault, Kind, Rule, Synapse, User, Wanted, eventually};
use serde_json::json;

use super::scene::{SPEECH, Scene, said};

/// A room of somebody, with the bot invited to it.
async fn invited(by: &User, bot: &User) -> String {
    let room = by.create_room(json!({ "preset": "private_chat" })).await;
    by.invite(&room, &bot.user_id).await;
    room
}

/// Waits until the bot's membership of a room, as somebody in it sees it, is this.
async fn until(by: &User, room: &str, bot: &User, membership: &str) {
    let what = format!("{membership} in {room}");
    eventually(&what, SPEECH, async || {
        let member = by.state_event(room, "m.room.member", &bot.user_id).await;
        member
            .is_some_and(|member| member["membership"] == membership)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_are_accepted_from_those_who_may_and_left_otherwise() {
    let synapse = Synapse::shared().await;
    let friend = synapse.register("friend").await;
    let stranger = synapse.register("stranger").await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let listed = format!(
        "accept_invites_from = [\"{}\"]\n[[admin_room]]\n",
        friend.user_id
    );
    let mut scene = Scene::around_as(community, synapse, |config| {
        config.replace("[[admin_room]]\n", &listed)
    })
    .await;
    let (bot, maria) = (
        scene.community.bot.clone(),
        scene.community.moderator.clone(),
    );
    let admin = scene.community.admin_room.clone();

    let of_maria = invited(&maria, &bot).await;
    until(&maria, &of_maria, &bot, "join").await;
    let of_friend = invited(&friend, &bot).await;
    until(&friend, &of_friend, &bot, "join").await;
    let of_stranger = invited(&stranger, &bot).await;
    until(&stranger, &of_stranger, &bot, "leave").await;
    scene.hear("I declined").await;
    // Again, and nobody is told again.
    stranger.invite(&of_stranger, &bot.user_id).await;
    until(&stranger, &of_stranger, &bot, "leave").await;

    // While nobody listens.
    scene.bot.kill();
    let second = invited(&maria, &bot).await;
    stranger.invite(&of_stranger, &bot.user_id).await;
    scene.restart().await;
    until(&maria, &second, &bot, "join").await;
    until(&stranger, &of_stranger, &bot, "leave").await;
    scene.say("!upgrade list").await;
    scene.hear("No upgrade").await;
    let told: Vec<_> = said(&scene.community, &admin)
        .await
        .into_iter()
        .filter(|text| text.contains(&of_stranger))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_flood_of_invitations_drowns_nobody() {
    let synapse = Synapse::shared().await;
    let stranger = synapse.register("stranger").await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let mut rooms = Vec::new();
    for _ in 0..25 {
        rooms.push(invited(&stranger, &community.bot).await);
    }
    let mut scene = Scene::around(community, synapse, "").await;
    scene.say("!upgrade list").await;
    scene.hear("No upgrade").await;
    let bot = scene.community.bot.user_id.clone();
    let open = async || {
        let mut open = 0;
        for room in &rooms {
            let member = stranger.state_event(room, "m.room.member", &bot).await;
            open += usize::from(member.is_some_and(|member| member["membership"] == "invite"));
        }
        open
    };
    eventually("some of them are left", SPEECH, async || {
        (open().await == 5).then_some(())
    })
    .await;
    scene.say("!upgrade list --all").await;
    scene.hear("No upgrade").await;
    assert_eq!(open().await, 5, "the others are looked at later");
    let told = said(&scene.community, &scene.community.admin_room).await;
    let told = told.iter().filter(|text| text.contains("I declined"));
    assert_eq!(told.count(), 5);
}

/// Where joining takes its time, commands are answered meanwhile.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn commands_do_not_wait_for_invitations() {
    let mut scene = Scene::new().await;
    let (bot, maria) = (
        scene.community.bot.clone(),
        scene.community.moderator.clone(),
    );
    let limit = Fault::too_many_requests(Duration::from_mins(10));
    let limited = scene.proxy.add(Rule::on(Kind::Join, limit));
    invited(&maria, &bot).await;
    eventually("the limit", SPEECH, async || {
        (limited.count() > 0).then_some(())
    })
    .await;
    scene.say("!upgrade list").await;
    scene.hear("No upgrade").await;
}
