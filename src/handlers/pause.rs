//! `!upgrade pause [id]`: a job stops after the step at hand, a campaign begins no other room.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::campaign::{Course, Entry as CampaignEntry, Phase as CampaignPhase};
use crate::job::log::Hold;
use crate::job::{Entry, Phase, State};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::Write;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: Option<WorkId>,
) -> Result<Vec<Write>, HandleError> {
    let pause = |work: &Work| pause(context, call, work);
    let mut writes = match of {
        Some(id) => {
            let work = context.to_change(call, id).await?;
            pause(&work)?.ok_or_else(|| work.wrong_moment())?
        }
        None => context.change_all(call, pause).await?,
    };
    if writes.is_empty() {
        return Err(answer::nothing_to_pause().into());
    }
    writes.push(call.react(emoji::YES));
    Ok(writes)
}

/// Nothing where it does not run. A campaign pauses with those of its jobs that can still be rolled back: a room
/// that points to its new one already is better finished than left half moved.
fn pause(
    context: &HandlerContext,
    call: &Call<'_>,
    work: &Work,
) -> Result<Option<Vec<Write>>, HandleError> {
    let by = || call.sender().to_owned();
    let runs = |state: &State| state.phase == Phase::Running && state.hold == Hold::Free;
    match work {
        Work::Job(job, state) if runs(state) => {
            Ok(Some(context.advance(job, Entry::Paused { by: by() })?))
        }
        Work::Campaign(campaign, state)
            if state.phase == CampaignPhase::Running && state.course == Course::On =>
        {
            let paused = CampaignEntry::Paused { by: by() };
            let mut writes = vec![campaign.append(vec![paused]).into()];
            for (job, state) in context.children_in(campaign.id, &[Phase::Running])? {
                if runs(&state) && state.can_roll_back() {
                    writes.extend(context.advance(&job, Entry::Paused { by: by() })?);
                }
            }
            Ok(Some(writes))
        }
        _ => Ok(None),
    }
}
