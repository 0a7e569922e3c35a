//! From one room version to another, by both methods: up, down, sideways, and with the whole of the
//! power levels compared. Nobody may end with less power than before, nor with more.

use roomlift_testbed::{Community, User, Wanted, user};
use serde_json::{Value, json};

use crate::scene::Scene;

/// Power of the bot in rooms of version 12, where the tombstone takes 150.
const BOT_POWER: i64 = 150;

fn has_creators(version: &str) -> bool {
    version == "12"
}

/// Gives the old room levels that are easily lost, to its last member a power of their own.
async fn set_levels(community: &Community) -> Value {
    let (moderator, room) = (&community.moderator, &community.room);
    let helper = community.members.last().expect("a member");
    let levels = moderator.state_event(room, "m.room.power_levels", "").await;
    let mut levels = levels.expect("power levels");
    levels["users"][&helper.user_id] = 42.into();
    levels["users_default"] = 3.into();
    levels["events"]["org.example.settings"] = 77.into();
    levels["notifications"] = json!({"room": 60});
    for (key, level) in [("ban", 55), ("kick", 56), ("redact", 65), ("invite", 5)] {
        levels[key] = level.into();
    }
    moderator
        .put_state(room, "m.room.power_levels", "", levels.clone())
        .await;
    levels
}

/// What the levels must be in the new room.
fn expected(mut levels: Value, from: &str, to: &str, moderator: &User, bot: &User) -> Value {
    let users = levels["users"].as_object_mut().expect("users");
    match (has_creators(from), has_creators(to)) {
        // The bot makes the room, and so stands above all levels; the moderator as before.
        (false | true, true) => {
            users.remove(&bot.user_id);
            levels["events"]["m.room.tombstone"] = BOT_POWER.into();
        }
        // Who stood above all levels gets the highest there is.
        (true, false) => {
            users.insert(moderator.user_id.clone(), BOT_POWER.into());
        }
        (false, false) => {}
    }
    levels
}

async fn moves(from: &'static str, to: &str, methods: &[&str]) {
    for method in methods {
        let wanted = Wanted {
            version: from,
            bot_power: if has_creators(from) { BOT_POWER } else { 100 },
            ..Wanted::default()
        };
        let mut scene = Scene::with(&wanted, "").await;
        let before = set_levels(&scene.community).await;
        scene.upgrade(&format!("{to} --method {method}")).await;
        let report = scene.hear("Upgrade #1 is done").await;
        let community = &scene.community;
        let (moderator, bot) = (&community.moderator, &community.bot);
        let text = user::text(&report);
        // A creator of the old room is missed until they come.
        if has_creators(from) && has_creators(to) {
            assert!(text.contains("Left for you: 1 thing"), "{method}: {text}");
            assert!(text.contains(&moderator.user_id), "{method}: {text}");
        } else {
            assert!(text.contains("Nothing is left to do."), "{method}: {text}");
        }
        let new = community.assert_moved(to).await;
        let after = bot.state_event(&new, "m.room.power_levels", "").await;
        let wanted = expected(before, from, to, moderator, bot);
        assert_eq!(after, Some(wanted), "{from} to {to} by {method}");

        // And the power is real: the moderator can rule there, and a member cannot.
        moderator.join(&new).await;
        let topic = json!({"topic": format!("moved to {to}")});
        moderator.put_state(&new, "m.room.topic", "", topic).await;
        let member = &community.members[0];
        member.join(&new).await;
        let path = format!("rooms/{}/state/m.room.topic/", roomlift_testbed::seg(&new));
        let refused = member
            .call("PUT", &path, Some(json!({"topic": "mine"})))
            .await;
        assert_eq!(refused.map_err(|error| error.status), Err(403), "{method}");
    }
}

const BOTH: [&str; 2] = ["server", "staged"];

#[tokio::test]
#[ignore = "outer ring: a variant of `v10_to_v12`"]
async fn v1_to_v12() {
    moves("1", "12", &BOTH).await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `v10_to_v12`"]
async fn v5_to_v12() {
    moves("5", "12", &BOTH).await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `v10_to_v12`"]
async fn v9_to_v12() {
    moves("9", "12", &BOTH).await;
}

#[tokio::test]
async fn v10_to_v12() {
    moves("10", "12", &BOTH).await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `v10_to_v12`"]
async fn v11_to_v12() {
    moves("11", "12", &BOTH).await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `v10_to_v12`"]
async fn v10_to_v11() {
    moves("10", "11", &BOTH).await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `v10_to_v12`"]
async fn the_same_version_without_creators() {
    moves("10", "10", &BOTH).await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `v10_to_v12`"]
async fn the_same_version_with_creators() {
    moves("12", "12", &BOTH).await;
}

/// The server's own upgrade would leave everybody without power, and is refused (`state_table`).
#[tokio::test]
async fn down_to_a_version_without_creators() {
    moves("12", "11", &["staged"]).await;
}
