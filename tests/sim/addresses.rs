//! Scenes about addresses on their way: each leads to one of the rooms and is shown by one of them, whatever the
//! server refuses or fails at (P11).

use std::time::Duration;

use serde_json::json;

use crate::fault::{Endpoint, Fault, Kill, Request, Rule};
use crate::sim::Sim;

const ALIASES: &str = "m.room.canonical_alias";

/// Makes the main address for another room than the old one, once it was removed there.
fn makes_main(sim: &Sim) -> impl Fn(&Request) -> bool + Send + 'static {
    let (main, old) = (sim.place.alias.to_string(), sim.place.room.to_string());
    move |request| {
        request.endpoint == Endpoint::CreateAlias && request.about == main && request.detail != old
    }
}

/// The main address leads to the old room and is shown there, and the other one moved.
fn assert_went_back(sim: &Sim) {
    let broken = sim.oracle.broken();
    assert!(broken.is_empty(), "P11: {broken:?}");
    let (world, place) = (sim.world(), &sim.place);
    let old = &world.rooms[&place.room];
    assert_eq!(world.aliases[&place.alias].room, place.room);
    assert_eq!(
        old.content(ALIASES, "").unwrap().get("alias"),
        Some(&json!(place.alias))
    );
    let new = world.aliases[&place.second_alias].room.clone();
    assert_eq!(old.successor(), Some(new.as_str()));
    let shown = world.rooms[&new].content(ALIASES, "").unwrap();
    assert_eq!(shown["alt_aliases"], json!([place.second_alias]));
}

/// The server takes the address away and then refuses to make it, or fails at that.
#[test]
fn an_address_that_goes_back_is_shown_again() {
    for fault in [Fault::Refuse(403, "M_FORBIDDEN"), Fault::Page(502)] {
        let mut sim = Sim::new();
        let fired = sim.fault(Rule::when(makes_main(&sim), fault).skip(1).always());
        sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
        sim.run();
        assert!(fired.count() > 0);
        assert_went_back(&sim);
        sim.assert_said("Upgrade #1 is done");
        sim.assert_said(sim.place.alias.as_str());
    }
}

#[test]
fn an_address_that_went_back_before_a_kill_is_shown_again() {
    let mut sim = Sim::new();
    let refused = Fault::Refuse(403, "M_FORBIDDEN");
    sim.fault(Rule::when(makes_main(&sim), refused).skip(1).always());
    let (main, old) = (sim.place.alias.to_string(), sim.place.room.to_string());
    let goes_back = move |request: &Request| {
        request.endpoint == Endpoint::CreateAlias && request.about == main && request.detail == old
    };
    let shared = std::sync::Arc::clone(&sim.shared);
    let killed = sim.fault(Rule::before(goes_back, move |_| {
        let (requests, _) = shared.counts();
        shared.kills().push(Kill::AfterRequest(requests - 1));
    }));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    assert_eq!(killed.count(), 1);
    assert_went_back(&sim);
}

/// A limit that was met holds up the removal of an address, and not what follows it.
#[test]
fn a_limit_leaves_no_address_that_leads_nowhere() {
    let mut sim = Sim::new();
    let limit = Fault::TooMany(Some(Duration::from_secs(55)));
    let fired = sim.fault(Rule::on(Endpoint::DeleteAlias, limit).times(2));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.oracle.expect.all_done = true;
    sim.run();
    assert_eq!(fired.count(), 2);
    sim.assert_promises();
}

/// The old room stops showing it when it is removed there.
#[test]
fn the_main_address_is_shown_as_soon_as_it_is_moved() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    sim.assert_promises();
    let (log, main) = (sim.shared.log(), makes_main(&sim));
    let writes = log.iter().map(|logged| &logged.request);
    let mut writes = writes.filter(|request| request.endpoint.is_write());
    // Tried before it is removed, and made afterwards.
    writes
        .by_ref()
        .filter(|request| main(request))
        .nth(1)
        .unwrap();
    let next = writes.next().unwrap();
    assert_eq!(next.endpoint, Endpoint::PutState, "{next}");
    assert!(next.detail.starts_with(ALIASES), "{next}");
    assert_ne!(next.about, sim.place.room.as_str());
}
