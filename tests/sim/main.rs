//! The simulation: the whole bot in one process against a simulated homeserver, in virtual time.
//!
//! See CONTRIBUTING.md, "The simulation".
#![expect(
    clippy::unwrap_used,
    reason = "in a test, an unwrap is an assertion"
)]

mod clock;
mod fault;
mod life;
mod limits;
mod oracle;
mod place;
mod port;
mod sim;
mod watch;
mod world;

use crate::sim::Sim;

#[test]
fn an_upgrade_is_carried_out() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged");
    sim.confirms();
    let end = sim.run();
    for text in sim.said(&sim.place.admin_room) {
        println!("{text}\n----");
    }
    println!("{end:?} {:?}", sim.shared.counts());
    sim.assert_said("Upgrade #1 is done");
}
