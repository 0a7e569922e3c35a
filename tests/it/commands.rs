//! Who is heard and who is not: P1, P5, P9, P10, and bad input that must not make a job.

use roomlift_testbed::{Wanted, user};

use crate::scene::{START, Scene, said, start_bot};

/// Lets the bot finish whatever it may have begun: it answers in order.
async fn fence(scene: &mut Scene) {
    scene.say("!upgrade help confirm").await;
    scene.hear("`!upgrade confirm").await;
}

#[tokio::test]
async fn silence_and_mistakes() {
    let mut scene = Scene::new().await;
    let room = scene.community.admin_room.clone();
    let moderator = scene.community.moderator.clone();
    let alias = scene.community.alias.clone();

    // None of these is a command: a notice, another word, a room that is no admin room.
    let notice =
        serde_json::json!({"msgtype": "m.notice", "body": format!("!upgrade {alias} --yes")});
    moderator.send_event(&room, "m.room.message", notice).await;
    scene.say(&format!("!upgrades {alias} --yes")).await;
    moderator
        .send_text(&scene.community.room, &format!("!upgrade {alias} --yes"))
        .await;
    // Sent by the bot's own account, and an edit of an innocent message.
    scene
        .community
        .bot
        .send_text(&room, &format!("!upgrade {alias} --yes"))
        .await;
    let innocent = scene.say("good morning").await;
    moderator
        .edit_text(&room, &innocent, &format!("!upgrade {alias} --yes"))
        .await;
    fence(&mut scene).await;
    let own = format!("!upgrade {alias} --yes");
    let answers: Vec<_> = said(&scene.community, &room).await;
    let answers: Vec<_> = answers.into_iter().filter(|text| *text != own).collect();
    assert_eq!(
        answers.len(),
        1,
        "only the fence was answered: {answers:#?}"
    );

    // These are mistakes, and each answer names what is wrong.
    for (typed, part) in [
        ("!upgrade statsu".to_owned(), "statsu"),
        (format!("!upgrade {alias} --nonsense"), "--nonsense"),
        (format!("!upgrade {alias} 12 --version 11"), "12"),
        (
            "!upgrade #nowhere:localhost".to_owned(),
            "#nowhere:localhost",
        ),
        ("!upgrade confirm 99".to_owned(), "#99"),
        (format!("!upgrade {}", "x".repeat(60_000)), "too long"),
    ] {
        scene.say(&typed).await;
        scene.hear(part).await;
    }
    assert_eq!(
        scene.community.replacement().await,
        None,
        "nothing was upgraded"
    );
}

#[tokio::test]
async fn power_is_checked_at_the_command_and_at_the_confirmation() {
    let mut scene = Scene::with(&Wanted::default(), "").await;
    let admin = scene.community.admin_room.clone();
    let stranger = scene.community.members[0].clone();
    scene
        .community
        .moderator
        .invite(&admin, &stranger.user_id)
        .await;
    stranger.join(&admin).await;

    stranger
        .send_text(&admin, &format!("!upgrade {} --yes", scene.community.alias))
        .await;
    scene.hear("you need power level 50").await;
    scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    let plan = scene.hear("Plan #1").await;
    let plan = plan["event_id"].as_str().expect("an event id").to_owned();
    stranger.send_text(&admin, "!upgrade confirm 1").await;
    scene.hear("you need power level 50").await;
    stranger.react(&admin, &plan, "✅").await;
    scene.hear("you need power level 50").await;
    // Who may only ask can see how things stand.
    stranger.send_text(&admin, "!upgrade status").await;
    scene.hear("#1 waits for a yes").await;
    assert_eq!(scene.community.replacement().await, None);

    scene.community.moderator.react(&admin, &plan, "✅").await;
    scene.hear("Upgrade #1 is done").await;
}

