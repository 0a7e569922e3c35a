//! `!upgrade stragglers <id|room>`: who has not come to the new room.

use super::{Call, Desk, HandleError};
use crate::message::follow_up;
use crate::model::{CampaignId, JobRef};
use crate::store::Write;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    of: &JobRef,
) -> Result<Vec<Write>, HandleError> {
    if let JobRef::Campaign(id) = of {
        return campaign(desk, call, *id).await;
    }
    let (job, state) = desk.named_job(call, of).await?;
    let moves = desk.moves(&job, &state).await?;
    let label = state.plan.as_ref().map_or("", |plan| &plan.label);
    Ok(call.answer(follow_up::stragglers(job.id, label, &moves)))
}

/// Everybody who has not come to some room of a campaign.
async fn campaign(desk: &Desk, call: &Call<'_>, id: CampaignId) -> Result<Vec<Write>, HandleError> {
    let (_, state) = desk.campaign(call, id)?;
    let mut rooms = Vec::new();
    for (job, state) in desk.followed_in(id)? {
        if let Some(moves) = desk.moves_if_done(&job, &state).await? {
            let label = state.plan.map(|plan| plan.label).unwrap_or_default();
            rooms.push((label, moves));
        }
    }
    let label = state.found.map(|found| found.label).unwrap_or_default();
    Ok(call.answer(follow_up::stragglers_of_campaign(id, &label, &rooms)))
}
