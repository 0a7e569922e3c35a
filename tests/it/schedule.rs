//! Upgrades that begin later: the wait, what members are told before, and a start that was missed.

use std::time::Duration;

use roomlift_testbed::{Wanted, eventually, user};
use serde_json::Value;

use crate::scene::{SPEECH, Scene};

/// What the bot said in the old room, oldest first.
async fn announced(scene: &Scene) -> Vec<Value> {
    let community = &scene.community;
    let mut events = community.moderator.messages(&community.room, 200).await;
    events.reverse();
    events.retain(|event| {
        event["sender"] == community.bot.user_id.as_str() && event["type"] == "m.room.message"
    });
    events
}

/// Waits until the bot said this in the old room, and returns all it said there.
async fn hear_in_room(scene: &Scene, part: &str) -> Vec<String> {
    let heard = async || {
        let said: Vec<_> = announced(scene)
            .await
            .iter()
            .map(|event| user::text(event).to_owned())
            .collect();
        said.iter().any(|text| text.contains(part)).then_some(said)
    };
    eventually(part, SPEECH, heard).await
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_scheduled_upgrade_is_announced_and_begins_at_its_time() {
    let config = "[schedule]\nannounce = [\"3d\", \"1h\", \"8s\"]\ntime_zone = \"Europe/Berlin\"\n";
    let mut scene = Scene::with(&Wanted::default(), config).await;
    let alias = scene.community.alias.clone();
    scene
        .say(&format!(
            "!upgrade {alias} 12 --in 70s --announce --reason \"New rules\""
        ))
        .await;
    let plan = scene.hear("Plan #1").await;
    let plan = user::text(&plan).to_owned();
    assert!(
        plan.contains("begins on") && plan.contains("(Europe/Berlin)"),
        "{plan}"
    );
    assert!(
        announced(&scene).await.is_empty(),
        "P4: nothing before the yes"
    );
    scene.say("!upgrade confirm 1").await;
    let waiting = scene.hear("Waiting until").await;
    assert!(user::text(&waiting).contains("(Europe/Berlin)"));

    // Two announcements are overdue: they are one. A kill makes no more of them.
    let said = hear_in_room(&scene, "will be upgraded").await;
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("New rules"), "{said:?}");
    let event = announced(&scene).await.remove(0);
    assert_eq!(event["content"]["m.mentions"], serde_json::json!({}));
    assert_eq!(scene.community.replacement().await, None);
    scene.restart().await;
    scene.say("!upgrade status").await;
    scene.hear("#1 scheduled").await;

    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
    let said: Vec<_> = announced(&scene)
        .await
        .iter()
        .map(|event| user::text(event).to_owned())
        .filter(|text| text.contains("will be upgraded"))
        .collect();
    assert_eq!(said.len(), 2, "{said:?}");
}

