//! Scenes in which one thing is in trouble: it is named, and everything else continues (P13).

use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::Phase;

use crate::fault::{Endpoint, Fault, Request, Rule};
use crate::oracle;
use crate::place::Setup;
use crate::sim::{Sim, say};

fn posts(key: &'static str) -> impl Fn(&Request) -> bool + Send {
    move |request| request.endpoint == Endpoint::Send && request.detail.contains(key)
}

fn phases(sim: &Sim) -> Vec<Phase> {
    let jobs = oracle::jobs(&sim.place, &sim.store());
    jobs.iter().map(|(_, state)| state.phase).collect()
}

#[test]
fn a_panic_in_a_step_is_that_jobs_trouble() {
    for (endpoint, phase) in [
        // After the tombstone may have been sent, and before anything was made.
        (Endpoint::CreateAlias, Phase::Stuck),
        (Endpoint::LocalAliases, Phase::Failed),
    ] {
        let mut sim = Sim::with(&Setup {
            siblings: 1,
            ..Setup::default()
        });
        let panics = move |request: &Request| request.endpoint == endpoint;
        sim.fault(Rule::before(panics, |_| panic!("a bug in a step")));
        sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
        sim.say_after(Duration::from_mins(5), "!upgrade help");
        sim.run();
        assert_eq!(phases(&sim), [phase], "{endpoint:?}");
        sim.assert_said("A bug stopped me here: a bug in a step");
        sim.assert_said("!upgrade plan");
    }
}

/// A row of a newer version, or a damaged one.
#[test]
fn an_unreadable_log_row_is_that_jobs_trouble() {
    let mut sim = Sim::with(&Setup {
        siblings: 1,
        ..Setup::default()
    });
    sim.say("!upgrade #garden:sim.test 12 --yes --in 3h");
    sim.run();
    let database = rusqlite::Connection::open(sim.database()).unwrap();
    let changed = database.execute(
        "UPDATE job_log SET entry = '{\"entry\":\"from_the_future\"}' WHERE seq = 1",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
    drop(database);
    let space = sim.place.space.clone();
    sim.lasts(SignedDuration::from_hours(5));
    sim.say("!upgrade list");
    sim.say("!upgrade status 1");
    sim.say(&format!("!upgrade space {space} 12 --yes"));
    sim.run();
    let said = sim.said(&sim.place.admin_room).join("\n");
    assert!(
        said.contains("#1: I cannot read what is stored of it"),
        "{said}"
    );
    assert!(
        said.contains("I cannot read what is stored of that"),
        "{said}"
    );
    assert!(
        said.contains("I cannot read what is stored of upgrade #1"),
        "{said}"
    );
    assert!(said.contains("C1"), "{said}");
}

#[test]
fn a_post_that_never_goes_through_holds_up_its_room_for_a_while_only() {
    let mut sim = Sim::new();
    sim.fault(Rule::when(posts("reply:"), Fault::Page(500)).always());
    sim.say("!upgrade help");
    sim.say_after(
        Duration::from_secs(30),
        "!upgrade #garden:sim.test 12 --yes",
    );
    sim.run();
    sim.assert_said("Upgrade #1 is done");
}

/// The bot is removed from the admin room in the middle of a job, and invited back.
#[test]
fn posts_are_kept_while_the_bot_is_not_in_the_room() {
    let mut sim = Sim::new();
    let place = sim.place.clone();
    let begins = |request: &Request| request.endpoint == Endpoint::CreateAlias;
    sim.fault(Rule::before(begins, move |world| {
        let (by, room) = (place.moderator.clone(), place.admin_room.clone());
        world.kick(&by, &room, &place.bot, None).unwrap();
        let place = place.clone();
        world.schedule(Duration::from_mins(10), move |world| {
            let (by, room) = (&place.moderator, &place.admin_room);
            world.invite(by, room, &place.bot, None).unwrap();
        });
    }));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

/// The bot is lost from one admin room of two.
#[test]
fn a_lost_admin_room_silences_no_other() {
    for restarts in [false, true] {
        let mut sim = Sim::with(&Setup {
            has_second_admin_room: true,
            ..Setup::default()
        });
        let second = sim.place.second_admin_room.clone().unwrap();
        sim.after(Duration::from_secs(20), |world, place| {
            let second = place.second_admin_room.clone().unwrap();
            let (by, bot) = (place.moderator.clone(), place.bot.clone());
            world.kick(&by, &second, &bot, None).unwrap();
        });
        if restarts {
            sim.run();
        }
        sim.say_after(Duration::from_mins(5), "!upgrade list");
        sim.after(Duration::from_mins(10), |world, place| {
            let second = place.second_admin_room.clone().unwrap();
            let (by, bot) = (place.moderator.clone(), place.bot.clone());
            world.invite(&by, &second, &bot, None).unwrap();
        });
        sim.after(Duration::from_mins(30), |world, place| {
            let second = place.second_admin_room.clone().unwrap();
            say(world, &place.moderator, &second, "!upgrade list");
        });
        sim.run();
        sim.assert_promises();
        sim.assert_said("No upgrade was asked for");
        sim.assert_said("I am not in the admin room");
        let there = sim.said(&second).join("\n");
        assert!(there.contains("No upgrade was asked for"), "{there}");
    }
}

/// The other admin room is replaced while one is lost: the bot follows, and starts anew with both.
#[test]
fn an_admin_room_that_moves_while_another_is_lost_is_followed() {
    let mut sim = Sim::with(&Setup {
        has_second_admin_room: true,
        ..Setup::default()
    });
    sim.after(Duration::from_secs(20), |world, place| {
        let second = place.second_admin_room.clone().unwrap();
        let (by, bot) = (place.moderator.clone(), place.bot.clone());
        world.kick(&by, &second, &bot, None).unwrap();
    });
    sim.after(Duration::from_mins(2), |world, place| {
        let (by, room) = (&place.moderator, &place.admin_room);
        let new = world.upgrade(by, room, "11", &[].into()).unwrap();
        world.invite(by, &new, &place.bot, None).unwrap();
    });
    sim.after(Duration::from_mins(10), |world, place| {
        let new = world.rooms[&place.admin_room].successor().unwrap();
        let new = new.parse().unwrap();
        say(world, &place.moderator, &new, "!upgrade list");
    });
    sim.run();
    sim.assert_promises();
    let new = sim.world().rooms[&sim.place.admin_room]
        .successor()
        .unwrap()
        .parse()
        .unwrap();
    let there = sim.said(&new).join("\n");
    assert!(there.contains("No upgrade was asked for"), "{there}");
}
