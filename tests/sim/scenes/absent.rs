//! P5, told one by one: nothing begins while the bot is not in the admin room, where it would be shown the
//! power levels of the time when it left.

use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::{Job, Phase, State};
use serde_json::json;

use super::sets;
use crate::fault::{Endpoint, Kill, Rule};
use crate::oracle;
use crate::place::{Place, Setup};
use crate::sim::{Sim, say};
use crate::world::{World, content};

/// What the bot says once it may begin.
const LATE: &str = "begins only now";

fn kick_bot(world: &mut World, place: &Place) {
    let kicked = world.kick(&place.moderator, &place.admin_room, &place.bot, None);
    kicked.unwrap();
}

fn ban_bot(world: &mut World, place: &Place) {
    let banned = world.ban(&place.moderator, &place.admin_room, &place.bot, None);
    banned.unwrap();
}

fn invite_bot(world: &mut World, place: &Place) {
    let (by, room) = (&place.moderator, &place.admin_room);
    // Where it was only kicked there is no ban to lift.
    let _answer = world.unban(by, room, &place.bot, None);
    world.invite(by, room, &place.bot, None).unwrap();
}

/// Takes all power from the deputy and bans them.
fn ban_deputy(world: &mut World, place: &Place) {
    let levels = world.rooms[&place.admin_room].content("m.room.power_levels", "");
    let mut levels = levels.unwrap().clone();
    levels["users"][place.deputy.as_str()] = json!(0);
    let (by, room) = (&place.moderator, &place.admin_room);
    world
        .put_state(by, room, "m.room.power_levels", "", &content(json!(levels)))
        .unwrap();
    world.ban(by, room, &place.deputy, None).unwrap();
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

fn jobs(sim: &Sim) -> Vec<(Job, State)> {
    oracle::jobs(&sim.place, &sim.store())
}

fn assert_not_begun(sim: &Sim) {
    for room in sim.world().rooms.values() {
        assert_eq!(room.successor(), None, "P5: begun while the bot was away");
    }
}

fn said_times(sim: &Sim, part: &str) -> usize {
    let said = sim.said(&sim.place.admin_room);
    said.iter().filter(|text| text.contains(part)).count()
}

/// The bot is sent away; the person who asked loses everything, which the bot cannot see.
#[test]
fn an_upgrade_does_not_begin_where_the_bot_cannot_see_who_may() {
    for remove in [kick_bot, ban_bot] {
        let mut sim = Sim::new();
        sim.after(Duration::from_secs(1), |world, place| {
            let command = "!upgrade #garden:sim.test 12 --in 30m --yes";
            say(world, &place.deputy, &place.admin_room, command);
        });
        sim.after(minutes(2), remove);
        sim.after(minutes(3), ban_deputy);
        sim.lasts(SignedDuration::from_hours(3));
        sim.after(minutes(120), |world, place| {
            assert_eq!(world.rooms[&place.room].successor(), None, "P5");
            // Now it can see that they may not.
            invite_bot(world, place);
        });
        sim.run();
        assert_not_begun(&sim);
        sim.assert_promises();
        assert_eq!(jobs(&sim)[0].1.phase, Phase::Failed);
    }
}

#[test]
fn an_upgrade_begins_once_the_bot_is_in_the_admin_room_again() {
    for remove in [kick_bot, ban_bot] {
        let mut sim = Sim::new();
        sim.lasts(SignedDuration::from_hours(8));
        sim.say("!upgrade #garden:sim.test 12 --in 30m --yes --ping off");
        sim.after(minutes(2), remove);
        sim.after(minutes(6 * 60), |world, place| {
            assert_eq!(world.rooms[&place.room].successor(), None);
            invite_bot(world, place);
        });
        sim.run();
        sim.assert_promises();
        let (job, state) = &jobs(&sim)[0];
        assert_eq!(state.phase, Phase::Done);
        assert_eq!(said_times(&sim, LATE), 1);
        // It looked again with growing waits, two entries of the log each.
        assert!(job.log.len() < 150, "{}", job.log.len());
    }
}

#[test]
fn a_campaign_begins_once_the_bot_is_in_the_admin_room_again() {
    let mut sim = Sim::with(&Setup {
        siblings: 2,
        ..Setup::default()
    });
    sim.lasts(SignedDuration::from_hours(6));
    let space = sim.place.space.clone();
    sim.say(&format!(
        "!upgrade space {space} 12 --in 30m --yes --ping off"
    ));
    sim.after(minutes(2), kick_bot);
    sim.after(minutes(180), |world, place| {
        for room in world.rooms.values() {
            assert_eq!(room.successor(), None, "P5: {}", room.id);
        }
        invite_bot(world, place);
    });
    sim.run();
    sim.assert_promises();
    let phases: Vec<_> = jobs(&sim).iter().map(|(_, state)| state.phase).collect();
    assert_eq!(phases, [Phase::Done; 4]);
    assert_eq!(said_times(&sim, LATE), 1);
}

/// Kicked while a campaign is at work: what is begun is finished, and no other room begins.
#[test]
fn no_further_room_of_a_campaign_begins_while_the_bot_is_away() {
    let mut sim = Sim::with(&Setup {
        siblings: 3,
        ..Setup::default()
    });
    sim.lasts(SignedDuration::from_hours(6));
    sim.configure("\n[upgrade]\nconcurrency = 1\n");
    let space = sim.place.space.clone();
    sim.say(&format!(
        "!upgrade space {space} 12 --method staged --yes --ping off"
    ));
    let place = sim.place.clone();
    sim.fault(Rule::before(sets("m.room.tombstone"), move |world| {
        kick_bot(world, &place);
    }));
    sim.after(minutes(60), |world, place| {
        let closed = world.rooms.values();
        let closed = closed.filter(|room| room.successor().is_some());
        assert_eq!(closed.count(), 1, "P5: rooms began meanwhile");
        invite_bot(world, place);
    });
    sim.run();
    sim.assert_promises();
    let phases: Vec<_> = jobs(&sim).iter().map(|(_, state)| state.phase).collect();
    assert_eq!(phases, [Phase::Done; 5]);
}

/// People who cannot stop the bot are not told by it either.
#[test]
fn nothing_is_announced_while_the_bot_is_away() {
    for command in ["#garden:sim.test", "space !space"] {
        let mut sim = Sim::new();
        sim.lasts(SignedDuration::from_hours(8));
        let command = command.replace("!space", sim.place.space.as_str());
        sim.say(&format!("!upgrade {command} 12 --in 4h --announce --yes"));
        sim.after(minutes(30), kick_bot);
        sim.run();
        assert_not_begun(&sim);
        // At the yes, when it was there; not an hour before the start.
        let told = sim.said(&sim.place.room);
        assert_eq!(told.len(), 1, "P5: announced while it was away: {told:?}");
    }
}

#[test]
fn nobody_is_pinged_while_the_bot_is_away() {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(40));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes --ping 1d");
    sim.after(minutes(30), kick_bot);
    let pings = |world: &World, place: &Place| {
        let said = crate::sim::said(world, &place.room, &place.bot);
        said.len()
    };
    let after_upgrade = sim.place.clone();
    sim.after(minutes(36 * 60), move |world, place| {
        // The notice, and no ping.
        assert_eq!(pings(world, &after_upgrade), 1, "P5: pinged");
        invite_bot(world, place);
    });
    sim.run();
    assert_eq!(pings(&sim.world(), &sim.place), 2);
}

