//! The switch by the server: it makes the new room and points the old one to it.
//!
//! `/upgrade` cannot be repeated: called again, it makes a second room. So this step looks before
//! it calls, writes down that it calls, and afterwards believes only the rooms (P2): the tombstone
//! of the old one, and any room that names it as predecessor. [`decide`] is pure.

use jiff::Timestamp;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::Value;

use super::super::close::Stage;
use super::super::mark::{fold, mark, may_have_left, reread};
use super::super::{Done, Drive, SETTLE, StepError, close, plan_of};
use super::{overtaken, refresh, tombstone};
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::log::Called;
use crate::job::{Job, Output, Plan, State, Step, StepEvent};
use crate::room::diff::Part;
use crate::room::state::Snapshot;

// How servers answer a request that they do not know.
// Source: Matrix specification, "Client-Server API", common error codes; RFC 9110.
const NOT_FOUND: u16 = 404;
const METHOD_NOT_ALLOWED: u16 = 405;
const NOT_IMPLEMENTED: u16 = 501;

/// What the rooms show.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sight {
    /// The old room leads nowhere, and no room of ours names it.
    Untouched,
    /// The old room leads nowhere, but this room of ours names it: a switch that broke off.
    Orphan(OwnedRoomId),
    /// The old room leads to a room that we made for it.
    Switched(OwnedRoomId),
    /// Somebody else led it elsewhere.
    Foreign {
        by: OwnedUserId,
        to: Option<OwnedRoomId>,
    },
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Finish(OwnedRoomId),
    FinishByHand(OwnedRoomId),
    Call,
    LookAgain,
    /// Nothing happened: the server never did what it was asked.
    TakeBack,
    GiveWay {
        by: OwnedUserId,
        to: Option<OwnedRoomId>,
    },
}

fn decide(sight: &Sight, called: Called, now: Timestamp) -> Act {
    let settled = match called {
        Called::Never => true,
        Called::Perhaps(at) => now.duration_since(at).as_secs() >= SETTLE.as_secs().cast_signed(),
    };
    match sight {
        Sight::Switched(room) => Act::Finish(room.clone()),
        Sight::Foreign { by, to } => Act::GiveWay {
            by: by.clone(),
            to: to.clone(),
        },
        Sight::Orphan(_) | Sight::Untouched if !settled => Act::LookAgain,
        Sight::Orphan(room) => Act::FinishByHand(room.clone()),
        Sight::Untouched if called == Called::Never => Act::Call,
        Sight::Untouched => Act::TakeBack,
    }
}

pub(in super::super) async fn run(
    drive: &mut Drive,
    job: &Job,
    state: &State,
) -> Result<Done, StepError> {
    let before = drive.snapshot(job)?;
    let plan = plan_of(state)?.clone();
    let sight = look(&*drive.port, job, &before).await?;
    match decide(&sight, state.called(Step::Switch), drive.clock.now()) {
        Act::Call => {
            refresh(drive, job).await?;
            call(drive, job, &plan, &before).await
        }
        act => settle(drive, job, state, &plan, act).await,
    }
}

async fn call(
    drive: &mut Drive,
    job: &Job,
    plan: &Plan,
    before: &Snapshot,
) -> Result<Done, StepError> {
    mark(
        drive,
        job,
        Step::Switch,
        StepEvent::Called {
            at: drive.clock.now(),
        },
    )?;
    let intent = &plan.intent;
    let old = &job.request.old_room;
    match drive
        .port
        .upgrade(old, &intent.version, &intent.creators)
        .await
    {
        Ok(new_room) => Ok(Output::Switched { new_room }.into()),
        // The limit is checked before anything is done.
        Err(error @ HomeserverError::RateLimited { .. }) => {
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            Err(error.into())
        }
        Err(HomeserverError::Refused { message, .. }) if message.contains("in progress") => {
            Err(StepError::Settling)
        }
        Err(HomeserverError::Refused {
            status,
            message,
            code,
            ..
        }) => {
            let job = reread(drive, job)?;
            let state = fold(&job)?;
            match look(&*drive.port, &job, before).await? {
                Sight::Untouched => {
                    mark(drive, &job, Step::Switch, StepEvent::Undone)?;
                    Err(refused(status, &message, &code))
                }
                Sight::Orphan(room) => {
                    settle(drive, &job, &state, plan, Act::FinishByHand(room)).await
                }
                Sight::Switched(room) => Ok(Output::Switched { new_room: room }.into()),
                Sight::Foreign { by, to } => {
                    settle(drive, &job, &state, plan, Act::GiveWay { by, to }).await
                }
            }
        }
        // Cut, timed out or broken: the server may well be at it.
        Err(error @ (HomeserverError::Uncertain { .. } | HomeserverError::Unusable { .. })) => {
            tracing::warn!(
                error = crate::telemetry::chain(&error),
                "no certain answer to /upgrade"
            );
            Err(StepError::Settling)
        }
    }
}

