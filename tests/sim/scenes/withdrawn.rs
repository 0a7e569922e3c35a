//! P5, told one by one: a command that was edited or removed, and a yes that was taken back, count no more.

use std::collections::BTreeSet;
use std::time::Duration;

use roomlift::job::Phase;
use ruma::{OwnedEventId, OwnedUserId};
use serde_json::json;

use crate::fault::{Endpoint, Fault, Kill, Rule};
use crate::oracle;
use crate::place::Place;
use crate::sim::{Sim, react, say};
use crate::world::{World, content};

const COMMAND: &str = "!upgrade #garden:sim.test 12 --yes";

/// What the bot says of a command that was edited.
const ASKED_AGAIN: &str = "edited";

/// Somebody edits a message in the admin room.
fn edit(world: &mut World, place: &Place, by: &OwnedUserId, original: &OwnedEventId, text: &str) {
    let edit = content(json!({
        "msgtype": "m.text",
        "body": format!("* {text}"),
        "m.new_content": { "msgtype": "m.text", "body": text },
        "m.relates_to": { "rel_type": "m.replace", "event_id": original },
    }));
    let transaction = format!("edit{}", world.stream());
    let sent = world.send(by, &place.admin_room, "m.room.message", &transaction, &edit);
    sent.unwrap();
}

fn remove(world: &mut World, place: &Place, event: &OwnedEventId) {
    let transaction = format!("remove{}", world.stream());
    let removed = world.redact(
        &place.moderator,
        &place.admin_room,
        event.as_str(),
        &transaction,
    );
    removed.unwrap();
}

/// The newest event of the moderator in the admin room.
fn newest(world: &World, place: &Place) -> OwnedEventId {
    let events = world.rooms[&place.admin_room].events.iter().rev();
    let mut own = events.filter(|event| event.sender == place.moderator);
    own.next().unwrap().id.clone()
}

/// What somebody does about what they sent.
type Change = fn(&mut World, &Place, &OwnedEventId);

const EDIT: Change = |world, place, event| {
    edit(world, place, &place.moderator, event, "never mind");
};

const EDIT_INTO_ANOTHER: Change = |world, place, event| {
    let other = "!upgrade #garden:sim.test 11 --yes";
    edit(world, place, &place.moderator, event, other);
};

const REMOVE: Change = remove;

/// Sends the command while the bot is away, and changes it ten seconds later.
fn changed_while_down(change: Change) -> Sim {
    let mut sim = Sim::new();
    sim.away = Duration::from_mins(10);
    sim.kill(Kill::AfterRequest(0));
    sim.say("!upgrade help");
    sim.say_after(Duration::from_mins(2), COMMAND);
    sim.after(Duration::from_mins(3), move |world, place| {
        let sent = newest(world, place);
        change(world, place, &sent);
    });
    sim.run();
    sim
}

/// Sends the command and changes it at once, so that one sync tells both.
fn changed_at_once(change: Change) -> Sim {
    let mut sim = Sim::new();
    sim.after(Duration::from_secs(1), move |world, place| {
        let moderator = &place.moderator;
        let sent = say(world, moderator, &place.admin_room, COMMAND).unwrap();
        change(world, place, &sent);
    });
    sim.run();
    sim
}

/// The server takes half a minute to say who may command.
fn hold_up_the_first_look(sim: &Sim, skip: usize) {
    let room = sim.place.admin_room.to_string();
    let reads = [Endpoint::State, Endpoint::StateEvent];
    let of_room = move |request: &crate::fault::Request| {
        reads.contains(&request.endpoint) && request.about == room
    };
    sim.fault(Rule::when(of_room, Fault::Delay(Duration::from_secs(30))).skip(skip));
}

/// Changes the command while the bot is still looking whether its sender may.
fn changed_while_handled(change: Change) -> Sim {
    let mut sim = Sim::new();
    hold_up_the_first_look(&sim, 0);
    sim.say(COMMAND);
    sim.after(Duration::from_secs(10), move |world, place| {
        let sent = newest(world, place);
        change(world, place, &sent);
    });
    sim.run();
    sim
}

fn assert_nothing_was_done(sim: &Sim) {
    assert_eq!(oracle::jobs(&sim.place, &sim.store()), [], "P5");
    assert_eq!(sim.world().rooms[&sim.place.room].successor(), None, "P5");
    sim.assert_promises();
}

#[test]
fn an_edited_command_is_not_carried_out() {
    let scenes = [changed_while_down, changed_at_once, changed_while_handled];
    for scene in scenes {
        for change in [EDIT, EDIT_INTO_ANOTHER] {
            let sim = scene(change);
            assert_nothing_was_done(&sim);
            sim.assert_said(ASKED_AGAIN);
        }
    }
}

#[test]
fn a_removed_command_is_not_carried_out() {
    let scenes = [changed_while_down, changed_at_once, changed_while_handled];
    for scene in scenes {
        let sim = scene(REMOVE);
        assert_nothing_was_done(&sim);
        let said = sim.said(&sim.place.admin_room).join("\n");
        assert!(!said.contains(ASKED_AGAIN), "nobody asks: {said}");
    }
}

