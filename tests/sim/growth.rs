//! Scenes about a bot that has been at work for long: what has piled up is in nobody's way.

use std::time::Duration;

use jiff::SignedDuration;
use roomlift::model::JobId;
use ruma::RoomId;
use rusqlite::Connection;
use serde_json::json;

use crate::fault::{Endpoint, Fault, Rule};
use crate::sim::{Sim, say};
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

/// A year of commands and answers, and posts for a room that the bot is not in any more.
fn grown(sim: &Sim, rows: u32) {
    let database = Connection::open(sim.database()).unwrap();
    let numbers =
        format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT {rows})");
    let message = r#"{"type":"message","body":"!upgrade help","formatted_body":null}"#;
    let post = r"json_object('type', 'message', 'reply_to', NULL, 'text',
                  json_object('plain', 'Old news ' || i, 'html', 'Old news ' || i))";
    let admin = &sim.place.admin_room;
    let insert = |into: &str, values: &str, only: &str| {
        let sql = format!("{numbers} INSERT INTO {into} SELECT {values} FROM n {only}");
        database.execute(&sql, []).unwrap();
    };
    insert(
        "inbox (event_id, seq, room_id, sender, sent_at, kind, handled_at)",
        &format!("'$old' || i, 1000 + i, '{admin}', '@maria:sim.test', 1, '{message}', 1"),
        "",
    );
    let outbox = "outbox (key, room_id, post, txn, event_id, sent_revision, due_at)";
    let sent = format!("'sent:' || i, '{admin}', {post}, 'old.' || i, '$sent' || i, 0, NULL");
    insert(outbox, &sent, "");
    let unsent = format!("'gone:' || i, '!gone:sim.test', {post}, 'old.gone:' || i, NULL, NULL, 1");
    insert(outbox, &unsent, "");
    let late = format!("'late:' || i, '{admin}', {post}, 'old.late:' || i, NULL, NULL, 1");
    insert(outbox, &late, "WHERE i < 30");
}

#[test]
fn what_has_piled_up_delays_no_answer_and_keeps_its_order() {
    let mut sim = Sim::new();
    grown(&sim, 20_000);
    sim.lasts(SignedDuration::from_mins(10));
    sim.oracle.expect.prompt = true;
    for seconds in [60, 61, 62] {
        sim.after(Duration::from_secs(seconds), |world, place| {
            say(world, &place.reader, &place.admin_room, "!upgrade help");
        });
    }
    sim.say_after(Duration::from_secs(63), "!upgrade status 99");
    sim.run();
    let late = sim
        .oracle
        .broken()
        .into_iter()
        .find(|broken| broken.promise == 14);
    assert!(late.is_none(), "{late:?}");
    let said = sim.said(&sim.place.admin_room);
    let old: Vec<_> = said
        .iter()
        .filter(|text| text.starts_with("Old news"))
        .collect();
    let expected: Vec<_> = (0..30).map(|number| format!("Old news {number}")).collect();
    assert_eq!(old, expected.iter().collect::<Vec<_>>());
    let helped = said.iter().filter(|text| text.contains("!upgrade confirm"));
    assert_eq!(helped.count(), 3, "{said:?}");
    sim.assert_said("There is no upgrade #99");
}

/// More than a year goes by after an upgrade, and somebody asks for it.
fn a_year_later() -> Sim {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(24 * 500));
    sim.say("!upgrade #garden:sim.test 11 --method staged --yes");
    let days = |days: u64| Duration::from_hours(24 * days);
    sim.after(days(430), |world, place| {
        say(world, &place.reader, &place.admin_room, "A quiet year.");
    });
    sim.say_after(days(440), "!upgrade report 1");
    sim.say_after(days(441), "!upgrade status 1");
    sim.say_after(days(442), "!upgrade list");
    sim.say_after(
        days(443),
        "!upgrade #garden:sim.test 12 --method staged --yes",
    );
    sim
}

#[test]
fn an_upgrade_of_long_ago_is_gone_and_its_room_can_be_upgraded_again() {
    let mut sim = a_year_later();
    sim.run();
    sim.assert_said("Upgrade #1 is done");
    let said = sim.said(&sim.place.admin_room);
    let gone = said
        .iter()
        .filter(|text| text.contains("#1 ended long ago, and I removed its records on"));
    assert_eq!(gone.count(), 2, "{said:#?}");
    sim.assert_said("I removed the records of upgrades that ended long ago, the last on");
    sim.assert_said("Upgrade #2 is done");
    let store = sim.store();
    assert!(store.job(JobId(1)).unwrap().is_none());
    assert!(store.snapshot(JobId(1)).unwrap().is_none());
    assert!(store.job(JobId(2)).unwrap().is_some());
}
