//! `!upgrade status [id|room]`: where one upgrade stands, or all that are going on; of a finished one
//! with a picture of who moved.

use jiff::Timestamp;
use ruma::serde::Base64;
use tracing::error;

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::job::{Job, State};
use crate::message::campaign::progress;
use crate::message::{answer, follow_up};
use crate::model::JobRef;
use crate::picture::{HEIGHT, Line, WIDTH, png};
use crate::room::moves::{Moves, Tally};
use crate::store::{Filter, Outgoing, Post, PostKey, Write};

/// Active jobs that are shown.
const ACTIVE_MAX: usize = 50;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: Option<JobRef>,
) -> Result<Vec<Write>, HandleError> {
    let now = context.clock.now();
    let Some(of) = of else {
        return all(context, call);
    };
    let (job, state) = match context.named(call, &of).await? {
        Work::Campaign(campaign, state) => {
            let id = campaign.id;
            let children = context.store.children(id)?;
            let bot = context.port.account();
            let text = progress(&campaign, &state, &children, bot, now);
            let mut writes = call.answer(text);
            let label = state.found.as_ref().map_or("", |found| &found.label);
            let mut rooms = Vec::new();
            for (job, state) in context.followed_in(id)? {
                if let Some(moves) = context.moves_if_done(&job, &state).await? {
                    rooms.push((job, state, moves));
                }
            }
            writes.extend(picture(call, &id.to_string(), label, &rooms, now));
            return Ok(writes);
        }
        Work::Job(job, state) => (job, state),
    };
    let Some(moves) = context.moves_if_done(&job, &state).await? else {
        return Ok(call.answer(answer::status(&job, &state, now)));
    };
    let tally = moves.tally();
    let text = follow_up::status(&job, &state, &tally, context.quiet_hours.as_ref(), now);
    let label = state
        .plan
        .as_ref()
        .map_or("", |plan| &plan.label)
        .to_owned();
    let mut writes = call.answer(text);
    let name = job.id.to_string();
    writes.extend(picture(call, &name, &label, &[(job, state, moves)], now));
    Ok(writes)
}

/// Everything that may still do something.
fn all(context: &HandlerContext, call: &Call<'_>) -> Result<Vec<Write>, HandleError> {
    let room = &call.admin_room.room_id;
    let jobs = context.store.jobs(room, Filter::Active, ACTIVE_MAX)?;
    let nothing = "Nothing is running. `!upgrade list` shows past upgrades.";
    let (jobs, mut lines) = super::list::readable(jobs);
    lines.extend(super::list::campaigns(
        context,
        call,
        Filter::Active,
        ACTIVE_MAX,
    )?);
    let now = context.clock.now();
    Ok(call.answer(answer::list(&lines, &jobs, None, now, nothing)))
}

/// The picture of a move, with its numbers below; nothing where there is no room to be shown.
fn picture(
    call: &Call<'_>,
    name: &str,
    label: &str,
    rooms: &[(Job, State, Moves)],
    now: Timestamp,
) -> Option<Write> {
    let from = rooms
        .iter()
        .map(|(job, ..)| job.switched_at().unwrap_or(job.created_at))
        .min()?;
    let tally = rooms.iter().map(|(.., moves)| moves.tally());
    let tally = tally.fold(Tally::default(), std::ops::Add::add);
    let lines: Vec<_> = rooms
        .iter()
        .map(|(_, state, moves)| Line {
            name: state
                .plan
                .as_ref()
                .map_or_else(String::new, |plan| plan.label.clone()),
            arrivals: moves.arrivals(),
            expected: moves.tally().expected(),
        })
        .collect();
    let bytes = match png(&lines, from, now) {
        Ok(bytes) => bytes,
        // The numbers are in the answer as well.
        Err(error) => {
            error!(error = &error as &dyn std::error::Error, "no picture");
            return None;
        }
    };
    let event = &call.received.event_id;
    Some(Write::Enqueue(Outgoing {
        key: PostKey::Picture(event.clone()),
        room_id: call.received.room_id.clone(),
        post: Post::Image {
            name: format!("upgrade-{name}.png"),
            png: Base64::new(bytes),
            width: WIDTH,
            height: HEIGHT,
            caption: follow_up::caption(label, &tally),
            reply_to: Some(event.clone()),
        },
    }))
}