#[tokio::test]
async fn members_are_told_when_it_is_called_off() {
    let mut scene = Scene::new().await;
    let alias = scene.community.alias.clone();
    scene
        .say(&format!("!upgrade {alias} 12 --in 30m --announce --yes"))
        .await;
    scene.hear("Waiting until").await;
    let said = hear_in_room(&scene, "will be upgraded").await;
    assert_eq!(said.len(), 1, "{said:?}");
    scene.restart().await;
    // It holds its room meanwhile.
    scene.say(&format!("!upgrade {alias} 12")).await;
    scene.hear("Upgrade #1 is at work on this room").await;
    let cancel = scene.say("!upgrade cancel 1").await;
    scene.hear("Cancelled, upgrade #1").await;
    scene.reacted(&cancel, "✅").await;
    let said = hear_in_room(&scene, "will not be upgraded").await;
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(scene.community.replacement().await, None);

    // What nobody was told of is not called off.
    scene
        .say(&format!("!upgrade {alias} 12 --in 30m --yes"))
        .await;
    scene.hear("Waiting until").await;
    scene.say("!upgrade cancel 3").await;
    scene.hear("Cancelled, upgrade #3").await;
    scene.say("!upgrade help confirm").await;
    scene.hear("`!upgrade confirm").await;
    assert_eq!(announced(&scene).await.len(), 2);
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn times_that_cannot_be_are_refused() {
    let mut scene = Scene::new().await;
    let alias = scene.community.alias.clone();
    for (options, part) in [
        ("--at 20:00", "Which time zone"),
        ("--at 2001-01-01T20:00Z", "in the past"),
        ("--at 25:00 Europe/Berlin", "not a time"),
        ("--at 20:00 Europe/Berln", "do not know the time zone"),
        ("--in 99999d", "too far ahead"),
        ("--in soon", "not a length of time"),
        ("--in 2h --at 20:00Z", "not both"),
        ("--announce", "needs `--at` or `--in`"),
    ] {
        let asked = scene.say(&format!("!upgrade {alias} 12 {options}")).await;
        scene.hear(part).await;
        scene.reacted(&asked, "❌").await;
    }
    assert_eq!(scene.community.replacement().await, None);
}

/// Puts everything that the bot has stored for a later time an hour back: for the bot it is as if it
/// had been away for that long.
fn sleep_an_hour(scene: &Scene) {
    let path = scene.dir.path().join("data/roomlift.db");
    let db = rusqlite::Connection::open(path).expect("the database");
    let start: String = db
        .query_row(
            "SELECT json_extract(request, '$.options.start.at') FROM job",
            [],
            |row| row.get(0),
        )
        .expect("a scheduled job");
    let at: jiff::Timestamp = start.parse().expect("a time");
    let earlier = at - jiff::SignedDuration::from_hours(1);
    let (from, to) = (start, earlier.to_string());
    for sql in [
        "UPDATE job SET request = replace(request, ?1, ?2), due_at = due_at - 3600000",
        "UPDATE job_log SET entry = replace(entry, ?1, ?2)",
    ] {
        db.execute(sql, [&from, &to])
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_missed_start_is_asked_about_where_that_is_wanted() {
    let config = "[schedule]\nmissed_start = \"ask\"\n";
    let mut scene = Scene::with(&Wanted::default(), config).await;
    let alias = scene.community.alias.clone();
    scene
        .say(&format!("!upgrade {alias} 12 --in 30m --yes"))
        .await;
    scene.hear("Waiting until").await;
    scene.bot.kill();
    sleep_an_hour(&scene);
    scene.restart().await;
    let asked = scene.hear("I was offline").await;
    assert_eq!(scene.community.replacement().await, None);
    let question = asked["event_id"].as_str().expect("an event id").to_owned();
    let admin = scene.community.admin_room.clone();
    scene.reacted(&question, "✅").await;
    scene
        .community
        .moderator
        .react(&admin, &question, "✅")
        .await;
    scene.hear("Upgrade #1 is done").await;
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_missed_start_happens_at_once_otherwise() {
    let mut scene = Scene::new().await;
    let alias = scene.community.alias.clone();
    scene
        .say(&format!("!upgrade {alias} 12 --in 30m --announce --yes"))
        .await;
    scene.hear("Waiting until").await;
    hear_in_room(&scene, "will be upgraded").await;
    scene.bot.kill();
    sleep_an_hour(&scene);
    scene.restart().await;
    scene.hear("Upgrade #1 is done").await;
    let late = announced(&scene).await;
    let late = late
        .iter()
        .filter(|event| user::text(event).contains("will be upgraded"));
    assert_eq!(late.count(), 1);
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_room_that_changes_meanwhile_keeps_its_time() {
    let mut scene = Scene::new().await;
    let alias = scene.community.alias.clone();
    let room = scene.community.room.clone();
    scene.say(&format!("!upgrade {alias} 12 --in 60s")).await;
    scene.hear("Plan #1").await;
    scene.say("!upgrade confirm 1").await;
    scene.hear("Waiting until").await;
    let topic = serde_json::json!({ "topic": "Another topic" });
    scene
        .community
        .moderator
        .put_state(&room, "m.room.topic", "", topic)
        .await;
    scene.hear("The room changed").await;
    assert_eq!(scene.community.replacement().await, None);
    // The time has come and gone: the yes to the new plan begins at once.
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    tokio::time::timeout(Duration::from_mins(1), scene.community.assert_moved("12"))
        .await
        .expect("the room moved");
}