/// What a refusal means when nothing happened.
fn refused(status: u16, message: &str, code: &str) -> StepError {
    let is_unknown = matches!(status, NOT_FOUND | METHOD_NOT_ALLOWED | NOT_IMPLEMENTED)
        || matches!(code, "M_UNRECOGNIZED" | "M_UNSUPPORTED");
    if is_unknown && code != "M_UNSUPPORTED_ROOM_VERSION" {
        StepError::Hopeless {
            problem: format!(
                "This server has no upgrade of its own (error {status}). Send the command again \
                 with `--method staged`, and I make the new room myself."
            ),
        }
    } else {
        StepError::Fail {
            problem: format!("The server refused the upgrade: {message} ({code})."),
        }
    }
}

async fn settle(
    drive: &mut Drive,
    job: &Job,
    state: &State,
    plan: &Plan,
    act: Act,
) -> Result<Done, StepError> {
    match act {
        Act::Finish(new_room) => Ok(Output::Switched { new_room }.into()),
        Act::LookAgain => Err(StepError::Settling),
        Act::TakeBack | Act::Call => {
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Retry {
                problem: "The server did not carry out the upgrade.".to_owned(),
                source: None,
            })
        }
        Act::FinishByHand(new_room) => {
            // As complete as can be before anybody is sent there.
            close::close(drive, job, plan, &new_room, Part::Complete, Stage::Final).await?;
            let tombstone = tombstone(drive, plan, &new_room)?;
            drive
                .port
                .put_state(&job.request.old_room, "m.room.tombstone", "", &tombstone)
                .await?;
            Ok(Output::Switched { new_room }.into())
        }
        Act::GiveWay { by, to } => {
            if state.called(Step::Switch) != Called::Never {
                mark(drive, job, Step::Switch, StepEvent::Undone)?;
            }
            Err(StepError::Fail {
                problem: overtaken(&by, to.as_ref(), &job.request.old_room),
            })
        }
    }
}

/// Reads what the rooms show.
async fn look(
    port: &dyn Homeserver,
    job: &Job,
    before: &Snapshot,
) -> Result<Sight, HomeserverError> {
    let old = &job.request.old_room;
    let tombstone = port
        .state_event(old, "m.room.tombstone", "")
        .await?
        .unwrap_or_default();
    if !tombstone.is_empty() {
        let to = tombstone
            .get("replacement_room")
            .and_then(Value::as_str)
            .and_then(|room| OwnedRoomId::try_from(room).ok());
        // Only the whole event tells who sent it.
        let sender = port
            .state(old)
            .await?
            .tombstone()
            .map(|tombstone| tombstone.sender);
        if let Some(room) = &to
            && is_ours(port, job, room).await?
        {
            return Ok(Sight::Switched(room.clone()));
        }
        return Ok(Sight::Foreign {
            by: sender.unwrap_or_else(|| port.account().to_owned()),
            to,
        });
    }
    // Before the first call there can be no room of ours, and looking would cost a request.
    if !may_have_left(job, Step::Switch) {
        return Ok(Sight::Untouched);
    }
    for room in port.joined_rooms().await?.difference(&before.joined_rooms) {
        if is_ours(port, job, room).await? {
            return Ok(Sight::Orphan(room.clone()));
        }
    }
    Ok(Sight::Untouched)
}

/// Whether this account made a room to replace the old one.
async fn is_ours(
    port: &dyn Homeserver,
    job: &Job,
    room: &OwnedRoomId,
) -> Result<bool, HomeserverError> {
    match port.state(room).await {
        Ok(state) => {
            let create = state.create();
            Ok(create.predecessor.as_ref() == Some(&job.request.old_room)
                && state
                    .event("m.room.create", "")
                    .is_some_and(|event| event.sender == port.account()))
        }
        Err(HomeserverError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
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
        let orphan = Sight::Orphan(room.clone());
        let foreign = Sight::Foreign {
            by: by.clone(),
            to: None,
        };
        let called = Called::Perhaps(at(100));
        for (sight, called, now, expected) in [
            (Sight::Untouched, Called::Never, 100, Act::Call),
            (Sight::Untouched, called, 101, Act::LookAgain),
            (Sight::Untouched, called, 120, Act::TakeBack),
            (orphan.clone(), called, 119, Act::LookAgain),
            (orphan.clone(), called, 120, Act::FinishByHand(room.clone())),
            (orphan, Called::Never, 100, Act::FinishByHand(room.clone())),
            (
                Sight::Switched(room.clone()),
                called,
                100,
                Act::Finish(room.clone()),
            ),
            (
                Sight::Switched(room.clone()),
                Called::Never,
                100,
                Act::Finish(room),
            ),
            (
                foreign.clone(),
                Called::Never,
                100,
                Act::GiveWay {
                    by: by.clone(),
                    to: None,
                },
            ),
            (foreign, called, 100, Act::GiveWay { by, to: None }),
        ] {
            assert_eq!(
                decide(&sight, called, at(now)),
                expected,
                "{sight:?} {called:?} {now}"
            );
        }
    }
}
