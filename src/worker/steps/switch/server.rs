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
use super::super::{Done, Drive, StepError, close, plan_of};
use super::{overtaken, refresh, tombstone};
use crate::homeserver::{Homeserver, HomeserverError, ensure_reachable};
use crate::job::log::Called;
use crate::job::{Job, Output, Plan, State, Step, StepEvent};
use crate::model::{RoomName, RoomRef};
use crate::room::creation::{request, staged};
use crate::room::diff::Part;
use crate::room::state::{RoomState, Snapshot};
use crate::room::target::{room_to_be, target};
use crate::telemetry::chain;

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
    /// Our own tombstone leads to a room that nobody can enter: the server ended between the tombstone and
    /// its own join, as Palpo does when its client goes away. Perhaps another room of ours stands ready.
    DeadEnd { other: Option<OwnedRoomId> },
    /// Somebody else led it elsewhere.
    Foreign { by: OwnedUserId, to: OwnedRoomId },
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
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

fn decide(sight: &Sight, called: Called, now: Timestamp) -> Act {
    let settled = match called {
        Called::Never => true,
        Called::Perhaps => false,
        Called::AnswerLost(at) => is_settled(at, now),
    };
    match sight {
        Sight::Switched(room) => Act::Finish(room.clone()),
        Sight::Foreign { by, to } => Act::GiveWay {
            by: by.clone(),
            to: to.clone(),
        },
        _ if !settled => Act::LookAgain,
        Sight::Orphan(room) | Sight::DeadEnd { other: Some(room) } => {
            Act::FinishByHand(room.clone())
        }
        Sight::DeadEnd { other: None } => Act::MakeAnother,
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
    let called = state.called(Step::Switch);
    let sight = look(drive, job, &before, &plan).await?;
    match decide(&sight, called, drive.clock.now()) {
        Act::LookAgain if called == Called::Perhaps => answer_lost(drive, job, Step::Switch),
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
        // The answer to an earlier request of this account.
        // Source: Synapse 1.163.2, `_upgrade_response_cache`.
        Ok(new_room) if before.known_successors.contains(&new_room) => {
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Remembered {
                problem: format!(
                    "The server answers with {new_room}, the room of an earlier upgrade, which it remembers \
                     for five minutes."
                ),
            })
        }
        Ok(new_room) => Ok(Output::Switched { new_room }.into()),
        // Both are checked before anything is done.
        Err(
            error @ (HomeserverError::RateLimited { .. } | HomeserverError::AccountBlocked { .. }),
        ) => {
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            Err(error.into())
        }
        Err(HomeserverError::Refused { message, .. }) if message.contains("in progress") => {
            // Of somebody else: this request did nothing.
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Remembered {
                problem: "The server says that somebody else is upgrading this room. Synapse says so for five \
                          minutes after such an upgrade, too."
                    .to_owned(),
            })
        }
        Err(HomeserverError::Refused {
            status,
            message,
            code,
            ..
        }) => {
            let job = reread(drive, job)?;
            let state = fold(&job)?;
            match look(drive, &job, before, plan).await? {
                Sight::Untouched => {
                    mark(drive, &job, Step::Switch, StepEvent::Undone)?;
                    Err(refused(status, &message, &code))
                }
                // The server answered: nothing more will come of the call.
                sight => {
                    let act = decide(&sight, Called::Never, drive.clock.now());
                    settle(drive, &job, &state, plan, act).await
                }
            }
        }
        // Something in front of the server knows no such request.
        Err(HomeserverError::Uncertain {
            status: Some(status @ (NOT_FOUND | METHOD_NOT_ALLOWED | NOT_IMPLEMENTED)),
            ..
        }) => {
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            // Unless it knows none at all: then the server is away.
            drive.port.state_event(old, "m.room.tombstone", "").await?;
            Err(refused(status, "", ""))
        }
        // Cut, timed out or broken: the server may well be at it.
        Err(error @ (HomeserverError::Uncertain { .. } | HomeserverError::Unusable { .. })) => {
            tracing::warn!(error = chain(&error), "no certain answer to /upgrade");
            answer_lost(drive, job, Step::Switch)
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
        Act::MakeAnother => {
            let before = drive.snapshot(job)?;
            let intent = &plan.intent;
            let staged = staged(&target(&before, intent, &room_to_be()), intent);
            let body = request(&before, &staged, intent, &job.request.key().to_string());
            let at = drive.clock.now();
            mark(drive, job, Step::Switch, StepEvent::Called { at })?;
            match drive.port.create_room(&body).await {
                Ok(room) => finish_by_hand(drive, job, plan, room).await,
                Err(
                    error @ (HomeserverError::Uncertain { .. } | HomeserverError::Unusable { .. }),
                ) => {
                    tracing::warn!(error = chain(&error), "no certain answer to /createRoom");
                    answer_lost(drive, job, Step::Switch)
                }
                Err(error) => {
                    mark(drive, job, Step::Switch, StepEvent::AnswerLost { at })?;
                    Err(error.into())
                }
            }
        }
        Act::FinishByHand(new_room) => finish_by_hand(drive, job, plan, new_room).await,
        Act::GiveWay { by, to } => {
            if state.called(Step::Switch) != Called::Never {
                mark(drive, job, Step::Switch, StepEvent::Undone)?;
            }
            Err(overtaken(&by, &to, &job.request.old_room))
        }
    }
}

