//! ✅ and ❌ on a plan or on a new room in review. Any other reaction, or one on anything else, means
//! nothing.

use ruma::EventId;

use super::{Call, HandleError, HandlerContext, cancel, confirm};
use crate::campaign::Phase as CampaignPhase;
use crate::job::Phase;
use crate::message::emoji;
use crate::model::WorkId;
use crate::store::post_key::{Asked, Question};
use crate::store::{PostKey, StoreError, Write};

/// Picks the emoji out of the forms that clients send it in.
const VARIATION_SELECTOR: char = '\u{fe0f}';

/// Whether a reaction with a key may be an answer.
pub(crate) fn is_answer(key: &str) -> bool {
    [emoji::YES, emoji::NO].contains(&key.trim_end_matches(VARIATION_SELECTOR))
}

/// What a reaction asks for.
pub(super) enum Meaning {
    /// Yes to the plan with this hash.
    Yes(WorkId, String),
    No(WorkId),
}

/// What a reaction means; `None`: nothing.
pub(super) fn meaning(
    context: &HandlerContext,
    to: &EventId,
    key: &str,
) -> Result<Option<Meaning>, StoreError> {
    if !is_answer(key) {
        return Ok(None);
    }
    let key = key.trim_end_matches(VARIATION_SELECTOR);
    let Some(PostKey::Question(question)) = context.store.post_of_event(to)? else {
        return Ok(None);
    };
    let asked_in = match question.asked {
        Asked::Plan { .. } => Phase::Planned,
        Asked::Review => Phase::InReview,
        Asked::Campaign { .. } => return meaning_of_campaign(context, question, key),
    };
    let Some(job) = context.store.job_of_key(&question.work)? else {
        return Ok(None);
    };
    // A person without the power to decide may still like a plan: no answer to a reaction is
    // needed where there is nothing to decide any more.
    if job.state().map(|state| state.phase) != Ok(asked_in) {
        return Ok(None);
    }
    Ok(Some(answered(WorkId::Job(job.id), question.hash, key)))
}

/// The same of the plan of a campaign.
fn meaning_of_campaign(
    context: &HandlerContext,
    question: Question,
    key: &str,
) -> Result<Option<Meaning>, StoreError> {
    let campaign = context.store.campaign_of_command(&question.work.command)?;
    let open = campaign.filter(|campaign| {
        campaign
            .state()
            .is_ok_and(|state| state.phase == CampaignPhase::Planned)
    });
    Ok(open.map(|campaign| answered(WorkId::Campaign(campaign.id), question.hash, key)))
}

fn answered(id: WorkId, hash: String, key: &str) -> Meaning {
    if key == emoji::YES {
        Meaning::Yes(id, hash)
    } else {
        Meaning::No(id)
    }
}

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    meaning: Meaning,
) -> Result<Vec<Write>, HandleError> {
    match meaning {
        Meaning::Yes(id, hash) => confirm::run(context, call, id, confirm::Plan::Shown(hash)).await,
        Meaning::No(id) => cancel::run(context, call, id).await,
    }
}