/// P5 at the third moment: power taken away between the yes and the start. The plan is confirmed
/// while the bot is down, which can only be acted on after it lost its ground.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn power_is_checked_when_the_job_starts() {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    // Every read of the old room fails, so that the confirmed job waits at its start.
    scene.say(&format!("!upgrade {} 12", community.alias)).await;
    scene.hear("Plan #1").await;
    let room = scene.community.room.clone();
    let rule = roomlift_testbed::Rule::new(
        move |seen| seen.kind == roomlift_testbed::Kind::ReadState && seen.path.contains(&room),
        roomlift_testbed::Fault::error(502, "M_UNKNOWN"),
    );
    scene.proxy.add(rule.for_ever());
    scene.say("!upgrade confirm 1").await;
    scene.hear("I try again").await;
    let admin = scene.community.admin_room.clone();
    let mut levels = scene
        .community
        .moderator
        .state_event(&admin, "m.room.power_levels", "")
        .await
        .expect("power levels");
    levels["users"][&scene.community.moderator.user_id] = 10.into();
    scene
        .community
        .moderator
        .put_state(&admin, "m.room.power_levels", "", levels)
        .await;
    scene.proxy.clear_rules();
    scene.hear("may not upgrade this room any more").await;
    assert_eq!(scene.community.replacement().await, None);
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_dead_server_in_the_scope_holds_up_nothing`"]
async fn a_room_outside_the_scope_is_refused() {
    let mut scene = {
        let synapse = roomlift_testbed::Synapse::shared().await;
        let community = roomlift_testbed::Community::make(synapse, &Wanted::default()).await;
        let scope = format!("scope = [\"{}\"]\n", community.space);
        Scene::around(community, synapse, &scope).await
    };
    let moderator = scene.community.moderator.clone();
    let other = moderator
        .create_room(serde_json::json!({"room_version": "10"}))
        .await;
    scene.say(&format!("!upgrade {other} --yes")).await;
    scene
        .hear("not among those that can be upgraded from here")
        .await;
    // What is in the space is within it.
    scene.upgrade("12").await;
    scene.hear("Upgrade #1 is done").await;
}

/// P1: a command sent while the bot is down is accepted once; one that is too old is not.
#[tokio::test]
async fn commands_sent_while_the_bot_is_down_are_read_once() {
    let mut scene = Scene::new().await;
    fence(&mut scene).await;
    scene.bot.kill();
    scene
        .say(&format!("!upgrade {} 12 --yes", scene.community.alias))
        .await;
    let chatter = (0..120).map(|_| scene.say("chatter"));
    futures_util::future::join_all(chatter).await;
    scene.bot.start_again();
    scene.hear("Upgrade #1 is done").await;
    scene.restart().await;
    fence(&mut scene).await;
    let plans = said(&scene.community, &scene.community.admin_room).await;
    assert_eq!(
        plans
            .iter()
            .filter(|text| text.starts_with("Plan #"))
            .count(),
        1
    );
}

/// P10, and the lock goes when the process goes.
#[tokio::test]
async fn a_second_process_refuses_to_start() {
    let scene = Scene::new().await;
    let second = start_bot(scene.dir.path());
    let status = second.wait_exit(START).await;
    assert!(!status.success());
    let first = scene.bot.id();
    let log = scene.bot.log();
    assert!(
        log.contains(&format!("Roomlift is already running (process {first})")),
        "{log}"
    );
    assert!(scene.bot.is_running());
}

/// P9: neither the password nor the token is in the log, in the database, or in the chat.
#[tokio::test]
async fn secrets_stay_secret() {
    let mut scene = Scene::new().await;
    scene.upgrade("12").await;
    scene.hear("Upgrade #1 is done").await;
    let data = scene.dir.path().join("data");
    let session = std::fs::read_to_string(data.join("session.json")).expect("a session");
    let session: serde_json::Value = serde_json::from_str(&session).expect("JSON");
    let token = session["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let mut places = vec![("log", scene.bot.log().into_bytes())];
    for file in ["roomlift.db", "roomlift.db-wal"] {
        places.push((file, std::fs::read(data.join(file)).unwrap_or_default()));
    }
    let chat = said(&scene.community, &scene.community.admin_room)
        .await
        .concat();
    places.push(("chat", chat.into_bytes()));
    assert!(
        places[1].1.len() + places[2].1.len() > 1000,
        "there is a database"
    );
    for (place, bytes) in places {
        for secret in [&token, &scene.community.bot.password] {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "a secret is in the {place}");
        }
    }
}

/// A restart uses the same device.
#[tokio::test]
async fn a_restart_makes_no_new_device() {
    let scene = Scene::new().await;
    let device = async |scene: &Scene| {
        let file = scene.dir.path().join("data/session.json");
        let session = std::fs::read_to_string(file).expect("a session");
        let session: serde_json::Value = serde_json::from_str(&session).expect("JSON");
        session["device_id"].as_str().expect("a device").to_owned()
    };
    let before = device(&scene).await;
    scene.restart().await;
    assert_eq!(device(&scene).await, before);
    let plans = scene
        .community
        .bot
        .call("GET", "devices", None)
        .await
        .expect("devices");
    // One of the account's own login in the test, one of the bot.
    assert_eq!(plans["devices"].as_array().map(Vec::len), Some(2));
}

/// A plan waits for a yes through a restart, and ❌ drops it.
#[tokio::test]
async fn a_plan_survives_a_restart_and_can_be_dropped() {
    let mut scene = Scene::new().await;
    let command = scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    let plan = scene.hear("Plan #1").await;
    assert!(user::text(&plan).contains("✅ or `!upgrade confirm"));
    scene.restart().await;
    let admin = scene.community.admin_room.clone();
    let event = plan["event_id"].as_str().expect("an id").to_owned();
    scene.community.moderator.react(&admin, &event, "❌").await;
    scene.hear("Nothing was changed.").await;
    scene.reacted(&command, "❌").await;
    scene.say("!upgrade confirm 1").await;
    scene.hear("#1 was cancelled").await;
    assert_eq!(scene.community.replacement().await, None);
}
