//! The one notice that follows a campaign while it works, edited in place.

use jiff::Timestamp;
use ruma::UserId;

use super::{ROOMS_SHOWN_MAX, Span, count, how, label, listed, of_child, own, room, server, waits};
use crate::campaign::{Campaign, Child, Course, Phase, State, pace};
use crate::job::{Phase as JobPhase, WaitReason};
use crate::message::doc::Doc;
use crate::message::{duration, moment, until};
use crate::model::Text;

/// Squares of the bar.
const BAR: usize = 20;

/// Rooms with trouble that are listed above the fold.
const TROUBLE_SHOWN_MAX: usize = 8;

/// Where a campaign stands.
pub(crate) fn progress(
    campaign: &Campaign,
    state: &State,
    children: &[Child],
    bot: &UserId,
    now: Timestamp,
) -> Text {
    let mut title = vec![Span::Bold(format!("Campaign {}: ", campaign.id))];
    title.extend(room(&label(campaign, state), &campaign.request.space, &[]));
    let mut doc = Doc::new().line(&title);
    let schedule = state.plan.as_ref().and_then(|plan| plan.schedule.as_ref());
    if let (Some((_, WaitReason::Scheduled)), Some(schedule)) = (&state.waiting, schedule) {
        return doc
            .say(&format!(
                "It begins on {}. To call it off, type `!upgrade cancel {}`.",
                moment::start(&schedule.start),
                campaign.id
            ))
            .finish();
    }
    doc = waiting(doc, state, now);
    match state.phase {
        Phase::Finding | Phase::Planning => return planning(campaign, state, children, now),
        Phase::Planned => {
            let id = campaign.id;
            let words = format!(
                "Looked at {}. The plan waits for a yes: `!upgrade confirm {id}`.",
                count(children.len(), "room", "rooms")
            );
            return doc.say(&words).finish();
        }
        Phase::Cancelled => return doc.say("Cancelled. Nothing was changed.").finish(),
        Phase::Expired => return doc.say("The plan expired. Nothing was changed.").finish(),
        Phase::Closed => return doc.say("The plan was shown; nothing was changed.").finish(),
        Phase::Running | Phase::Done => {}
    }
    let going: Vec<_> = children
        .iter()
        .filter(|child| child.was_meant_to_go())
        .cloned()
        .collect();
    let settled = going.iter().filter(|child| child.is_settled()).count();
    let left = pace(children).filter(|_| settled < going.len());
    let moved = children.iter().filter(|child| child.is_moved()).count();
    doc = doc.say(&format!(
        "{} {moved} of {} moved{}",
        bar(moved, children.len()),
        count(children.len(), "room", "rooms"),
        left.map(|left| format!(", about {} left", duration(left)))
            .unwrap_or_default()
    ));
    let mut standing = counted(&going);
    let blocked = children.len() - going.len();
    if blocked > 0 {
        standing.push(format!("{blocked} cannot be upgraded"));
    }
    doc = doc.say(&(standing.join(", ") + "."));
    match state.course {
        Course::Paused => {
            doc = doc.say(&format!(
                "Paused: rooms already switched are being finished; no others start. \
                 `!upgrade resume {}` goes on.",
                campaign.id
            ));
        }
        Course::Stopped => doc = doc.say("Stopped: no further rooms will start."),
        Course::On => {}
    }
    for wait in limits(&going, now) {
        doc = doc.say(&wait);
    }
    let trouble: Vec<_> = going.iter().filter(|child| is_trouble(child)).collect();
    if !trouble.is_empty() {
        doc = doc.heading("Needs attention:");
        for child in trouble.iter().take(TROUBLE_SHOWN_MAX) {
            doc = doc.item(&line(child, bot, now));
        }
        if trouble.len() > TROUBLE_SHOWN_MAX {
            doc = doc.item(&own(&format!(
                "and {} more",
                trouble.len() - TROUBLE_SHOWN_MAX
            )));
        }
    }
    let mut rest: Vec<_> = going.iter().filter(|child| !is_trouble(child)).collect();
    // What is at work is looked for first.
    rest.sort_by_key(|child| match child.phase {
        JobPhase::Running | JobPhase::RollingBack | JobPhase::InReview => 0,
        JobPhase::Done => 2,
        _ => 1,
    });
    if !rest.is_empty() {
        doc = listed(doc, "The rooms", &rest, ROOMS_SHOWN_MAX, |child| {
            line(child, bot, now)
        });
    }
    doc.finish()
}

