//! `!upgrade cancel <id>`, and ❌ on a plan or a review: ends an upgrade, as long as that is possible.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::campaign::Entry as CampaignEntry;
use crate::job::{Entry, Phase, State};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::{ReceivedKind, Write};

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    id: WorkId,
) -> Result<Vec<Write>, HandleError> {
    let by = call.sender().to_owned();
    let entry = Entry::Cancelled { by: by.clone() };
    let mut writes = match context.to_change(call, id).await? {
        Work::Job(job, state) if can_end(&state) => context.advance(&job, entry)?,
        Work::Job(job, state) if state.phase == Phase::Running => {
            return Err(answer::past_rolling_back(job.id).into());
        }
        // Its jobs that point to their new rooms already are finished.
        Work::Campaign(campaign, state) if !state.phase.is_end() => {
            context.end_campaign(&campaign, CampaignEntry::Cancelled { by }, &entry)?
        }
        work => return Err(work.wrong_moment().into()),
    };
    // A reaction needs no reaction.
    if !matches!(call.received.kind, ReceivedKind::Reaction { .. }) {
        writes.push(call.react(emoji::YES));
    }
    Ok(writes)
}

fn can_end(state: &State) -> bool {
    match state.phase {
        Phase::Planning | Phase::Planned | Phase::InReview => true,
        Phase::Running => state.can_roll_back(),
        _ => false,
    }
}
