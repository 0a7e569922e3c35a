//! Reads both rooms again, mends what can still be mended, and lists what only people can do (P7).
//!
//! The same for a finished upgrade that is looked at again: what people did meanwhile is no longer
//! in the difference, and so no longer on the list.

use std::time::Duration;

use jiff::SignedDuration;

use super::{Done, Drive, StepError, close, new_room, plan_of};
use crate::job::{Entry, Job, Output, Refusal, State, Step, StepEvent, Todo};
use crate::room::authority;
use crate::room::diff::{Obstacle, Part, diff};

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
    let mut refused = Vec::new();
    for part in [
        Part::Complete,
        Part::Aliases,
        Part::Directory,
        Part::Spaces,
        Part::Lock,
    ] {
        refused.extend(close::close(drive, job, plan, &new, part).await?.1);
    }
    // Only what was changed just now has to be read once more.
    let seen = close::read(drive, job, plan, &new).await?;
    let mut todos: Vec<Todo> = diff(&seen.target, &seen.now)
        .into_iter()
        .map(|change| {
            let refusal = refused.iter().find(|refusal| refusal.change == change);
            let obstacle = authority::obstacle(
                &change,
                &seen.now,
                &seen.before.referrers,
                drive.port.account(),
            )
            .or_else(|| {
                refusal.map(|Refusal { code, message, .. }| Obstacle::Refused {
                    code: code.clone(),
                    message: message.clone(),
                })
            })
            .unwrap_or(Obstacle::DidNotTake);
            Todo { change, obstacle }
        })
        .collect();
    if let Some(Output::Noticed { refused, .. }) = state.outputs.get(&Step::Notice) {
        todos.extend(refused.iter().map(|refusal| Todo {
            change: refusal.change.clone(),
            obstacle: Obstacle::Refused {
                code: refusal.code.clone(),
                message: refusal.message.clone(),
            },
        }));
    }
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
