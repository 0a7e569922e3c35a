//! The switch by the bot: opens the new room where it was closed, then points the old one to it.
//!
//! Both can be repeated. What is marked in the log is the moment from which nobody can take the
//! upgrade back any more.

use std::collections::BTreeSet;

use futures_util::future::try_join;
use ruma::{OwnedRoomAliasId, OwnedUserId, RoomId};

use super::super::close::{Stage, close};
use super::super::mark::mark;
use super::super::{Done, JobRun, StepError, plan_of, staged_room};
use super::{overtaken, refresh, tombstone};
use crate::homeserver::{Bucket, HomeserverError, Reserved};
use crate::job::state::Called;
use crate::job::{Job, Output, Plan, State, Step, StepEvent};
use crate::message::problem::{Problem, Said};
use crate::room::change::Part;
use crate::room::join_rules::JOIN_RULES;
use crate::room::state::{RoomState, Snapshot, Tombstone, slot};
use crate::room::target::target;
use crate::store::Write;
use crate::survey;

/// How often the old room is looked at again, as what comes before the tombstone had to wait.
const LOOKS_MAX: usize = 4;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let plan = plan_of(state)?.clone();
    let old_room = &job.request.old_room;
    let new_room = staged_room(state)?;
    let called = state.called(Step::Switch);
    // Before the look, so that nobody is faster between the two.
    job_run.port.reserve(Bucket::Everything).await?;
    if called == Called::Never && job_run.just_read().is_none() {
        refresh(job_run, job).await?;
        close(
            job_run,
            job,
            &plan,
            &new_room,
            Part::Complete,
            Stage::Staged,
        )
        .await?;
    }
    for _ in 0..LOOKS_MAX {
        let (now, aliases) = try_join(
            job_run.port.state(old_room),
            job_run.port.local_aliases(old_room),
        )
        .await?;
        if let Some(Tombstone {
            replacement: Some(to),
            sender,
        }) = now.replaced()
        {
            return if to == new_room {
                Ok(Output::Switched { new_room }.into())
            } else {
                stop(job_run, job, called, overtaken(&sender, &to, old_room))
            };
        }
        if called == Called::Never {
            bring_up_to(job_run, job, &plan, &new_room, &now, aliases).await?;
        }
        if let Some(sender) = open(job_run, job, &plan, &new_room, called).await? {
            let problem = Problem::NewRoomClosed(sender);
            return stop(job_run, job, called, StepError::Fail { problem });
        }
        // The turn may have been used for the new room. Whoever waited for another looks again.
        if job_run.port.reserve(Bucket::Everything).await? == Reserved::AtOnce {
            break;
        }
    }
    let content = tombstone(job_run, &plan, &new_room)?;
    if called == Called::Never {
        let at = job_run.clock.now();
        mark(job_run, job, Step::Switch, StepEvent::Called { at })?;
    }
    match job_run
        .port
        .put_state(old_room, "m.room.tombstone", "", &content)
        .await
    {
        Ok(_) => Ok(Output::Switched { new_room }.into()),
        Err(HomeserverError::Refused { code, message, .. }) => {
            mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Fail {
                problem: Problem::TombstoneRefused(Said { message, code }),
            })
        }
        Err(
            error @ (HomeserverError::RateLimited { .. } | HomeserverError::AccountBlocked { .. }),
        ) => {
            // Nothing left the bot or arrived: it can still be taken back while it waits.
            mark(job_run, job, Step::Switch, StepEvent::Undone)?;
            Err(error.into())
        }
        // It looks again before it sends again.
        Err(error) => Err(error.into()),
    }
}

/// Lets people in by the rule that the new room is to have. Returns who closed the new room, if somebody did.
async fn open(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    called: Called,
) -> Result<Option<OwnedUserId>, StepError> {
    // What the steps before this one have just completed, if they did.
    let mut seen = job_run.seen.take();
    let new = match &seen {
        Some(seen) if called == Called::Never && job_run.holds(seen.read) => seen.now.new.clone(),
        _ => {
            let new = survey::joined_state(&*job_run.port, new_room).await?;
            let problem = Problem::NotInNewRoom;
            new.ok_or(StepError::Fail { problem })?
        }
    };
    if let Some(tombstone) = new.tombstone() {
        return Ok(Some(tombstone.sender));
    }
    // Whoever looked at the room may have chosen another rule: theirs stays.
    let before = job_run.snapshot(job)?;
    let target = target(&before, &plan.intent, new_room);
    let rules = new.event(JOIN_RULES, "");
    let ours = rules.is_none_or(|rules| rules.sender == plan.intent.bot);
    if let Some(wanted) = target.new_state.get(&slot(JOIN_RULES, ""))
        && ours
        && rules.map(|rules| &rules.content) != Some(wanted)
    {
        job_run
            .port
            .put_state(new_room, JOIN_RULES, "", wanted)
            .await?;
        if let Some(seen) = &mut seen {
            let by = job_run.port.account();
            seen.now.new.put(slot(JOIN_RULES, ""), by, wanted.clone());
        }
    }
    job_run.seen = seen;
    Ok(None)
}

/// Takes over what people changed in the old room since it was stored: nothing older than this moment is
/// written (P12).
async fn bring_up_to(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    now: &RoomState,
    aliases: BTreeSet<OwnedRoomAliasId>,
) -> Result<(), StepError> {
    let stored = job_run.snapshot(job)?;
    let before = Snapshot {
        aliases,
        ..stored.brought_up_to(now)
    };
    if before == stored {
        return Ok(());
    }
    let of = |before: &Snapshot| target(before, &plan.intent, new_room);
    let is_as_wanted = of(&before) == of(&stored);
    let since = job_run.reading();
    let snapshot = Write::Snapshot {
        job: job.id,
        snapshot: Box::new(before.clone()),
    };
    job_run.store.commit(job_run.clock.now(), &[snapshot])?;
    job_run.has_read(since, before);
    if !is_as_wanted {
        job_run.seen = None;
        close(job_run, job, plan, new_room, Part::Complete, Stage::Staged).await?;
    }
    Ok(())
}

/// Nothing comes of the switch; what was made is taken back.
fn stop(job_run: &JobRun, job: &Job, called: Called, why: StepError) -> Result<Done, StepError> {
    if called != Called::Never {
        mark(job_run, job, Step::Switch, StepEvent::Undone)?;
    }
    Err(why)
}
