//! What a job has read serves it over short waits, and not over long ones.

use std::time::Duration;

use crate::fault::{Endpoint, Rule};
use crate::limits::{Kind, Limits};
use crate::place::{Entry, Setup};
use crate::sim::Sim;

/// Requests for a whole room while eight people are invited one by one, with a wait between any two of them.
fn reads_with_waits_of(wait: Duration) -> u64 {
    let mut sim = Sim::with(&Setup {
        entry: Entry::Invite,
        members: 5,
        ..Setup::default()
    });
    let rate = 1.0 / wait.as_secs_f64();
    sim.world().limits = Limits::none().with(Kind::InvitesPerRoom, rate, 1.0);
    let counts = Rule::before(|request| request.endpoint == Endpoint::State, |_| {});
    let reads = sim.fault(counts.always());
    sim.say("!upgrade #garden:sim.test 12 --method staged --invite all --join-rule keep --yes");
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    reads.count()
}

#[test]
fn rooms_are_not_read_again_after_each_short_wait() {
    let (none, short, long) = (
        reads_with_waits_of(Duration::from_millis(1)),
        reads_with_waits_of(Duration::from_secs(20)),
        reads_with_waits_of(Duration::from_secs(90)),
    );
    assert!(short <= none + 4, "{short} instead of {none}");
    // After a minute, others may have changed much.
    assert!(long >= none + 8, "{long} instead of {none}");
}
