//! Scenes about what people are told of an upgrade that others have a part in: who invites, who was faster, and
//! what a server remembers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::{Output, Phase, Step};
use ruma::{OwnedRoomId, RoomId};
use serde_json::json;

use crate::oracle;
use crate::place::{Entry, Place, Setup};
use crate::sim::{Sim, react};
use crate::world::{Software, UpgradeStop, World};

const TOMBSTONE: &str = "m.room.tombstone";

fn new_room(world: &World, old: &RoomId) -> OwnedRoomId {
    world.rooms[old].successor().unwrap().parse().unwrap()
}

fn said_last(sim: &Sim, part: &str) -> String {
    let said = sim.said(&sim.place.admin_room);
    let last = said.into_iter().rfind(|text| text.contains(part));
    last.unwrap_or_else(|| panic!("nobody said {part:?}"))
}

/// Whether the bot ever said this, also in a message that it changed since.
fn was_said(sim: &Sim, part: &str) -> Arc<AtomicBool> {
    let said = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&said);
    sim.when_said(part, move |_, _, _| seen.store(true, Ordering::SeqCst));
    said
}

/// Somebody upgrades the room by the server's own command.
fn upgrades(world: &mut World, place: &Place) -> OwnedRoomId {
    let (by, room) = (&place.moderator, &place.room);
    world.upgrade(by, room, "11", &[].into()).unwrap()
}

