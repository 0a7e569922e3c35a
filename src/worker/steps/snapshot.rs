//! Reads the old room again and stores it whole; asks again whether the people may (P5), whether
//! the room is still what the yes was given to, and whether it is still the time that was agreed.

use std::collections::BTreeSet;

use futures_util::future::{join3, try_join_all, try_join3};

use super::{Done, JobRun, StepError, plan, plan_of, switch};
use crate::announce;
use crate::command::Need;
use crate::config::{MissedStart, TargetPower};
use crate::job::schedule::{Punctuality, punctuality};
use crate::job::{Job, Output, State};
use crate::message::plan::PlanReason;
use crate::message::problem::Problem;
use crate::model::Method;
use crate::permissions::{self, Decision, Facts};
use crate::room::finding::Finding;
use crate::room::level::Allowance;
use crate::store::Write;
use crate::survey::{self, Presence};

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let since = job_run.reading();
    let may_still = may_still(job_run, job, state);
    let read = plan::read(job_run, job);
    let (before, plan) = match plan_of(state)?.intent.method {
        // Reading may join a room: only for who may ask for that.
        Method::Adopt => {
            may_still.await?;
            read.await?
        }
        Method::Server | Method::Staged => {
            let ready = job_run.port.get_ready_for_message(&job.request.old_room);
            let (may_still, read, ()) = join3(may_still, read, ready).await;
            may_still?;
            read?
        }
    };
    if state.staged_room().is_some() {
        // The moderators said yes to the new room; what the old one became meanwhile is carried
        // over, unless something forbids the upgrade now.
        if let Some((by, to)) = plan.findings.iter().find_map(|finding| match finding {
            Finding::AlreadyUpgraded {
                by,
                replacement: Some(to),
            } => Some((by, to)),
            _ => None,
        }) {
            return Err(switch::overtaken(by, to, &job.request.old_room));
        }
        if plan.is_blocked() {
            return Err(StepError::Fail {
                problem: Problem::Blocked,
            });
        }
    } else if plan.hash != plan_of(state)?.hash || plan.is_blocked() {
        return Ok(Done::Planned(Box::new(plan), PlanReason::RoomChanged));
    } else if job_run.setup.schedule.missed_start == MissedStart::Ask && is_late(job, state) {
        return Ok(Done::Planned(Box::new(plan), PlanReason::StartMissed));
    }
    let Some(before) = before else {
        return Ok(Done::Planned(Box::new(plan), PlanReason::RoomChanged));
    };
    job_run.has_read(since, before.clone());
    let snapshot = Write::Snapshot {
        job: job.id,
        snapshot: Box::new(before),
    };
    let late = announce::late_start(job);
    Ok(Done::Output {
        output: Output::Stored,
        writes: [snapshot].into_iter().chain(late).collect(),
    })
}

/// Whether the bot was away at the agreed time.
fn is_late(job: &Job, state: &State) -> bool {
    let plan = state.plan.as_ref();
    plan.and_then(|plan| plan.schedule.as_ref())
        .is_some_and(|schedule| punctuality(&job.log, schedule) == Punctuality::Missed)
}

async fn may_still(job_run: &JobRun, job: &Job, state: &State) -> Result<(), StepError> {
    let port = &*job_run.port;
    let request = &job.request;
    let Some(admin_room) = permissions::admin_room(&job_run.setup.admin_rooms, &request.admin_room)
    else {
        return Err(StepError::Fail {
            problem: Problem::NoAdminRoom,
        });
    };
    let users: BTreeSet<_> = state.confirmed_by.iter().chain([&request.sender]).collect();
    let people = try_join_all(users.into_iter().map(async |user| {
        let target = match admin_room.rules.target_power {
            TargetPower::Needed => {
                let power = survey::target_power(port, &request.old_room, user).await?;
                Some(power.unwrap_or(Allowance::UNKNOWN))
            }
            TargetPower::NotNeeded => None,
        };
        Ok((user, target))
    }));
    // All of it in one answer: who is there, and what they may.
    let state = survey::joined_state(port, &request.admin_room);
    let within = survey::within(port, &admin_room.rules.scope, &request.old_room);
    let (state, within, people) = try_join3(state, within, people).await?;
    let state = state.ok_or(StepError::NotInAdminRoom)?;
    let power = state.power();
    for (user, target) in people {
        let presence = Presence::of(state.content("m.room.member", user.as_str()));
        // Who was sent away keeps the level, and may have lost the account. Where commands are taken in
        // another room by now, they may not have come yet.
        if presence == Presence::Gone {
            return Err(StepError::Fail {
                problem: Problem::NotInAdminRoom(user.clone()),
            });
        }
        let facts = Facts {
            power: power.power(user),
            within,
            target,
        };
        if let Decision::Deny(_) = permissions::decide(&admin_room.rules, Need::Change, &facts) {
            return Err(StepError::Fail {
                problem: Problem::NotAllowed(user.clone()),
            });
        }
    }
    Ok(())
}