/// Only who sent a message can edit it.
#[test]
fn an_edit_by_somebody_else_is_none() {
    let mut sim = Sim::new();
    hold_up_the_first_look(&sim, 0);
    sim.say(COMMAND);
    sim.after(Duration::from_secs(10), |world, place| {
        let sent = newest(world, place);
        edit(world, place, &place.reader, &sent, "never mind");
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

fn assert_the_plan_still_waits(sim: &Sim) {
    let jobs = oracle::jobs(&sim.place, &sim.store());
    let confirmed: Vec<_> = jobs.iter().map(|(_, state)| &state.confirmed_by).collect();
    assert_eq!(confirmed, [&None], "P5");
    assert_eq!(jobs[0].1.phase, Phase::Expired);
    sim.assert_promises();
}

#[test]
fn a_yes_that_was_taken_back_while_the_bot_was_down_is_none() {
    let mut sim = Sim::new();
    sim.away = Duration::from_mins(10);
    sim.say("!upgrade #garden:sim.test 12");
    sim.say_after(Duration::from_mins(1), "!upgrade help");
    // The answer to `help`.
    let sends = |request: &crate::fault::Request| request.endpoint == Endpoint::Send;
    let shared = std::sync::Arc::clone(&sim.shared);
    let late = sim.shared.clock.true_now() + Duration::from_secs(50);
    let is_late =
        move |request: &crate::fault::Request| sends(request) && shared.clock.true_now() > late;
    let shared = std::sync::Arc::clone(&sim.shared);
    sim.fault(Rule::before(is_late, move |_| {
        let (requests, _) = shared.counts();
        shared.kills().push(Kill::AfterRequest(requests - 1));
    }));
    sim.after(Duration::from_mins(3), |world, place| {
        let events = world.rooms[&place.admin_room].events.iter();
        let mut plans = events
            .filter(|event| crate::sim::body(event).is_some_and(|body| body.contains("Plan #1")));
        let plan = plans.next().unwrap().id.clone();
        react(world, &place.moderator, &place.admin_room, &plan, "✅");
    });
    sim.after(Duration::from_mins(4), |world, place| {
        let yes = newest(world, place);
        remove(world, place, &yes);
    });
    sim.run();
    assert_the_plan_still_waits(&sim);
}

#[test]
fn a_yes_that_was_taken_back_while_it_was_handled_is_none() {
    let mut sim = Sim::new();
    // The first look is for the command.
    hold_up_the_first_look(&sim, 1);
    sim.say("!upgrade #garden:sim.test 12");
    sim.when_said("Plan #1", |world, place, plan| {
        react(world, &place.moderator, &plan.room, &plan.id, "✅");
        let yes = newest(world, place);
        let place = place.clone();
        world.schedule(Duration::from_secs(10), move |world| {
            remove(world, &place, &yes);
        });
    });
    sim.run();
    assert_the_plan_still_waits(&sim);
}

/// What an upgrade that begins in two hours is of.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    Room,
    Space,
}

/// Says yes to an upgrade that begins in two hours, and takes it back after one.
fn taken_back_before_the_start(of: Of, yes: Option<&'static str>, change: Change) -> Sim {
    let mut sim = Sim::new();
    sim.lasts(jiff::SignedDuration::from_hours(4));
    let of = match of {
        Of::Room => sim.place.room.to_string(),
        Of::Space => format!("space {}", sim.place.space),
    };
    let sure = if yes.is_none() { "--yes" } else { "" };
    sim.say(&format!("!upgrade {of} 12 --in 2h {sure}"));
    if let Some(yes) = yes {
        sim.when_said("Plan", move |world, place, plan| {
            if yes.starts_with('!') {
                say(world, &place.moderator, &plan.room, yes).unwrap();
            } else {
                react(world, &place.moderator, &plan.room, &plan.id, yes);
            }
        });
    }
    sim.after(Duration::from_hours(1), move |world, place| {
        let sent = newest(world, place);
        change(world, place, &sent);
    });
    sim.run();
    sim.assert_promises();
    sim
}

#[test]
fn what_is_taken_back_before_the_start_does_not_start() {
    for (of, yes, change, said) in [
        (Of::Room, None, REMOVE, "removed"),
        (Of::Room, None, EDIT, "edited"),
        (Of::Room, Some("✅"), REMOVE, "removed"),
        (Of::Room, Some("!upgrade confirm 1"), REMOVE, "removed"),
        (Of::Space, None, REMOVE, "removed"),
        (Of::Space, Some("✅"), REMOVE, "removed"),
    ] {
        let sim = taken_back_before_the_start(of, yes, change);
        let jobs = oracle::jobs(&sim.place, &sim.store());
        let phases: BTreeSet<_> = jobs.iter().map(|(_, state)| state.phase.name()).collect();
        assert_eq!(phases, ["cancelled"].into(), "P5: {of:?} {yes:?}");
        assert_eq!(sim.world().rooms[&sim.place.room].successor(), None, "P5");
        sim.assert_said(said);
    }
}

/// By then people have been moved: `cancel` is the way, and says whether it still can.
#[test]
fn what_is_taken_back_after_the_start_goes_on() {
    let mut sim = Sim::new();
    sim.say(COMMAND);
    sim.when_said("is done", |world, place, _| {
        let sent = newest(world, place);
        remove(world, place, &sent);
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    let said = sim.said(&sim.place.admin_room).join("\n");
    assert!(!said.contains("removed"), "{said}");
}
