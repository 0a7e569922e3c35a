//! Scenes in which the server is away, late, or answers with what is no answer of a homeserver.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::Phase;
use serde_json::json;

use crate::fault::{Endpoint, Fault, Kill, Request, Rule};
use crate::oracle;
use crate::place::Setup;
use crate::said::first_with;
use crate::sim::{Sim, react, say};
use crate::world::{Software, UpgradeStop, content};

/// A fault for every request in a span of time that begins with the first request that matches.
fn span(
    sim: &Sim,
    begins: impl Fn(&Request) -> bool + Send + 'static,
    length: Duration,
    fault: Fault,
) -> Rule {
    let shared = Arc::clone(&sim.shared);
    let begun = std::sync::Mutex::new(None);
    let during = move |request: &Request| {
        let now = shared.clock.true_now();
        let mut begun = begun.lock().unwrap();
        if begun.is_none() && begins(request) {
            *begun = Some(now);
            return false;
        }
        begun.is_some_and(|begun| now < begun + length)
    };
    Rule::when(during, fault).always()
}

fn is(endpoint: Endpoint) -> impl Fn(&Request) -> bool + Send {
    move |request| request.endpoint == endpoint
}

fn sets(kind: &'static str) -> impl Fn(&Request) -> bool + Send {
    move |request| request.endpoint == Endpoint::PutState && request.detail.starts_with(kind)
}

/// Rooms that replace the old one and that somebody is in.
fn replacements(sim: &Sim) -> usize {
    let world = sim.world();
    let old = sim.place.room.as_str();
    let replaces = |room: &&crate::world::Room| {
        let create = room.content("m.room.create", "");
        let before = create.and_then(|create| create.get("predecessor"));
        before.and_then(|before| before.get("room_id")) == Some(&json!(old))
            && !room.members("join").is_empty()
    };
    world.rooms.values().filter(replaces).count()
}

fn upgrade(sim: &mut Sim, method: &str) {
    sim.say(&format!(
        "!upgrade #garden:sim.test 12 --method {method} --yes"
    ));
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    assert_eq!(replacements(sim), 1);
}

#[test]
fn error_pages_are_waited_out_wherever_they_begin() {
    for (method, begins) in [
        ("staged", Endpoint::CreateRoom),
        ("staged", Endpoint::PutState),
        ("staged", Endpoint::CreateAlias),
        ("server", Endpoint::Upgrade),
        ("server", Endpoint::Send),
    ] {
        for status in [502, 404, 403, 200] {
            let mut sim = Sim::new();
            let rule = span(
                &sim,
                is(begins),
                Duration::from_secs(95),
                Fault::Page(status),
            );
            let fired = sim.fault(rule);
            upgrade(&mut sim, method);
            assert!(fired.count() > 0, "{method} {begins:?} {status}");
        }
    }
}

#[test]
fn a_command_sent_during_error_pages_is_answered_afterwards() {
    let mut sim = Sim::new();
    let begins = |request: &Request| request.endpoint == Endpoint::StateEvent;
    sim.fault(span(
        &sim,
        begins,
        Duration::from_secs(100),
        Fault::Page(503),
    ));
    sim.say("!upgrade rooms");
    sim.say_after(
        Duration::from_secs(20),
        "!upgrade #garden:sim.test 12 --yes",
    );
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    let said = sim.said(&sim.place.admin_room).join("\n");
    assert!(!said.contains("unexpected"), "{said}");
}

/// A rollback waits as well, and does not leave the room that was made.
#[test]
fn a_rollback_waits_for_the_server() {
    let mut sim = Sim::new();
    let refused = Fault::Refuse(403, "M_FORBIDDEN");
    sim.fault(Rule::when(sets("m.room.tombstone"), refused));
    let pages = span(
        &sim,
        sets("m.room.tombstone"),
        Duration::from_mins(10),
        Fault::Page(502),
    );
    sim.fault(pages);
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    sim.assert_promises();
    assert_eq!(replacements(&sim), 0);
    let phase = oracle::jobs(&sim.place, &sim.store())[0].1.phase;
    assert_eq!(phase, Phase::Failed);
}

