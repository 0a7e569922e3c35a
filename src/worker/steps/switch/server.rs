//! The switch by the server: it makes the new room and points the old one to it.
//!
//! `/upgrade` cannot be repeated: called again, it makes a second room. So this step looks before
//! it calls, writes down that it calls, and afterwards believes only the rooms (P2): the tombstone
//! of the old one, and any room that names it as predecessor. [`decide`] is pure.

use jiff::Timestamp;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::Value;

use super::super::close::Stage;
use super::super::mark::{answer_lost, fold, is_settled, mark, reread};
use super::super::{Done, JobRun, StepError, close, plan_of};
use super::{overtaken, refresh, tombstone};
use crate::homeserver::{Bucket, Homeserver, HomeserverError, ensure_reachable};
use crate::job::state::Called;
use crate::job::{Job, Output, Plan, State, Step, StepEvent};
use crate::message::problem::{Problem, Said};
use crate::model::{RoomName, RoomRef};
use crate::room::change::Part;
use crate::room::creation::{request, staged};
use crate::room::state::{RoomState, Snapshot};
use crate::room::target::{room_to_be, target};
use crate::survey;
use crate::telemetry::chain;

// How servers answer a request that they do not know.
// Source: Matrix specification, "Client-Server API", common error codes; RFC 9110.
const NOT_FOUND: u16 = 404;
const METHOD_NOT_ALLOWED: u16 = 405;
const NOT_IMPLEMENTED: u16 = 501;

/// What the rooms show.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Observation {
    /// The old room leads nowhere, and no room of ours names it.
    Untouched,
    /// The old room leads nowhere, but this room of ours names it: a switch that broke off.
    Orphan(OwnedRoomId),
    /// The old room leads to a room that we made for it.
    Switched(OwnedRoomId),
    /// Our own tombstone leads to a room that nobody can enter: the server ended between the tombstone and
    /// its own join, as Palpo does when its client goes away. Perhaps another room of ours stands ready.
    DeadEnd { other: Option<OwnedRoomId> },
    /// Somebody else led it elsewhere.
    Foreign { by: OwnedUserId, to: OwnedRoomId },
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Decision {
    Finish(OwnedRoomId),
    FinishByHand(OwnedRoomId),
    /// Make another room, and lead the old one there.
    MakeAnother,
    Call,
    LookAgain,
    /// Nothing happened: the server never did what it was asked.
    TakeBack,
    GiveWay {
        by: OwnedUserId,
        to: OwnedRoomId,
    },
}

fn decide(sight: &Observation, called: Called, now: Timestamp) -> Decision {
    let settled = match called {
        Called::Never => true,
        Called::Perhaps => false,
        Called::AnswerLost(at) => is_settled(at, now),
    };
    match sight {
        Observation::Switched(room) => Decision::Finish(room.clone()),
        Observation::Foreign { by, to } => Decision::GiveWay {
            by: by.clone(),
            to: to.clone(),
        },
        _ if !settled => Decision::LookAgain,
        Observation::Orphan(room) | Observation::DeadEnd { other: Some(room) } => {
            Decision::FinishByHand(room.clone())
        }
        Observation::DeadEnd { other: None } => Decision::MakeAnother,
        Observation::Untouched if called == Called::Never => Decision::Call,
        Observation::Untouched => Decision::TakeBack,
    }
}

pub(in super::super) async fn run(
    job_run: &mut JobRun,
    job: &Job,
    state: &State,
) -> Result<Done, StepError> {
    let before = job_run.snapshot(job)?;
    let plan = plan_of(state)?.clone();
    let called = state.called(Step::Switch);
    if called == Called::Never {
        // Before the look, so that nobody is faster between the two.
        for bucket in [Bucket::RoomCreation, Bucket::Everything] {
            job_run.port.reserve(bucket).await?;
        }
    }
    let sight = look(job_run, job, &before, &plan).await?;
    match decide(&sight, called, job_run.clock.now()) {
        Decision::LookAgain if called == Called::Perhaps => answer_lost(job_run, job, Step::Switch),
        Decision::Call => {
            refresh(job_run, job).await?;
            call(job_run, job, &plan, &before).await
        }
        act => settle(job_run, job, state, &plan, act).await,
    }
}

