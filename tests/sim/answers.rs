//! Scenes about how soon people are answered (P14).

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::fault::Endpoint;
use crate::life::Logged;
use crate::limits::{Kind, Limits};
use crate::place::{Entry, Setup};
use crate::sim::{Sim, say};
use crate::world::{GONE, Room, Software, World, content};

/// The rooms beside the one that is upgraded.
pub(crate) fn beds(world: &World) -> Vec<ruma::OwnedRoomId> {
    let is_bed = |room: &&Room| {
        let name = room.content("m.room.name", "");
        let name = name.and_then(|name| name.get("name")?.as_str());
        name.is_some_and(|name| name.starts_with("Bed"))
    };
    let beds = world.rooms.values().filter(is_bed);
    beds.map(|room| room.id.clone()).collect()
}

fn is_prompt(sim: &Sim, command: &str) {
    let late = sim
        .oracle
        .broken()
        .into_iter()
        .find(|broken| broken.promise == 14 && broken.what.contains(command));
    assert!(late.is_none(), "{late:?}");
}

#[test]
fn silent_servers_hold_up_nobody() {
    let mut sim = Sim::with(&Setup {
        members: 4,
        ..Setup::default()
    });
    sim.oracle.expect.prompt = true;
    for number in 0..20 {
        sim.say(&format!("!upgrade plan #room{number}:{GONE} 12"));
    }
    sim.say(&format!("!upgrade #far:{GONE} 12"));
    sim.after(Duration::from_secs(3), |world, place| {
        say(world, &place.reader, &place.admin_room, "!upgrade help");
        say(world, &place.deputy, &place.admin_room, "!upgrade list");
        say(world, &place.deputy, &place.admin_room, "!upgrade status");
    });
    sim.run();
    for command in ["help", "list", "status"] {
        is_prompt(&sim, command);
    }
}

/// What one person asks for is done in that order.
#[test]
fn a_confirmation_comes_after_its_plan() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged");
    sim.say("!upgrade confirm 1");
    sim.say("!upgrade pause");
    sim.run();
    sim.assert_promises();
    let said = sim.said(&sim.place.admin_room).join("\n");
    assert!(!said.contains("There is no upgrade #1"), "{said}");
}

/// Somebody who may only ask sends hundreds of commands, and a moderator wants something done.
#[test]
fn a_flood_of_commands_drowns_nobody() {
    let mut sim = Sim::new();
    sim.world().limits = Limits::synapse();
    for tenth in 0..100 {
        sim.after(
            Duration::from_millis(1_000 + tenth * 100),
            |world, place| {
                for _ in 0..6 {
                    say(world, &place.reader, &place.admin_room, "!upgrade help");
                }
            },
        );
    }
    sim.after(Duration::from_secs(15), |world, place| {
        let text = "!upgrade #garden:sim.test 12 --method staged --yes";
        say(world, &place.moderator, &place.admin_room, text);
    });
    sim.oracle.expect.all_done = true;
    sim.run();
    let said = sim.said(&sim.place.admin_room);
    let helped = said
        .iter()
        .filter(|text| text.contains("!upgrade plan"))
        .count();
    assert!((1..=20).contains(&helped), "{helped}");
    let refused = said
        .iter()
        .filter(|text| text.contains("too many commands"));
    assert_eq!(refused.count(), 1);
    sim.assert_said("Upgrade #1 is done");
}

/// Reading goes on while sending is limited.
#[test]
fn a_limit_on_sending_holds_up_no_reading() {
    let mut sim = Sim::new();
    sim.world().limits = Limits::none().with(Kind::Messages, 0.02, 1.0);
    sim.say("!upgrade help");
    sim.say_after(Duration::from_secs(5), "!upgrade plan #garden:sim.test 12");
    let read = Arc::clone(&sim.shared);
    sim.run();
    // The plan's own reading, while the first answers still wait to be sent.
    let start = read.log().first().unwrap().at;
    let soon = |logged: &&Logged| logged.at < start + Duration::from_secs(10);
    let log = read.log();
    let states = log.iter().filter(soon);
    let states = states.filter(|logged| logged.request.endpoint == Endpoint::State);
    assert!(states.count() > 0);
}

/// Some servers, and proxies, limit reading as well, and do not say for how long.
#[test]
fn a_space_of_seventy_rooms_is_upgraded_under_a_limit_on_reading() {
    for (rate, burst) in [(10.0, 50.0), (2.0, 5.0)] {
        let mut sim = Sim::with(&Setup {
            siblings: 70,
            pins: 0,
            ..Setup::default()
        });
        {
            let (mut world, place) = (sim.world(), &sim.place);
            world.software = Software::Palpo;
            world.limits = Limits::none().with(Kind::Reads, rate, burst);
            // Each of them says that it is in the space, and is asked about.
            let via = content(json!({ "via": [crate::world::SERVER] }));
            for bed in beds(&world) {
                let (by, kind) = (&place.moderator, "m.space.parent");
                world
                    .put_state(by, &bed, kind, place.space.as_str(), &via)
                    .unwrap();
            }
        }
        let space = sim.place.space.clone();
        sim.say(&format!("!upgrade {space} 12 --method staged --yes"));
        sim.oracle.expect.all_done = true;
        sim.run();
        sim.assert_promises();
        sim.assert_said("Upgrade #1 is done");
    }
}

/// One bot that is in all rooms can be invited only to so many in a while: the others are, meanwhile.
#[test]
fn a_limit_on_one_invitee_keeps_nobody_else_waiting() {
    let mut sim = Sim::with(&Setup {
        siblings: 6,
        entry: Entry::Invite,
        pins: 0,
        ..Setup::default()
    });
    sim.world().limits = Limits::none().with(Kind::InvitesPerInvitee, 0.001, 2.0);
    let mut own = Vec::new();
    {
        let mut world = sim.world();
        for (number, bed) in beds(&world).iter().enumerate() {
            let user = world.register(&format!("own{number}"));
            world.join(&user, bed).unwrap();
            own.push(user);
        }
    }
    let space = sim.place.space.clone();
    sim.lasts(jiff::SignedDuration::from_hours(6));
    sim.say(&format!(
        "!upgrade space {space} 12 --method staged --invite all --join-rule keep --yes"
    ));
    sim.run();
    sim.assert_promises();
    let log = sim.shared.log();
    let mut invitations = log
        .iter()
        .filter(|logged| logged.request.endpoint == Endpoint::Invite)
        .peekable();
    let first = invitations.peek().unwrap().at;
    let soon: Vec<_> = invitations
        .filter(|logged| logged.at < first + Duration::from_mins(2))
        .map(|logged| logged.request.detail.clone())
        .collect();
    for user in own {
        assert!(soon.contains(&user.to_string()), "{user} waits: {soon:?}");
    }
}
