//! The switch by the bot: opens the new room where it was closed, then points the old one to it.
//!
//! Both can be repeated. What is marked in the log is the moment from which nobody can take the
//! upgrade back any more.

use super::super::close::{Stage, close};
use super::super::mark::mark;
use super::super::{Done, Drive, StepError, plan_of, staged_room};
use super::{overtaken, refresh, tombstone};
use ruma::RoomId;

use crate::homeserver::HomeserverError;
use crate::job::log::Called;
use crate::job::{Job, Output, Plan, State, Step, StepEvent};
use crate::room::diff::Part;
use crate::room::join_rules::JOIN_RULES;
use crate::room::state::{RoomState, Snapshot, Tombstone};
use crate::room::target::{slot, target};
use crate::store::Write;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let plan = plan_of(state)?.clone();
    let old_room = &job.request.old_room;
    let new_room = staged_room(state)?;
    let called = state.called(Step::Switch);
    if called == Called::Never && drive.just_read().is_none() {
        refresh(drive, job).await?;
        close(drive, job, &plan, &new_room, Part::Complete, Stage::Staged).await?;
    }
    let now = drive.port.state(old_room).await?;
    if let Some(Tombstone {
        replacement: Some(to),
        sender,
    }) = now.replaced()
    {
        return if to == new_room {
            Ok(Output::Switched { new_room }.into())
        } else {
            stop(drive, job, called, overtaken(&sender, &to, old_room))
        };
    }
    if called == Called::Never {
        bring_up_to(drive, job, &plan, &new_room, &now).await?;
    }
    // What the steps before this one have just completed, if they did.
    let mut seen = drive.seen.take();
    let new = match &seen {
        Some(seen) if called == Called::Never && drive.holds(seen.read) => seen.now.new.clone(),
        _ => drive.port.state(&new_room).await?,
    };
    if let Some(tombstone) = new.tombstone() {
        return stop(
            drive,
            job,
            called,
            StepError::Fail {
                problem: format!(
                    "{} closed the new room before anybody was sent there.",
                    tombstone.sender
                ),
            },
        );
    }

    // Whoever looked at the room may have chosen another rule: theirs stays.
    let before = drive.snapshot(job)?;
    let target = target(&before, &plan.intent, &new_room);
    let rules = new.event(JOIN_RULES, "");
    let ours = rules.is_none_or(|rules| rules.sender == plan.intent.bot);
    if let Some(wanted) = target.new_state.get(&slot(JOIN_RULES, ""))
        && ours
        && rules.map(|rules| &rules.content) != Some(wanted)
    {
        drive
            .port
            .put_state(&new_room, JOIN_RULES, "", wanted)
            .await?;
        if let Some(seen) = &mut seen {
            let by = drive.port.account();
            seen.now.new.put(slot(JOIN_RULES, ""), by, wanted.clone());
        }
    }
    let content = tombstone(drive, &plan, &new_room)?;
    if called == Called::Never {
        let at = drive.clock.now();
        mark(drive, job, Step::Switch, StepEvent::Called { at })?;
    }
    match drive
        .port
        .put_state(old_room, "m.room.tombstone", "", &content)
        .await
    {
        Ok(_) => {
            drive.seen = seen;
            Ok(Output::Switched { new_room }.into())
        }
        Err(HomeserverError::Refused { code, message, .. }) => {
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            Err(StepError::Fail {
                problem: format!(
                    "The server did not let me close the old room: {message} ({code})."
                ),
            })
        }
        Err(
            error @ (HomeserverError::RateLimited { .. } | HomeserverError::AccountBlocked { .. }),
        ) => {
            // Nothing left the bot or arrived: it can still be taken back while it waits.
            mark(drive, job, Step::Switch, StepEvent::Undone)?;
            Err(error.into())
        }
        // It looks again before it sends again.
        Err(error) => Err(error.into()),
    }
}

/// Takes over what people changed in the old room since it was stored: nothing older than this moment is
/// written (P12).
async fn bring_up_to(
    drive: &mut Drive,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    now: &RoomState,
) -> Result<(), StepError> {
    let stored = drive.snapshot(job)?;
    let before = stored.brought_up_to(now);
    if before == stored {
        return Ok(());
    }
    let of = |before: &Snapshot| target(before, &plan.intent, new_room);
    let is_as_wanted = of(&before) == of(&stored);
    let since = drive.reading();
    let snapshot = Write::Snapshot {
        job: job.id,
        snapshot: Box::new(before.clone()),
    };
    drive.store.commit(drive.clock.now(), &[snapshot])?;
    drive.has_read(since, before);
    if !is_as_wanted {
        drive.seen = None;
        close(drive, job, plan, new_room, Part::Complete, Stage::Staged).await?;
    }
    Ok(())
}

/// Nothing comes of the switch; what was made is taken back.
fn stop(drive: &Drive, job: &Job, called: Called, why: StepError) -> Result<Done, StepError> {
    if called != Called::Never {
        mark(drive, job, Step::Switch, StepEvent::Undone)?;
    }
    Err(why)
}
