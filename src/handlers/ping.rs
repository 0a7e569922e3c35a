//! `!upgrade ping <id|room> [now | off | <durations>]`: when those who have not come are pinged. What is
//! said of a campaign holds for all its rooms.

use jiff::Timestamp;
use ruma::OwnedUserId;

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::announce;
use crate::command::PingCommand;
use crate::job::follow_up::{EndReason, FollowUpEvent, Stage, Timetable};
use crate::job::{Entry, Job, Phase, State};
use crate::message::doc::lines;
use crate::message::follow_up;
use crate::model::{JobRef, Text, WorkId};
use crate::room::moves::Tally;
use crate::room::state::Membership;
use crate::store::Write;

/// An upgraded room, and how many came.
struct Room {
    job: Job,
    state: State,
    tally: Tally,
}

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    of: &JobRef,
    what: PingCommand,
) -> Result<Vec<Write>, HandleError> {
    let work = context.named(call, of).await?;
    context.authorise(call, &work, what.needs()).await?;
    let id = work.id();
    let jobs = match work {
        Work::Job(job, state) => vec![(job, state)],
        Work::Campaign(campaign, _) => context.children_in(campaign.id, &[Phase::Done])?,
    };
    let mut rooms = Vec::new();
    for (job, state) in jobs {
        let tally = context.moves(&job, &state).await?.tally();
        rooms.push(Room { job, state, tally });
    }
    let (now, by) = (context.clock.now(), call.sender().to_owned());
    let mut writes = Vec::new();
    let text = match what {
        PingCommand::Show => shown(context, id, &rooms),
        PingCommand::Now => {
            rooms.retain(|room| room.tally.stragglers() > 0);
            for room in &rooms {
                let asked = FollowUpEvent::Asked {
                    by: by.clone(),
                    at: now,
                };
                let events = match stage(room) {
                    // Its end is put off.
                    Some(Stage::Checking(_) | Stage::Closing(_)) => vec![no_more(now, &by), asked],
                    Some(Stage::Open | Stage::Over) | None => vec![asked],
                };
                writes.extend(changed(context, room, events)?);
            }
            if rooms.is_empty() {
                follow_up::nobody(id)
            } else {
                follow_up::asked(id, &all(&rooms))
            }
        }
        PingCommand::After(after) => {
            for room in &rooms {
                let event = FollowUpEvent::Scheduled {
                    timetable: Timetable {
                        from: now,
                        after: after.clone(),
                    },
                    by: Some(by.clone()),
                };
                writes.extend(changed(context, room, vec![event])?);
            }
            follow_up::scheduled(id, &after)
        }
        PingCommand::Off => {
            for room in rooms
                .iter()
                .filter(|room| stage(room) == Some(&Stage::Open))
            {
                let pinging = room.state.follow_up.as_ref().map(|open| &open.pinging);
                let event = match pinging {
                    // A ping that is being sent is sent to its end; then it is over.
                    Some(Some(_)) => no_more(now, &by),
                    Some(None) | None => ending(now, by.clone()),
                };
                writes.extend(changed(context, room, vec![event])?);
            }
            if writes.is_empty() {
                shown(context, id, &rooms)
            } else {
                follow_up::off(id)
            }
        }
    };
    writes.extend(call.answer(text));
    Ok(writes)
}

fn ending(at: Timestamp, by: OwnedUserId) -> FollowUpEvent {
    FollowUpEvent::Ending {
        at,
        why: EndReason::Off { by },
    }
}

/// No pings but those that are asked for or being sent.
fn no_more(at: Timestamp, by: &OwnedUserId) -> FollowUpEvent {
    FollowUpEvent::Scheduled {
        timetable: Timetable::empty(at),
        by: Some(by.clone()),
    }
}

/// Where the follow-up of a room stands, if it has one.
fn stage(room: &Room) -> Option<&Stage> {
    room.state.follow_up.as_ref().map(|open| &open.stage)
}

fn all(rooms: &[Room]) -> Tally {
    let tallies = rooms.iter().map(|room| room.tally);
    tallies.fold(Tally::default(), std::ops::Add::add)
}

/// Who came, and when the next ping is.
fn shown(context: &HandlerContext, id: WorkId, rooms: &[Room]) -> Text {
    let follow_ups = rooms
        .iter()
        .filter_map(|room| room.state.follow_up.as_ref());
    let quiet_hours = context.quiet_hours.as_ref();
    let first = follow_ups.min_by_key(|it| {
        let next = it.next_ping(quiet_hours);
        (it.stage == Stage::Over, next.is_none(), next)
    });
    let Some(first) = first else {
        return follow_up::no_follow_up(id);
    };
    let next = follow_up::next(Some(first), quiet_hours, context.clock.now());
    lines(&format!("{}\n{next}", follow_up::tally(&all(rooms))))
}

/// The event, and the members followed if they were not.
fn changed(
    context: &HandlerContext,
    room: &Room,
    events: Vec<FollowUpEvent>,
) -> Result<Vec<Write>, HandleError> {
    let Room { job, state, .. } = room;
    let entries = events.into_iter().map(|event| Entry::FollowUp { event });
    let mut writes = announce::advance(job, entries.collect(), context.clock.now())?;
    if let Some(new_room) = state.new_room()
        && !context.store.is_followed(job.id)?
    {
        let before = context.store.snapshot(job.id)?;
        let members = before.map(|before| before.room.members(Membership::Join).collect());
        writes.push(Write::Follow {
            job: job.id,
            old_room: job.request.old_room.clone(),
            new_room: new_room.clone(),
            members: members.unwrap_or_default(),
        });
    }
    Ok(writes)
}
