//! `!upgrade pause [id]`: a job stops after the step at hand, a campaign begins no other room.

use super::authorise::Work;
use super::{Call, HandleError, HandlerContext};
use crate::campaign::{Campaign, Course, Entry as CampaignEntry, Phase as CampaignPhase, State};
use crate::job::log::Hold;
use crate::job::{Entry, Phase};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::{Filter, Write};

/// Jobs and campaigns that are held at once by a command without a number.
const ALL_MAX: usize = 1000;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: Option<WorkId>,
) -> Result<Vec<Write>, HandleError> {
    let mut writes = match of {
        Some(WorkId::Job(id)) => {
            let (job, state) = context.job_to_change(call, id).await?;
            if state.phase != Phase::Running || state.hold != Hold::Free {
                return Err(answer::wrong_moment(id, &state).into());
            }
            let by = call.sender().to_owned();
            context.advance(&job, Entry::Paused { by })?
        }
        Some(WorkId::Campaign(id)) => {
            let (campaign, state) = context.campaign_to_change(call, id).await?;
            if !is_on(&state) {
                return Err(answer::wrong_moment_of(id, state.phase, state.course).into());
            }
            hold(context, call, &campaign)?
        }
        None => everything(context, call).await?,
    };
    if writes.is_empty() {
        return Err(answer::nothing_to_pause().into());
    }
    writes.push(call.react(emoji::YES));
    Ok(writes)
}

fn is_on(state: &State) -> bool {
    state.phase == CampaignPhase::Running && state.course == Course::On
}

/// What they may not change by its number, they may not change along with others either.
async fn everything(context: &HandlerContext, call: &Call<'_>) -> Result<Vec<Write>, HandleError> {
    let (store, room) = (&context.store, &call.admin_room.room_id);
    let mut writes = Vec::new();
    for campaign in store.campaigns(room, Filter::Active, ALL_MAX)? {
        let Ok(state) = campaign.state() else {
            continue;
        };
        if is_on(&state) && context.may_change(call, Work::Campaign(&campaign)).await? {
            writes.extend(hold(context, call, &campaign)?);
        }
    }
    for job in store.jobs(room, Filter::Active, ALL_MAX)? {
        let Ok(state) = job.state() else { continue };
        let goes = state.phase == Phase::Running && state.hold == Hold::Free;
        if goes && context.may_change(call, Work::Job(&job)).await? {
            let by = call.sender().to_owned();
            writes.extend(context.advance(&job, Entry::Paused { by })?);
        }
    }
    Ok(writes)
}

/// Holds a campaign, and those of its jobs that can still be taken back: a room that leads to its new
/// one already is better finished than left half moved.
fn hold(
    context: &HandlerContext,
    call: &Call<'_>,
    campaign: &Campaign,
) -> Result<Vec<Write>, HandleError> {
    let by = call.sender().to_owned();
    let paused = CampaignEntry::Paused { by: by.clone() };
    let mut writes = vec![campaign.append(vec![paused]).into()];
    for (job, state) in context.children_in(campaign.id, &[Phase::Running])? {
        if state.hold == Hold::Free && state.can_roll_back() {
            writes.extend(context.advance(&job, Entry::Paused { by: by.clone() })?);
        }
    }
    Ok(writes)
}
