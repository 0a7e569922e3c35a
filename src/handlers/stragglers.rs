//! `!upgrade stragglers <id|room>`: who has not come to the new room.

use super::{Call, HandleError, HandlerContext};
use crate::message::follow_up;
use crate::model::{CampaignId, JobRef};
use crate::store::Write;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: &JobRef,
) -> Result<Vec<Write>, HandleError> {
    if let JobRef::Campaign(id) = of {
        return campaign(context, call, *id).await;
    }
    let (job, state) = context.named_job(call, of).await?;
    let moves = context.moves(&job, &state).await?;
    let label = state.plan.as_ref().map_or("", |plan| &plan.label);
    Ok(call.answer(follow_up::stragglers(job.id, label, &moves)))
}

/// Everybody who has not come to some room of a campaign.
async fn campaign(
    context: &HandlerContext,
    call: &Call<'_>,
    id: CampaignId,
) -> Result<Vec<Write>, HandleError> {
    let (_, state) = context.campaign(call, id)?;
    let mut rooms = Vec::new();
    for (job, state) in context.followed_in(id)? {
        if let Some(moves) = context.moves_if_done(&job, &state).await? {
            let label = state.plan.map(|plan| plan.label).unwrap_or_default();
            rooms.push((label, moves));
        }
    }
    let label = state.found.map(|found| found.label).unwrap_or_default();
    Ok(call.answer(follow_up::stragglers_of_campaign(id, &label, &rooms)))
}
