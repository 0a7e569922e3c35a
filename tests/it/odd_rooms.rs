//! Rooms that no client of today would make, and that exist: what is odd about them is said in the
//! plan, and never stops the bot.

use roomlift_testbed::{Community, Synapse, SynapseOptions, Wanted, user};
use serde_json::{Value, json};

use crate::scene::{Scene, said};

async fn levels(scene: &Scene, room: &str) -> Value {
    let bot = &scene.community.bot;
    bot.state_event(room, "m.room.power_levels", "")
        .await
        .expect("power levels")
}

/// Every number as text, as rooms before version 10 may have it.
fn as_text(levels: &Value) -> Value {
    match levels {
        Value::Number(number) => number.to_string().into(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), as_text(value)))
            .collect(),
        other => other.clone(),
    }
}

fn all_numbers(levels: &Value) -> bool {
    match levels {
        Value::Object(entries) => entries.values().all(all_numbers),
        other => other.is_i64(),
    }
}

/// By the method, from a version to another.
async fn text_becomes_numbers(method: &str, from: &'static str, to: &str) {
    let synapse = Synapse::shared_trusting().await;
    let wanted = Wanted {
        version: from,
        ..Wanted::default()
    };
    let community = Community::make(synapse, &wanted).await;
    let mut scene = Scene::around(community, synapse, "").await;
    let room = scene.community.room.clone();
    let mut odd = as_text(&levels(&scene, &room).await);
    odd["notifications"] = json!({"room": " 50 "});
    odd["events"]["org.example.settings"] = "12".into();
    let moderator = scene.community.moderator.clone();
    moderator
        .put_state(&room, "m.room.power_levels", "", odd)
        .await;
    scene
        .say(&format!("!upgrade {room} {to} --method {method}"))
        .await;
    let plan = scene.hear("Plan #1").await;
    let text = user::text(&plan);
    assert!(text.contains("written as text become numbers"), "{text}");
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    let new = scene.community.assert_moved(to).await;
    let new = levels(&scene, &new).await;
    assert!(all_numbers(&new), "{new:#}");
    assert_eq!(new["events"]["org.example.settings"], 12, "{new:#}");
    assert_eq!(new["notifications"]["room"], 50, "{new:#}");
}

#[tokio::test]
async fn power_levels_written_as_text_become_numbers() {
    text_becomes_numbers("server", "9", "12").await;
}

#[tokio::test]
#[ignore = "outer ring: variants of `power_levels_written_as_text_become_numbers`"]
async fn power_levels_written_as_text_become_numbers_in_other_versions() {
    text_becomes_numbers("server", "6", "11").await;
    text_becomes_numbers("staged", "9", "12").await;
    text_becomes_numbers("staged", "6", "11").await;
}

/// Each is a blocker that names the place, and the server's own upgrade does fail at it.
#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn junk_in_power_levels_is_named() {
    let synapse = Synapse::shared_trusting().await;
    for (version, key, junk, place) in [
        // From version 6 on, servers check these as well.
        (
            "5",
            "notifications",
            json!({"room": "high"}),
            "notifications.room",
        ),
        // Today's clients can still send this.
        ("11", "org.example.mood", json!("sunny"), "org.example.mood"),
        (
            "11",
            "org.example.moods",
            json!({"rain": null}),
            "org.example.moods.rain",
        ),
    ] {
        let wanted = Wanted {
            version,
            ..Wanted::default()
        };
        let community = Community::make(synapse, &wanted).await;
        let mut scene = Scene::around(community, synapse, "").await;
        let room = scene.community.room.clone();
        let moderator = scene.community.moderator.clone();
        let mut odd = levels(&scene, &room).await;
        odd[key] = junk;
        moderator
            .put_state(&room, "m.room.power_levels", "", odd)
            .await;
        scene
            .say(&format!("!upgrade {room} 12 --method server"))
            .await;
        let plan = scene.hear("What blocks it").await;
        let text = user::text(&plan);
        assert!(text.contains("no whole number"), "{text}");
        assert!(text.contains("--method staged"), "{text}");
        assert!(text.contains(place), "{text}");
        assert!(!text.contains("✅ or `!upgrade confirm"), "{text}");
        let path = format!("rooms/{}/upgrade", roomlift_testbed::seg(&room));
        let server = moderator
            .call("POST", &path, Some(json!({"new_version": "12"})))
            .await;
        assert_eq!(server.map_err(|error| error.status), Err(500), "{place}");
        assert_eq!(scene.community.replacement().await, None);
        // The way out that the plan names is the one that is taken where nobody says otherwise.
        scene.say(&format!("!upgrade {room} 12")).await;
        let plan = scene.hear("Plan #2").await;
        let text = user::text(&plan);
        assert!(text.contains("fails at the permissions"), "{text}");
        assert_eq!(text.contains("left out"), version == "5", "{text}");
        scene.say("!upgrade confirm 2").await;
        scene.hear("Upgrade #2 is done").await;
        let new = scene.community.assert_moved("12").await;
        let levels = levels(&scene, &new).await.to_string();
        // What means nothing to servers is somebody's own, and comes along.
        assert!(!levels.contains("high"), "{levels}");
        assert_eq!(levels.contains("org.example.mood"), version == "11");
    }
}

