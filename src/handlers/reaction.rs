//! ✅ and ❌ on a plan or on a new room in review. Any other reaction, or one on anything else, means
//! nothing.

use ruma::EventId;

use super::{Call, Desk, HandleError, cancel, confirm};
use crate::job::{Job, Phase};
use crate::message::emoji;
use crate::store::{StoreError, Write};

/// Picks the emoji out of the forms that clients send it in.
const VARIATION_SELECTOR: char = '\u{fe0f}';

/// What a reaction asks for.
pub(super) enum Meaning {
    /// Yes to the plan with this hash.
    Yes(Box<Job>, String),
    /// No.
    No(Box<Job>),
}

/// What a reaction means; `None`: nothing.
pub(super) fn meaning(desk: &Desk, to: &EventId, key: &str) -> Result<Option<Meaning>, StoreError> {
    let key = key.trim_end_matches(VARIATION_SELECTOR);
    if key != emoji::YES && key != emoji::NO {
        return Ok(None);
    }
    let Some(post) = desk.store.post_of_event(to)? else {
        return Ok(None);
    };
    let Some((question, rest)) = post.split_once(':') else {
        return Ok(None);
    };
    // A plan that is asked about again has a number.
    let asked_in = match question.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "plan" => Phase::Planned,
        "review" => Phase::InReview,
        _ => return Ok(None),
    };
    let Some((command, hash)) = rest.rsplit_once(':') else {
        return Ok(None);
    };
    let Ok(command) = <&EventId>::try_from(command) else {
        return Ok(None);
    };
    let Some(job) = desk.store.job_of_command(command)? else {
        return Ok(None);
    };
    // A person without the power to decide may still like a plan: no answer to a reaction is
    // needed where there is nothing to decide any more.
    if job.state().map(|state| state.phase) != Ok(asked_in) {
        return Ok(None);
    }
    let job = Box::new(job);
    Ok(Some(if key == emoji::YES {
        Meaning::Yes(job, hash.to_owned())
    } else {
        Meaning::No(job)
    }))
}

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    meaning: Meaning,
) -> Result<Vec<Write>, HandleError> {
    match meaning {
        Meaning::Yes(job, hash) => {
            confirm::run(desk, call, job.id, confirm::Plan::Shown(hash)).await
        }
        Meaning::No(job) => cancel::run(desk, call, job.id).await,
    }
}