/// A room can be read by those who were sent away: it is no room that the bot is in.
#[test]
fn a_bot_that_is_sent_away_from_the_new_room_points_nobody_there() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged --join-rule keep --review --yes");
    sim.when_said("please look at the new room", |world, place, asked| {
        let predecessor = json!({ "room_id": place.room });
        let made = world.rooms.values().find(|room| {
            let create = room.content("m.room.create", "");
            create.and_then(|create| create.get("predecessor")) == Some(&predecessor)
        });
        let made = made.unwrap().id.clone();
        world.leave(&place.bot, &made).unwrap();
        react(world, &place.moderator, &asked.room, &asked.id, "✅");
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("I am not in the new room any more");
    assert!(
        sim.world().rooms[&sim.place.room]
            .content(TOMBSTONE, "")
            .is_none()
    );
}

/// The same where the bot's own tombstone leads there.
#[test]
fn a_room_of_its_own_that_the_bot_is_not_in_is_replaced() {
    let mut sim = Sim::new();
    sim.world().software = Software::Bare;
    sim.world().upgrade_stops = Some(UpgradeStop::AfterLeaving);
    sim.oracle.expect.all_done = true;
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.run();
    sim.assert_promises();
}

/// Nobody gets an invitation where that was asked for; how many need one is a to-do until they have one.
#[test]
fn who_is_not_to_be_invited_is_counted_until_somebody_invites_them() {
    let mut sim = Sim::with(&Setup {
        entry: Entry::Invite,
        ..Setup::default()
    });
    let moderator = sim.place.moderator.clone();
    sim.say(&format!(
        "!upgrade #garden:sim.test 12 --method staged --invite none --join-rule keep --creator {moderator} --yes"
    ));
    sim.oracle.expect.all_done = true;
    let rest = |world: &World, place: &Place| {
        let new = &world.rooms[&new_room(world, &place.room)];
        let people = world.rooms[&place.room].members("join").into_iter();
        people
            .filter(|user| new.membership(user) == "leave")
            .collect::<Vec<_>>()
    };
    sim.when_said("is done", move |world, place, _| {
        let new = new_room(world, &place.room);
        // The first comes by the bot's invitation, who can invite the others.
        let everybody = rest(world, place);
        world
            .invite(&place.bot, &new, &place.moderator, None)
            .unwrap();
        world.join(&place.moderator, &new).unwrap();
        for user in everybody
            .iter()
            .skip(1)
            .filter(|user| **user != place.moderator)
        {
            world.invite(&place.moderator, &new, user, None).unwrap();
        }
    });
    sim.after(Duration::from_mins(20), move |world, place| {
        let new = new_room(world, &place.room);
        for user in rest(world, place) {
            world.invite(&place.moderator, &new, &user, None).unwrap();
        }
    });
    sim.lasts(SignedDuration::from_hours(9));
    sim.run();
    sim.assert_promises();
    // The moderator, the deputy and three members.
    sim.assert_said("5 people need an invitation to the new room");
    let first = was_left(&sim, "5 members of the old room need an invitation");
    let then = was_left(&sim, "1 member of the old room needs an invitation");
    assert!(first && then, "the to-do gets smaller");
    let jobs = oracle::jobs(&sim.place, &sim.store());
    assert_eq!(jobs[0].1.phase, Phase::Done);
    let Some(Output::Verified { todos, .. }) = jobs[0].1.outputs.get(&Step::Verify) else {
        panic!("it was verified")
    };
    assert!(todos.is_empty(), "{todos:?}");
}

/// Whether the bot told of a to-do in any message or edit.
fn was_left(sim: &Sim, part: &str) -> bool {
    let world = sim.world();
    let events = &world.rooms[&sim.place.admin_room].events;
    let mut texts = events.iter().filter_map(crate::sim::body);
    texts.any(|text| text.contains(part))
}

/// Somebody upgrades the room while moderators look at the one that the bot made.
#[test]
fn a_no_after_somebody_elses_upgrade_says_who_was_faster() {
    for says_no in [true, false] {
        let mut sim = Sim::new();
        sim.say("!upgrade #garden:sim.test 12 --method staged --review --yes");
        sim.when_said("please look at the new room", move |world, place, asked| {
            upgrades(world, place);
            if says_no {
                react(world, &place.moderator, &asked.room, &asked.id, "❌");
            }
        });
        sim.lasts(SignedDuration::from_hours(24 * 9));
        sim.run();
        sim.assert_promises();
        let (place, world) = (&sim.place, sim.world());
        let new = new_room(&world, &place.room);
        drop(world);
        let end = said_last(&sim, if says_no { "Cancelled" } else { "Plan expired" });
        assert!(
            end.contains(&format!("{} upgraded this room", place.moderator)),
            "{end}"
        );
        assert!(end.contains(new.as_str()), "{end}");
        assert!(
            end.contains(&format!("!upgrade adopt {}", place.room)),
            "{end}"
        );
        assert!(!end.contains("Nothing was changed"), "{end}");
        assert_eq!(end.matches("upgraded this room").count(), 1, "{end}");
    }
}

/// Somebody's tombstone is taken back, as of a room that was upgraded by mistake.
fn take_back(world: &mut World, place: &Place) {
    let (by, room) = (&place.moderator, &place.room);
    let tombstone = world.rooms[room].event(TOMBSTONE, "").unwrap().id.clone();
    world
        .redact(by, room, tombstone.as_str(), "take-back")
        .unwrap();
}

/// Synapse knows an upgrade for five minutes, and refuses those of others meanwhile.
#[test]
fn an_upgrade_that_the_server_remembers_is_named_and_waited_for() {
    let mut sim = Sim::new();
    let first = {
        let mut world = sim.world();
        let first = upgrades(&mut world, &sim.place);
        take_back(&mut world, &sim.place);
        first
    };
    let named = was_said(&sim, "for five minutes after");
    sim.say(&format!(
        "!upgrade {} 12 --method server --yes",
        sim.place.room
    ));
    // What the first upgrade took from the old room stays taken, as nobody gave it back.
    sim.run();
    assert!(named.load(Ordering::SeqCst), "it says what it waits for");
    sim.assert_said("Upgrade #1 is done");
    let world = sim.world();
    assert_ne!(new_room(&world, &sim.place.room), first);
}

/// Asked by the same account, it answers with the room that it made then.
#[test]
fn an_earlier_room_in_the_servers_answer_is_not_taken_for_a_new_one() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 11 --method server --yes");
    sim.when_said("Upgrade #1 is done", |world, place, _| {
        take_back(world, place);
        let command = format!("!upgrade {} 12 --method server --yes", place.room);
        crate::sim::say(world, &place.moderator, &place.admin_room, &command);
    });
    let named = was_said(&sim, "for five minutes");
    // Nothing leads to the first room any more, as people wanted.
    sim.run();
    assert!(named.load(Ordering::SeqCst), "it says what it waits for");
    sim.assert_said("Upgrade #2 is done");
    let world = sim.world();
    let new = new_room(&world, &sim.place.room);
    let create = world.rooms[&new].content("m.room.create", "").unwrap();
    assert_eq!(create["room_version"], json!("12"));
}