/// Empty power levels give nobody any power. Nobody can help, and that is said.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn empty_power_levels_are_a_blocker() {
    let wanted = Wanted {
        bot_power: 50,
        ..Wanted::default()
    };
    let mut scene = Scene::with(&wanted, "").await;
    let room = scene.community.room.clone();
    let moderator = scene.community.moderator.clone();
    moderator
        .put_state(&room, "m.room.power_levels", "", json!({}))
        .await;
    scene.say(&format!("!upgrade {room} 12 --yes")).await;
    let plan = scene.hear("What blocks it").await;
    let text = user::text(&plan);
    assert!(text.contains("0, and it takes 50"), "{text}");
    assert!(text.contains("Nobody in that room has it"), "{text}");
    assert_eq!(scene.community.replacement().await, None);
}

/// No power levels at all: taken out of the server's database, as no client can make such a room.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn missing_power_levels_are_a_blocker() {
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let community = Community::make(&synapse, &Wanted::default()).await;
    let room = community.room.clone();
    synapse.kill();
    let database = rusqlite::Connection::open(synapse.database()).expect("the server's database");
    for table in ["current_state_events", "state_groups_state"] {
        let sql =
            format!("DELETE FROM {table} WHERE room_id = ?1 AND type = 'm.room.power_levels'");
        let rows = database.execute(&sql, [&room]).expect("a deletion");
        assert!(rows > 0, "{table}");
    }
    drop(database);
    synapse.start_again().await;
    let moderator = community.moderator.clone();
    let there = moderator
        .state_event(&room, "m.room.power_levels", "")
        .await;
    assert_eq!(there, None);
    let mut scene = Scene::around(community, &synapse, "").await;
    scene
        .say(&format!("!upgrade {room} 12 --method server --yes"))
        .await;
    let plan = scene.hear("What blocks it").await;
    let text = user::text(&plan);
    assert!(text.contains("no permission settings"), "{text}");
    let path = format!("rooms/{}/upgrade", roomlift_testbed::seg(&room));
    let server = moderator
        .call("POST", &path, Some(json!({"new_version": "12"})))
        .await;
    assert!(server.is_err(), "the server's own upgrade fails");
    assert_eq!(scene.community.replacement().await, None);
    // Only who made such a room has power in it, and is asked for some.
    scene.say(&format!("!upgrade {room} 12 --yes")).await;
    let plan = scene.hear("Plan #2").await;
    let text = user::text(&plan);
    assert!(text.contains(&moderator.user_id), "{text}");
    assert!(text.contains("/op"), "{text}");
    let given = json!({"users": {
        &moderator.user_id: 100,
        &scene.community.bot.user_id: 100,
    }});
    moderator
        .put_state(&room, "m.room.power_levels", "", given)
        .await;
    scene.say(&format!("!upgrade {room} 12 --yes")).await;
    scene.hear("Upgrade #3 is done").await;
    let new = scene.community.replacement().await.expect("a replacement");
    let levels = levels(&scene, &new).await;
    assert_eq!(levels["users"][&moderator.user_id], 100, "{levels}");
}

