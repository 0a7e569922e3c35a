//! `!upgrade retry <id>`: a stuck upgrade goes on; one that ended before the switch is planned anew.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::campaign::{self, Campaign, Entry as CampaignEntry, Phase as CampaignPhase};
use crate::job::log::Hold;
use crate::job::{Asks, Consent, Entry, Job, Phase, Plan, Request, State, Turn, WaitReason};
use crate::message::{answer, emoji};
use crate::model::WorkId;
use crate::store::Write;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    id: WorkId,
) -> Result<Vec<Write>, HandleError> {
    match context.to_change(call, id).await? {
        Work::Job(job, state) => retry_job(context, call, job, &state),
        Work::Campaign(campaign, state) => retry_campaign(context, call, &campaign, state),
    }
}

/// Everything of a campaign that did not end well: what is stuck goes on, what ended before the switch
/// is planned anew, and begins without a word if the plan is the one that was confirmed.
fn retry_campaign(
    context: &HandlerContext,
    call: &Call<'_>,
    campaign: &Campaign,
    state: campaign::State,
) -> Result<Vec<Write>, HandleError> {
    let id = campaign.id;
    if !matches!(state.phase, CampaignPhase::Running | CampaignPhase::Done) {
        return Err(answer::wrong_moment_of(id, state.phase, state.course).into());
    }
    let by = call.sender().to_owned();
    let ended = [
        Phase::Stuck,
        Phase::Failed,
        Phase::Cancelled,
        Phase::Expired,
        Phase::Closed,
    ];
    let mut writes = Vec::new();
    for (job, state) in context.children_in(id, &ended)? {
        if state.phase == Phase::Stuck {
            writes.extend(context.advance(&job, Entry::Retried { by: by.clone() })?);
            continue;
        }
        let consent = given(&job, state).map_or(Consent::Own, Consent::Given);
        writes.push(again(call, job.request, consent));
    }
    if writes.is_empty() {
        return Err(answer::nothing_to_retry(id).into());
    }
    // Rooms that a pause holds go on as well: the campaign does.
    for (job, _) in context
        .children_in(id, &[Phase::Running, Phase::InReview])?
        .iter()
        .filter(|(_, state)| state.hold == Hold::Paused)
    {
        writes.extend(context.advance(job, Entry::Resumed { by: by.clone() })?);
    }
    let mut entries = vec![CampaignEntry::Retried { by }];
    // It still begins when it was agreed to.
    if let Some((until, reason @ WaitReason::Scheduled)) = state.waiting {
        entries.push(CampaignEntry::Waiting {
            until,
            reason,
            refused: Vec::new(),
        });
    }
    writes.push(campaign.append(entries).into());
    writes.push(call.react(emoji::YES));
    Ok(writes)
}

/// The plan of a job that somebody said yes to last, by its hash: in this job, with the campaign, or in
/// a job that it repeats. What came in between, and is over, does not take the yes back.
fn given(job: &Job, state: State) -> Option<String> {
    let mut entries = job.log.iter().rev();
    let confirmed = entries.find_map(|(_, entry)| match entry {
        Entry::Confirmed { hash, .. } => Some(hash.clone()),
        _ => None,
    });
    let with_campaign = |plan: Plan| {
        let counts = plan.asks == Asks::Campaign && !plan.is_blocked();
        counts.then_some(plan.hash)
    };
    confirmed
        .or_else(|| state.plan.and_then(with_campaign))
        .or_else(|| match &job.request.campaign.as_ref()?.consent {
            Consent::Given(hash) => Some(hash.clone()),
            Consent::Campaign | Consent::Own => None,
        })
}

/// A job for the same room, as part of the same campaign if there is one.
fn again(call: &Call<'_>, request: Request, consent: Consent) -> Write {
    Write::CreateJob(Box::new(Request {
        sender: call.sender().to_owned(),
        command_event: call.received.event_id.clone(),
        campaign: request.campaign.map(|turn| Turn { consent, ..turn }),
        ..request
    }))
}

fn retry_job(
    context: &HandlerContext,
    call: &Call<'_>,
    job: Job,
    state: &State,
) -> Result<Vec<Write>, HandleError> {
    match state.phase {
        Phase::Stuck => {
            let mut writes = context.advance(
                &job,
                Entry::Retried {
                    by: call.sender().to_owned(),
                },
            )?;
            writes.push(call.react(emoji::YES));
            Ok(writes)
        }
        Phase::Failed => {
            // A campaign tells about its jobs in one place: there is no end that would replace the ⏳.
            let heard = match job.request.campaign {
                Some(_) => emoji::YES,
                None => emoji::WORKING,
            };
            let again = again(call, job.request, Consent::Own);
            Ok(vec![call.react(heard), again])
        }
        _ => Err(answer::wrong_moment(job.id, state).into()),
    }
}
