//! Closes one part of the difference between what is and what should be: the work of most steps.
//!
//! What the server refuses is written down and does not stop the rest: after the switch there is
//! only forward, and `verify` makes a to-do of it.

use std::collections::VecDeque;
use std::sync::Arc;

use ruma::RoomId;

use super::super::inviter::{Invited, Inviter};
use super::address::{move_alias, show_again, show_moved, show_others};
use super::{Done, JobRun, Read, RequestFailure, Seen, StepError, new_room, plan_of};
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::log::Progress;
use crate::job::{Job, Output, Plan, Refusal, State, Todo};
use crate::message::member::{Variables, render};
use crate::message::problem::Problem;
use crate::room::change::{Change, Observed, Part, Side};
use crate::room::creation::staged;
use crate::room::diff::diff;
use crate::room::predict::after_switch;
use crate::room::state::{Listing, RoomState, Snapshot};
use crate::room::target::{Target, target};
use crate::survey;
use crate::worker::steps::prepare::{is_main_address, prepared};

/// Said of what is left where it is, as its replacement was refused.
const TOO_EARLY: &str = "the new room has not taken its place";

/// Said of an invitation in place of a server's own words, where there was no answer.
const AWAY: &str = "their server does not answer";

/// What the new room is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Stage {
    /// What it should be until the switch.
    Staged,
    /// What it should be in the end.
    Final,
}

/// A step that does nothing but close its part.
pub(super) async fn step(
    job_run: &mut JobRun,
    job: &Job,
    state: &State,
    part: Part,
) -> Result<Done, StepError> {
    let plan = plan_of(state)?;
    let (made, refused) = close(job_run, job, plan, &new_room(state)?, part, Stage::Final).await?;
    Ok(Output::Closed { made, refused }.into())
}

/// Makes the changes of one part; says how many were made and which were refused.
pub(super) async fn close(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    part: Part,
    stage: Stage,
) -> Result<(usize, Vec<Refusal>), StepError> {
    let mut seen = match take_seen(job_run, plan, new_room, stage) {
        Some(seen) => seen,
        None => read(job_run, job, plan, new_room, stage).await?,
    };
    let mut to_make = VecDeque::from(changes(&seen, job, part));
    match make(job_run, job, plan, &mut seen, &mut to_make).await {
        Ok(done) => {
            job_run.seen = Some(seen);
            Ok(done)
        }
        Err(StepError::RateLimited { limit, .. }) => {
            let left = to_make.len();
            let all = total(&seen.target, part).max(left);
            Err(StepError::RateLimited {
                limit,
                progress: Some(Progress {
                    done: all - left,
                    all,
                }),
            })
        }
        // What was seen is dropped: after a doubtful answer the rooms are read again.
        Err(error) => Err(error),
    }
}

/// Makes changes in their order, and keeps what was seen up with them; says how many were made and which
/// were refused. After an error, those that are still to be made are left.
async fn make(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    seen: &mut Seen,
    to_make: &mut VecDeque<Change>,
) -> Result<(usize, Vec<Refusal>), StepError> {
    let port = Arc::clone(&job_run.port);
    let port = &*port;
    let new_room = seen.now.new.room_id.clone();
    let variables = Variables::of(plan, &new_room, port.server_name());
    let reason = render(&job_run.setup.messages.invite, &variables)?;
    let (mut made, mut refused) = (0, Vec::new());
    let mut inviter = Inviter::new(port, &new_room, &reason);
    let mut to_try_again = None;
    let (mut limited, mut wait) = (VecDeque::new(), None);
    while let Some(change) = to_make.pop_front() {
        let Some(change) = prepared(job_run, seen, change).await? else {
            continue;
        };
        let outcome = if change.is_too_early(&seen.now) {
            Ok(Attempt::Refused(too_early(&change)))
        } else {
            attempt_unless_known(job_run, &change, job, &mut inviter).await
        };
        match outcome {
            Ok(Attempt::Made) => {
                seen.now.apply(&change, port.account());
                made += 1;
                let next = to_make.front();
                if is_main_address(&change, &seen.target)
                    && next.is_some_and(|next| matches!(next, Change::MoveAlias { .. }))
                {
                    show_moved(port, seen).await;
                }
            }
            Ok(Attempt::Unanswered(error)) => {
                // It may lead nowhere: nothing else is done before it is looked at again.
                if let Change::MoveAlias { alias, .. } = &change {
                    show_again(port, alias, seen).await?;
                    return Err(unanswered(error));
                }
                // The others are made meanwhile.
                to_try_again = Some(error);
                continue;
            }
            Ok(Attempt::Refused(refusal)) => {
                refused.push(refusal);
                made += show_others(port, &change, &mut seen.now.new).await?;
                if let Change::MoveAlias { alias, .. } = &change {
                    show_again(port, alias, seen).await?;
                }
            }
            // Perhaps only this person is invited too often: the next is tried.
            Err(HomeserverError::RateLimited { limit, .. })
                if matches!(change, Change::Invite { .. }) =>
            {
                let limits = wait.into_iter().chain([limit]);
                wait = limits.min_by_key(|limit| limit.retry_after);
                limited.push_back(change);
                continue;
            }
            Err(error) => {
                if matches!(change, Change::MoveAlias { .. }) {
                    show_moved(port, seen).await;
                }
                to_make.push_front(change);
                return Err(error.into());
            }
        }
        // An address that leads to the new room again can be shown there again.
        if to_make.is_empty() && matches!(change, Change::MoveAlias { .. }) {
            let shows = |change: &Change| matches!(change, Change::ShowAliases { side, .. } if *side == Side::New);
            let changes = changes(seen, job, Part::Aliases).into_iter();
            to_make.extend(changes.filter(shows));
        }
    }
    if let Some(limit) = wait {
        *to_make = limited;
        return Err(StepError::RateLimited {
            limit,
            progress: None,
        });
    }
    match to_try_again {
        None => Ok((made, refused)),
        Some(error) => Err(unanswered(error)),
    }
}