/// Who is invited to look at the new room has the power in the admin room now.
#[test]
fn nobody_is_invited_to_a_review_while_the_bot_is_away() {
    let mut sim = Sim::new();
    let place = sim.place.clone();
    sim.fault(Rule::before(
        |request| request.endpoint == Endpoint::CreateRoom,
        move |world| {
            kick_bot(world, &place);
            ban_deputy(world, &place);
        },
    ));
    sim.say("!upgrade #garden:sim.test 12 --method staged --review --yes");
    sim.after(minutes(30), invite_bot);
    sim.run();
    sim.assert_said("look at the new room");
    let world = sim.world();
    let new = world.rooms.values();
    let mut new = new.filter(|room| room.predecessor() == Some(sim.place.room.as_str()));
    let new = new.next().unwrap();
    assert_eq!(new.membership(&sim.place.moderator), "invite");
    assert_eq!(new.membership(&sim.place.deputy), "leave", "P5");
}

/// Nobody is told before somebody lets the bot in again, and nothing is left half-way meanwhile.
#[test]
fn an_upgrade_is_finished_after_a_kill_without_any_admin_room() {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(3));
    let place = sim.place.clone();
    let shared = std::sync::Arc::clone(&sim.shared);
    let moves = |request: &crate::fault::Request| request.endpoint == Endpoint::CreateAlias;
    let killed = sim.fault(Rule::before(moves, move |world| {
        let (by, room) = (&place.moderator, &place.admin_room);
        world.kick(by, room, &place.bot, None).unwrap();
        let (requests, _) = shared.counts();
        shared.kills().push(Kill::AfterRequest(requests - 1));
    }));
    sim.after(minutes(60), |world, place| {
        let new = world.aliases[&place.alias].room.clone();
        assert_eq!(
            world.rooms[&place.room].successor(),
            Some(new.as_str()),
            "moved by now"
        );
        let (by, room) = (&place.moderator, &place.admin_room);
        world.invite(by, room, &place.bot, None).unwrap();
    });
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.oracle.expect.all_done = true;
    sim.run();
    assert_eq!(killed.count(), 1);
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}
