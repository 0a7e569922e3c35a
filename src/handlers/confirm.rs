//! `!upgrade confirm <id>`, and ✅: yes to the plan that was shown, and to no other (P4), or to the
//! new room in review.

use super::{Call, HandleError, HandlerContext};
use crate::announce;
use crate::campaign::Phase as CampaignPhase;
use crate::campaign::log::confirmed;
use crate::job::{Action, Asks, Phase, schedule};
use crate::message::{answer, emoji};
use crate::model::{CampaignId, Confirmation, JobId, WorkId};
use crate::store::Write;

/// Which plan somebody says yes to.
pub(super) enum Plan {
    /// The one in force; it is the last that was shown.
    Current,
    /// The one that they reacted to.
    Shown(String),
}

impl Plan {
    /// Whether this is the plan with a hash.
    fn is(&self, hash: &str) -> bool {
        match self {
            Self::Current => true,
            Self::Shown(shown) => shown == hash,
        }
    }
}

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    id: WorkId,
    plan: Plan,
) -> Result<Vec<Write>, HandleError> {
    match id {
        WorkId::Job(id) => job(context, call, id, plan).await,
        WorkId::Campaign(id) => campaign(context, call, id, plan).await,
    }
}

async fn campaign(
    context: &HandlerContext,
    call: &Call<'_>,
    id: CampaignId,
    plan: Plan,
) -> Result<Vec<Write>, HandleError> {
    let (campaign, state) = context.campaign_to_change(call, id).await?;
    let current = match &state.plan {
        Some(current) if state.phase == CampaignPhase::Planned => current,
        _ => return Err(answer::wrong_moment_of(id, state.phase, state.course).into()),
    };
    let is_late = current.expires_at <= context.clock.now();
    if !plan.is(&current.hash) || is_late {
        let expired = answer::wrong_moment_of(id, CampaignPhase::Expired, state.course);
        return Err(expired.into());
    }
    let event = call.received.event_id.clone();
    let by = call.sender().to_owned();
    let yes = confirmed(current, by, Some(event), context.clock.now());
    let mut writes = vec![campaign.append(yes).into()];
    // A reaction needs no reaction.
    if matches!(plan, Plan::Current) {
        writes.push(call.react(emoji::YES));
    }
    Ok(writes)
}

async fn job(
    context: &HandlerContext,
    call: &Call<'_>,
    id: JobId,
    plan: Plan,
) -> Result<Vec<Write>, HandleError> {
    let (job, state) = context.job_to_change(call, id).await?;
    let current = match &state.plan {
        Some(current) if matches!(state.phase, Phase::Planned | Phase::InReview) => current,
        _ => return Err(answer::wrong_moment(id, &state).into()),
    };
    if current.asks == Asks::Campaign {
        let campaign = job.request.campaign.as_ref();
        return Err(answer::part_of_campaign(id, campaign.map(|turn| turn.campaign)).into());
    }
    let is_late = matches!(
        state.next_action(),
        Action::AwaitConfirmation(until) if until <= context.clock.now()
    );
    if is_late {
        return Err(answer::no_longer_good(id).into());
    }
    if !plan.is(&current.hash) {
        return Err(answer::newer_plan(id).into());
    }
    if job.request.confirmation == Confirmation::PlanOnly {
        return Err(answer::plan_only(id).into());
    }
    let by = call.sender().to_owned();
    let event = Some(call.received.event_id.clone());
    let now = context.clock.now();
    let entries = schedule::confirmed(state.phase, current, by, event, now);
    let mut writes = announce::advance(&job, entries, now)?;
    // A reaction needs no reaction.
    if matches!(plan, Plan::Current) {
        writes.push(call.react(emoji::YES));
    }
    Ok(writes)
}
