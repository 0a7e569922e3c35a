//! The executor, seen from outside: what a job has read serves it over short waits and not over long ones, and what
//! a step brings counts for nothing once somebody ended its job.

use std::time::Duration;

use roomlift::job::Phase;

use crate::fault::{Endpoint, Fault, Rule};
use crate::limits::{Kind, Limits};
use crate::oracle;
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

/// Somebody cancels while a step waits for an answer, which comes all the same.
#[test]
fn a_step_that_ends_after_a_cancel_changes_nothing() {
    for slow in [Endpoint::State, Endpoint::CreateRoom] {
        let mut sim = Sim::new();
        sim.say("!upgrade #garden:sim.test 12 --method staged");
        let shared = std::sync::Arc::clone(&sim.shared);
        sim.when_said("Plan #1", move |world, place, plan| {
            let delay = Fault::Delay(Duration::from_secs(20));
            shared.faults().add(Rule::on(slow, delay));
            crate::sim::react(world, &place.moderator, &plan.room, &plan.id, "✅");
            let place = place.clone();
            world.schedule(Duration::from_secs(8), move |world| {
                crate::sim::say(
                    world,
                    &place.moderator,
                    &place.admin_room,
                    "!upgrade cancel 1",
                );
            });
        });
        sim.run();
        sim.assert_promises();
        sim.assert_said("Cancelled, upgrade #1");
        let jobs = oracle::jobs(&sim.place, &sim.store());
        assert_eq!(jobs[0].1.phase, Phase::Cancelled, "{slow:?}");
        let said = sim.said(&sim.place.admin_room);
        assert!(
            !said
                .iter()
                .any(|text| text.contains("bug") || text.contains("cannot read")),
            "{said:#?}"
        );
    }
}
