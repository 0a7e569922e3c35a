//! P2, told one by one: of two bots with one account and two databases, one works.

use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::Phase;
use roomlift::model::Claim;
use serde_json::json;

use super::sets;
use crate::fault::Rule;
use crate::oracle;
use crate::place::{Place, Setup};
use crate::sim::Sim;
use crate::world::{World, content};

/// What the bot that is replaced says.
const REPLACED: &str = "Another Roomlift works with my account now";

/// The bot with the other database takes the account over.
fn take_over(world: &mut World, place: &Place) {
    let mark = json!({ "database": "0123456789abcdef", "since": "2026-09-21T15:00:00Z" });
    world.set_account_data(&place.bot, "org.roomlift.database", content(mark));
}

/// Runs a bot that must end by itself; returns what it said to whoever runs it.
fn refusal(sim: &mut Sim) -> String {
    sim.oracle.forget();
    sim.run();
    let ended = sim.oracle.broken().into_iter();
    let mut ended = ended.filter(|broken| broken.kind == "the process ended");
    ended.next().map(|broken| broken.what).unwrap_or_default()
}

#[test]
fn a_second_database_does_not_start() {
    let first = Sim::new();
    let mut second = first.beside();
    second.say("!upgrade #garden:sim.test 12 --yes");
    let why = refusal(&mut second);
    assert!(why.contains("roomlift run --take-over"), "P2: {why:?}");
    let known = [&first, &second].map(|sim| sim.store().instance().unwrap());
    for database in known {
        assert!(why.contains(&database), "{why}");
    }
    assert_eq!(oracle::jobs(&second.place, &second.store()), []);
    let said = second.said(&second.place.admin_room);
    assert_eq!(said, [""; 0], "it says nothing in the room either");
}

#[test]
fn a_database_that_takes_over_keeps_the_other_one_out() {
    let mut first = Sim::new();
    let mut second = first.beside();
    second.claim = Claim::TakeOver;
    second.say("!upgrade #garden:sim.test 12 --yes");
    second.run();
    second.assert_promises();
    second.assert_said("Upgrade #1 is done");
    // Started again, it need not be told once more.
    second.claim = Claim::IfFree;
    second.say("!upgrade help");
    second.run();
    second.assert_promises();
    let why = refusal(&mut first);
    assert!(why.contains("roomlift run --take-over"), "{why:?}");
}

#[test]
fn a_running_bot_that_is_replaced_begins_nothing_more() {
    let mut sim = Sim::with(&Setup {
        siblings: 1,
        ..Setup::default()
    });
    sim.lasts(SignedDuration::from_hours(2));
    sim.say("!upgrade #garden:sim.test 12 --in 30m --yes");
    let space = sim.place.space.clone();
    sim.say_after(
        Duration::from_secs(20),
        &format!("!upgrade space {space} 12 --in 40m --yes"),
    );
    sim.after(Duration::from_mins(5), take_over);
    sim.say_after(Duration::from_mins(6), "!upgrade #garden:sim.test 11 --yes");
    sim.run();
    for room in sim.world().rooms.values() {
        assert_eq!(room.successor(), None, "P2: {}", room.id);
    }
    let said = sim.said(&sim.place.admin_room);
    let times = said.iter().filter(|text| text.contains(REPLACED)).count();
    assert_eq!(times, 1, "{said:?}");
    // Nor after a new start.
    sim.lasts(SignedDuration::from_hours(1));
    let why = refusal(&mut sim);
    assert!(why.contains("roomlift run --take-over"), "{why:?}");
}

/// Nobody else knows of it.
#[test]
fn a_running_bot_that_is_replaced_finishes_what_it_has_begun() {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(30));
    let place = sim.place.clone();
    sim.fault(Rule::before(sets("m.room.tombstone"), move |world| {
        take_over(world, &place);
    }));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes --ping 1d");
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    sim.assert_said(REPLACED);
    let jobs = oracle::jobs(&sim.place, &sim.store());
    assert_eq!(jobs[0].1.phase, Phase::Done);
    let notices = sim.said(&sim.place.room);
    assert_eq!(notices.len(), 1, "nobody is pinged: {notices:?}");
}

/// The mark is written before anything is read from the inbox, and a kill around it changes nothing.
#[test]
fn a_first_start_that_is_killed_is_made_up_for() {
    use crate::fault::Kill;
    for kill in [Kill::BeforeRequest, Kill::AfterRequest] {
        for request in 0..4 {
            let mut sim = Sim::untouched(&Setup::default());
            sim.kill(kill(request));
            sim.say("!upgrade help");
            sim.run();
            sim.assert_promises();
            let why = refusal(&mut sim.beside());
            assert!(why.contains("roomlift run --take-over"), "{why:?}");
        }
    }
}
