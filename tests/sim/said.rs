//! Scenes about what people are told: plan, report and to-dos say the same, leave nothing out, and end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::Phase;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::fault::{Endpoint, Rule};
use crate::oracle;
use crate::place::{Entry, Place, Setup};
use crate::sim::{Sim, body, react, say};
use crate::world::{ELSEWHERE, Room, Software, World, content};

const ALIASES: &str = "m.room.canonical_alias";
const LEVELS: &str = "m.room.power_levels";
const PARENT: &str = "m.space.parent";
const TOMBSTONE: &str = "m.room.tombstone";

/// The moderator sets the state of a room.
fn set(world: &mut World, place: &Place, room: &RoomId, kind: &str, key: &str, value: Value) {
    let by = &place.moderator;
    world
        .put_state(by, room, kind, key, &content(value))
        .unwrap();
}

fn successor(world: &World, room: &RoomId) -> OwnedRoomId {
    let new = world.rooms[room].successor().unwrap();
    new.parse().unwrap()
}

fn is_encrypted(room: &Room) -> bool {
    room.content("m.room.encryption", "").is_some()
}

fn assert_not_said(sim: &Sim, part: &str) {
    let said = sim.said(&sim.place.admin_room);
    assert!(
        !said.iter().any(|text| text.contains(part)),
        "{part:?} was said:\n{}",
        said.join("\n---\n")
    );
}

/// What the bot said last with these words in it.
fn last_with(sim: &Sim, part: &str) -> String {
    let said = sim.said(&sim.place.admin_room);
    let found = said.iter().rev().find(|text| text.contains(part));
    let found = found.unwrap_or_else(|| panic!("nobody said {part:?}:\n{}", said.join("\n---\n")));
    found.clone()
}

#[test]
fn auto_keeps_a_room_unencrypted_on_a_server_that_encrypts() {
    let mut sim = Sim::new();
    sim.world().encrypts_new_rooms = true;
    sim.say("!upgrade #garden:sim.test 12");
    sim.confirms();
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    let world = sim.world();
    let new = successor(&world, &sim.place.room);
    assert!(!is_encrypted(&world.rooms[&new]));
    drop(world);
    sim.assert_said("Method `staged`, as the server's own upgrade would encrypt the new room");
}

#[test]
fn a_room_that_cannot_stay_unencrypted_is_not_begun() {
    let mut sim = Sim::with(&Setup {
        entry: Entry::Invite,
        ..Setup::default()
    });
    sim.world().encrypts_new_rooms = true;
    sim.say("!upgrade #garden:sim.test 12 --yes");
    sim.run();
    sim.assert_promises();
    assert_eq!(sim.world().rooms[&sim.place.room].successor(), None);
    sim.assert_said("encryption_enabled_by_default_for_room_type");
    sim.assert_said("--method server");
    assert_not_said(&sim, "Not done, upgrade");
}

#[test]
fn encryption_by_the_servers_own_upgrade_is_in_plan_and_report() {
    let mut sim = Sim::new();
    sim.world().encrypts_new_rooms = true;
    sim.say("!upgrade #garden:sim.test 12 --method server");
    sim.confirms();
    sim.run();
    let plan = last_with(&sim, "Plan #1");
    assert!(plan.contains("will be encrypted"), "{plan}");
    let report = last_with(&sim, "Upgrade #1 is done");
    assert!(report.contains("The new room is encrypted"), "{report}");
}

/// The server did not say so before.
#[test]
fn encryption_that_nobody_could_know_of_is_in_the_report() {
    let mut sim = Sim::new();
    sim.fault(Rule::before(
        |request| request.endpoint == Endpoint::Upgrade,
        |world| world.encrypts_new_rooms = true,
    ));
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.run();
    let report = last_with(&sim, "Upgrade #1 is done");
    assert!(report.contains("The new room is encrypted"), "{report}");
}

#[test]
fn nobody_who_is_banned_becomes_a_creator() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --creator @spammer0:sim.test --yes");
    sim.run();
    sim.assert_promises();
    sim.assert_said("is banned in this room");
    assert_eq!(sim.world().rooms[&sim.place.room].successor(), None);
}

/// Somebody else is faster, at whatever step.
#[test]
fn who_was_faster_is_named_and_where_it_leads() {
    let faster = |world: &mut World, place: &Place| {
        let (by, room) = (&place.moderator, &place.room);
        world.upgrade(by, room, "11", &[].into()).unwrap();
    };
    for (options, endpoint) in [
        ("--method staged --review", None),
        ("--method staged", Some(Endpoint::CreateRoom)),
        ("--method server", Some(Endpoint::Upgrade)),
    ] {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        if let Some(endpoint) = endpoint {
            sim.fault(Rule::before(
                move |request| request.endpoint == endpoint,
                move |world| faster(world, &place),
            ));
        }
        sim.when_said("please look at the new room", move |world, place, asked| {
            faster(world, place);
            react(world, &place.moderator, &asked.room, &asked.id, "✅");
        });
        sim.say(&format!("!upgrade #garden:sim.test 12 {options} --yes"));
        sim.run();
        let jobs = oracle::jobs(&sim.place, &sim.store());
        assert_eq!(jobs[0].1.phase, Phase::Failed, "{options}");
        let new = successor(&sim.world(), &sim.place.room);
        let said = last_with(&sim, "Not done, upgrade #1");
        let adopt = format!("!upgrade adopt {}", sim.place.room);
        for part in [sim.place.moderator.as_str(), new.as_str(), &adopt] {
            assert!(said.contains(part), "{options}: {part} is not in {said}");
        }
        assert!(!said.contains("!upgrade retry"), "{options}: {said}");
        assert_not_said(&sim, "The old room is as it was");
    }
}