/// How far the plan is: a notice of its own, above the plan.
pub(crate) fn planning(
    campaign: &Campaign,
    state: &State,
    children: &[Child],
    now: Timestamp,
) -> Text {
    let mut title = vec![Span::Bold(format!("Campaign {}: ", campaign.id))];
    title.extend(room(&label(campaign, state), &campaign.request.space, &[]));
    let doc = Doc::new().line(&title);
    let rooms = count(children.len(), "room", "rooms");
    match state.phase {
        Phase::Finding => waiting(doc, state, now)
            .say("Looking for the rooms of the space.")
            .finish(),
        Phase::Planning => {
            let planned = children.len() - of(children, |phase| phase == JobPhase::Planning);
            doc.say(&format!(
                "{} {planned} of {rooms} looked at. Nothing is changed yet.",
                bar(planned, children.len()),
            ))
            .finish()
        }
        _ if state.plan.is_some() => doc
            .say(&format!("Looked at {rooms}; the plan is below."))
            .finish(),
        _ => doc.say("No plan was made.").finish(),
    }
}

fn waiting(doc: Doc, state: &State, now: Timestamp) -> Doc {
    match state.waiting.as_ref().filter(|(then, _)| *then > now) {
        Some((then, reason)) => doc.say(&format!(
            "Waiting: {} {}.",
            waits(reason),
            until(*then, now)
        )),
        None => doc,
    }
}

fn line(child: &Child, bot: &UserId, now: Timestamp) -> Vec<Span> {
    let mut line = of_child(child, &server(bot));
    line.push(Span::Text(": ".to_owned()));
    line.extend(how(child, bot, now));
    line
}

/// Whether somebody has to do something.
fn is_trouble(child: &Child) -> bool {
    child.asks_itself()
        || matches!(
            child.phase,
            JobPhase::Stuck | JobPhase::Failed | JobPhase::Expired | JobPhase::Closed
        )
}

fn of(children: &[Child], phase: impl Fn(JobPhase) -> bool) -> usize {
    children.iter().filter(|child| phase(child.phase)).count()
}

/// How many rooms stand where.
fn counted(going: &[Child]) -> Vec<String> {
    let waiting = going
        .iter()
        .filter(|child| child.is_waiting_for_its_turn())
        .count();
    let asking = going.iter().filter(|child| child.asks_itself()).count();
    let at_work = of(going, |phase| {
        matches!(
            phase,
            JobPhase::Running | JobPhase::InReview | JobPhase::RollingBack | JobPhase::Planning
        )
    });
    let not_done = of(going, |phase| {
        matches!(
            phase,
            JobPhase::Failed | JobPhase::Cancelled | JobPhase::Expired | JobPhase::Closed
        )
    });
    [
        (of(going, |phase| phase == JobPhase::Done), "done"),
        (at_work, "at work"),
        (waiting, "queued"),
        (asking, "waiting for a yes"),
        (of(going, |phase| phase == JobPhase::Stuck), "stuck"),
        (not_done, "not done"),
    ]
    .into_iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, words)| format!("{number} {words}"))
    .collect()
}

/// The limits that hold rooms up, each once, with how long.
fn limits(going: &[Child], now: Timestamp) -> Vec<String> {
    let mut waits: Vec<(String, usize, Timestamp)> = Vec::new();
    for child in going
        .iter()
        .filter(|child| child.phase == JobPhase::Running)
    {
        let Some((then, reason)) = child
            .summary
            .waiting
            .as_ref()
            .filter(|(then, _)| *then > now)
        else {
            continue;
        };
        let words = match reason {
            WaitReason::RateLimit { bucket } => format!("the server limits {bucket}"),
            WaitReason::Unreachable => "the server does not answer".to_owned(),
            WaitReason::ServerError { status } => format!("the server answers with error {status}"),
            WaitReason::AccountBlocked { code } => {
                format!("the server does not let my account do anything ({code})")
            }
            WaitReason::NotInAdminRoom => "I was not in this room".to_owned(),
            WaitReason::Settling | WaitReason::Scheduled | WaitReason::Problem { .. } => continue,
        };
        match waits.iter_mut().find(|(known, ..)| *known == words) {
            Some((_, number, first)) => {
                *number += 1;
                *first = (*first).min(*then);
            }
            None => waits.push((words, 1, *then)),
        }
    }
    waits
        .into_iter()
        .map(|(words, number, then)| {
            format!(
                "Waiting: {words}; {} by {} in {}.",
                if number == 1 {
                    "it goes on"
                } else {
                    "they go on"
                },
                if number == 1 { "itself" } else { "themselves" },
                until(then, now)
            )
        })
        .collect()
}

fn bar(done: usize, all: usize) -> String {
    let full = (done * BAR).checked_div(all).unwrap_or(BAR);
    format!("{}{}", "■".repeat(full), "□".repeat(BAR - full))
}