/// A room shows an address that leads elsewhere, one that leads nowhere, and one that is none.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn addresses_that_are_not_the_rooms_are_left_out() {
    let synapse = Synapse::shared_trusting().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let mut scene = Scene::around(community, synapse, "").await;
    let community = &scene.community;
    let (moderator, room) = (community.moderator.clone(), community.room.clone());
    let server = synapse.server_name();
    let elsewhere = format!("#elsewhere:{server}");
    moderator.set_alias(&elsewhere, &community.space).await;
    let nowhere = format!("#nowhere:{server}");
    let shown = json!({
        "alias": elsewhere,
        "alt_aliases": [community.alias, nowhere, community.second_alias],
    });
    moderator
        .put_state(&room, "m.room.canonical_alias", "", shown)
        .await;
    scene.say(&format!("!upgrade {room} 12")).await;
    let plan = scene.hear("Plan #1").await;
    let text = user::text(&plan);
    assert!(
        text.contains(&elsewhere) && text.contains(&nowhere),
        "{text}"
    );
    scene.say("!upgrade confirm 1").await;
    let report = scene.hear("Upgrade #1 is done").await;
    assert!(
        user::text(&report).contains("Nothing is left to do."),
        "{}",
        user::text(&report)
    );
    let new = scene.community.replacement().await.expect("a replacement");
    let bot = &scene.community.bot;
    let shown = bot.state_event(&new, "m.room.canonical_alias", "").await;
    let rest = json!([scene.community.alias, scene.community.second_alias]);
    assert_eq!(shown, Some(json!({"alt_aliases": rest})));
    let leads_to = moderator.resolve_alias(&elsewhere).await;
    assert_eq!(leads_to.as_ref(), Some(&scene.community.space));
}

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn junk_in_addresses_is_no_crash() {
    let mut scene = Scene::new().await;
    let (moderator, room) = (
        scene.community.moderator.clone(),
        scene.community.room.clone(),
    );
    // What Synapse takes of its clients.
    let junk = json!({"alias": null, "alt_aliases": [], "org.example.more": {"alias": 1}});
    moderator
        .put_state(&room, "m.room.canonical_alias", "", junk)
        .await;
    scene.say(&format!("!upgrade {room} 12 --yes")).await;
    scene.hear("Upgrade #1 is done").await;
    let leads_to = moderator.resolve_alias(&scene.community.alias).await;
    assert_eq!(leads_to, scene.community.replacement().await);
}

/// What people write into names, topics and reasons is text wherever the bot shows it, and it
/// mentions nobody.
#[tokio::test]
async fn names_are_text_and_mention_nobody() {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    let (moderator, room) = (community.moderator.clone(), community.room.clone());
    let member = community.members[0].user_id.clone();
    let nasty = format!(
        "</p><img src=x onerror=alert(1)> @room {member} <a href=\"https://evil.example\">x</a>\u{202e}`"
    );
    for (kind, content) in [
        ("m.room.name", json!({"name": nasty})),
        ("m.room.topic", json!({"topic": nasty})),
    ] {
        moderator.put_state(&room, kind, "", content).await;
    }
    let alias = community.alias.clone();
    scene
        .say(&format!(
            "!upgrade {alias} 12 --reason \"<b>@room</b> {member}\""
        ))
        .await;
    scene.hear("Plan #1").await;
    scene.say("!upgrade status").await;
    scene.hear("waits for a yes").await;
    scene.say("!upgrade <i>@room</i> --nonsense").await;
    scene.hear("nonsense").await;
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    scene.say("!upgrade list").await;
    scene.hear("#1 done").await;
    scene.community.assert_moved("12").await;

    let (community, mut named) = (&scene.community, 0);
    for room in [&community.admin_room, &community.room] {
        for event in community.moderator.messages(room, 200).await {
            let by_bot = event["sender"] == community.bot.user_id.as_str();
            if !by_bot || event["type"] != "m.room.message" {
                continue;
            }
            let content = &event["content"];
            assert_eq!(content["m.mentions"], json!({}), "{content:#}");
            let parts = [content, &content["m.new_content"]];
            for part in parts.into_iter().filter(|part| part.is_object()) {
                assert_eq!(part["m.mentions"], json!({}), "{content:#}");
                let html = part["formatted_body"].as_str().expect("HTML");
                for tag in ["<img", "<b>@room", "href=\"https://evil", "<i>"] {
                    assert!(!html.contains(tag), "{tag} in {html}");
                }
                named += usize::from(html.contains("&lt;img src=x"));
            }
        }
    }
    assert!(named >= 4, "the name was shown {named} times");
    let said = said(community, &community.admin_room).await.concat();
    assert!(!said.contains('\u{202e}'), "{said}");
}