/// As long as the room that was made cannot be left, the admin room is told which one it is.
#[test]
fn a_room_that_cannot_be_taken_back_yet_is_named_until_it_is_gone() {
    for (fault, why) in [
        (Fault::Refuse(403, "M_FORBIDDEN"), "simulated refusal"),
        (Fault::Page(502), "error 502"),
    ] {
        let mut sim = Sim::new();
        let refused = Fault::Refuse(403, "M_FORBIDDEN");
        sim.fault(Rule::when(sets("m.room.tombstone"), refused));
        let leaves = sim.fault(Rule::on(Endpoint::Leave, fault).times(9));
        sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
        let named = first_with(&sim, "is still there");
        sim.run();
        sim.assert_promises();
        assert_eq!(leaves.count(), 9);
        assert_eq!(replacements(&sim), 0);
        let named = named.lock().unwrap();
        let made = sim.world();
        let made = made.rooms.values().find(|room| {
            let create = room.content("m.room.create", "");
            let before = create.and_then(|create| create.get("predecessor"));
            before.is_some()
        });
        assert!(named.contains(made.unwrap().id.as_str()), "{named}");
        assert!(named.contains(why), "{named}");
        let phase = oracle::jobs(&sim.place, &sim.store())[0].1.phase;
        assert_eq!(phase, Phase::Failed);
    }
}

#[test]
fn a_server_that_is_late_makes_no_second_room() {
    let minute = Duration::from_mins(1);
    for (endpoint, method) in [
        (Endpoint::CreateRoom, "staged"),
        (Endpoint::Upgrade, "server"),
    ] {
        for (answer, effect) in [
            (minute, Duration::from_secs(3)),
            (minute, Duration::from_secs(40)),
            (Duration::ZERO, Duration::from_secs(30)),
            (minute, minute),
        ] {
            let mut sim = Sim::new();
            if method == "server" {
                // Its second `/upgrade` makes a second room.
                sim.world().software = Software::Bare;
            }
            sim.fault(Rule::on(endpoint, Fault::Late(answer, effect)));
            upgrade(&mut sim, method);
        }
    }
}

/// Nothing excludes that a server is later than the bot waits: the second room is taken back, and named.
#[test]
fn a_second_room_by_a_server_that_is_very_late_is_taken_back() {
    for (endpoint, method) in [
        (Endpoint::CreateRoom, "staged"),
        (Endpoint::Upgrade, "server"),
    ] {
        let mut sim = Sim::new();
        if method == "server" {
            sim.world().software = Software::Bare;
        }
        let late = Fault::Late(Duration::from_mins(1), Duration::from_mins(4));
        sim.fault(Rule::on(endpoint, late));
        sim.lasts(SignedDuration::from_hours(2));
        upgrade(&mut sim, method);
        sim.assert_said("made a second room");
    }
}

