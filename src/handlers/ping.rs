//! `!upgrade ping <id|room> [now | off | <durations>]`: when those who have not come are pinged.

use super::{Call, Desk, HandleError};
use crate::command::{Need, PingCommand};
use crate::job::follow_up::{EndReason, FollowUpEvent, Schedule, Stage};
use crate::job::{Entry, Job, State};
use crate::message::{answer, follow_up};
use crate::model::{JobRef, Text};
use crate::room::moves::Tally;
use crate::room::state::Membership;
use crate::store::Write;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    of: &JobRef,
    what: PingCommand,
) -> Result<Vec<Write>, HandleError> {
    let (job, state) = match desk.named_job(call, of).await? {
        Ok(found) => found,
        Err(text) => return Ok(call.refuse(text)),
    };
    if what != PingCommand::Show
        && let Some(denial) = desk
            .denial(call, Need::Change, &job.request.old_room)
            .await?
    {
        return Ok(call.refuse(answer::denied(denial)));
    }
    let tally = match desk.moves(&job, &state).await? {
        Ok(moves) => moves.tally(),
        Err(text) => return Ok(call.refuse(text)),
    };
    let (now, by) = (desk.clock.now(), call.sender().to_owned());
    match what {
        PingCommand::Show => {
            let text = match &state.follow_up {
                None => follow_up::no_follow_up(job.id),
                Some(_) => shown(desk, &state, &tally),
            };
            Ok(call.answer(text))
        }
        PingCommand::Now if tally.stragglers() == 0 => Ok(call.answer(follow_up::nobody(job.id))),
        PingCommand::Now => {
            let event = FollowUpEvent::Asked { by, at: now };
            changed(
                desk,
                call,
                &job,
                &state,
                event,
                follow_up::asked(job.id, &tally),
            )
        }
        PingCommand::After(after) => {
            let text = follow_up::scheduled(job.id, &after);
            let event = FollowUpEvent::Scheduled {
                schedule: Schedule { from: now, after },
                by: Some(by),
            };
            changed(desk, call, &job, &state, event, text)
        }
        PingCommand::Off => {
            let open = state.follow_up.as_ref().filter(|open| {
                // A ping that is being sent is sent to its end.
                open.stage == Stage::Open && open.pinging.is_none()
            });
            if open.is_none() {
                return Ok(call.answer(match &state.follow_up {
                    None => follow_up::no_follow_up(job.id),
                    Some(_) => shown(desk, &state, &tally),
                }));
            }
            let event = FollowUpEvent::Ending {
                at: now,
                why: EndReason::Off { by },
            };
            changed(desk, call, &job, &state, event, follow_up::off(job.id))
        }
    }
}

fn shown(desk: &Desk, state: &State, tally: &Tally) -> Text {
    let next = follow_up::next(
        state.follow_up.as_ref(),
        desk.quiet_hours.as_ref(),
        desk.clock.now(),
    );
    answer::lines(&format!("{}\n{next}", follow_up::tally(tally)))
}

/// The event, and the members followed if they were not.
fn changed(
    desk: &Desk,
    call: &Call<'_>,
    job: &Job,
    state: &State,
    event: FollowUpEvent,
    text: Text,
) -> Result<Vec<Write>, HandleError> {
    let mut writes = desk.advance(job, Entry::FollowUp { event })?;
    if let Some(new_room) = state.new_room()
        && !desk.store.is_followed(job.id)?
    {
        let before = desk.store.snapshot(job.id)?;
        let members = before.map(|before| before.room.members(Membership::Join).collect());
        writes.push(Write::Follow {
            job: job.id,
            old_room: job.request.old_room.clone(),
            new_room: new_room.clone(),
            members: members.unwrap_or_default(),
        });
    }
    writes.extend(call.answer(text));
    Ok(writes)
}
