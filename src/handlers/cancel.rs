//! `!upgrade cancel <id>`, and ❌ on a plan or a review: takes an upgrade back, as long as that is
//! possible.

use super::{Call, HandleError, HandlerContext};
use crate::campaign::{Campaign, Entry as CampaignEntry};
use crate::job::{Entry, Phase, State};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::Write;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    id: WorkId,
) -> Result<Vec<Write>, HandleError> {
    let mut writes = match id {
        WorkId::Job(id) => {
            let (job, state) = context.job_to_change(call, id).await?;
            if !can_end(&state) {
                return Err(match state.phase {
                    Phase::Running => answer::past_rolling_back(id).into(),
                    _ => answer::wrong_moment(id, &state).into(),
                });
            }
            let by = call.sender().to_owned();
            context.advance(&job, Entry::Cancelled { by })?
        }
        WorkId::Campaign(id) => {
            let (campaign, state) = context.campaign_to_change(call, id).await?;
            if state.phase.is_end() {
                return Err(answer::wrong_moment_of(id, state.phase, state.course).into());
            }
            campaign_ends(context, call, &campaign)?
        }
    };
    if !matches!(
        call.received.kind,
        crate::store::ReceivedKind::Reaction { .. }
    ) {
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

/// Ends a campaign, and those of its jobs that can still be taken back. Rooms that lead to their new one
/// already are finished.
fn campaign_ends(
    context: &HandlerContext,
    call: &Call<'_>,
    campaign: &Campaign,
) -> Result<Vec<Write>, HandleError> {
    let by = call.sender().to_owned();
    let entry = CampaignEntry::Cancelled { by: by.clone() };
    Ok(context.end_campaign(campaign, entry, &Entry::Cancelled { by })?)
}
