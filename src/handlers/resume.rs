//! `!upgrade resume [id]`: what was paused continues.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::campaign::{Course, Entry as CampaignEntry, Phase as CampaignPhase};
use crate::job::log::Hold;
use crate::job::{Entry, Phase};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::Write;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: Option<WorkId>,
) -> Result<Vec<Write>, HandleError> {
    let resume = |work: &Work| resume(context, call, work);
    let mut writes = match of {
        Some(id) => {
            let work = context.to_change(call, id).await?;
            resume(&work)?.ok_or_else(|| answer::not_paused(id))?
        }
        None => context.change_all(call, resume).await?,
    };
    if writes.is_empty() {
        return Err(answer::nothing_paused().into());
    }
    writes.push(call.react(emoji::YES));
    Ok(writes)
}

/// Nothing where it is not paused. A campaign continues with all of its jobs.
fn resume(
    context: &HandlerContext,
    call: &Call<'_>,
    work: &Work,
) -> Result<Option<Vec<Write>>, HandleError> {
    let by = || call.sender().to_owned();
    match work {
        Work::Job(job, state) if state.hold == Hold::Paused => {
            Ok(Some(context.advance(job, Entry::Resumed { by: by() })?))
        }
        Work::Campaign(campaign, state)
            if state.phase == CampaignPhase::Running && state.course == Course::Paused =>
        {
            let resumed = CampaignEntry::Resumed { by: by() };
            let mut writes = vec![campaign.append(vec![resumed]).into()];
            for (job, state) in context.children_in(campaign.id, &[Phase::Running])? {
                if state.hold == Hold::Paused {
                    writes.extend(context.advance(&job, Entry::Resumed { by: by() })?);
                }
            }
            Ok(Some(writes))
        }
        _ => Ok(None),
    }
}
