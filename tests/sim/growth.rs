//! Scenes about a bot that has been at work for long: what has piled up is in nobody's way.

use jiff::SignedDuration;
use roomlift::model::JobId;
use ruma::RoomId;
use serde_json::json;

use crate::fault::{Endpoint, Fault, Rule};
use crate::sim::Sim;
use crate::world::content;

/// The room that a room leads to.
fn successor(sim: &Sim, room: &RoomId) -> ruma::OwnedRoomId {
    let world = sim.world();
    let to = world.rooms[room].successor().unwrap().to_owned();
    to.as_str().try_into().unwrap()
}

/// The size of what an upgrade stores of a room, where the bot is in so many other rooms.
fn stored_beside(others: usize) -> usize {
    let mut sim = Sim::new();
    {
        let (mut world, place) = (sim.world(), &sim.place);
        for number in 0..others {
            let body = json!({ "preset": "public_chat", "name": format!("Shed {number}") });
            let room = world.create_room(&place.moderator, &content(body)).unwrap();
            world.join(&place.bot, &room).unwrap();
        }
    }
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.run();
    sim.assert_promises();
    let snapshot = sim.store().snapshot(JobId(1)).unwrap().unwrap();
    serde_json::to_string(&snapshot).unwrap().len()
}

#[test]
fn what_is_stored_of_a_room_does_not_grow_with_the_rooms_that_the_bot_is_in() {
    assert_eq!(stored_beside(2), stored_beside(60));
}

/// An upgrade is taken back by hand and done again, and an answer gets lost this time.
#[test]
fn a_room_that_replaced_the_old_one_before_is_not_taken_for_a_new_one() {
    let mut sim = Sim::new();
    let room = sim.place.room.clone();
    sim.say(&format!(
        "!upgrade {room} 11 --method server --ping off --yes"
    ));
    sim.run();
    sim.assert_said("Upgrade #1 is done");
    let first = successor(&sim, &room);
    {
        let (mut world, place) = (sim.world(), &sim.place);
        let tombstone = world.rooms[&room].event("m.room.tombstone", "").unwrap();
        let tombstone = tombstone.id.clone();
        world
            .redact(&place.moderator, &room, tombstone.as_str(), "again")
            .unwrap();
    }
    sim.lasts(SignedDuration::from_hours(2));
    let lost = sim.fault(Rule::on(Endpoint::CreateRoom, Fault::LoseAnswer));
    sim.say(&format!(
        "!upgrade {room} 12 --method staged --ping off --yes"
    ));
    sim.run();
    assert!(lost.count() > 0, "the answer was lost");
    sim.assert_said("Upgrade #2 is done");
    assert_ne!(successor(&sim, &room), first);
    let world = sim.world();
    assert_eq!(world.rooms[&first].membership(&sim.place.bot), "join");
}