async fn call(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    before: &Snapshot,
) -> Result<Done, StepError> {
    mark(
        job_run,
        job,
        Step::Switch,
        StepEvent::Called {
            at: job_run.clock.now(),
        },
    )?;
    let intent = &plan.intent;
    let old = &job.request.old_room;
    match job_run
        .port
        .upgrade(old, &intent.version, &intent.creators)
        .await
    {
        // The answer to an earlier request of this account.
        // Source: Synapse 1.163.2, `_upgrade_response_cache`.
        Ok(new_room) if before.known_successors.contains(&new_room) => {
            mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Remembered {
                problem: Problem::UpgradeRemembered(new_room),
            })
        }
        Ok(new_room) => Ok(Output::Switched { new_room }.into()),
        // Both are checked before anything is done.
        Err(
            error @ (HomeserverError::RateLimited { .. } | HomeserverError::AccountBlocked { .. }),
        ) => {
            mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            Err(error.into())
        }
        Err(HomeserverError::Refused { message, .. }) if message.contains("in progress") => {
            // Of somebody else: this request did nothing.
            mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Remembered {
                problem: Problem::UpgradeInProgress,
            })
        }
        Err(HomeserverError::Refused {
            status,
            message,
            code,
            ..
        }) => {
            let job = reread(job_run, job)?;
            let state = fold(&job)?;
            match look(job_run, &job, before, plan).await? {
                Observation::Untouched => {
                    mark(job_run, &job, Step::Switch, StepEvent::Undone)?;
                    Err(refused(status, &message, &code))
                }
                // The server answered: nothing more will come of the call.
                sight => {
                    let act = decide(&sight, Called::Never, job_run.clock.now());
                    settle(job_run, &job, &state, plan, act).await
                }
            }
        }
        // Something in front of the server knows no such request.
        Err(HomeserverError::Uncertain {
            status: Some(status @ (NOT_FOUND | METHOD_NOT_ALLOWED | NOT_IMPLEMENTED)),
            ..
        }) => {
            mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            // Unless it knows none at all: then the server is away.
            job_run
                .port
                .state_event(old, "m.room.tombstone", "")
                .await?;
            Err(refused(status, "", ""))
        }
        // Cut, timed out or broken: the server may well be at it.
        Err(error @ (HomeserverError::Uncertain { .. } | HomeserverError::Unusable { .. })) => {
            tracing::warn!(error = chain(&error), "no certain answer to /upgrade");
            answer_lost(job_run, job, Step::Switch)
        }
    }
}

/// What a refusal means when nothing happened.
fn refused(status: u16, message: &str, code: &str) -> StepError {
    let is_unknown = matches!(status, NOT_FOUND | METHOD_NOT_ALLOWED | NOT_IMPLEMENTED)
        || matches!(code, "M_UNRECOGNIZED" | "M_UNSUPPORTED");
    if is_unknown && code != "M_UNSUPPORTED_ROOM_VERSION" {
        StepError::Hopeless {
            problem: Problem::NoUpgradeOfItsOwn(status),
        }
    } else {
        StepError::Fail {
            problem: Problem::UpgradeRefused(Said {
                message: message.to_owned(),
                code: code.to_owned(),
            }),
        }
    }
}

