//! How long an upgrade takes under the server's limits, beside what those limits take at least, and how many
//! requests they refuse.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::fault::{Endpoint, Fault, Request, Rule};
use crate::limits::{Kind, Limiter, Limits};
use crate::place::{Entry, Setup};
use crate::port::limiters;
use crate::sim::{Sim, react, said};

/// What a run took.
#[derive(Debug)]
struct Took {
    /// From the first request that has an effect to the last one of the work.
    time: Duration,
    /// What the limits take at least for as many requests.
    floor: Duration,
    requests: usize,
    refused: u64,
}

impl Took {
    fn of(sim: &Sim) -> Self {
        let log = sim.shared.log();
        let world = sim.world();
        // What is tidied up or told afterwards is not waited for.
        let is_work = |endpoint: Endpoint| {
            !matches!(
                endpoint,
                Endpoint::Redact | Endpoint::Send | Endpoint::SetAccountData
            )
        };
        let writes = log
            .iter()
            .filter(|logged| logged.request.endpoint.is_write());
        let work: Vec<_> = writes
            .clone()
            .filter(|logged| is_work(logged.request.endpoint))
            .collect();
        let (first, last): (Timestamp, Timestamp) =
            (work.first().unwrap().at, work.last().unwrap().at);
        let mut taken: BTreeMap<Limiter, u32> = BTreeMap::new();
        for logged in writes.filter(|logged| logged.at <= last) {
            // That a message was sent is known by now, so that it would not count.
            let mut request = logged.request.clone();
            if request.endpoint == Endpoint::Send {
                request.endpoint = Endpoint::PutState;
            }
            for limiter in limiters(&world, &sim.place.bot, &request) {
                *taken.entry(limiter).or_default() += 1;
            }
        }
        let floor = taken
            .iter()
            .filter_map(|(limiter, taken)| world.limits.least(limiter.kind, *taken))
            .max();
        Self {
            time: last.duration_since(first).unsigned_abs(),
            floor: floor.unwrap_or_default(),
            requests: log.len(),
            refused: world.limits.refused,
        }
    }

    /// Not much longer than the limits take, and few requests in vain.
    fn assert_paced(&self) {
        assert!(self.time <= self.floor.mul_f64(1.05), "{self:?}");
        assert!(self.refused * 20 <= self.requests as u64, "{self:?}");
    }
}

fn upgraded(setup: &Setup, limits: Limits, command: &str) -> Sim {
    let mut sim = Sim::with(setup);
    sim.world().limits = limits;
    sim.lasts(SignedDuration::from_hours(12));
    let command = command.replace("SPACE", sim.place.space.as_str());
    sim.say(&command);
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim
}

fn invited(siblings: usize, members: usize) -> Setup {
    Setup {
        siblings,
        members,
        entry: Entry::Invite,
        pins: 0,
        ..Setup::default()
    }
}

#[test]
fn two_rooms_of_thirty_are_invited_as_fast_as_synapse_lets_them() {
    let sim = upgraded(
        &invited(1, 30),
        Limits::synapse(),
        "!upgrade space SPACE 12 --method staged --invite all --join-rule keep --yes",
    );
    Took::of(&sim).assert_paced();
}

#[test]
fn fifteen_rooms_move_as_fast_as_synapse_lets_them() {
    let setup = Setup {
        siblings: 14,
        pins: 0,
        ..Setup::default()
    };
    let command = "!upgrade space SPACE 12 --method staged --yes";
    let sim = upgraded(&setup, Limits::synapse(), command);
    Took::of(&sim).assert_paced();
    // People see how far it is, every few minutes.
    let log = sim.shared.log();
    let edits = log.iter().filter(|logged| {
        logged.request.endpoint == Endpoint::Send && logged.request.detail.contains(".progress:")
    });
    let moments: Vec<_> = edits.map(|logged| logged.at).collect();
    assert!(moments.len() > 2, "{moments:?}");
    let longest = moments
        .windows(2)
        .map(|pair| pair[1].duration_since(pair[0]));
    assert!(
        longest.max() < Some(SignedDuration::from_mins(6)),
        "{moments:?}"
    );
}

