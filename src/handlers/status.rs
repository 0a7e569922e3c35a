//! `!upgrade status [id|room]`: where one upgrade stands, or all that are going on.

use super::{Call, Desk, HandleError, folded};
use crate::message::answer;
use crate::message::campaign::progress;
use crate::model::JobRef;
use crate::store::{Filter, Write};

/// Active jobs that are shown.
const ACTIVE_MAX: usize = 50;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    of: Option<JobRef>,
) -> Result<Vec<Write>, HandleError> {
    let now = desk.clock.now();
    let (job, state) = match of {
        None => {
            let jobs = desk
                .store
                .jobs(&call.office.room_id, Filter::Active, ACTIVE_MAX)?;
            let jobs = jobs
                .into_iter()
                .map(folded)
                .collect::<Result<Vec<_>, _>>()?;
            let nothing = "Nothing is going on. `!upgrade list` shows what was.";
            let campaigns = super::list::campaigns(desk, call, Filter::Active, ACTIVE_MAX)?;
            return Ok(call.answer(answer::list(&campaigns, &jobs, now, nothing)));
        }
        Some(JobRef::Campaign(id)) => {
            let Some((campaign, state)) = desk.campaign(call, id)? else {
                return Ok(call.refuse(answer::no_such_campaign(id)));
            };
            let children = desk.store.children(id)?;
            let bot = desk.port.account();
            let text = progress(&campaign, &state, &children, bot, now);
            return Ok(call.answer(text));
        }
        Some(of) => match desk.named_job(call, &of).await? {
            Ok(found) => found,
            Err(text) => return Ok(call.refuse(text)),
        },
    };
    Ok(call.answer(answer::status(&job, &state, now)))
}
