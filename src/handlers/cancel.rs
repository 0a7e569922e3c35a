//! `!upgrade cancel <id>`, and ❌ on a plan or a review: takes an upgrade back, as long as that is
//! possible.

use super::{Call, Desk, HandleError};
use crate::campaign::{Campaign, Entry as CampaignEntry};
use crate::job::{Entry, Phase, State};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::Write;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    id: WorkId,
) -> Result<Vec<Write>, HandleError> {
    let mut writes = match id {
        WorkId::Job(id) => match desk.job_to_change(call, id).await? {
            Ok((job, state)) if can_end(&state) => {
                let by = call.sender().to_owned();
                desk.advance(&job, Entry::Cancelled { by })?
            }
            Ok((_, state)) if state.phase == Phase::Running => {
                return Ok(call.refuse(answer::past_turning_back(id)));
            }
            Ok((_, state)) => return Ok(call.refuse(answer::wrong_moment(id, &state))),
            Err(text) => return Ok(call.refuse(text)),
        },
        WorkId::Campaign(id) => match desk.campaign_to_change(call, id).await? {
            Ok((campaign, state)) if !state.phase.is_end() => campaign_ends(desk, call, &campaign)?,
            Ok((_, state)) => {
                return Ok(call.refuse(answer::wrong_moment_of(id, state.phase, state.course)));
            }
            Err(text) => return Ok(call.refuse(text)),
        },
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
        Phase::Running => state.can_turn_back(),
        _ => false,
    }
}

/// Ends a campaign, and those of its jobs that can still be taken back. Rooms that lead to their new one
/// already are finished.
fn campaign_ends(
    desk: &Desk,
    call: &Call<'_>,
    campaign: &Campaign,
) -> Result<Vec<Write>, HandleError> {
    let by = call.sender().to_owned();
    let entry = CampaignEntry::Cancelled { by: by.clone() };
    Ok(desk.end_campaign(campaign, entry, &Entry::Cancelled { by })?)
}