/// A limit on each room's invitations holds up no other room.
#[test]
fn a_limit_on_each_room_is_met_room_by_room() {
    let limits = Limits::none().with(Kind::InvitesPerRoom, 0.1, 2.0);
    let command = "!upgrade space SPACE 12 --method staged --invite all --join-rule keep --yes";
    let sim = upgraded(&invited(3, 12), limits, command);
    Took::of(&sim).assert_paced();
}

/// Once a new room is made, the old one points to it within a few tokens of the limit, whatever else waits.
#[test]
fn no_switch_waits_for_other_work() {
    let setup = Setup {
        siblings: 7,
        pins: 0,
        ..Setup::default()
    };
    let command = "!upgrade space SPACE 12 --method staged --yes";
    let sim = upgraded(&setup, Limits::synapse(), command);
    let log = sim.shared.log();
    let mut made: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    let world = sim.world();
    for logged in log.iter() {
        let request = &logged.request;
        if request.endpoint == Endpoint::PutState && request.detail.starts_with("m.room.tombstone")
        {
            let old = world
                .rooms
                .values()
                .find(|room| room.id == logged.request.about);
            let new: ruma::OwnedRoomId = old
                .and_then(|room| room.successor())
                .unwrap()
                .parse()
                .unwrap();
            let since = Timestamp::from_millisecond(world.rooms[&new].events[0].at).unwrap();
            longest = longest.max(logged.at.duration_since(since).unsigned_abs());
            made.insert(logged.request.about.clone(), logged.at);
        }
    }
    // The space moves as well.
    assert_eq!(made.len(), 9);
    assert!(longest <= Duration::from_secs(30), "{longest:?}");
}

/// The bot waits for its turn before it looks, so that nobody can be faster between the look and the tombstone.
#[test]
fn no_tombstone_waits_after_the_look() {
    let setup = Setup {
        siblings: 7,
        pins: 0,
        ..Setup::default()
    };
    let command = "!upgrade space SPACE 12 --method staged --yes";
    let sim = upgraded(&setup, Limits::synapse(), command);
    let log = sim.shared.log();
    let mut looked: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut tombstones = 0;
    for logged in log.iter() {
        let request = &logged.request;
        if request.endpoint == Endpoint::State {
            looked.insert(&request.about, logged.at);
        }
        if request.endpoint == Endpoint::PutState && request.detail.starts_with("m.room.tombstone")
        {
            tombstones += 1;
            let waited = logged.at.duration_since(looked[&*request.about]);
            assert!(
                waited < SignedDuration::from_secs(1),
                "{request}: {waited:?}"
            );
        }
    }
    assert_eq!(tombstones, 9);
}

/// Looking at the old room again does not close the new one again.
#[test]
fn a_room_is_opened_once_after_a_review_under_a_tight_limit() {
    let mut sim = Sim::new();
    sim.world().limits = Limits::none().with(Kind::Messages, 0.2, 1.0);
    sim.oracle.expect.all_done = true;
    sim.say("!upgrade #garden:sim.test 11 --method staged --join-rule keep --review --yes");
    sim.when_said("please look at the new room", |world, place, asked| {
        let (place, asked) = (place.clone(), asked.clone());
        world.schedule(Duration::from_mins(10), move |world| {
            react(world, &place.moderator, &asked.room, &asked.id, "✅");
        });
    });
    sim.run();
    sim.assert_promises();
    let log = sim.shared.log();
    let jobs = crate::oracle::jobs(&sim.place, &sim.store());
    let new_room = jobs[0].1.new_room().unwrap().as_str();
    let opened = log.iter().filter(|logged| {
        let request = &logged.request;
        request.endpoint == Endpoint::PutState
            && request.detail.starts_with("m.room.join_rules")
            && request.about == new_room
    });
    assert_eq!(opened.count(), 1);
}

