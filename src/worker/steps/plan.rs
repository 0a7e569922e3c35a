//! Makes the plan: reads the room and says what would happen. Changes nothing (P4), but that for
//! `adopt` the bot joins the room that replaces the old one, which it could not read otherwise.

use std::time::Duration;

use super::{Done, JobRun, StepError};
use crate::job::{Job, Plan};
use crate::message::plan::PlanReason;
use crate::model::{Bucket, MethodChoice};
use crate::room::state::Snapshot;
use crate::survey;
use crate::survey::cost::Pace;
use crate::survey::plan::{Circumstances, Place, Read, plan};

/// Least time a request is taken to need; a server that answers at once now may not later.
const PACE_MIN: Duration = Duration::from_millis(100);

pub(super) async fn run(job_run: &mut JobRun, job: &Job) -> Result<Done, StepError> {
    let (_, plan) = read(job_run, job).await?;
    Ok(Done::Planned(Box::new(plan), PlanReason::Asked))
}

/// Reads the room and makes the plan from it.
pub(super) async fn read(
    job_run: &JobRun,
    job: &Job,
) -> Result<(Option<Snapshot>, Plan), StepError> {
    let begun = job_run.clock.now();
    let around = job_run.surroundings(job).await?;
    let before = survey::snapshot(&*job_run.port, &job.request.old_room, &around).await?;
    let adopts = job.request.options.method == Some(MethodChoice::Adopt);
    let successor = match &before {
        Some(before) if adopts => Some(survey::open_successor(&*job_run.port, &before.room).await?),
        _ => None,
    };
    let read = match (&before, &successor) {
        (None, _) => Read::NotJoined,
        (Some(before), None) => Read::Old(before),
        (Some(before), Some(Ok(new))) => Read::Succeeded(before, new),
        (Some(before), Some(Err(finding))) => Read::Unfit(before, finding),
    };
    let now = job_run.clock.now();
    let took = Duration::try_from(now.duration_since(begun)).unwrap_or_default();
    let active_job = job_run
        .store
        .active_job(&job.request.old_room)?
        .map(|active| active.id)
        .filter(|active| *active != job.id);
    let own = job_run
        .setup
        .admin_rooms
        .iter()
        .any(|room| room.room_id == job.request.old_room);
    let circumstances = Circumstances {
        request: &job.request,
        settings: &job_run.setup.upgrade,
        announce: &job_run.setup.schedule.announce,
        place: if own {
            Place::AdminRoom
        } else {
            Place::Elsewhere
        },
        active_job,
        now,
        pace: Pace {
            per_request: took.max(PACE_MIN),
            sending: job_run.context.port.allowance(Bucket::Everything),
            inviting: job_run.context.port.allowance(Bucket::Invitations),
        },
        around: &around,
    };
    let plan = plan(&*job_run.port, read, &circumstances).await?;
    Ok((before, plan))
}
