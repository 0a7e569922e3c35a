//! `!upgrade stragglers <id|room>`: who has not come to the new room.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::message::follow_up;
use crate::model::JobRef;
use crate::store::Write;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: &JobRef,
) -> Result<Vec<Write>, HandleError> {
    let (campaign, state) = match context.named(call, of).await? {
        Work::Job(job, state) => {
            let moves = context.moves(&job, &state).await?;
            let label = state.plan.as_ref().map_or("", |plan| &plan.label);
            return Ok(call.answer(follow_up::stragglers(job.id, label, &moves)));
        }
        Work::Campaign(campaign, state) => (campaign, state),
    };
    let id = campaign.id;
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
