//! `!upgrade status [id|room]`: where one upgrade stands, or all that are going on; of a finished one
//! with a picture of who moved.

use ruma::serde::Base64;
use tracing::error;

use super::{Call, Desk, HandleError, folded};
use crate::message::{answer, follow_up};
use crate::model::JobRef;
use crate::picture::{HEIGHT, Line, WIDTH, png};
use crate::store::{Filter, Outgoing, Post, Write};

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
            return Ok(call.answer(answer::list(&jobs, now, nothing)));
        }
        Some(of) => match desk.named_job(call, &of).await? {
            Ok(found) => found,
            Err(text) => return Ok(call.refuse(text)),
        },
    };
    let Ok(moves) = desk.moves(&job, &state).await? else {
        return Ok(call.answer(answer::status(&job, &state, now)));
    };
    let tally = moves.tally();
    let text = follow_up::status(&job, &state, &tally, desk.quiet_hours.as_ref(), now);
    let mut writes = call.answer(text);
    let label = state.plan.as_ref().map_or("", |plan| &plan.label);
    let switched = job.switched_at().unwrap_or(job.created_at);
    let line = Line {
        name: label.to_owned(),
        arrivals: moves.arrivals(),
        expected: tally.expected(),
    };
    match png(&[line], switched, now) {
        Ok(bytes) => {
            let event = &call.received.event_id;
            writes.push(Write::Enqueue(Outgoing {
                key: format!("picture:{event}"),
                room_id: call.received.room_id.clone(),
                post: Post::Image {
                    name: format!("upgrade-{}.png", job.id),
                    png: Base64::new(bytes),
                    width: WIDTH,
                    height: HEIGHT,
                    caption: follow_up::caption(label, &tally),
                    reply_to: Some(event.clone()),
                },
            }));
        }
        // The numbers are in the answer as well.
        Err(error) => error!(error = &error as &dyn std::error::Error, "no picture"),
    }
    Ok(writes)
}
