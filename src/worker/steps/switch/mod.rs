//! The point of no return: the old room leads to the new one. One file per method.

mod adopt;
mod server;
mod staged;

use ruma::{RoomId, UserId};
use serde_json::json;

use super::{Done, Drive, StepError, plan_of};
use crate::job::{Job, Plan, State};
use crate::message::member;
use crate::model::Method;
use crate::room::policy;
use crate::room::state::{Content, Snapshot, content};
use crate::store::Write;
use crate::survey;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    match plan_of(state)?.intent.method {
        Method::Server => server::run(drive, job, state).await,
        Method::Staged => staged::run(drive, job, state).await,
        Method::Adopt => adopt::run(drive, job, state).await,
    }
}

/// Reads the old room once more and stores it, unless that was done just now: what people changed there
/// while limits, a pause or a slow server held up the upgrade comes along, and is not set back. To be
/// called before anything was asked of the server. Other rooms that replace the old one stay as they were
/// noted before the upgrade: by those, a room that was made half-way is found (P2).
async fn refresh(drive: &mut Drive, job: &Job) -> Result<(), StepError> {
    if drive.just_read().is_some() {
        return Ok(());
    }
    let noted = drive.snapshot(job)?.known_successors;
    let since = drive.reading();
    let around = drive.surroundings(job).await?;
    let old_room = &job.request.old_room;
    let Some(before) = survey::snapshot(&*drive.port, old_room, &around).await? else {
        return Err(StepError::Fail {
            problem: "I am not in the old room any more.".to_owned(),
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
    drive.store.commit(drive.clock.now(), &[snapshot])?;
    drive.has_read(since, before);
    drive.seen = None;
    Ok(())
}

/// Content of the event that points the old room to the new one.
pub(super) fn tombstone(
    drive: &Drive,
    plan: &Plan,
    new_room: &RoomId,
) -> Result<Content, StepError> {
    let variables = member::Variables::of(plan, new_room, drive.port.server_name());
    let body = member::render(&drive.setup.messages.tombstone, &variables)?;
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
        problem: format!(
            "{by} upgraded this room meanwhile; it leads to `{to}`. I changed nothing in it, and no room \
             of mine is left. `!upgrade adopt {old_room}` finishes what they began."
        ),
    }
}
