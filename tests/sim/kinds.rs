//! Scenes about the kinds of things that lead to the old room: where the server refuses what replaces one of them, the
//! old one stays, and what is left to do is said (P7, P11).

use serde_json::json;

use crate::fault::{Endpoint, Fault, Fired, Request, Rule};
use crate::said::last_with;
use crate::sim::Sim;

/// The server refuses to set this state of one room, always.
fn refuses(sim: &Sim, room: impl Fn(&str) -> bool + Send + 'static, kind: &'static str) -> Fired {
    let sets = move |request: &Request| {
        let is_it = request.endpoint == Endpoint::PutState && request.detail.starts_with(kind);
        is_it && room(&request.about)
    };
    sim.fault(Rule::when(sets, Fault::Refuse(403, "M_FORBIDDEN")).always())
}

/// Upgrades the room; what is left to do.
fn left(sim: &mut Sim) -> String {
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    let broken = sim.oracle.broken();
    assert!(broken.is_empty(), "P11: {broken:?}");
    let end = last_with(sim, "Upgrade #1 is done");
    let (_, left) = end.split_once("Left for you").expect(&end);
    left.to_owned()
}

#[test]
fn a_rule_that_is_refused_lets_in_members_of_the_old_room() {
    let mut sim = Sim::new();
    let guarded = sim.place.guarded.clone();
    let room = guarded.to_string();
    let fired = refuses(&sim, move |about| about == room, "m.room.join_rules");
    let left = left(&mut sim);
    assert!(fired.count() > 0);
    assert!(left.contains(guarded.as_str()), "{left}");
    assert!(left.contains("simulated refusal"), "{left}");
    let world = sim.world();
    let rules = world.rooms[&guarded].content("m.room.join_rules", "");
    let allow = &rules.unwrap()["allow"];
    assert!(
        allow.to_string().contains(sim.place.room.as_str()),
        "{allow}"
    );
}

#[test]
fn pins_that_are_refused_are_named_and_stay_in_the_old_room() {
    let mut sim = Sim::new();
    let pinned = |sim: &Sim| {
        let world = sim.world();
        let pins = world.rooms[&sim.place.room].content("m.room.pinned_events", "");
        pins.unwrap()["pinned"].as_array().unwrap().clone()
    };
    let (before, old) = (pinned(&sim), sim.place.room.to_string());
    let fired = refuses(&sim, move |about| about != old, "m.room.pinned_events");
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    assert!(fired.count() > 0);
    sim.assert_said("1 pinned message of the old room could not be reposted");
    let after = pinned(&sim);
    assert!(before.iter().all(|pin| after.contains(pin)), "{after:?}");
}

#[test]
fn shown_addresses_that_are_refused_are_shown_by_the_old_room_and_left_to_do() {
    let mut sim = Sim::new();
    let old = sim.place.room.to_string();
    let fired = refuses(&sim, move |about| about != old, "m.room.canonical_alias");
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    assert!(fired.count() > 0);
    let end = last_with(&sim, "Upgrade #1 is done");
    assert!(end.contains("The new room does not show"), "{end}");
    assert!(end.contains("simulated refusal"), "{end}");
    let world = sim.world();
    let new = world.rooms[&sim.place.room].successor().unwrap().to_owned();
    let leads_to = &world.aliases[&sim.place.alias].room;
    assert_eq!(json!(leads_to), json!(new));
}

/// A proxy in front of the server takes no large requests.
#[test]
fn an_event_that_is_too_large_for_a_proxy_is_named() {
    let mut sim = Sim::new();
    let sets = |request: &Request| {
        request.endpoint == Endpoint::PutState && request.detail.starts_with("org.example.beds")
    };
    let fired = sim.fault(Rule::when(sets, Fault::Page(413)).always());
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.run();
    let end = last_with(&sim, "Upgrade #1 is done");
    assert!(end.contains("org.example.beds"), "{end}");
    assert!(end.contains("too large"), "{end}");
    // Not smaller the next time: once in the step, and once in the end.
    assert!(fired.count() <= 4, "{}", fired.count());
}
