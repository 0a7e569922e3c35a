//! What a campaign has to say in its admin room, given where it and its jobs stand.
//!
//! Each post has a key that says what it is for, so that asking for all of them after every look posts
//! each of them once, and edits those that are to follow. Left out: the plan, which goes with the
//! entry that it belongs to.

use jiff::Timestamp;
use ruma::UserId;

use super::{ended_command, question, tidied};
use crate::campaign::log::Entry;
use crate::campaign::{Campaign, Child, Phase, State};
use crate::job::{Entry as JobEntry, Following, Job, Phase as JobPhase};
use crate::message::campaign::{Open, ended, planning, progress, report};
use crate::message::emoji;
use crate::model::{Confirmation, Text};
use crate::store::post_key::{Asked, Question};
use crate::store::{Outgoing, Post, PostKey, StoreError, Write};
use crate::work::State as _;

fn question_of(campaign: &Campaign, shown_before: usize, hash: &str) -> Question {
    Question {
        asked: Asked::Campaign { shown_before },
        work: campaign.request.key(),
        hash: hash.to_owned(),
    }
}

/// How often a plan of the campaign was shown.
fn times_shown(campaign: &Campaign) -> usize {
    campaign
        .log
        .iter()
        .filter(|(_, entry)| matches!(entry, Entry::Planned { .. }))
        .count()
}

/// When the plan that was shown last got its answer.
fn answered(campaign: &Campaign) -> Option<Timestamp> {
    let mut entries = campaign.log.iter().rev();
    let is_plan = |entry: &Entry| matches!(entry, Entry::Planned { .. });
    let since = entries.by_ref().take_while(|(_, entry)| !is_plan(entry));
    since.last().map(|(at, _)| *at)
}

/// The plan of a campaign, with both answers below it to be clicked.
pub(crate) fn asking(campaign: &Campaign, hash: &str, text: Text) -> Vec<Write> {
    question(
        &question_of(campaign, times_shown(campaign), hash),
        &campaign.request.admin_room,
        campaign.reply_to(),
        text,
    )
}

/// Ends a campaign before it began, and the jobs that waited for it.
///
/// # Errors
/// When the log of a job makes no sense.
pub(crate) fn end(
    campaign: &Campaign,
    jobs: &[Job],
    entry: Entry,
    job_entry: &JobEntry,
    now: Timestamp,
) -> Result<Vec<Write>, StoreError> {
    let mut writes = vec![campaign.append(vec![entry]).into()];
    for job in jobs {
        writes.extend(let_go(job, job_entry, now)?);
    }
    Ok(writes)
}

/// Ends a job that only its campaign could have begun.
///
/// # Errors
/// When its log makes no sense.
pub(crate) fn let_go(
    job: &Job,
    entry: &JobEntry,
    now: Timestamp,
) -> Result<Vec<Write>, StoreError> {
    let state = job.state()?;
    // One that cannot take the entry goes its own way: it is at work, or has ended.
    if state.after(entry).is_err() {
        return Ok(Vec::new());
    }
    super::advance(job, vec![entry.clone()], now)
}

/// Everything else that should be in the admin room by now.
pub(crate) fn posts(
    campaign: &Campaign,
    state: &State,
    children: &[Child],
    open: &[Open],
    bot: &UserId,
    now: Timestamp,
) -> Vec<Write> {
    let room_id = campaign.request.admin_room.clone();
    let command = &campaign.request.command_event;
    let message = |key: PostKey, text: Text| {
        Write::Revise(Outgoing {
            key,
            room_id: room_id.clone(),
            post: Post::Message {
                text,
                reply_to: campaign.reply_to(),
            },
        })
    };
    let mut writes = Vec::new();
    // A question that was answered is not to be clicked any longer.
    if let Some(plan) = state
        .plan
        .as_ref()
        .filter(|_| state.phase != Phase::Planned)
        && campaign.request.confirmation != Confirmation::PlanOnly
        && plan.rooms > 0
    {
        let shown_before = times_shown(campaign).saturating_sub(1);
        let question = question_of(campaign, shown_before, &plan.hash);
        writes.extend(tidied(
            &question,
            &room_id,
            answered(campaign).unwrap_or(now),
        ));
    }
    let text = planning(campaign, state, children, now);
    writes.push(message(PostKey::Planning(command.clone()), text));
    if state.confirmed_by.is_some() {
        let text = progress(campaign, state, children, bot, now);
        writes.push(message(PostKey::Progress(campaign.request.key()), text));
    }
    if let Some(text) = report(campaign, state, children, open, bot, now) {
        // Another try has a report of its own.
        let tries = campaign
            .log
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Retried { .. }))
            .count();
        let key = PostKey::Report {
            phase: match state.phase {
                Phase::Cancelled => JobPhase::Cancelled,
                Phase::Expired => JobPhase::Expired,
                _ => JobPhase::Done,
            },
            work: campaign.request.key(),
            asked: tries,
        };
        writes.push(message(key, text));
    }
    if let Some(text) = ended(campaign, state, children) {
        // Pings that were asked for afterwards have an end of their own.
        let ends = children.iter().map(|child| match child.summary.following {
            Following::Over { ends, .. } => ends,
            Following::Nothing | Following::Open => 0,
        });
        writes.push(Write::Enqueue(Outgoing {
            key: PostKey::CampaignFollowUpEnded(campaign.id, ends.sum()),
            room_id: room_id.clone(),
            post: Post::Message {
                text,
                reply_to: campaign.reply_to(),
            },
        }));
    }
    if state.phase.is_end() {
        let going = state.plan.as_ref().is_some_and(|plan| plan.rooms > 0);
        let emoji = match state.phase {
            Phase::Done => emoji::YES,
            Phase::Closed if going => emoji::YES,
            _ => emoji::NO,
        };
        writes.extend(ended_command(command, &campaign.asked_in, emoji));
    }
    writes
}
