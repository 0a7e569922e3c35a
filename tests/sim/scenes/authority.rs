//! P5, told one by one: who may change what, and by what the server says now.

use std::time::Duration;

use roomlift::job::Phase;
use roomlift::model::CampaignId;
use roomlift::store::Filter;
use ruma::OwnedUserId;

use crate::oracle;
use crate::place::{Place, Setup};
use crate::sim::{Sim, react, say};
use crate::world::World;

/// A campaign over two rooms, where commands take the power to send a tombstone in the rooms themselves.
/// The deputy has level 50 in the admin room and in one of the rooms, which is too little for that.
fn campaign_under_target_power(options: &str) -> Sim {
    let mut sim = Sim::with(&Setup {
        siblings: 1,
        ..Setup::default()
    });
    sim.configure("require_target_power = true\n");
    let space = sim.place.space.clone();
    sim.say(&format!(
        "!upgrade space {space} 12 --method staged {options}"
    ));
    sim
}

fn deputy_says(world: &mut World, place: &Place, commands: &[&str]) {
    for command in commands {
        let text = format!("!upgrade {command}");
        say(world, &place.deputy, &place.admin_room, &text);
    }
}

/// What happened to campaigns and jobs on somebody's word.
fn done_by(sim: &Sim, user: &OwnedUserId) -> Vec<String> {
    let store = sim.store();
    let room = &sim.place.admin_room;
    let campaigns = store.campaigns(room, Filter::All, 1000).unwrap();
    let campaigns = campaigns.iter().flat_map(|campaign| &campaign.log);
    let jobs = oracle::jobs(&sim.place, &store);
    let jobs = jobs.iter().flat_map(|(job, _)| &job.log);
    let entries = campaigns.map(|(_, entry)| format!("{entry:?}"));
    let entries = entries.chain(jobs.map(|(_, entry)| format!("{entry:?}")));
    entries
        .filter(|entry| entry.contains(&format!("by: {:?}", user.as_str())))
        .collect()
}

/// Insists that nothing happened to a job or campaign on somebody's word, and that they were told so.
fn assert_denied(sim: &Sim, user: &OwnedUserId, times: usize, why: &str) {
    assert_eq!(done_by(sim, user), [""; 0], "P5: what {user} may not do");
    let said = sim.said(&sim.place.admin_room);
    let denials = said.iter().filter(|text| text.contains(why)).count();
    assert_eq!(denials, times, "{}", said.join("\n---\n"));
}

const TARGET_POWER: &str = "you also need power level 100";

#[test]
fn a_planned_campaign_needs_power_in_its_rooms() {
    let mut sim = campaign_under_target_power("");
    sim.when_said("Plan C1", |world, place, plan| {
        react(world, &place.deputy, &plan.room, &plan.id, "✅");
        react(world, &place.deputy, &plan.room, &plan.id, "❌");
        deputy_says(world, place, &["confirm C1", "cancel C1", "cancel 1"]);
    });
    sim.run();
    assert_denied(&sim, &sim.place.deputy, 5, TARGET_POWER);
    sim.assert_promises();
}

#[test]
fn a_running_campaign_needs_power_in_its_rooms() {
    let mut sim = campaign_under_target_power("--in 30m --yes");
    sim.after(Duration::from_mins(2), |world, place| {
        deputy_says(world, place, &["pause C1", "cancel C1", "retry C1"]);
    });
    sim.say_after(Duration::from_mins(3), "!upgrade pause C1");
    sim.after(Duration::from_mins(4), |world, place| {
        deputy_says(world, place, &["resume C1"]);
    });
    sim.say_after(Duration::from_mins(5), "!upgrade resume C1");
    sim.run();
    assert_denied(&sim, &sim.place.deputy, 4, TARGET_POWER);
    sim.assert_promises();
    let jobs = oracle::jobs(&sim.place, &sim.store());
    assert!(jobs.iter().all(|(_, state)| state.phase == Phase::Done));
}

/// What somebody may not change by its number, they do not change along with everything either.
#[test]
fn everything_is_what_one_may_change() {
    let mut sim = campaign_under_target_power("--in 30m --yes");
    sim.after(Duration::from_mins(2), |world, place| {
        deputy_says(world, place, &["pause"]);
    });
    sim.say_after(Duration::from_mins(3), "!upgrade pause");
    sim.after(Duration::from_mins(4), |world, place| {
        deputy_says(world, place, &["resume"]);
    });
    sim.say_after(Duration::from_mins(5), "!upgrade resume");
    sim.run();
    assert_denied(&sim, &sim.place.deputy, 1, "Nothing is paused");
    sim.assert_promises();
}

#[test]
fn a_finished_campaign_needs_power_in_its_rooms() {
    let mut sim = campaign_under_target_power("--yes");
    sim.after(Duration::from_mins(20), |world, place| {
        let commands = ["verify C1", "ping C1 now", "ping C1 off", "verify 1"];
        deputy_says(world, place, &commands);
    });
    sim.run();
    assert_denied(&sim, &sim.place.deputy, 4, TARGET_POWER);
    sim.assert_promises();
}

/// A plan for the same space takes the place of another, if its sender may drop that.
#[test]
fn a_new_plan_of_a_space_drops_no_plan_of_somebody_with_more_power() {
    let mut sim = campaign_under_target_power("");
    let space = sim.place.space.clone();
    sim.when_said("Plan C1", move |world, place, _| {
        deputy_says(world, place, &[&format!("space {space} 11")]);
    });
    sim.say_after(Duration::from_mins(2), "!upgrade confirm C1");
    sim.run();
    sim.assert_promises();
    let first = sim.store().campaign(CampaignId(1)).unwrap().unwrap();
    let phase = first.state().unwrap().phase;
    assert_eq!(phase, roomlift::campaign::Phase::Done);
}

/// `verify` changes rooms, so who may only ask cannot have it done.
#[test]
fn a_reader_cannot_verify() {
    let mut sim = Sim::with(&Setup {
        bot_level_around: 0,
        ..Setup::default()
    });
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.after(Duration::from_mins(5), |world, place| {
        for of in ["1", place.alias.as_str()] {
            let text = format!("!upgrade verify {of}");
            say(world, &place.reader, &place.admin_room, &text);
        }
    });
    sim.run();
    assert_denied(&sim, &sim.place.reader, 2, "Sorry, you need power level 50");
}

/// Every command that only asks takes `read_level`, of a campaign and of a job.
#[test]
fn read_level_is_needed_to_ask() {
    const ASKING: [&str; 14] = [
        "help",
        "status",
        "status 1",
        "status C1",
        "list --all",
        "rooms",
        "report 1",
        "report C1",
        "doctor",
        "stragglers 1",
        "stragglers C1",
        "ping 1",
        "ping C1",
        "plan #garden:sim.test 11",
    ];
    let mut sim = Sim::new();
    sim.configure("read_level = 10\n");
    let space = sim.place.space.clone();
    sim.say(&format!("!upgrade space {space} 12 --yes"));
    // Not more of them in a minute than are answered.
    for (command, number) in ASKING.into_iter().zip(0..) {
        let at = Duration::from_mins(10) + Duration::from_secs(number * 10);
        sim.after(at, move |world, place| {
            let text = format!("!upgrade {command}");
            say(world, &place.reader, &place.admin_room, &text);
        });
    }
    sim.run();
    sim.assert_promises();
    assert_denied(
        &sim,
        &sim.place.reader,
        ASKING.len(),
        "need power level 10 in this room",
    );
    assert_eq!(oracle::jobs(&sim.place, &sim.store()).len(), 2);
}