/// The connection is cut, nothing happens, and the job is given up; asked again, it leaves nothing behind.
#[test]
fn a_retry_looks_for_the_room_of_the_job_before_it() {
    let mut sim = Sim::new();
    let late = Fault::Late(Duration::from_secs(5), Duration::from_mins(20));
    sim.fault(Rule::on(Endpoint::CreateRoom, late));
    sim.fault(Rule::on(
        Endpoint::CreateRoom,
        Fault::Refuse(403, "M_FORBIDDEN"),
    ));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.say_after(Duration::from_mins(40), "!upgrade retry 1");
    sim.when_said("Plan #2", |world, place, _| {
        say(
            world,
            &place.moderator,
            &place.admin_room,
            "!upgrade confirm 2",
        );
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #2 is done");
    assert_eq!(replacements(&sim), 1);
}

/// The server ends after the tombstone and before it joins its own new room, as Palpo does.
#[test]
fn an_own_tombstone_to_a_room_that_nobody_can_enter_is_put_right() {
    let mut sim = Sim::new();
    {
        let mut world = sim.world();
        world.software = Software::Palpo;
        world.upgrade_stops = Some(UpgradeStop::AfterTombstone);
    }
    upgrade(&mut sim, "server");
}

/// Palpo drops the request when the bot is killed, and sends the tombstone first: nobody is in the new room.
#[test]
fn an_own_tombstone_to_a_room_that_nobody_is_in_is_put_right() {
    let mut sim = Sim::new();
    {
        let mut world = sim.world();
        world.software = Software::Palpo;
        world.upgrade_stops = Some(UpgradeStop::AfterTombstone);
    }
    let shared = Arc::clone(&sim.shared);
    let killed = sim.fault(Rule::before(is(Endpoint::Upgrade), move |_| {
        let (requests, _) = shared.counts();
        shared.kills().push(Kill::AfterRequest(requests - 1));
    }));
    upgrade(&mut sim, "server");
    assert_eq!(killed.count(), 1);
    let said = sim.said(&sim.place.admin_room).join("\n");
    assert!(!said.contains("as it was"), "{said}");
}

/// Palpo asks the server of somebody who is banned, which may be dead.
#[test]
fn one_change_that_the_server_fails_at_holds_up_no_other() {
    let mut sim = Sim::with(&Setup {
        bans: 3,
        ..Setup::default()
    });
    sim.world().software = Software::Bare;
    let first = sim.place.banned[0].to_string();
    let fails = move |request: &Request| {
        request.endpoint == Endpoint::Ban && request.detail.contains(&first)
    };
    sim.fault(Rule::when(fails, Fault::Page(502)).always());
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_said("Upgrade #1 is done");
    sim.assert_said("error 502");
    let world = sim.world();
    let new = world.aliases[&sim.place.alias].room.clone();
    assert_ne!(new, sim.place.room);
    let bans = world.rooms[&new].members("ban").len();
    assert_eq!(bans, 2);
}

/// States of the account say nothing about what was asked.
#[test]
fn a_suspension_of_the_account_is_waited_out() {
    for code in [
        "M_USER_SUSPENDED",
        "M_USER_LOCKED",
        "M_RESOURCE_LIMIT_EXCEEDED",
        "M_CONSENT_NOT_GIVEN",
    ] {
        for (method, begins) in [
            ("staged", Endpoint::CreateRoom),
            ("staged", Endpoint::PutState),
            ("server", Endpoint::Upgrade),
            ("server", Endpoint::Send),
        ] {
            let mut sim = Sim::new();
            let shared = Arc::clone(&sim.shared);
            let begun = std::sync::Mutex::new(None);
            // Reading and syncing are still allowed.
            let during = move |request: &Request| {
                let now = shared.clock.true_now();
                let mut begun = begun.lock().unwrap();
                if request.endpoint == begins {
                    begun.get_or_insert(now);
                }
                let is_write = request.endpoint.is_write();
                is_write && begun.is_some_and(|begun| now < begun + Duration::from_secs(80))
            };
            let fired = sim.fault(Rule::when(during, Fault::Refuse(403, code)).always());
            upgrade(&mut sim, method);
            assert!(fired.count() > 0, "{code} {method} {begins:?}");
        }
    }
}

/// Commands are kept while the account may say nothing, and answered afterwards.
#[test]
fn a_command_sent_during_a_suspension_is_answered_afterwards() {
    let mut sim = Sim::new();
    let writes = |request: &Request| request.endpoint.is_write();
    let suspended = Fault::Refuse(403, "M_USER_SUSPENDED");
    sim.fault(span(&sim, writes, Duration::from_mins(15), suspended));
    sim.say("!upgrade help");
    let command = "!upgrade #garden:sim.test 12 --yes";
    sim.say_after(Duration::from_secs(20), command);
    sim.say_after(Duration::from_mins(5), "!upgrade list");
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

#[test]
fn a_tombstone_that_somebody_replaced_is_a_to_do() {
    let mut sim = Sim::new();
    let place = sim.place.clone();
    sim.fault(Rule::before(is(Endpoint::CreateAlias), move |world| {
        let elsewhere = json!({ "body": "no, there", "replacement_room": "!elsewhere:sim.test" });
        let (by, kind) = (&place.moderator, "m.room.tombstone");
        world
            .put_state(by, &place.room, kind, "", &content(elsewhere))
            .unwrap();
    }));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    sim.assert_said("does not lead to the new one any more");
    sim.assert_said("!elsewhere:sim.test");
}

/// The answer to the plan's message is lost, and somebody reacts before the bot knows its event id.
#[test]
fn a_yes_to_a_question_whose_event_id_is_not_known_yet_counts() {
    let mut sim = Sim::new();
    let plan =
        |request: &Request| request.endpoint == Endpoint::Send && request.detail.contains("plan:");
    sim.fault(Rule::when(plan, Fault::LoseAnswer).times(4));
    sim.say("!upgrade #garden:sim.test 12 --method staged");
    sim.when_said("Plan #1", |world, place, plan| {
        react(world, &place.moderator, &plan.room, &plan.id, "✅");
    });
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

/// The session ends in the middle of a job: nothing is decided on its last answers.
#[test]
fn what_a_dead_session_refuses_is_asked_again() {
    for begins in ["notice.", "pin."] {
        let mut sim = Sim::new();
        let posts = move |request: &Request| {
            request.endpoint == Endpoint::Send && request.detail.contains(begins)
        };
        let dead = Fault::Refuse(401, "M_UNKNOWN_TOKEN");
        let fired = sim.fault(Rule::when(posts, dead).times(2));
        upgrade(&mut sim, "staged");
        assert!(fired.count() > 0);
        let world = sim.world();
        let pinned = world.rooms[&sim.place.room].content("m.room.pinned_events", "");
        let pinned = pinned.unwrap()["pinned"].as_array().unwrap().len();
        assert_eq!(pinned, 2, "the notice is pinned beside what was");
    }
}
