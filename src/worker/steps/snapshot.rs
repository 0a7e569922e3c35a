//! Reads the old room again and stores it whole; asks again whether the people may (P5), and
//! whether the room is still what the yes was given to.

use super::{Done, Drive, StepError, plan, plan_of};
use crate::command::Need;
use crate::config::TargetPower;
use crate::job::{Job, Output, State};
use crate::permissions::{self, Decision, Facts};
use crate::store::Write;
use crate::survey;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    may_still(drive, job, state).await?;
    let (before, plan) = plan::read(drive, job).await?;
    if state.staged_room().is_some() {
        // The moderators said yes to the new room; what the old one became meanwhile is carried
        // over, unless something forbids the upgrade now.
        if plan.is_blocked() {
            return Err(StepError::Fail {
                problem: "Something is in the way of the upgrade by now. Send the command again \
                          to see what."
                    .to_owned(),
            });
        }
    } else if plan.hash != plan_of(state)?.hash || plan.is_blocked() {
        return Ok(Done::Planned(Box::new(plan)));
    }
    let Some(before) = before else {
        return Ok(Done::Planned(Box::new(plan)));
    };
    let snapshot = Write::Snapshot {
        job: job.id,
        snapshot: Box::new(before),
    };
    Ok(Done::Output {
        output: Output::Stored,
        writes: vec![snapshot],
    })
}

async fn may_still(drive: &Drive, job: &Job, state: &State) -> Result<(), StepError> {
    let port = &*drive.port;
    let request = &job.request;
    let Some(office) = permissions::office(&drive.setup.offices, &request.admin_room) else {
        return Err(StepError::Fail {
            problem: "The room this was asked in is no admin room any more.".to_owned(),
        });
    };
    let power = survey::power_in(port, &request.admin_room).await?;
    let within = survey::within(port, &office.rules.scope, &request.old_room).await?;
    for user in state.confirmed_by.iter().chain([&request.sender]) {
        let target = match office.rules.target_power {
            TargetPower::Needed => Some(survey::target_power(port, &request.old_room, user).await?),
            TargetPower::NotNeeded => None,
        };
        let facts = Facts {
            power: power.power(user),
            within,
            target,
        };
        if let Decision::Deny(_) = permissions::decide(&office.rules, Need::Change, &facts) {
            return Err(StepError::Fail {
                problem: format!("{user} may not upgrade this room any more."),
            });
        }
    }
    Ok(())
}
