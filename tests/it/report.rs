//! `!upgrade report`: the record of a job as files, whole, once, and without secrets (P3, P9).

use roomlift_testbed::{Fault, Kind, Rule, Seen, eventually, user};
use serde_json::Value;

use crate::scene::{SPEECH, Scene};

/// Files of the bot in the management room that answer a command.
async fn files(scene: &Scene, command: &str) -> Vec<Value> {
    let community = &scene.community;
    let mut events = community
        .moderator
        .messages(&community.admin_room, 500)
        .await;
    events.reverse();
    events.retain(|event| {
        event["sender"] == community.bot.user_id.as_str()
            && event["content"]["msgtype"] == "m.file"
            && event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == command
    });
    events
}

/// What the moderator gets to see of a file.
async fn download(scene: &Scene, event: &Value) -> String {
    let uri = event["content"]["url"].as_str().expect("an address");
    let bytes = scene.community.moderator.download(uri).await;
    String::from_utf8(bytes).expect("a text")
}

#[tokio::test]
async fn the_record_of_an_upgrade_comes_as_files() {
    let mut scene = Scene::new().await;
    scene.upgrade("12 --reason 'New rules'").await;
    scene.hear("Upgrade #1 is done").await;
    let command = scene.say("!upgrade report 1").await;
    scene.reacted(&command, "✅").await;
    let files = files(&scene, &command).await;
    let names: Vec<_> = files.iter().map(user::text).collect();
    assert_eq!(names, ["upgrade-1.txt", "upgrade-1.json"]);
    let text = download(&scene, &files[0]).await;
    let json = download(&scene, &files[1]).await;

    let new = scene.community.replacement().await.expect("a new room");
    let record: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(record["new_room"], new.as_str());
    assert_eq!(record["old_room"], scene.community.room.as_str());
    assert_eq!(record["phase"], "done");
    assert_eq!(record["request"]["options"]["reason"], "New rules");
    assert_eq!(record["snapshot"]["version"], record["plan"]["from"]);
    let log = record["log"].as_array().expect("a log");
    assert_eq!(log[0]["entry"]["step"], "plan");
    // The follow-up begins with the end of the job.
    let [.., last, followed] = log.as_slice() else {
        panic!("{log:?}");
    };
    assert_eq!(followed["entry"]["entry"], "follow_up");
    let last = &last["entry"];
    assert_eq!(
        (&last["step"], &last["event"]["event"]),
        (&"verify".into(), &"succeeded".into())
    );
    assert_eq!(
        text.lines()
            .filter(|line| line.contains("  switch  "))
            .count(),
        3,
        "{text}"
    );
    assert!(
        text.contains(&format!("done: the new room is {new}")),
        "{text}"
    );

    let session = std::fs::read_to_string(scene.dir.path().join("data/session.json"));
    let session: Value = serde_json::from_str(&session.expect("a session")).expect("JSON");
    let token = session["access_token"].as_str().expect("a token");
    for secret in [token, scene.community.bot.password.as_str()] {
        assert!(!secret.is_empty() && !json.contains(secret) && !text.contains(secret));
    }

    let unknown = scene.say("!upgrade report 99").await;
    scene.hear("no upgrade #99").await;
    scene.reacted(&unknown, "❌").await;
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn killed_between_upload_and_message_it_is_posted_once() {
    let mut scene = Scene::new().await;
    scene
        .say(&format!("!upgrade plan {} 12", scene.community.alias))
        .await;
    scene.hear("Plan #1").await;
    let upload = |seen: &Seen| seen.path.ends_with("/media/v3/upload");
    let message = |seen: &Seen| {
        matches!(&seen.kind, Kind::Send { event_type } if event_type == "m.room.message")
            && seen
                .body
                .as_ref()
                .is_some_and(|body| body["msgtype"] == "m.file")
    };
    let killer = scene.bot.killer();
    let rules = [
        (
            "before the upload",
            Rule::new(upload, Fault::before(killer.clone())),
        ),
        (
            "after the upload",
            Rule::new(upload, Fault::after(killer.clone())).skip(1),
        ),
        (
            "before the message",
            Rule::new(message, Fault::before(killer.clone())),
        ),
        (
            "after the message",
            Rule::new(message, Fault::after(killer)).skip(1),
        ),
    ];
    for (instant, rule) in rules {
        let fired = scene.proxy.add(rule);
        let command = scene.say("!upgrade report 1").await;
        eventually(instant, SPEECH, async || {
            (fired.count() > 0 && !scene.bot.is_running()).then_some(())
        })
        .await;
        scene.bot.start_again();
        scene.reacted(&command, "✅").await;
        let files = files(&scene, &command).await;
        let names: Vec<_> = files.iter().map(user::text).collect();
        assert_eq!(names, ["upgrade-1.txt", "upgrade-1.json"], "{instant}");
        let json = download(&scene, &files[1]).await;
        assert!(json.contains(&scene.community.room), "{instant}: {json}");
    }
}
