//! Looks at both rooms again, mends what can still be mended, and lists what only people can do (P7).
//!
//! A finished upgrade that is looked at again is another matter: the list gets shorter, and what
//! is on it is tried once more, but nothing else is touched.

use std::time::Duration;

use jiff::SignedDuration;

use super::close::{Stage, is_open};
use super::{Done, Drive, StepError, close, new_room, notice, plan_of};
use crate::job::{Entry, Job, Output, State, Step, StepEvent, Todo, why_missing};
use crate::room::authority;
use crate::room::diff::{Change, Part, diff};
use crate::survey;

/// How old the look at both rooms may be that was taken since the last change.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// How long after each look the next one follows; the last is repeated.
const RECHECK_AFTER: [Duration; 4] = [
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
    Duration::from_hours(24),
];

/// How often a finished upgrade is looked at again by itself; about a month.
const RECHECKS_MAX: usize = 33;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let plan = plan_of(state)?;
    let new = new_room(state)?;
    drive.seen = None;
    let open = match state.outputs.get(&Step::Verify) {
        Some(Output::Verified { todos, .. }) => Some(todos.as_slice()),
        _ => None,
    };
    let mut refused = Vec::new();
    match open {
        None => {
            let look = drive.look.take();
            drive.seen = look.filter(|look| drive.is_younger(look.read, LOOK_MAX));
            let mut changed = 0;
            for part in Part::ALL {
                let (made, not_made) =
                    close::close(drive, job, plan, &new, part, Stage::Final).await?;
                changed += made;
                refused.extend(not_made);
            }
            if changed > 0 {
                drive.seen = None;
            }
        }
        // A finished upgrade belongs to its people: what they changed since is their decision, and
        // only what was still open is tried again.
        Some(todos) => refused = close::again(drive, job, plan, &new, todos).await?,
    }
    // Only what was changed just now has to be read once more.
    let seen = match drive.seen.take() {
        Some(seen) => seen,
        None => close::read(drive, job, plan, &new, Stage::Final).await?,
    };
    let elsewhere = survey::listed_on(&*drive.port, &seen.before)
        .await
        .into_iter()
        .map(|server| Change::RemoteListing { server });
    let mut todos: Vec<Todo> = diff(&seen.target, &seen.now)
        .into_iter()
        .chain(elsewhere)
        .filter(|change| open.is_none_or(|todos| is_open(change, todos)))
        .map(|change| {
            let obstacle = authority::obstacle(
                &change,
                &seen.now,
                &seen.before.referrers,
                drive.port.account(),
            )
            .unwrap_or_else(|| why_missing(&change, &refused));
            Todo { change, obstacle }
        })
        .collect();
    // No part of the difference: whether people were told is not seen in the rooms.
    let unnoticed = match (open, state.outputs.get(&Step::Notice)) {
        (Some(todos), _) => notice::again(drive, job, plan, &new, todos).await?,
        (None, Some(Output::Noticed { refused, .. })) => refused.clone(),
        (None, _) => Vec::new(),
    };
    todos.extend(unnoticed.into_iter().map(Todo::from));
    let looks = job
        .log
        .iter()
        .filter(|(_, entry)| {
            matches!(
                entry,
                Entry::Step {
                    step: Step::Verify,
                    event: StepEvent::Succeeded { .. }
                }
            )
        })
        .count();
    let recheck_at = (!todos.is_empty() && looks < RECHECKS_MAX)
        .then(|| RECHECK_AFTER[looks.min(RECHECK_AFTER.len() - 1)])
        .and_then(|after| SignedDuration::try_from(after).ok())
        .and_then(|after| drive.clock.now().checked_add(after).ok());
    Ok(Output::Verified { todos, recheck_at }.into())
}
