//! What a plan says, and that planning only reads (P4).

use std::time::Duration;

use roomlift_testbed::{Fault, Kind, Rule, Seen, Wanted, eventually, user};
use serde_json::json;

use crate::scene::{SPEECH, Scene};

#[tokio::test]
async fn planning_only_reads() {
    let mut scene = Scene::new().await;
    scene.proxy.clear_log();
    let command = scene
        .say(&format!("!upgrade plan {} 12", scene.community.alias))
        .await;
    let plan = scene.hear("Plan #1").await;
    assert!(
        user::text(&plan).contains("This is only a preview"),
        "{}",
        user::text(&plan)
    );
    scene.reacted(&command, "✅").await;
    let admin = scene.community.admin_room.clone();
    let elsewhere: Vec<_> = scene
        .proxy
        .writes()
        .into_iter()
        .filter(|seen| !seen.path.contains(&admin))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    scene.say("!upgrade confirm 1").await;
    scene.hear("it was a preview or was blocked").await;
}

/// Each blocker is said, with the way out, and makes no job that could be confirmed.
#[tokio::test]
async fn what_is_in_the_way_is_said_with_the_remedy() {
    let mut scene = Scene::with(
        &Wanted {
            bot_power: 0,
            ..Wanted::default()
        },
        "",
    )
    .await;
    let alias = scene.community.alias.clone();
    scene.say(&format!("!upgrade {alias} 12")).await;
    let plan = scene.hear("What blocks it").await;
    let text = user::text(&plan);
    let bot = scene.community.bot.user_id.clone();
    assert!(text.contains(&format!("/op {bot} 100")), "{text}");
    assert!(
        text.contains(&format!("{} (100)", scene.community.moderator.user_id)),
        "{text}"
    );
    assert!(!text.contains("✅ or `!upgrade confirm"), "{text}");
    scene.say(&format!("!upgrade {alias} 99")).await;
    scene.hear("I do not know room version 99").await;
    scene
        .say(&format!(
            "!upgrade {alias} 12 --creator @nobody-here:{}",
            server(&scene)
        ))
        .await;
    scene.hear("does not exist").await;
    let moderator = scene.community.moderator.clone();
    let closed = moderator
        .create_room(json!({"preset": "private_chat"}))
        .await;
    scene.say(&format!("!upgrade {closed} 12")).await;
    scene.hear(&format!("/invite {bot}")).await;
    let admin = scene.community.admin_room.clone();
    scene.say(&format!("!upgrade {admin} 12")).await;
    scene.hear("--yes-this-room").await;
    assert_eq!(scene.community.replacement().await, None);
}

fn server(scene: &Scene) -> String {
    let id = &scene.community.bot.user_id;
    id.split_once(':').expect("a server").1.to_owned()
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_room_that_was_upgraded_is_not_upgraded_again() {
    let mut scene = Scene::new().await;
    scene.upgrade("12").await;
    scene.hear("Upgrade #1 is done").await;
    let room = scene.community.room.clone();
    scene.say(&format!("!upgrade {room} 12 --yes")).await;
    scene.hear("already upgraded").await;
    scene.community.assert_moved("12").await;
}

/// A yes is bound to what was shown: when the room changes in between, it is shown again.
#[tokio::test]
async fn a_room_that_changed_is_planned_again() {
    let mut scene = Scene::new().await;
    scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    scene.hear("Plan #1").await;
    let moderator = scene.community.moderator.clone();
    let room = scene.community.room.clone();
    // Somebody joins: that happens all the time and changes nothing about the plan.
    let newcomer = roomlift_testbed::Synapse::shared()
        .await
        .register("late")
        .await;
    newcomer.join(&room).await;
    moderator
        .put_state(
            &room,
            "m.room.topic",
            "",
            json!({"topic": "Something else"}),
        )
        .await;
    scene.say("!upgrade confirm 1").await;
    scene
        .hear("The room changed after the plan was confirmed")
        .await;
    assert_eq!(scene.community.replacement().await, None);
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
}

/// Losses are said before, and are to-dos after, until somebody does them (P7).
#[tokio::test]
async fn what_could_not_be_done_is_said_and_ticks_itself_off() {
    let wanted = Wanted {
        bot_power_in_space: 0,
        ..Wanted::default()
    };
    let mut scene = Scene::with(&wanted, "").await;
    scene.upgrade("12").await;
    let report = scene.hear("Upgrade #1 is done").await;
    let text = user::text(&report);
    assert!(
        text.contains("The space does not list the new room"),
        "{text}"
    );
    assert!(
        text.contains(&format!("/op {} ", scene.community.bot.user_id)),
        "{text}"
    );
    assert!(text.contains(&scene.community.moderator.user_id), "{text}");

    let new = scene.community.replacement().await.expect("a replacement");
    let moderator = scene.community.moderator.clone();
    let link = json!({"via": [server(&scene)], "order": "a1", "suggested": true});
    let space = scene.community.space.clone();
    moderator
        .put_state(&space, "m.space.child", &new, link)
        .await;
    moderator
        .put_state(&space, "m.space.child", &scene.community.room, json!({}))
        .await;
    scene.say("!upgrade verify 1").await;
    scene.hear("Nothing is left to do.").await;
    scene.community.assert_moved("12").await;
}

/// A second command while the first one's plan is being made: the first gives way, and the bot
/// goes on.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_plan_that_is_replaced_while_it_is_made_ends_quietly() {
    let mut scene = Scene::new().await;
    let room = scene.community.room.clone();
    let slow = Fault::Delay(Duration::from_secs(4));
    let reads = move |seen: &Seen| seen.kind == Kind::ReadState && seen.path.contains(&room);
    let is_read = reads.clone();
    scene.proxy.add(Rule::new(reads, slow));
    let command = format!("!upgrade {} 12", scene.community.alias);
    scene.say(&command).await;
    scene.say(&command).await;
    scene.hear("Plan #2").await;
    scene.say("!upgrade status 1").await;
    scene.hear("a newer plan took its place").await;
    scene.say("!upgrade confirm 2").await;
    scene.hear("Upgrade #2 is done").await;
    // The slow read comes back only now, to a job that has ended.
    eventually("the slow answer", SPEECH, async || {
        let log = scene.proxy.log();
        let slow = log.iter().find(|seen| is_read(seen))?;
        slow.status.map(drop)
    })
    .await;
    scene.say("!upgrade list").await;
    scene.hear("#2 done").await;
    scene.community.assert_moved("12").await;
}
