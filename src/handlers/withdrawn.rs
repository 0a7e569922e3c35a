//! A command or a yes that is taken back before the upgrade has begun: it counts no more (P5). Later there is
//! `!upgrade cancel`, which says whether it still can.

use ruma::{EventId, UserId};

use super::{HandleError, HandlerContext, call};
use crate::campaign::{self, Campaign};
use crate::job::{self, Job, WaitReason};
use crate::message::answer;
use crate::model::{TakenBack, WorkId};
use crate::permissions::AdminRoom;
use crate::store::{Filter, Received, Write};

/// Jobs, and campaigns, that are looked through.
const LOOKED_AT_MAX: usize = 1_000;

pub(super) fn run(
    context: &HandlerContext,
    received: &Received,
    admin_room: &AdminRoom,
    event: &EventId,
    how: TakenBack,
) -> Result<Vec<Write>, HandleError> {
    // Most edits and removals are of what was never said to the bot.
    if !context.store.was_received(event)? {
        return Ok(vec![]);
    }
    let room = &admin_room.room_id;
    let by = &received.sender;
    // Only who sent an event can edit it.
    let counts = |sender: &UserId| how == TakenBack::Removed || sender == by;
    let mut jobs = context.store.jobs(room, Filter::Active, LOOKED_AT_MAX)?;
    for campaign in context
        .store
        .campaigns(room, Filter::Active, LOOKED_AT_MAX)?
    {
        if campaign_rests_on(&campaign, event).is_some_and(counts) {
            let entry = campaign::log::Entry::Cancelled { by: by.to_owned() };
            let jobs = job::Entry::Cancelled { by: by.to_owned() };
            let mut writes = context.end_campaign(&campaign, entry, &jobs)?;
            writes.push(call::say(
                received,
                answer::taken_back(WorkId::Campaign(campaign.id), by, how),
            ));
            return Ok(writes);
        }
        jobs.extend(context.store.open_jobs_of(campaign.id)?);
    }
    let job = jobs
        .iter()
        .find(|job| job_rests_on(job, event).is_some_and(counts));
    let Some(job) = job else {
        return Ok(vec![]);
    };
    let mut writes = context.advance(job, job::Entry::Cancelled { by: by.to_owned() })?;
    writes.push(call::say(
        received,
        answer::taken_back(WorkId::Job(job.id), by, how),
    ));
    Ok(writes)
}

/// Who sent the event, if a job that has not begun rests on it.
fn job_rests_on<'a>(job: &'a Job, event: &EventId) -> Option<&'a UserId> {
    let state = job.state().ok()?;
    if state.phase.is_end() || state.has_begun() || !state.can_roll_back() {
        return None;
    }
    if job.request.campaign.is_none() && job.request.command_event == event {
        return Some(&job.request.sender);
    }
    let last = job.log.iter().rev().find_map(|(_, entry)| match entry {
        job::Entry::Confirmed { by, event, .. } => Some((by, event)),
        _ => None,
    });
    last.filter(|(_, yes)| yes.as_deref() == Some(event))
        .map(|(by, _)| &**by)
}

/// The same of a campaign.
fn campaign_rests_on<'a>(campaign: &'a Campaign, event: &EventId) -> Option<&'a UserId> {
    let state = campaign.state().ok()?;
    let waits = matches!(state.waiting, Some((_, WaitReason::Scheduled)));
    if state.phase.is_end() || (state.phase == campaign::Phase::Running && !waits) {
        return None;
    }
    if campaign.request.command_event == event {
        return Some(&campaign.request.sender);
    }
    let last = campaign
        .log
        .iter()
        .rev()
        .find_map(|(_, entry)| match entry {
            campaign::log::Entry::Confirmed { by, event, .. } => Some((by, event)),
            _ => None,
        });
    last.filter(|(_, yes)| yes.as_deref() == Some(event))
        .map(|(by, _)| &**by)
}
