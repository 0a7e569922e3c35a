//! `!upgrade resume [id]`: what was paused goes on.

use super::authorise::Work;
use super::{Call, HandleError, HandlerContext};
use crate::campaign::{Campaign, Course, Entry as CampaignEntry, Phase as CampaignPhase, State};
use crate::job::log::Hold;
use crate::job::{Entry, Phase};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::{Filter, Write};

/// Jobs and campaigns that go on at once by a command without a number.
const ALL_MAX: usize = 1000;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: Option<WorkId>,
) -> Result<Vec<Write>, HandleError> {
    let mut writes = match of {
        Some(WorkId::Job(id)) => {
            let (job, state) = context.job_to_change(call, id).await?;
            if state.hold != Hold::Paused {
                return Err(answer::not_paused(WorkId::Job(id)).into());
            }
            let by = call.sender().to_owned();
            context.advance(&job, Entry::Resumed { by })?
        }
        Some(WorkId::Campaign(id)) => {
            let (campaign, state) = context.campaign_to_change(call, id).await?;
            if !is_held(&state) {
                return Err(answer::not_paused(WorkId::Campaign(id)).into());
            }
            let_go(context, call, &campaign)?
        }
        None => everything(context, call).await?,
    };
    if writes.is_empty() {
        return Err(answer::nothing_paused().into());
    }
    writes.push(call.react(emoji::YES));
    Ok(writes)
}

fn is_held(state: &State) -> bool {
    state.phase == CampaignPhase::Running && state.course == Course::Paused
}

/// What they may not change by its number, they may not change along with others either.
async fn everything(context: &HandlerContext, call: &Call<'_>) -> Result<Vec<Write>, HandleError> {
    let (store, room) = (&context.store, &call.admin_room.room_id);
    let mut writes = Vec::new();
    for campaign in store.campaigns(room, Filter::Active, ALL_MAX)? {
        let Ok(state) = campaign.state() else {
            continue;
        };
        if is_held(&state) && context.may_change(call, Work::Campaign(&campaign)).await? {
            writes.extend(let_go(context, call, &campaign)?);
        }
    }
    for job in store.jobs(room, Filter::Active, ALL_MAX)? {
        let Ok(state) = job.state() else { continue };
        if state.hold == Hold::Paused && context.may_change(call, Work::Job(&job)).await? {
            let by = call.sender().to_owned();
            writes.extend(context.advance(&job, Entry::Resumed { by })?);
        }
    }
    Ok(writes)
}

fn let_go(
    context: &HandlerContext,
    call: &Call<'_>,
    campaign: &Campaign,
) -> Result<Vec<Write>, HandleError> {
    let by = call.sender().to_owned();
    let resumed = CampaignEntry::Resumed { by: by.clone() };
    let mut writes = vec![campaign.append(vec![resumed]).into()];
    for (job, state) in context.children_in(campaign.id, &[Phase::Running])? {
        if state.hold == Hold::Paused {
            writes.extend(context.advance(&job, Entry::Resumed { by: by.clone() })?);
        }
    }
    Ok(writes)
}