async fn settle(
    job_run: &mut JobRun,
    job: &Job,
    state: &State,
    plan: &Plan,
    act: Decision,
) -> Result<Done, StepError> {
    match act {
        Decision::Finish(new_room) => Ok(Output::Switched { new_room }.into()),
        Decision::LookAgain => Err(StepError::Settling),
        Decision::TakeBack | Decision::Call => {
            mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Retry {
                problem: Problem::UpgradeNotDone,
                source: None,
            })
        }
        Decision::MakeAnother => {
            let before = job_run.snapshot(job)?;
            let intent = &plan.intent;
            let staged = staged(&target(&before, intent, &room_to_be()), intent);
            let body = request(&before, &staged, intent, &job.request.key().to_string());
            let at = job_run.clock.now();
            mark(job_run, job, Step::Switch, StepEvent::Called { at })?;
            match job_run.port.create_room(&body).await {
                Ok(room) => finish_by_hand(job_run, job, plan, room).await,
                Err(
                    error @ (HomeserverError::Uncertain { .. } | HomeserverError::Unusable { .. }),
                ) => {
                    tracing::warn!(error = chain(&error), "no certain answer to /createRoom");
                    answer_lost(job_run, job, Step::Switch)
                }
                Err(error) => {
                    mark(job_run, job, Step::Switch, StepEvent::AnswerLost { at })?;
                    Err(error.into())
                }
            }
        }
        Decision::FinishByHand(new_room) => finish_by_hand(job_run, job, plan, new_room).await,
        Decision::GiveWay { by, to } => {
            if state.called(Step::Switch) != Called::Never {
                mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            }
            Err(overtaken(&by, &to, &job.request.old_room))
        }
    }
}

/// Completes a room that the server left unfinished, and points the old one to it.
async fn finish_by_hand(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    new_room: OwnedRoomId,
) -> Result<Done, StepError> {
    // As complete as can be before anybody is sent there.
    close::close(job_run, job, plan, &new_room, Part::Complete, Stage::Final).await?;
    let tombstone = tombstone(job_run, plan, &new_room)?;
    let (port, old_room) = (&*job_run.port, &job.request.old_room);
    port.reserve(Bucket::Everything).await?;
    let closed = port.state(old_room).await?.replaced();
    if closed.is_some_and(|closed| closed.sender != port.account()) {
        // Somebody was faster: that is looked at anew.
        return Err(StepError::Settling);
    }
    port.put_state(old_room, "m.room.tombstone", "", &tombstone)
        .await?;
    Ok(Output::Switched { new_room }.into())
}

/// Reads what the rooms show.
async fn look(
    job_run: &JobRun,
    job: &Job,
    before: &Snapshot,
    plan: &Plan,
) -> Result<Observation, StepError> {
    let port = &*job_run.port;
    let old = &job.request.old_room;
    let tombstone = port
        .state_event(old, "m.room.tombstone", "")
        .await?
        .unwrap_or_default();
    let asked = job.may_have_sent(Step::Switch);
    let to = tombstone
        .get("replacement_room")
        .and_then(Value::as_str)
        .and_then(|room| OwnedRoomId::try_from(room).ok());
    // One that leads nowhere closed nothing.
    if let Some(to) = to.filter(|room| room != old) {
        // Only the whole event tells who sent it.
        let sender = port
            .state(old)
            .await?
            .tombstone()
            .map(|tombstone| tombstone.sender);
        let by = sender.unwrap_or_else(|| port.account().to_owned());
        if is_ours(port, job, &to).await?
            || (asked && by == port.account() && enters(port, job, &to).await?)
        {
            return Ok(Observation::Switched(to));
        }
        if asked && by == port.account() {
            let other = orphan(port, job, before).await?;
            return Ok(Observation::DeadEnd { other });
        }
        return Ok(Observation::Foreign { by, to });
    }
    let orphan = if asked {
        orphan(port, job, before).await?
    } else {
        // Before the first call there can be none of this job.
        let earlier = super::super::orphan::of_earlier_jobs(job_run, job).await?;
        let mut same_version = None;
        for room in earlier {
            let made = port.state(&room).await?.create();
            if same_version.is_none() && made.version == plan.intent.version {
                same_version = Some(room);
            } else {
                super::super::orphan::remove(port, &room).await?;
            }
        }
        same_version
    };
    Ok(orphan.map_or(Observation::Untouched, Observation::Orphan))
}

/// A room of this job that nothing leads to.
async fn orphan(
    port: &dyn Homeserver,
    job: &Job,
    before: &Snapshot,
) -> Result<Option<OwnedRoomId>, HomeserverError> {
    let is_it = |room: &RoomState| super::super::orphan::is_ours(room, &job.request.old_room, port);
    let known = &before.known_successors;
    let made = super::super::orphan::made_since(port, known, is_it).await?;
    Ok(made.into_iter().next())
}

