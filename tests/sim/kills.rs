//! The kill matrix (P2, P3): the bot is killed at every request that has an effect, before it leaves and
//! after its effect, and at every commit, before and after. It is started again on the same database;
//! every promise must hold, and people must see what they see where nobody is killed.
//!
//! A new step is in it by itself. A new kind of work is a function that puts its scene together, and a
//! test of two lines.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use ruma::RoomId;

use crate::fault::{Endpoint, Fault, Kill, Rule};
use crate::place::{Entry, Setup};
use crate::sim::{End, Sim, react, say};
use crate::story::story;
use crate::world::Software;

/// Puts a scene together.
type Scene = fn() -> Sim;

fn staged() -> Sim {
    let sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged");
    sim.confirms();
    sim
}

fn server() -> Sim {
    let sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim
}

/// An upgrade that somebody else began.
fn adopt() -> Sim {
    let sim = Sim::new();
    {
        let (mut world, place) = (sim.world(), &sim.place);
        world
            .upgrade(&place.moderator, &place.room, "11", &[].into())
            .unwrap();
    }
    sim.oracle.forget();
    sim.say(&format!("!upgrade adopt {} --yes", sim.place.room));
    sim
}

/// Invitations one after the other, and an old room that is not open.
fn invited() -> Sim {
    let sim = Sim::with(&Setup {
        entry: Entry::Invite,
        is_listed: false,
        ..Setup::default()
    });
    sim.say("!upgrade #garden:sim.test 11 --method staged --invite all --yes");
    sim
}

/// From creators to power levels.
fn downgrade() -> Sim {
    let sim = Sim::with(&Setup {
        version: "12",
        ..Setup::default()
    });
    sim.say("!upgrade #garden:sim.test 11 --yes");
    sim
}

/// A server that locks the new room and moves nothing.
fn palpo() -> Sim {
    let sim = Sim::new();
    sim.world().software = Software::Palpo;
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim
}

/// Moderators look first.
fn review() -> Sim {
    let sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged --review --yes");
    sim.when_said("please look at the new room", |world, place, event| {
        react(world, &place.moderator, &event.room, &event.id, "✅");
    });
    sim
}

/// Moderators look, and say no.
fn review_declined() -> Sim {
    let sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged --review --yes");
    sim.when_said("please look at the new room", |world, place, event| {
        react(world, &place.moderator, &event.room, &event.id, "❌");
    });
    sim
}

/// The old room cannot be closed: what was made is taken back.
fn rollback() -> Sim {
    let sim = Sim::new();
    let tombstone = |request: &crate::fault::Request| {
        request.endpoint == Endpoint::PutState && request.detail.starts_with("m.room.tombstone")
    };
    sim.fault(Rule::when(tombstone, Fault::Refuse(403, "M_FORBIDDEN")).always());
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim
}

/// A space with three rooms.
fn campaign() -> Sim {
    let sim = Sim::with(&Setup {
        siblings: 1,
        pins: 0,
        ..Setup::default()
    });
    let space = sim.place.space.clone();
    sim.say(&format!("!upgrade space {space} 12 --method staged"));
    sim.when_said("Plan C1", |world, place, plan| {
        react(world, &place.moderator, &plan.room, &plan.id, "✅");
    });
    sim
}

/// Later, and members are told before.
fn schedule() -> Sim {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(6));
    sim.say("!upgrade #garden:sim.test 12 --method server --in 2h --announce --yes");
    sim
}

/// Pings, to their end.
fn follow_up() -> Sim {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(24 * 9));
    sim.say("!upgrade #garden:sim.test 12 --method server --ping 1d,3d --yes");
    sim.after(Duration::from_hours(30), |world, place| {
        let new = world.rooms[&place.room].successor().unwrap().to_owned();
        let new = <&RoomId>::try_from(new.as_str()).unwrap().to_owned();
        world.join(&place.members[0], &new).unwrap();
    });
    sim
}

/// A plan of long ago, and a new one after its records were removed.
fn old_records() -> Sim {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(24 * 500));
    let days = |days: u64| Duration::from_hours(24 * days);
    sim.say("!upgrade plan #garden:sim.test 11");
    sim.after(days(400), |world, place| {
        say(world, &place.reader, &place.admin_room, "A quiet year.");
    });
    sim.say_after(days(410), "!upgrade report 1");
    sim.say_after(days(411), "!upgrade plan #garden:sim.test 12");
    sim
}

