//! Makes the new room, which nobody can find yet; and takes it back.
//!
//! A second call makes a second room, so this step looks before it calls, writes down that it
//! calls, and afterwards believes only the rooms (P2): the create event carries the command.

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use tracing::warn;

use super::mark::{answer_lost, is_settled, mark};
use super::switch::overtaken;
use super::{Done, JobRun, StepError, orphan, plan_of};
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::log::Again;
use crate::job::state::Called;
use crate::job::{Job, Output, Plan, State, Step, StepEvent};
use crate::message::problem::{Problem, Said};
use crate::room::creation::{is_marked, request, staged};
use crate::room::state::{RoomState, Snapshot};
use crate::room::target::{room_to_be, target};
use crate::telemetry::chain;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let before = job_run.snapshot(job)?;
    let plan = plan_of(state)?;
    if let Some(new_room) = find(job_run, job, plan, &before).await? {
        return Ok(Output::Created { new_room }.into());
    }
    match state.called(Step::Create) {
        Called::Never => {
            orphan::take_back(job_run, job).await?;
            call(job_run, job, plan, &before).await
        }
        Called::Perhaps => answer_lost(job_run, job, Step::Create),
        Called::AnswerLost(at) if is_settled(at, job_run.clock.now()) => {
            mark(job_run, job, Step::Create, StepEvent::Undone)?;
            Err(StepError::Retry {
                problem: Problem::RoomNotMade,
                source: None,
            })
        }
        Called::AnswerLost(_) => Err(StepError::Settling),
    }
}

async fn call(
    job_run: &JobRun,
    job: &Job,
    plan: &Plan,
    before: &Snapshot,
) -> Result<Done, StepError> {
    let target = staged(&target(before, &plan.intent, &room_to_be()), &plan.intent);
    let body = request(
        before,
        &target,
        &plan.intent,
        &job.request.key().to_string(),
    );
    let at = job_run.clock.now();
    mark(job_run, job, Step::Create, StepEvent::Called { at })?;
    match job_run.port.create_room(&body).await {
        Ok(new_room) => Ok(Output::Created { new_room }.into()),
        // Both are checked before anything is done.
        Err(
            error @ (HomeserverError::RateLimited { .. } | HomeserverError::AccountBlocked { .. }),
        ) => {
            mark(job_run, job, Step::Create, StepEvent::Undone)?;
            Err(error.into())
        }
        Err(HomeserverError::Refused { code, message, .. }) => {
            // Synapse makes the room and then refuses one event of it: the room serves, and the
            // next step finds out which event it was.
            if let Some(new_room) = find(job_run, job, plan, before).await? {
                warn!(%new_room, code, message, "the server left the new room half made");
                return Ok(Output::Created { new_room }.into());
            }
            mark(job_run, job, Step::Create, StepEvent::Undone)?;
            Err(StepError::Fail {
                problem: Problem::RoomRefused(Said { message, code }),
            })
        }
        Err(error @ (HomeserverError::Uncertain { .. } | HomeserverError::Unusable { .. })) => {
            warn!(error = chain(&error), "no certain answer to /createRoom");
            answer_lost(job_run, job, Step::Create)
        }
    }
}

/// Takes back what was made (P6): shows everybody out and leaves. A room that nobody is in cannot
/// be entered any more.
pub(super) async fn roll_back(
    job_run: &JobRun,
    job: &Job,
    state: &State,
) -> Result<Done, StepError> {
    let made = match state.staged_room() {
        Some(room) => Some(room.clone()),
        None => find(job_run, job, plan_of(state)?, &job_run.snapshot(job)?).await?,
    };
    match (made, state.called(Step::Create)) {
        (Some(room), _) => orphan::remove(&*job_run.port, &room).await?,
        (None, Called::Perhaps) => return answer_lost(job_run, job, Step::Create),
        (None, Called::AnswerLost(at)) if !is_settled(at, job_run.clock.now()) => {
            return Err(StepError::Settling);
        }
        (None, Called::AnswerLost(_) | Called::Never) => {}
    }
    match successor(&*job_run.port, &job.request.old_room).await? {
        // Otherwise that is why it turns back.
        Some((by, to)) if state.again != Again::Overtaken => {
            Err(overtaken(&by, &to, &job.request.old_room))
        }
        _ => Ok(Done::Undone),
    }
}

/// Where somebody led the old room meanwhile, and who.
async fn successor(
    port: &dyn Homeserver,
    old_room: &RoomId,
) -> Result<Option<(OwnedUserId, OwnedRoomId)>, HomeserverError> {
    let read = match port.state_event(old_room, "m.room.tombstone", "").await {
        Ok(None) => return Ok(None),
        // Only the whole event tells who sent it.
        Ok(Some(_)) => port.state(old_room).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(state) => Ok(state
            .replaced()
            .and_then(|it| Some((it.sender, it.replacement?)))),
        // The bot is not in the old room any more.
        Err(HomeserverError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The room that an earlier call made.
async fn find(
    job_run: &JobRun,
    job: &Job,
    plan: &Plan,
    before: &Snapshot,
) -> Result<Option<OwnedRoomId>, StepError> {
    // Before the first call there can be none, and looking would cost requests.
    if !super::mark::reread(job_run, job)?.may_have_sent(Step::Create) {
        return Ok(None);
    }
    let mark = job.request.key().to_string();
    let is_it = |room: &RoomState| is_marked(room, &plan.intent, &mark);
    let made = orphan::made_since(&*job_run.port, &before.known_successors, is_it).await?;
    Ok(made.into_iter().next())
}