/// Completes a room that the server left unfinished, and points the old one to it.
async fn finish_by_hand(
    drive: &mut Drive,
    job: &Job,
    plan: &Plan,
    new_room: OwnedRoomId,
) -> Result<Done, StepError> {
    // As complete as can be before anybody is sent there.
    close::close(drive, job, plan, &new_room, Part::Complete, Stage::Final).await?;
    let tombstone = tombstone(drive, plan, &new_room)?;
    drive
        .port
        .put_state(&job.request.old_room, "m.room.tombstone", "", &tombstone)
        .await?;
    Ok(Output::Switched { new_room }.into())
}

/// Reads what the rooms show.
async fn look(
    drive: &Drive,
    job: &Job,
    before: &Snapshot,
    plan: &Plan,
) -> Result<Sight, StepError> {
    let port = &*drive.port;
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
            return Ok(Sight::Switched(to));
        }
        if asked && by == port.account() {
            let other = orphan(port, job, before).await?;
            return Ok(Sight::DeadEnd { other });
        }
        return Ok(Sight::Foreign { by, to });
    }
    let orphan = if asked {
        orphan(port, job, before).await?
    } else {
        // Before the first call there can be none of this job.
        let earlier = super::super::orphan::of_earlier_jobs(drive, job).await?;
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
    Ok(orphan.map_or(Sight::Untouched, Sight::Orphan))
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

/// Whether this account made a room to replace the old one.
async fn is_ours(
    port: &dyn Homeserver,
    job: &Job,
    room: &OwnedRoomId,
) -> Result<bool, HomeserverError> {
    match port.state(room).await {
        Ok(state) => Ok(super::super::orphan::is_ours(
            &state,
            &job.request.old_room,
            port,
        )),
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
            to: room.clone(),
        };
        let lost = Called::AnswerLost(at(100));
        let dead_end = |other: Option<&OwnedRoomId>| Sight::DeadEnd {
            other: other.cloned(),
        };
        for (sight, called, now, expected) in [
            (Sight::Untouched, Called::Never, 100, Act::Call),
            (Sight::Untouched, Called::Perhaps, 999, Act::LookAgain),
            (Sight::Untouched, lost, 101, Act::LookAgain),
            (Sight::Untouched, lost, 250, Act::TakeBack),
            (orphan.clone(), lost, 249, Act::LookAgain),
            (orphan.clone(), lost, 250, Act::FinishByHand(room.clone())),
            (dead_end(None), lost, 249, Act::LookAgain),
            (dead_end(None), lost, 250, Act::MakeAnother),
            (
                dead_end(Some(&room)),
                lost,
                250,
                Act::FinishByHand(room.clone()),
            ),
            (orphan, Called::Never, 100, Act::FinishByHand(room.clone())),
            (
                Sight::Switched(room.clone()),
                lost,
                100,
                Act::Finish(room.clone()),
            ),
            (
                Sight::Switched(room.clone()),
                Called::Never,
                100,
                Act::Finish(room.clone()),
            ),
            (
                foreign.clone(),
                Called::Never,
                100,
                Act::GiveWay {
                    by: by.clone(),
                    to: room.clone(),
                },
            ),
            (foreign, lost, 100, Act::GiveWay { by, to: room }),
        ] {
            assert_eq!(
                decide(&sight, called, at(now)),
                expected,
                "{sight:?} {called:?} {now}"
            );
        }
    }
}