/// The admin room itself is upgraded, by its moderator, while the bot listens.
fn admin_room_moves() -> Sim {
    let sim = Sim::new();
    sim.after(Duration::from_secs(5), |world, place| {
        let old = place.admin_room.clone();
        let new = world
            .upgrade(&place.moderator, &old, "11", &[].into())
            .unwrap();
        world
            .invite(&place.moderator, &new, &place.bot, None)
            .unwrap();
    });
    sim.after(Duration::from_secs(90), |world, place| {
        let new = world.rooms[&place.admin_room]
            .successor()
            .unwrap()
            .to_owned();
        let new = <&RoomId>::try_from(new.as_str()).unwrap().to_owned();
        say(
            world,
            &place.moderator,
            &new,
            "!upgrade #garden:sim.test 12 --method server --yes",
        );
    });
    sim
}

/// What a scene leads to where nobody is killed, and how many instants it has.
fn undisturbed(scene: Scene) -> (String, u64, u64) {
    let mut sim = scene();
    assert_eq!(sim.run(), End::Quiet, "it comes to an end");
    sim.assert_promises();
    let (requests, commits) = sim.shared.counts();
    (story(&sim), requests, commits)
}

/// Kills at every instant of a scene.
fn kill_everywhere(scene: Scene) {
    let (expected, requests, commits) = undisturbed(scene);
    assert!(
        requests > 8 && commits > 8,
        "{requests} requests, {commits} commits"
    );
    let requests = (0..requests).flat_map(|n| [Kill::BeforeRequest(n), Kill::AfterRequest(n)]);
    let commits = (0..commits).flat_map(|n| [Kill::BeforeCommit(n), Kill::AfterCommit(n)]);
    let mut wrong = Vec::new();
    for kill in requests.chain(commits) {
        let mut sim = scene();
        sim.kill(kill);
        let end = sim.run();
        let told = story(&sim);
        let broken = sim.oracle.broken();
        // Rooms of a campaign go side by side: in which order they end is not told.
        let differences = difference(&expected, &told);
        if end != End::Quiet || !broken.is_empty() || !differences.is_empty() {
            wrong.push(format!("{kill:?} {end:?}: {broken:?}\n{differences}"));
        }
    }
    let shown: Vec<_> = wrong.iter().take(6).cloned().collect();
    assert!(
        wrong.is_empty(),
        "{} kills do harm:\n{}",
        wrong.len(),
        shown.join("\n")
    );
}

/// Lines that one story has more often than the other.
fn difference(expected: &str, told: &str) -> String {
    let mut lines: BTreeMap<&str, i32> = BTreeMap::new();
    for line in expected.lines() {
        *lines.entry(line).or_default() += 1;
    }
    for line in told.lines() {
        *lines.entry(line).or_default() -= 1;
    }
    let lines = lines.into_iter().filter(|(_, more)| *more != 0);
    let lines = lines.map(|(line, more)| format!("  {} {line}", if more > 0 { '-' } else { '+' }));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn staged_survives_every_kill() {
    kill_everywhere(staged);
}

#[test]
fn server_survives_every_kill() {
    kill_everywhere(server);
}

#[test]
fn adopt_survives_every_kill() {
    kill_everywhere(adopt);
}

#[test]
fn invitations_survive_every_kill() {
    kill_everywhere(invited);
}

#[test]
fn a_downgrade_survives_every_kill() {
    kill_everywhere(downgrade);
}

#[test]
fn an_upgrade_by_palpo_survives_every_kill() {
    kill_everywhere(palpo);
}

#[test]
fn a_review_survives_every_kill() {
    kill_everywhere(review);
}

#[test]
fn a_declined_review_survives_every_kill() {
    kill_everywhere(review_declined);
}

#[test]
fn a_rollback_survives_every_kill() {
    kill_everywhere(rollback);
}

#[test]
fn a_campaign_survives_every_kill() {
    kill_everywhere(campaign);
}

#[test]
fn a_schedule_survives_every_kill() {
    kill_everywhere(schedule);
}

#[test]
fn a_follow_up_survives_every_kill() {
    kill_everywhere(follow_up);
}

#[test]
fn the_end_of_old_records_survives_every_kill() {
    kill_everywhere(old_records);
}

#[test]
fn a_move_of_the_admin_room_survives_every_kill() {
    kill_everywhere(admin_room_moves);
}
