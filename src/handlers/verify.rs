//! `!upgrade verify <id|room>`: has the worker try the to-dos of a finished upgrade again, and tick
//! off those that are done.

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::command::Need;
use crate::job::{Entry, Phase};
use crate::message::report::todos;
use crate::message::{answer, emoji};
use crate::model::JobRef;
use crate::store::Write;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: &JobRef,
) -> Result<Vec<Write>, HandleError> {
    let work = context.named(call, of).await?;
    context.authorise(call, &work, Need::Change).await?;
    let jobs = match work {
        Work::Job(job, state) if state.phase == Phase::Done => vec![job],
        Work::Job(job, state) => return Err(answer::wrong_moment(job.id, &state).into()),
        Work::Campaign(campaign, state) => {
            let done = context.children_in(campaign.id, &[Phase::Done])?;
            let open = done
                .into_iter()
                .filter(|(_, state)| !todos(state).is_empty());
            let jobs: Vec<_> = open.map(|(job, _)| job).collect();
            if jobs.is_empty() {
                return Err(answer::nothing_to_verify(campaign.id, state.phase).into());
            }
            jobs
        }
    };
    let mut writes = Vec::new();
    for job in &jobs {
        let entry = Entry::Rechecked {
            by: call.sender().to_owned(),
            at: context.clock.now(),
        };
        writes.extend(context.advance(job, entry)?);
    }
    writes.push(call.react(emoji::YES));
    Ok(writes)
}
