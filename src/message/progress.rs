//! The one notice that follows a job while it works, edited in place.

use jiff::Timestamp;

use super::doc::{Doc, Span, lines, own, room};
use super::{duration, moment, until};
use crate::checkup::LIMIT_CLOSED_LONG;
use crate::job::log::{Again, Hold};
use crate::job::schedule::sleeping;
use crate::job::{Job, Phase, State, Step, WaitReason, limited_since};
use crate::model::{Bucket, Text, WorkId};

/// What a step is doing, in words for people.
pub(crate) fn doing(step: Step) -> &'static str {
    match step {
        Step::Plan => "making the plan",
        Step::Snapshot => "reading the old room",
        Step::Create => "making the new room",
        Step::Populate => "completing the new room before anybody is in it",
        Step::Review => "showing you the new room",
        Step::Switch => "pointing the old room to the new one",
        Step::Complete => "completing the new room",
        Step::Pins => "posting the pinned messages again",
        Step::Aliases => "moving the addresses",
        Step::Directory => "moving the listing in the directory",
        Step::Spaces => "updating the spaces",
        Step::Access => "updating join rules of other rooms",
        Step::Lock => "closing the old room",
        Step::Invite => "inviting people",
        Step::Notice => "posting the link in the old room",
        Step::Verify => "checking everything",
    }
}

/// When a job begins that waits for its time. The text stands for days: it says no "in two hours".
fn begins(job: &Job, state: &State) -> String {
    let schedule = state.plan.as_ref().and_then(|plan| plan.schedule.as_ref());
    let start = schedule.map_or_else(String::new, |schedule| moment::start(&schedule.start));
    let told = match &state.announced {
        Some(_) => " The members were told.",
        None => "",
    };
    format!(
        "Waiting until {start}.{told} To call it off, type `!upgrade cancel {}`.",
        job.id
    )
}

/// Held by somebody, before a step or while its last one is finished.
fn paused(job: &Job, state: &State, step: Step) -> String {
    let id = job.id;
    match sleeping(state) {
        Some(_) => format!(
            "Paused: it will not start, even at its scheduled time, until someone types \
             `!upgrade resume {id}`."
        ),
        None => format!(
            "Paused at: {}. `!upgrade resume {id}` makes it go on.",
            doing(step)
        ),
    }
}

/// What was made is taken back. As long as that does not go, which room it is.
fn rolling_back(state: &State, now: Timestamp) -> String {
    let Some((then, reason)) = &state.waiting else {
        return "Taking the new room back.".to_owned();
    };
    let what = match state.staged_room() {
        Some(room) => {
            format!("The new room is still there: `{room}`. I take it back, and cannot yet.")
        }
        None => "The server may have made a new room, which I take back.".to_owned(),
    };
    let why = match reason {
        WaitReason::ServerError { status } => format!(" The server answers with error {status}."),
        WaitReason::Unreachable => " The server does not answer.".to_owned(),
        WaitReason::Problem { problem } => format!(" {problem}"),
        _ => String::new(),
    };
    format!("{what}{why} I try again in {}.", until(*then, now))
}

/// An upgrade or campaign begins later than it was to, because the bot was not in the admin room.
pub(crate) fn late(id: WorkId) -> Text {
    let work = match id {
        WorkId::Job(id) => format!("Upgrade #{id}"),
        WorkId::Campaign(id) => format!("Campaign {id}"),
    };
    lines(&format!(
        "{work} begins only now: I was not in this room before, and could not see who may command here."
    ))
}

/// Waits for a rate limit. One that lets nothing through for long needs somebody.
fn limited(bucket: Bucket, what: &str, wait: &str, since: Timestamp, now: Timestamp) -> String {
    let lasts = now.duration_since(since).unsigned_abs();
    if lasts < LIMIT_CLOSED_LONG {
        return format!(
            "Waiting: {what}. The server asked for a pause of {wait}; I continue by myself."
        );
    }
    format!(
        "Waiting: {what}. The server limits {bucket} and has let nothing through for {}; I try again in {wait}. Ask \
         its admin to raise that limit for my account, or to exempt it: `!upgrade doctor` says how.",
        duration(lasts.as_secs())
    )
}

