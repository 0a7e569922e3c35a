//! Scenes about what is well formed and odd: state keys, ids, words. Each arrives byte for byte, or is
//! named, and never stops a job.

use std::time::Duration;

use serde_json::{Value, json};

use crate::place::{Place, Setup};
use crate::sim::Sim;
use crate::world::{World, content};

/// State keys that somebody who means well can make, and one that everybody may set.
const KEYS: [&str; 8] = [
    "https%3A%2F%2Fexample.org%2F%C3%A4_%40a%3Ab_17",
    "100%",
    "a\\b/c?d#e",
    "\u{200b}ä {}|^`\"<>",
    "_@roomlift:sim.test",
    "_@maria:sim.test_17",
    "...",
    " ",
];

/// Ids of people which are none by the specification.
const BANNED: [&str; 4] = [
    "@x:evil.example:",
    "@x:evil_example.org",
    "@x:http://evil.example",
    "@with space:evil%41.example",
];

fn fill(world: &mut World, place: &Place) {
    for key in KEYS {
        let beds = content(json!({ "key": key }));
        world
            .put_state(&place.moderator, &place.room, "org.example.odd", key, &beds)
            .unwrap();
    }
    for user in BANNED {
        world
            .ban(&place.moderator, &place.room, user, Some(user))
            .unwrap();
    }
}

/// Whether all of it is in the new room.
fn assert_arrived(sim: &Sim) {
    let world = sim.world();
    let new = world.rooms[&sim.place.room].successor().unwrap();
    let new = &world.rooms[<&ruma::RoomId>::try_from(new).unwrap()];
    for key in KEYS {
        let beds = new.content("org.example.odd", key);
        assert_eq!(beds.and_then(|beds| beds.get("key")), Some(&json!(key)));
    }
    for user in BANNED {
        let ban = new.content("m.room.member", user);
        let ban = ban.cloned().map(Value::Object);
        let expected = json!({ "membership": "ban", "reason": user });
        assert_eq!(ban, Some(expected), "{user}");
    }
}

fn upgraded(setup: &Setup, command: &str) {
    let mut sim = Sim::with(setup);
    let place = sim.place.clone();
    fill(&mut sim.world(), &place);
    sim.say(command);
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    assert_arrived(&sim);
}

#[test]
fn odd_keys_and_bans_arrive_by_the_servers_own_upgrade() {
    let command = "!upgrade #garden:sim.test 12 --method server --yes";
    upgraded(&Setup::default(), command);
}

#[test]
fn odd_keys_and_bans_arrive_with_the_new_room() {
    let command = "!upgrade #garden:sim.test 12 --method staged --yes";
    upgraded(&Setup::default(), command);
}

/// Too many bans for the request that makes the room.
#[test]
fn odd_keys_and_bans_arrive_in_a_large_room() {
    let setup = Setup {
        bans: 320,
        ..Setup::default()
    };
    let command = "!upgrade #garden:sim.test 12 --method staged --yes";
    upgraded(&setup, command);
}

#[test]
fn odd_keys_and_bans_arrive_by_adopt() {
    let mut sim = Sim::new();
    let place = sim.place.clone();
    let mut world = sim.world();
    fill(&mut world, &place);
    let new = world
        .create_room(
            &place.moderator,
            &content(json!({
                "preset": "public_chat", "room_version": "11",
                "creation_content": { "predecessor": { "room_id": place.room } },
                "power_level_content_override":
                    { "users": { place.moderator.as_str(): 100, place.bot.as_str(): 100 } },
            })),
        )
        .unwrap();
    let tombstone = content(json!({ "body": "moved", "replacement_room": new }));
    world
        .put_state(
            &place.moderator,
            &place.room,
            "m.room.tombstone",
            "",
            &tombstone,
        )
        .unwrap();
    drop(world);
    sim.say(&format!("!upgrade adopt {} --yes", place.room));
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("#1 is done");
    assert_arrived(&sim);
}

/// A command that comes to nothing leaves alone what was asked before it.
#[test]
fn a_plan_outlives_a_command_that_comes_to_nothing() {
    for (plan, nonsense, confirm, done) in [
        (
            "#garden:sim.test 12",
            "#garden:sim.test rules",
            "1",
            "Upgrade #1 is done",
        ),
        ("space {} 12", "space {} rules", "C1", "Done, campaign C1"),
    ] {
        let mut sim = Sim::new();
        let in_space = |words: &str| words.replace("{}", sim.place.space.as_str());
        sim.say(&format!("!upgrade {}", in_space(plan)));
        let nonsense = format!("!upgrade {}", in_space(nonsense));
        sim.say_after(Duration::from_secs(30), &nonsense);
        let confirm = format!("!upgrade confirm {confirm}");
        sim.say_after(Duration::from_mins(2), &confirm);
        sim.run();
        sim.assert_promises();
        sim.assert_said(done);
    }
}

/// The newer of two good plans counts.
#[test]
fn a_good_plan_takes_the_place_of_the_one_before() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 11");
    sim.say_after(Duration::from_secs(2), "!upgrade #garden:sim.test 12");
    sim.say_after(Duration::from_mins(1), "!upgrade confirm 1");
    sim.say_after(Duration::from_secs(90), "!upgrade confirm 2");
    sim.run();
    sim.assert_promises();
    sim.assert_said("is now version 12");
}
