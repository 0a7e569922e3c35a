//! `!upgrade confirm <id>`, and ✅: yes to the plan that was shown, and to no other (P4), or to the
//! new room in review.

use super::{Call, Desk, HandleError};
use crate::announce;
use crate::job::{Action, Phase, schedule};
use crate::message::{answer, emoji};
use crate::model::{Confirmation, JobId};
use crate::store::Write;

/// Which plan somebody says yes to.
pub(super) enum Plan {
    /// The one in force; it is the last that was shown.
    Current,
    /// The one that they reacted to.
    Shown(String),
}

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    id: JobId,
    plan: Plan,
) -> Result<Vec<Write>, HandleError> {
    let (job, state) = match desk.job_to_change(call, id).await? {
        Ok(found) => found,
        Err(text) => return Ok(call.refuse(text)),
    };
    let current = match &state.plan {
        Some(current) if matches!(state.phase, Phase::Planned | Phase::InReview) => current,
        _ => return Ok(call.refuse(answer::wrong_moment(id, state.phase))),
    };
    let is_shown = match &plan {
        Plan::Current => true,
        Plan::Shown(hash) => *hash == current.hash,
    };
    let is_late = matches!(
        state.next_action(),
        Action::AwaitConfirmation(until) if until <= desk.clock.now()
    );
    if !is_shown || is_late {
        return Ok(call.refuse(answer::wrong_moment(id, Phase::Expired)));
    }
    if job.request.confirmation == Confirmation::PlanOnly {
        return Ok(call.refuse(answer::wrong_moment(id, Phase::Closed)));
    }
    let by = call.sender().to_owned();
    let now = desk.clock.now();
    let entries = schedule::confirmed(state.phase, current, by, now);
    let mut writes = announce::advance(&job, entries, now)?;
    // A reaction needs no reaction.
    if matches!(plan, Plan::Current) {
        writes.push(call.react(emoji::YES));
    }
    Ok(writes)
}
