//! `!upgrade verify <id|room>`: has the worker try the to-dos of a finished upgrade again, and tick
//! off those that are done.

use super::authorise::Work;
use super::{Call, HandleError, HandlerContext};
use crate::command::Need;
use crate::job::{Entry, Phase};
use crate::message::report::todos;
use crate::message::{answer, emoji};
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
    context
        .authorise(call, Work::Job(&job), Need::Change)
        .await?;
    if state.phase != Phase::Done {
        return Err(answer::wrong_moment(job.id, &state).into());
    }
    let entry = Entry::Rechecked {
        by: call.sender().to_owned(),
        at: context.clock.now(),
    };
    let mut writes = context.advance(&job, entry)?;
    writes.push(call.react(emoji::YES));
    Ok(writes)
}

/// Everything that is left to do in the rooms of a campaign.
async fn campaign(
    context: &HandlerContext,
    call: &Call<'_>,
    id: CampaignId,
) -> Result<Vec<Write>, HandleError> {
    let (_, state) = context.campaign_to_change(call, id).await?;
    let mut writes = Vec::new();
    for (job, _) in context
        .children_in(id, &[Phase::Done])?
        .iter()
        .filter(|(_, state)| !todos(state).is_empty())
    {
        let entry = Entry::Rechecked {
            by: call.sender().to_owned(),
            at: context.clock.now(),
        };
        writes.extend(context.advance(job, entry)?);
    }
    if writes.is_empty() {
        return Err(answer::nothing_to_verify(id, state.phase).into());
    }
    writes.push(call.react(emoji::YES));
    Ok(writes)
}
