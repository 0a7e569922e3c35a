//! The point of no return: the old room leads to the new one. One file per method.

mod adopt;
mod server;
mod staged;

use ruma::{RoomId, UserId};
use serde_json::json;

use super::{Done, JobRun, StepError, plan_of};
use crate::job::{Job, Plan, State};
use crate::message::member;
use crate::message::problem::Problem;
use crate::model::Method;
use crate::room::policy;
use crate::room::state::{Content, Snapshot, content};
use crate::store::Write;
use crate::survey;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    match plan_of(state)?.intent.method {
        Method::Server => server::run(job_run, job, state).await,
        Method::Staged => staged::run(job_run, job, state).await,
        Method::Adopt => adopt::run(job_run, job, state).await,
    }
}

/// Reads the old room once more and stores it, unless that was done just now: what people changed there
/// while limits, a pause or a slow server held up the upgrade comes along, and is not set back. To be
/// called before anything was asked of the server. Other rooms that replace the old one stay as they were
/// noted before the upgrade: by those, a room that was made half-way is found (P2).
async fn refresh(job_run: &mut JobRun, job: &Job) -> Result<(), StepError> {
    if job_run.just_read().is_some() {
        return Ok(());
    }
    let noted = job_run.snapshot(job)?.known_successors;
    let since = job_run.reading();
    let around = job_run.surroundings(job).await?;
    let old_room = &job.request.old_room;
    let Some(before) = survey::snapshot(&*job_run.port, old_room, &around).await? else {
        return Err(StepError::Fail {
            problem: Problem::NotInOldRoom,
        });
    };
    let before = Snapshot {
        known_successors: noted,
        ..before
    };
    let snapshot = Write::Snapshot {
        job: job.id,
        snapshot: Box::new(before.clone()),
    };
    job_run.store.commit(job_run.clock.now(), &[snapshot])?;
    job_run.has_read(since, before);
    job_run.seen = None;
    Ok(())
}

/// Content of the event that points the old room to the new one.
pub(super) fn tombstone(
    job_run: &JobRun,
    plan: &Plan,
    new_room: &RoomId,
) -> Result<Content, StepError> {
    let variables = member::Variables::of(plan, new_room, job_run.port.server_name());
    let body = member::render(&job_run.setup.messages.tombstone, &variables)?;
    let mut content = content(json!({
        "body": body,
        "replacement_room": new_room,
    }));
    content.extend(plan.intent.policies.map(policy::of_tombstone));
    Ok(content)
}

/// Somebody else was faster.
pub(super) fn overtaken(by: &UserId, to: &RoomId, old_room: &RoomId) -> StepError {
    StepError::Overtaken {
        problem: Problem::Overtaken {
            by: by.to_owned(),
            to: to.to_owned(),
            old_room: old_room.to_owned(),
        },
    }
}
