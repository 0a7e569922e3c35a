//! What is said when: at once that a command was heard, and everything in an order that makes sense
//! to whoever reads along.

use std::time::Duration;

use roomlift_testbed::{Fault, Kind, Rule, Seen, user};

use crate::scene::Scene;

/// A command is acknowledged before anything is read for it, so however slow the server is at that.
#[tokio::test]
async fn a_command_is_acknowledged_before_anything_is_read() {
    let mut scene = Scene::new().await;
    // Not that of the encryption, which the first word in a room needs.
    let reads = |seen: &Seen| match &seen.kind {
        Kind::ReadState | Kind::ReadAlias => true,
        Kind::ReadStateEvent { event_type } => event_type == "m.room.power_levels",
        _ => false,
    };
    let down = scene
        .proxy
        .add(Rule::new(reads, Fault::error(502, "M_UNKNOWN")).for_ever());
    let command = scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    scene.reacted(&command, "⏳").await;
    roomlift_testbed::eventually("a read that fails", crate::scene::SPEECH, async || {
        (down.count() > 0).then_some(())
    })
    .await;
    scene.proxy.clear_rules();
    scene.hear("Plan #1").await;
}

/// An upgrade that takes more than three seconds has a message that follows it. The end of that comes
/// before the report, and after that nothing changes any more.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn the_progress_ends_before_the_report() {
    for method in ["server", "staged"] {
        let mut scene = Scene::new().await;
        let makes_room = |seen: &Seen| matches!(seen.kind, Kind::Upgrade | Kind::CreateRoom);
        let slow = Fault::Delay(Duration::from_secs(4));
        scene.proxy.add(Rule::new(makes_room, slow));
        let alias = scene.community.alias.clone();
        let command = scene
            .say(&format!("!upgrade {alias} 12 --method {method} --yes"))
            .await;
        scene.hear("Upgrade #1 is done").await;
        scene.reacted(&command, "✅").await;
        let admin = scene.community.admin_room.clone();
        let mut events = scene.community.moderator.messages(&admin, 100).await;
        events.reverse();
        let said: Vec<&str> = events
            .iter()
            .filter(|event| event["type"] == "m.room.message")
            .map(user::text)
            .collect();
        let place = |part: &str| said.iter().rposition(|text| text.contains(part));
        let report = place("Upgrade #1 is done").expect("a report");
        let ended = said.iter().position(|text| text.contains("Done."));
        assert!(ended.is_some_and(|ended| ended < report), "{said:#?}");
        assert_eq!(report, said.len() - 1, "nothing after it: {said:#?}");
    }
}

/// Whoever pauses a job, and whoever looks at it then, is told so and how it goes on.
#[tokio::test]
async fn a_paused_job_says_so() {
    let mut scene = Scene::new().await;
    let slow = Fault::Delay(Duration::from_secs(8));
    let made = scene.proxy.add(Rule::on(Kind::CreateRoom, slow));
    scene.upgrade("12 --method staged").await;
    roomlift_testbed::eventually("it is at work", crate::scene::SPEECH, async || {
        (made.count() > 0).then_some(())
    })
    .await;
    scene.say("!upgrade pause 1").await;
    scene
        .hear("Paused at: completing the new room before anybody is in it. `!upgrade resume 1`")
        .await;
    scene.say("!upgrade status 1").await;
    scene.hear("Paused at: ").await;
    scene.say("!upgrade list").await;
    scene.hear("#1 paused: ").await;
    scene.say("!upgrade confirm 1").await;
    scene.hear("#1 is paused; ").await;
    scene.say("!upgrade resume 1").await;
    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
}