fn unanswered(error: HomeserverError) -> StepError {
    StepError::Retry {
        problem: Problem::ChangeUnanswered(error.request().to_owned()),
        source: Some(Box::new(error)),
    }
}

/// What came of a change.
enum Attempt {
    Made,
    Refused(Refusal),
    /// There was no certain answer; it is tried again.
    Unanswered(HomeserverError),
}

fn too_early(change: &Change) -> Refusal {
    Refusal {
        change: change.clone(),
        code: String::new(),
        message: TOO_EARLY.to_owned(),
    }
}

/// Makes a change, unless it was refused before in this step.
async fn attempt_unless_known(
    job_run: &mut JobRun,
    change: &Change,
    job: &Job,
    inviter: &mut Inviter<'_>,
) -> Result<Attempt, HomeserverError> {
    let mut known = job_run.kept.refused.iter();
    if let Some(known) = known.find(|known| known.change.is_about_the_same(change)) {
        return Ok(Attempt::Refused(known.clone()));
    }
    let port = Arc::clone(&job_run.port);
    let refusal = match attempt(&*port, change, job, inviter).await {
        Ok(None) => return Ok(Attempt::Made),
        Ok(Some(refusal)) => refusal,
        Err(error @ HomeserverError::Uncertain { .. }) => match job_run.failed(error).await? {
            RequestFailure::GivenUp(message) => Refusal {
                change: change.clone(),
                code: String::new(),
                message,
            },
            RequestFailure::TryAgain(error) => return Ok(Attempt::Unanswered(error)),
        },
        Err(error) => return Err(error),
    };
    job_run.kept.refused.push(refusal.clone());
    Ok(Attempt::Refused(refusal))
}

/// What the step of a part leaves that has nothing to do, as far as that is known without asking.
pub(super) fn idle(job_run: &mut JobRun, job: &Job, state: &State, part: Part) -> Option<Output> {
    let (plan, new_room) = (state.plan.as_ref()?, state.new_room()?);
    let seen = take_seen(job_run, plan, new_room, Stage::Final)?;
    let is_idle = changes(&seen, job, part).is_empty();
    job_run.seen = Some(seen);
    is_idle.then(|| Output::Closed {
        made: 0,
        refused: Vec::new(),
    })
}

/// The changes of a part that are the bot's to make.
fn changes(seen: &Seen, job: &Job, part: Part) -> Vec<Change> {
    diff(&seen.target, &seen.now)
        .into_iter()
        .filter(|change| change.part() == part && !change.is_for_people(&job.request.old_room))
        .collect()
}

/// Takes what this run saw of both rooms, where that still holds for a part; what does not is dropped.
fn take_seen(job_run: &mut JobRun, plan: &Plan, new_room: &RoomId, stage: Stage) -> Option<Seen> {
    let seen = job_run
        .seen
        .take()
        .filter(|seen| seen.now.new.room_id == new_room)?;
    if !job_run.holds(seen.read) {
        return None;
    }
    if seen.stage == stage {
        return Some(seen);
    }
    let before = job_run.just_read()?;
    (stage == Stage::Final).then(|| switched(seen.now.new, seen.read, before, plan))
}

/// Tries again what was left to people, where nothing hinders the bot any more; says what is
/// refused all the same.
pub(super) async fn again(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    todos: &[Todo],
) -> Result<Vec<Refusal>, StepError> {
    let mut seen = read(job_run, job, plan, new_room, Stage::Final).await?;
    let mut to_make: VecDeque<_> = diff(&seen.target, &seen.now)
        .into_iter()
        .filter(|change| is_open(change, todos) && !change.is_for_people(&job.request.old_room))
        .collect();
    let (_, refused) = make(job_run, job, plan, &mut seen, &mut to_make).await?;
    Ok(refused)
}

