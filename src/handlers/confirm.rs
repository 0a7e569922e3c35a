//! `!upgrade confirm <id>`, and ✅: yes to the plan that was shown, and to no other (P4), or to the
//! new room in review.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::announce;
use crate::campaign::log::confirmed;
use crate::campaign::{self, Campaign, Phase as CampaignPhase};
use crate::job::{Action, Asks, Job, Phase, State, schedule};
use crate::message::{answer, emoji};
use crate::model::{Confirmation, WorkId};
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
    let mut writes = match context.to_change(call, id).await? {
        Work::Job(job, state) => confirm_job(context, call, &job, &state, &plan)?,
        Work::Campaign(campaign, state) => {
            confirm_campaign(context, call, &campaign, &state, &plan)?
        }
    };
    // A reaction needs no reaction.
    if matches!(plan, Plan::Current) {
        writes.push(call.react(emoji::YES));
    }
    Ok(writes)
}

fn confirm_campaign(
    context: &HandlerContext,
    call: &Call<'_>,
    campaign: &Campaign,
    state: &campaign::State,
    plan: &Plan,
) -> Result<Vec<Write>, HandleError> {
    let id = campaign.id;
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
    Ok(vec![campaign.append(yes).into()])
}

fn confirm_job(
    context: &HandlerContext,
    call: &Call<'_>,
    job: &Job,
    state: &State,
    plan: &Plan,
) -> Result<Vec<Write>, HandleError> {
    let id = job.id;
    let current = match &state.plan {
        Some(current) if matches!(state.phase, Phase::Planned | Phase::InReview) => current,
        _ => return Err(answer::wrong_moment(id, state).into()),
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
    Ok(announce::advance(job, entries, now)?)
}