/// Where a job stands.
pub(crate) fn progress(job: &Job, state: &State, now: Timestamp) -> Text {
    let steps = state.steps();
    let done = steps
        .iter()
        .filter(|step| state.outputs.contains_key(step))
        .count();
    let (id, all) = (job.id, steps.len());
    let label = state.plan.as_ref().map_or_else(
        || job.request.named.name.to_string(),
        |plan| plan.label.clone(),
    );
    let mut title = vec![Span::Bold(format!("Upgrade #{id}: "))];
    title.extend(room(&label, &job.request.old_room, &[]));
    let bar = format!(
        "{}{} {done} of {all} steps",
        "■".repeat(done),
        "□".repeat(all - done)
    );
    let doc = Doc::new().line(&title).line(&[Span::Text(bar)]);
    let words = match (state.phase, state.current()) {
        (Phase::Running, Some(step)) if state.hold == Hold::Paused => paused(job, state, step),
        (Phase::Running | Phase::Planning, Some(step)) => match &state.waiting {
            Some((then, reason)) if *then > now || *reason == WaitReason::Scheduled => {
                let wait = until(*then, now);
                let far = state.progress.map_or_else(String::new, |progress| {
                    format!(" ({} of {})", progress.done, progress.all)
                });
                match reason {
                    WaitReason::RateLimit { bucket } => {
                        let since = limited_since(&job.log).unwrap_or(now);
                        limited(*bucket, &format!("{}{far}", doing(step)), &wait, since, now)
                    }
                    WaitReason::Unreachable => format!(
                        "Waiting: {}. The server does not answer; I try again in {wait}.",
                        doing(step)
                    ),
                    WaitReason::ServerError { status } => format!(
                        "Waiting: {}. The server answers with error {status}; I try again in {wait}.",
                        doing(step)
                    ),
                    WaitReason::AccountBlocked { code } => format!(
                        "Waiting: {}. The server does not let my account do anything now ({code}). Its \
                         admin can change that; I try again in {wait}.",
                        doing(step)
                    ),
                    WaitReason::Settling => format!(
                        "Waiting: {}. The server may still be working; I look again in {wait}.",
                        doing(step)
                    ),
                    WaitReason::NotInAdminRoom => format!(
                        "Waiting: I was not in this room, and could not see who may command here. I \
                         look again in {wait}."
                    ),
                    WaitReason::Scheduled => begins(job, state),
                    WaitReason::Problem { problem } => {
                        format!("Waiting: {}. {problem} I try again in {wait}.", doing(step))
                    }
                }
            }
            _ => format!("Now: {}.", doing(step)),
        },
        (Phase::InReview, _) => {
            format!(
                "The new room is ready and waits for your yes: `!upgrade confirm {id}`, or \
                 `!upgrade cancel {id}` to take it back."
            )
        }
        (Phase::RollingBack, _) => rolling_back(state, now),
        (Phase::Planned, _) => format!("The plan waits for a yes: `!upgrade confirm {id}`."),
        (Phase::Stuck, _) => "Stuck; see the report below.".to_owned(),
        (Phase::Done, _) => "Done.".to_owned(),
        (Phase::Cancelled | Phase::Expired, _) if state.again == Again::Overtaken => {
            "Ended. My report says why.".to_owned()
        }
        (Phase::Cancelled, _) => "Cancelled. Nothing was changed.".to_owned(),
        (Phase::Expired, _) => "The plan expired. Nothing was changed.".to_owned(),
        (Phase::Closed, _) => "The plan was shown; nothing was changed.".to_owned(),
        (Phase::Failed, _) => "Ended. My report says why.".to_owned(),
        (Phase::Running | Phase::Planning, None) => String::new(),
    };
    let spans = match &state.waiting {
        // A problem in it may come from outside.
        Some((_, WaitReason::Problem { .. })) if state.hold == Hold::Free => {
            vec![Span::Text(words)]
        }
        _ => own(&words),
    };
    doc.line(&spans).finish()
}