/// Whether a room that our tombstone leads to can be entered after all.
async fn enters(
    port: &dyn Homeserver,
    job: &Job,
    room: &OwnedRoomId,
) -> Result<bool, HomeserverError> {
    let named = RoomRef {
        name: RoomName::Id(room.clone()),
        via: vec![port.server_name().to_owned()],
    };
    match port.join(&named).await {
        Ok(_) => is_ours(port, job, room).await,
        Err(HomeserverError::Refused { .. }) => Ok(false),
        // The server may fail at such a room for good; is it away altogether?
        Err(error @ HomeserverError::Uncertain { .. }) => match ensure_reachable(port).await {
            Ok(()) => Ok(false),
            Err(_) => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Whether this account made a room to replace the old one, and is in it. Who was there once can still read it.
async fn is_ours(
    port: &dyn Homeserver,
    job: &Job,
    room: &OwnedRoomId,
) -> Result<bool, HomeserverError> {
    let state = survey::joined_state(port, room).await?;
    Ok(state
        .is_some_and(|state| super::super::orphan::is_ours(&state, &job.request.old_room, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_upgrade_is_told_from_one_that_says_no() {
        for (status, code, is_hopeless) in [
            (404, "M_UNRECOGNIZED", true),
            (404, "", true),
            (405, "M_UNRECOGNIZED", true),
            (501, "M_UNSUPPORTED", true),
            (400, "M_UNRECOGNIZED", true),
            (400, "M_UNSUPPORTED_ROOM_VERSION", false),
            (403, "M_FORBIDDEN", false),
        ] {
            let error = refused(status, "the server's words", code);
            let hopeless = matches!(error, StepError::Hopeless { .. });
            assert_eq!(hopeless, is_hopeless, "{status} {code}");
        }
    }

    #[test]
    fn it_calls_only_when_nothing_was_ever_asked_and_nothing_is_there() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let room: OwnedRoomId = "!new:x".try_into().unwrap();
        let by: OwnedUserId = "@other:x".try_into().unwrap();
        let orphan = Observation::Orphan(room.clone());
        let foreign = Observation::Foreign {
            by: by.clone(),
            to: room.clone(),
        };
        let lost = Called::AnswerLost(at(100));
        let dead_end = |other: Option<&OwnedRoomId>| Observation::DeadEnd {
            other: other.cloned(),
        };
        for (sight, called, now, expected) in [
            (Observation::Untouched, Called::Never, 100, Decision::Call),
            (
                Observation::Untouched,
                Called::Perhaps,
                999,
                Decision::LookAgain,
            ),
            (Observation::Untouched, lost, 101, Decision::LookAgain),
            (Observation::Untouched, lost, 250, Decision::TakeBack),
            (orphan.clone(), lost, 249, Decision::LookAgain),
            (
                orphan.clone(),
                lost,
                250,
                Decision::FinishByHand(room.clone()),
            ),
            (dead_end(None), lost, 249, Decision::LookAgain),
            (dead_end(None), lost, 250, Decision::MakeAnother),
            (
                dead_end(Some(&room)),
                lost,
                250,
                Decision::FinishByHand(room.clone()),
            ),
            (
                orphan,
                Called::Never,
                100,
                Decision::FinishByHand(room.clone()),
            ),
            (
                Observation::Switched(room.clone()),
                lost,
                100,
                Decision::Finish(room.clone()),
            ),
            (
                Observation::Switched(room.clone()),
                Called::Never,
                100,
                Decision::Finish(room.clone()),
            ),
            (
                foreign.clone(),
                Called::Never,
                100,
                Decision::GiveWay {
                    by: by.clone(),
                    to: room.clone(),
                },
            ),
            (foreign, lost, 100, Decision::GiveWay { by, to: room }),
        ] {
            assert_eq!(
                decide(&sight, called, at(now)),
                expected,
                "{sight:?} {called:?} {now}"
            );
        }
    }
}
