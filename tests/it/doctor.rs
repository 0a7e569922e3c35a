//! `!upgrade doctor` and `roomlift doctor`: what is wrong with the bot, and what a server admin's
//! account can do about it.

use std::path::Path;
use std::process::Command;

use roomlift_testbed::{Community, Fault, Kind, Rule, Synapse, User, Wanted, eventually};
use serde_json::json;

use super::scene::{SPEECH, Scene};

/// A community in whose room the bot has too little power, and a server admin.
async fn weak(synapse: &Synapse) -> (Community, User) {
    let wanted = Wanted {
        bot_power: 50,
        ..Wanted::default()
    };
    let admin = synapse.register_admin("root").await;
    (Community::make(synapse, &wanted).await, admin)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_is_wrong_and_what_to_ask_for() {
    let synapse = Synapse::shared().await;
    let (community, _) = weak(synapse).await;
    let mut scene = Scene::around(community, synapse, "").await;
    scene.say("!upgrade doctor").await;
    let said = scene.hear("worst first").await;
    let said = roomlift_testbed::user::text(&said).to_owned();
    let bot = scene.community.bot.user_id.clone();
    for part in [
        "Server: Synapse 1.",
        &format!("POST /_synapse/admin/v1/users/{bot}/override_ratelimit"),
        "{\"messages_per_second\": 0, \"burst_count\": 0}",
        "Power level too low in",
        "an upgrade needs 100, I have 50",
        "device verified",
        "Encryption keys are not backed up",
        ", OK",
        "Clock: ",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains("not verified"), "{said}");
    scene.say("!upgrade doctor --lift-limits").await;
    scene.hear("has to be a server admin").await;
    scene.say("!upgrade doctor --power #nowhere:x").await;
    scene.hear("make_room_admin = true").await;

    // The same on the command line, while the bot does not run, and not while it does.
    let run = |dir: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roomlift"));
        command.args(["doctor", "--config", "config.toml"]);
        let output = command.current_dir(dir).output().expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (text(output.stdout), text(output.stderr))
    };
    let (_, errors) = run(scene.dir.path());
    assert!(errors.contains("Roomlift is already running"), "{errors}");
    scene.bot.kill();
    let (said, errors) = run(scene.dir.path());
    assert!(said.contains("Power level too low in"), "{said} {errors}");

    // Nobody is left who could give commands.
    let (community, chat) = (&scene.community, &scene.community.admin_room);
    let levels = community
        .moderator
        .state_event(chat, "m.room.power_levels", "")
        .await;
    let mut levels = levels.expect("power levels");
    levels["users"] = json!({ bot: 100 });
    community
        .moderator
        .put_state(chat, "m.room.power_levels", "", levels)
        .await;
    let (said, errors) = run(scene.dir.path());
    let first = format!("Nobody can give me commands in the admin room `{chat}`");
    assert!(said.contains(&first), "{said} {errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_admin_lifts_limits_takes_power_and_cleans_up() {
    let synapse = Synapse::shared().await;
    let (community, operator) = weak(synapse).await;
    let bot = community.bot.clone();
    let path = format!("/_synapse/admin/v1/users/{}/admin", bot.user_id);
    let body = json!({ "admin": true });
    operator
        .call("PUT", &path, Some(body))
        .await
        .expect("an admin");
    let table = "\n[synapse_admin]\nmake_room_admin = true\n";
    let mut scene = Scene::around(community, synapse, table).await;
    let maria = scene.community.moderator.clone();
    scene.say("!upgrade doctor").await;
    scene.hear("Rate limits: they apply").await;
    scene.say("!upgrade doctor --lift-limits").await;
    scene.hear("no longer rate-limited").await;
    scene.say("!upgrade doctor").await;
    scene.hear("Rate limits: lifted").await;

    // The plan offers power, and says whose it is.
    let room = scene.community.room.clone();
    scene.say(&format!("!upgrade {room}")).await;
    let offer = format!("in the name of {}: type", maria.user_id);
    let plan = scene.hear("!upgrade doctor --power").await;
    let plan = roomlift_testbed::user::text(&plan).replace('`', "");
    assert!(plan.contains(&offer), "{plan}");
    // Power that was given is said, also where the room cannot be entered then.
    let join = Rule::on(Kind::Join, Fault::error(403, "M_FORBIDDEN"));
    let refused = scene.proxy.add(join);
    scene.say(&format!("!upgrade doctor --power {room}")).await;
    scene.hear("The server gave me power in").await;
    assert_eq!(refused.count(), 1);
    scene.say(&format!("!upgrade doctor --power {room}")).await;
    scene.hear("I have power in").await;

    // From version 12 on the server cannot give as much as an upgrade takes.
    let strong = maria
        .create_room(json!({ "preset": "public_chat", "room_version": "12" }))
        .await;
    let ask = format!("!upgrade doctor --power {strong}");
    scene.say(&ask).await;
    scene
        .hear("It is 100, and an upgrade needs 150: no more than the server could give")
        .await;

    // A room in which nobody of this server has any power.
    let member = scene.community.members[0].clone();
    let poor = member
        .create_room(json!({ "preset": "public_chat", "room_version": "10" }))
        .await;
    let nobody = json!({ "users": {}, "users_default": 0 });
    member
        .put_state(&poor, "m.room.power_levels", "", nobody)
        .await;
    scene.say(&format!("!upgrade doctor --power {poor}")).await;
    scene.hear("The server could not do it").await;

    // What was made for nothing is deleted.
    let made = async || {
        let rooms = operator
            .call("GET", "/_synapse/admin/v1/rooms?limit=1000", None)
            .await
            .expect("rooms");
        let rooms = rooms["rooms"].as_array().expect("a list").clone();
        let own = rooms
            .into_iter()
            .filter(|room| room["creator"] == bot.user_id.as_str());
        own.count()
    };
    assert_eq!(made().await, 0);
    scene.say(&format!("!upgrade {room} --review")).await;
    scene.hear("Plan #2").await;
    scene.say("!upgrade confirm 2").await;
    scene.hear("please look at the new room").await;
    eventually("the new room", SPEECH, async || {
        (made().await == 1).then_some(())
    })
    .await;
    scene.say("!upgrade cancel 2").await;
    scene.hear("Cancelled, upgrade #2").await;
    eventually("it is deleted", SPEECH, async || {
        (made().await == 0).then_some(())
    })
    .await;
}