/// Limits that were met before are in the next plan.
#[test]
fn a_plan_counts_the_limits_that_are_known() {
    let mut sim = Sim::with(&Setup {
        siblings: 2,
        ..Setup::default()
    });
    sim.world().limits = Limits::synapse();
    sim.lasts(SignedDuration::from_hours(2));
    sim.oracle.expect.all_done = true;
    let commands: Vec<_> = {
        let (world, place) = (sim.world(), &sim.place);
        let others = crate::answers::beds(&world);
        let rooms = others.into_iter().chain([place.room.clone()]);
        rooms
            .map(|room| format!("!upgrade {room} 12 --method staged --yes"))
            .collect()
    };
    sim.say(&commands[0]);
    sim.say(&commands[1]);
    sim.say_after(Duration::from_mins(15), &commands[2]);
    sim.run();
    sim.assert_promises();
    let jobs = crate::oracle::jobs(&sim.place, &sim.store());
    let [(_, first), _, (job, last)] = &jobs[..] else {
        panic!("{} jobs", jobs.len())
    };
    let seconds = |state: &roomlift::job::State| state.plan.as_ref().unwrap().limited_seconds;
    assert_eq!(seconds(first), 0, "nothing is known yet");
    let ended = job.log.iter().rev().find(|(_, entry)| {
        let text = format!("{entry:?}");
        text.contains("Verify") && text.contains("Succeeded")
    });
    let took = ended.unwrap().0.duration_since(job.created_at).as_secs();
    let promised = i64::try_from(seconds(last)).unwrap();
    assert!(
        promised <= took * 2 && took <= promised * 2,
        "{promised} s, and it took {took} s"
    );
    sim.assert_said("rate limits included");
}

/// A limit on creating rooms that refuses for some three hours; `doctor` is asked after so long. With what was
/// shown after an hour and a quarter.
fn closed_for_hours(doctor_after: Duration) -> (Sim, Vec<String>) {
    let mut sim = Sim::new();
    let shown: Arc<Mutex<Vec<String>>> = Arc::default();
    let showing = Arc::clone(&shown);
    sim.after(Duration::from_mins(75), move |world, place| {
        let now = said(world, &place.admin_room, &place.bot);
        *showing.lock().unwrap() = now;
    });
    sim.lasts(SignedDuration::from_hours(12));
    sim.oracle.expect.all_done = true;
    sim.fault(Rule::on(Endpoint::CreateRoom, Fault::TooMany(None)).times(40));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.say_after(doctor_after, "!upgrade doctor");
    sim.run();
    sim.assert_promises();
    let shown = shown.lock().unwrap().clone();
    (sim, shown)
}

/// Waiting for a limit that never opens helps nobody, so people are told; once it opens, the upgrade continues.
#[test]
fn a_limit_that_lets_nothing_through_is_named_after_an_hour() {
    let closed = "The server limits creating rooms, and has let nothing through for";
    let (sim, _) = closed_for_hours(Duration::from_mins(30));
    let said = sim.said(&sim.place.admin_room);
    assert!(!said.iter().any(|text| text.contains(closed)), "{said:#?}");

    let (sim, shown) = closed_for_hours(Duration::from_hours(2));
    sim.assert_said(closed);
    let named = "limits creating rooms and has let nothing through for 1h";
    assert!(shown.iter().any(|text| text.contains(named)), "{shown:#?}");
    sim.assert_said("Upgrade #1 is done");
}

/// One person whom the server lets nobody invite holds up nobody, and is asked for less and less often.
#[test]
fn somebody_who_cannot_be_invited_again_and_again_is_tried_less_and_less() {
    let mut sim = Sim::with(&Setup {
        entry: Entry::Invite,
        ..Setup::default()
    });
    let closed = sim.place.members[0].to_string();
    let invites =
        move |request: &Request| request.endpoint == Endpoint::Invite && request.detail == closed;
    let limit = Fault::TooMany(Some(Duration::from_secs(10)));
    let fired = sim.fault(Rule::when(invites, limit).times(12));
    sim.say("!upgrade #garden:sim.test 12 --method staged --invite all --join-rule keep --yes");
    sim.oracle.expect.all_done = true;
    let begun = sim.shared.clock.true_now();
    sim.lasts(SignedDuration::from_hours(5));
    sim.run();
    sim.assert_promises();
    assert_eq!(fired.count(), 12);
    let log = sim.shared.log();
    let mut tries = log
        .iter()
        .filter(|it| it.request.endpoint == Endpoint::Invite);
    let last = tries.next_back().unwrap().at.duration_since(begun);
    // Ten seconds each would be two minutes.
    assert!(last > SignedDuration::from_mins(30), "{last:?}");
}
