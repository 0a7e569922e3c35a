//! Input that no client sends by accident: too large, or about people who cannot be reached. An
//! answer in words, and nothing done or lost by it.

use roomlift_testbed::{Fault, Kind, Rule, Seen, eventually, user};
use serde_json::{Value, json};

use crate::scene::{SPEECH, Scene};

/// More than an event can hold: a server that does not check it could still send it.
const ENORMOUS: usize = 100_000;

/// Stands for the command in the room; the proxy makes it enormous on its way to the bot.
const SEED: &str = "!upgrade enormous";

#[tokio::test]
async fn an_enormous_command_is_answered() {
    let mut scene = Scene::new().await;
    let admin = scene.community.admin_room.clone();
    let grow = move |status: u16, mut body: Value| {
        let events = body
            .pointer_mut("/rooms/join")
            .and_then(|rooms| rooms.get_mut(&admin))
            .and_then(|room| room.pointer_mut("/timeline/events"))
            .and_then(Value::as_array_mut);
        for event in events.into_iter().flatten() {
            if event["content"]["body"] == SEED {
                event["content"]["body"] = format!("!upgrade {}", "x".repeat(ENORMOUS)).into();
            }
        }
        (status, body)
    };
    let seen = scene
        .proxy
        .add(Rule::on(Kind::Sync, Fault::custom(grow)).for_ever());
    // Ends the sync that is under way, which the rule does not see.
    scene.say("good morning").await;
    eventually("a sync that the rule sees", SPEECH, async || {
        (seen.count() > 0).then_some(())
    })
    .await;
    let command = scene.say(SEED).await;
    let answer = scene.hear("too long").await;
    let text = user::text(&answer);
    assert!(text.contains("I read at most 4000"), "{text}");
    assert!(text.len() < 500, "the answer is short: {text}");
    scene.reacted(&command, "❌").await;
    scene.say("!upgrade list --all").await;
    scene
        .hear("No upgrade was asked for in this room yet")
        .await;
}

/// Somebody who cannot be invited is named with the cause; everybody else is invited.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn who_cannot_be_invited_is_named_with_the_cause() {
    let mut scene = Scene::new().await;
    let shy = scene.community.members[1].user_id.clone();
    let refused = {
        let shy = shy.clone();
        move |seen: &Seen| {
            seen.kind == Kind::Invite
                && seen
                    .body
                    .as_ref()
                    .is_some_and(|body| body["user_id"] == *shy)
        }
    };
    let answer = json!({"errcode": "M_FORBIDDEN", "error": "This person takes no invitations"});
    let fired = scene
        .proxy
        .add(Rule::new(refused, Fault::answer(403, answer)).for_ever());
    scene.upgrade("12 --invite all").await;
    let report = scene.hear("Upgrade #1 is done").await;
    assert!(fired.count() > 0, "it was refused");
    let text = user::text(&report);
    assert!(text.contains("Left for you: 1 thing"), "{text}");
    for part in [shy.as_str(), "takes no invitations", "/invite"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let new = scene.community.assert_moved("12").await;
    let bot = &scene.community.bot;
    let members = scene.community.members.iter();
    for member in members.chain([&scene.community.moderator]) {
        let event = bot
            .state_event(&new, "m.room.member", &member.user_id)
            .await;
        let is_invited = event.is_some_and(|event| event["membership"] == "invite");
        assert_eq!(is_invited, member.user_id != shy, "{}", member.user_id);
    }
    // Once they can be, it ticks itself off.
    scene.proxy.clear_rules();
    scene.say("!upgrade verify 1").await;
    scene.hear("Nothing is left to do").await;
}