/// Whether a change was among the to-dos, or had to wait for one of them.
pub(super) fn is_open(change: &Change, todos: &[Todo]) -> bool {
    todos
        .iter()
        .any(|todo| todo.change.is_about_the_same(change) || change.had_to_wait_for(&todo.change))
}

/// Makes a change, or says why it was not made.
async fn attempt(
    port: &dyn Homeserver,
    change: &Change,
    job: &Job,
    inviter: &mut Inviter<'_>,
) -> Result<Option<Refusal>, HomeserverError> {
    let not_made = |code: &str, message: &str| {
        Ok(Some(Refusal {
            change: change.clone(),
            code: code.to_owned(),
            message: message.to_owned(),
        }))
    };
    if let Change::Invite { user, .. } = change {
        return match inviter.invite(user).await? {
            Invited::Yes => Ok(None),
            Invited::Refused { code, message } => not_made(&code, &message),
            Invited::Away => not_made("", AWAY),
        };
    }
    match apply(port, change, &job.request.old_room, inviter.room()).await {
        Ok(()) => Ok(None),
        Err(HomeserverError::Refused { code, message, .. }) => not_made(&code, &message),
        Err(error) => Err(error),
    }
}

/// How much there is of a part, done or not, where that can be many.
fn total(target: &Target, part: Part) -> usize {
    match part {
        Part::Complete => target.new_state.len() + target.bans.len(),
        Part::Invite => target.guests.len(),
        Part::Aliases | Part::Directory | Part::Spaces | Part::Access | Part::Lock => 0,
    }
}

pub(super) async fn read(
    job_run: &JobRun,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    stage: Stage,
) -> Result<Seen, StepError> {
    let since = job_run.reading();
    let port = &*job_run.port;
    let before = job_run.snapshot(job)?;
    let (mut before, old) = match stage {
        // Nothing of it is changed yet.
        Stage::Staged => (before.clone(), before.room),
        Stage::Final => match survey::old_room(port, &before.room.room_id).await? {
            Some(old) => (before.brought_up_to(&old), old),
            None => (before.clone(), before.room),
        },
    };
    if stage == Stage::Final {
        survey::add_seen_spaces(port, &mut before).await?;
    }
    let last = target(&before, &plan.intent, new_room);
    let target = match stage {
        Stage::Staged => staged(&last, &plan.intent),
        Stage::Final => last,
    };
    let now = survey::observe(port, &before, old, &target, new_room).await?;
    if stage == Stage::Staged && !now.new.has_joined(port.account()) {
        return Err(StepError::Fail {
            problem: Problem::NotInNewRoom,
        });
    }
    Ok(Seen {
        read: since,
        stage,
        before,
        target,
        now,
    })
}

/// Both rooms after a switch by the bot, where it had read both itself just before: nothing is
/// read again. What somebody changed in between is seen by `verify`, which looks anew, unless the
/// bot has overwritten it by then: hence only what was read just now is gone on from.
fn switched(new: RoomState, read: Read, before: &Snapshot, plan: &Plan) -> Seen {
    let target = target(before, &plan.intent, &new.room_id);
    let after = after_switch(before, &plan.intent, &target, &new.room_id);
    let now = Observed { new, ..after };
    Seen {
        read,
        stage: Stage::Final,
        before: before.clone(),
        target,
        now,
    }
}

async fn apply(
    port: &dyn Homeserver,
    change: &Change,
    old_room: &RoomId,
    new_room: &RoomId,
) -> Result<(), HomeserverError> {
    let room = |side: &Side| match side {
        Side::Old => old_room,
        Side::New => new_room,
    };
    match change {
        Change::NewState { slot, content } => {
            port.put_state(new_room, &slot.0, &slot.1, content).await?;
        }
        Change::Ban { user, reason } => port.ban(new_room, user, reason.as_deref()).await?,
        Change::MoveAlias { alias, now } => {
            move_alias(port, alias, now.as_deref(), old_room, new_room).await?;
        }
        Change::RemoteAlias { .. }
        | Change::RemoteListing { .. }
        | Change::Arrival { .. }
        | Change::Knock { .. }
        | Change::UnseenSpace { .. }
        | Change::Uninvited { .. }
        | Change::Tombstone { .. }
        // One at a time, by `Inviter`.
        | Change::Invite { .. } => {}
        Change::ShowAliases { side, content, .. } => {
            port.put_state(room(side), "m.room.canonical_alias", "", content)
                .await?;
        }
        Change::List { side, listing } => {
            let listing: Listing = *listing;
            port.set_listing(room(side), listing).await?;
        }
        Change::OtherState {
            room,
            slot,
            content,
        } => {
            port.put_state(room, &slot.0, &slot.1, content).await?;
        }
        Change::Lock { content } => {
            port.put_state(old_room, "m.room.power_levels", "", content)
                .await?;
        }
    }
    Ok(())
}
