//! Makes the plan: reads the room and says what would happen. Changes nothing (P4), but that for
//! `adopt` the bot joins the room that replaces the old one, which it could not read otherwise.

use std::time::Duration;

use super::{Done, Drive, StepError};
use crate::job::{Job, Plan};
use crate::message::plan::Occasion;
use crate::model::{Bucket, MethodChoice};
use crate::room::state::Snapshot;
use crate::survey;
use crate::survey::plan::{Circumstances, Pace, Place, Read, plan};

/// Least time a request is taken to need; a server that answers at once now may not later.
const PACE_MIN: Duration = Duration::from_millis(100);

pub(super) async fn run(drive: &mut Drive, job: &Job) -> Result<Done, StepError> {
    let (_, plan) = read(drive, job).await?;
    Ok(Done::Planned(Box::new(plan), Occasion::Asked))
}

/// Reads the room and makes the plan from it.
pub(super) async fn read(drive: &Drive, job: &Job) -> Result<(Option<Snapshot>, Plan), StepError> {
    let begun = drive.clock.now();
    let around = drive.surroundings(job).await?;
    let before = survey::snapshot(&*drive.port, &job.request.old_room, &around).await?;
    let adopts = job.request.options.method == Some(MethodChoice::Adopt);
    let successor = match &before {
        Some(before) if adopts => Some(survey::open_successor(&*drive.port, &before.room).await?),
        _ => None,
    };
    let read = match (&before, &successor) {
        (None, _) => Read::NotJoined,
        (Some(before), None) => Read::Old(before),
        (Some(before), Some(Ok(new))) => Read::Succeeded(before, new),
        (Some(before), Some(Err(finding))) => Read::Unfit(before, finding),
    };
    let now = drive.clock.now();
    let took = Duration::try_from(now.duration_since(begun)).unwrap_or_default();
    let active_job = drive
        .store
        .active_job(&job.request.old_room)?
        .map(|active| active.id)
        .filter(|active| *active != job.id);
    let own = drive
        .setup
        .admin_rooms
        .iter()
        .any(|room| room.room_id == job.request.old_room);
    let circumstances = Circumstances {
        request: &job.request,
        settings: &drive.setup.upgrade,
        announce: &drive.setup.schedule.announce,
        place: if own {
            Place::AdminRoom
        } else {
            Place::Elsewhere
        },
        active_job,
        now,
        pace: Pace {
            per_request: took.max(PACE_MIN),
            sending: drive.means.port.allowance(Bucket::Everything),
            inviting: drive.means.port.allowance(Bucket::Invitations),
        },
        around: &around,
    };
    let plan = plan(&*drive.port, read, &circumstances).await?;
    Ok((before, plan))
}
