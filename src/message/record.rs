//! The full record of a job, as two files: JSON for programs, and text with a line per log entry.
//!
//! It is made of the job's request, plan and log and of numbers about the snapshot. None of those
//! knows the configuration or the session, where all secrets are. Left out: the stored room itself,
//! which may be large and private, and how files get into a room.

mod campaign;

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::campaign::record_of_campaign;
use super::progress::doing;
use super::{count, duration};
use crate::job::follow_up::{EndReason, FollowUpEvent, Pause, PingOutcome};
use crate::job::{Entry, Job, Output, Refusal, State, Step, StepEvent, WaitReason};
use crate::room::state::{Listing, Membership, Snapshot};
use crate::room::target::names;

/// Longest file. What does not fit is left out and counted; the newest entries come first.
pub(crate) const RECORD_BYTES_MAX: usize = 512 * 1024;

/// Longest line of the text, in characters.
const LINE_CHARS_MAX: usize = 1000;

/// Both forms of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub json: String,
    pub text: String,
}

/// The record of a job, as it is now.
///
/// # Errors
/// When the job cannot be written as JSON, which is a bug.
pub(crate) fn record(
    job: &Job,
    state: &State,
    snapshot: Option<&Snapshot>,
    now: Timestamp,
) -> serde_json::Result<Record> {
    Ok(Record {
        json: json(job, state, snapshot, now)?,
        text: text(job, state, now),
    })
}

#[derive(Serialize)]
struct File<'a> {
    written_at: Timestamp,
    roomlift: &'static str,
    job: i64,
    phase: &'static str,
    created_at: Timestamp,
    old_room: &'a str,
    new_room: Option<&'a str>,
    problem: Option<&'a str>,
    request: &'a crate::job::Request,
    snapshot: Option<Summary>,
    left_out: LeftOut,
    plan: Option<Value>,
    log: Vec<Line>,
}

/// The snapshot in numbers.
#[derive(Serialize)]
struct Summary {
    version: String,
    state_events: usize,
    joined: usize,
    invited: usize,
    banned: usize,
    local_aliases: usize,
    listing: Listing,
    named_by: usize,
}

/// What did not fit into the file.
#[derive(Default, Serialize)]
struct LeftOut {
    parts: usize,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// A log entry and when it was written.
#[derive(Serialize)]
struct Line {
    at: Timestamp,
    entry: Value,
}

/// What may still be put into the file.
struct Room {
    bytes: usize,
    left_out: LeftOut,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            bytes: RECORD_BYTES_MAX,
            left_out: LeftOut::default(),
        }
    }
}

impl Room {
    /// As much of a log as fits, oldest entry first; of a long one the newest entries.
    fn take_log(&mut self, log: &[(Timestamp, impl Serialize)]) -> serde_json::Result<Vec<Line>> {
        let mut lines = Vec::new();
        for (at, entry) in log.iter().rev() {
            let entry = self.take(entry)?;
            lines.extend(entry.map(|entry| Line { at: *at, entry }));
        }
        lines.reverse();
        Ok(lines)
    }

    /// What did not fit, in numbers and in words.
    fn left_out(self) -> LeftOut {
        let mut left_out = self.left_out;
        if left_out.parts > 0 {
            let parts = count(left_out.parts, "part is", "parts are");
            left_out.note = Some(format!("{parts} left out, since this file has a limit"));
        }
        left_out
    }

    /// A part as JSON, if it fits.
    fn take(&mut self, part: &impl Serialize) -> serde_json::Result<Option<Value>> {
        let json = serde_json::to_value(part)?;
        let length = json.to_string().len();
        if let Some(rest) = self.bytes.checked_sub(length) {
            self.bytes = rest;
            return Ok(Some(json));
        }
        self.left_out.parts += 1;
        self.left_out.bytes += length;
        Ok(None)
    }
}

fn json(
    job: &Job,
    state: &State,
    snapshot: Option<&Snapshot>,
    now: Timestamp,
) -> serde_json::Result<String> {
    let mut room = Room::default();
    let plan = state
        .plan
        .as_ref()
        .map(|plan| room.take(plan))
        .transpose()?;
    let log = room.take_log(&job.log)?;
    let file = File {
        written_at: now,
        roomlift: env!("CARGO_PKG_VERSION"),
        job: job.id.0,
        phase: state.phase.name(),
        created_at: job.created_at,
        old_room: job.request.old_room.as_str(),
        new_room: state.new_room().map(|room| room.as_str()),
        problem: state.problem.as_deref(),
        request: &job.request,
        snapshot: snapshot.map(summary),
        left_out: room.left_out(),
        plan: plan.flatten(),
        log,
    };
    serde_json::to_string_pretty(&file)
}

fn summary(snapshot: &Snapshot) -> Summary {
    let members = |membership| snapshot.room.members(membership).count();
    let old_room = &snapshot.room.room_id;
    let named_by = snapshot.referrers.iter();
    let named_by = named_by.filter(|room| names(room, old_room));
    Summary {
        version: snapshot.room.create().version.to_string(),
        state_events: snapshot.room.events.len(),
        joined: members(Membership::Join),
        invited: members(Membership::Invite),
        banned: members(Membership::Ban),
        local_aliases: snapshot.aliases.len(),
        listing: snapshot.listing,
        named_by: named_by.count(),
    }
}

fn text(job: &Job, state: &State, now: Timestamp) -> String {
    let request = &job.request;
    let label = state.plan.as_ref().map(|plan| plan.label.as_str());
    let mut head = vec![
        format!("Upgrade #{}: {}", job.id, state.phase.name()),
        format!(
            "Old room: {} {}",
            request.old_room,
            label.unwrap_or_default()
        ),
    ];
    if let Some(new) = state.new_room() {
        head.push(format!("New room: {new}"));
    }
    head.push(format!(
        "Asked for by {} at {}",
        request.sender,
        utc(job.created_at)
    ));
    if let Some(reason) = &request.options.reason {
        head.push(format!("Reason: {reason}"));
    }
    head.push(format!("Written at {}. All times are in UTC.", utc(now)));
    let mut text = String::new();
    for line in head {
        text.push_str(one_line(&line).trim_end());
        text.push('\n');
    }
    text.push('\n');

    let mut room = RECORD_BYTES_MAX.saturating_sub(text.len());
    let mut lines = Vec::new();
    for (at, entry) in job.log.iter().rev() {
        let (step, what) = words(entry);
        let line = one_line(&format!("{}  {step:<9}  {what}\n", utc(*at)));
        let Some(rest) = room.checked_sub(line.len() + 1) else {
            break;
        };
        room = rest;
        lines.push(line);
    }
    let left_out = job.log.len() - lines.len();
    if left_out > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "({} left out, since this file has a limit)",
            count(left_out, "older entry is", "older entries are")
        );
    }
    for line in lines.iter().rev() {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Text in one line, and not too long: servers and people may have put anything into it.
fn one_line(text: &str) -> String {
    let clean: String = text
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LINE_CHARS_MAX)
        .collect();
    if text.trim_end().chars().nth(LINE_CHARS_MAX).is_some() {
        return format!("{clean}…");
    }
    clean
}

/// The step that an entry is about, and what happened.
fn words(entry: &Entry) -> (&'static str, String) {
    let what = match entry {
        Entry::Step { step, event } => {
            let what = match event {
                StepEvent::Started => format!("began: {}", doing(*step)),
                StepEvent::Called { .. } => match step {
                    Step::Create => "is about to ask the server for the new room".to_owned(),
                    _ => "is about to point the old room to the new one".to_owned(),
                },
                StepEvent::AnswerLost { .. } => {
                    "no answer came; the server may still be working on it".to_owned()
                }
                StepEvent::Undone => match step {
                    Step::Create => "there is no new room: never made, or taken back".to_owned(),
                    _ => "the rooms show that nothing was changed".to_owned(),
                },
                StepEvent::Succeeded { output } => done(output),
                StepEvent::Waiting {
                    until,
                    reason,
                    progress,
                    ..
                } => {
                    let far = progress.map_or_else(String::new, |progress| {
                        format!(" ({} of {} done)", progress.done, progress.all)
                    });
                    format!("waits until {}: {}{far}", utc(*until), why(reason))
                }
                StepEvent::Failed { problem, .. } => format!("failed: {problem}"),
            };
            return (step.name(), what);
        }
        Entry::Planned { plan } => {
            let from = plan.from.as_ref().map(ToString::to_string);
            format!(
                "planned from version {} to {}, with {}; plan {}",
                from.unwrap_or_else(|| "?".to_owned()),
                plan.intent.version,
                count(plan.findings.len(), "finding", "findings"),
                plan.hash
            )
        }
        Entry::Confirmed { by, hash, .. } => format!("{by} said yes to the plan {hash}"),
        Entry::Cancelled { by } => format!("{by} cancelled it"),
        Entry::Expired => "nobody confirmed the plan in time".to_owned(),
        Entry::Unreadable { row } => format!("a row that this version cannot read: {row}"),
        Entry::Superseded => "a newer plan took its place".to_owned(),
        Entry::Closed => "only the plan was asked for".to_owned(),
        Entry::Paused { by } => format!("{by} paused it"),
        Entry::Resumed { by } => format!("{by} let it go on"),
        Entry::Retried { by } => format!("{by} asked for another try"),
        Entry::Rechecked { by, .. } => format!("{by} asked for another check"),
        Entry::FollowUp { event } => return ("follow-up", followed(event)),
        Entry::Announced { next, .. } => {
            format!(
                "told the old room when it begins; waits until {}",
                utc(*next)
            )
        }
    };
    ("-", what)
}

fn followed(event: &FollowUpEvent) -> String {
    match event {
        FollowUpEvent::Scheduled { timetable, by } => {
            let times: Vec<_> = timetable
                .after
                .iter()
                .map(|after| duration(after.as_secs()))
                .collect();
            let from = utc(timetable.from);
            let by = by
                .as_ref()
                .map_or_else(String::new, |by| format!(", set by {by}"));
            format!("pings {} after {from}{by}", times.join(", "))
        }
        FollowUpEvent::Asked { by, .. } => format!("{by} asked for a ping"),
        FollowUpEvent::Pinging { parts, .. } => format!(
            "is about to ping {} in {}",
            count(parts.iter().map(Vec::len).sum(), "person", "people"),
            count(parts.len(), "message", "messages")
        ),
        FollowUpEvent::Pinged { outcome, .. } => match outcome {
            PingOutcome::Sent => "pinged".to_owned(),
            PingOutcome::Refused { message } => format!("the ping was refused: {message}"),
        },
        FollowUpEvent::Waiting { until, pause } => {
            let why = match pause {
                Pause::Planned => "nothing is due before",
                Pause::Homeserver => "the server asked for it, or does not answer",
            };
            format!("waits until {}: {why}", utc(*until))
        }
        FollowUpEvent::Ending { why, .. } => match why {
            EndReason::Moved => "ends: enough people moved".to_owned(),
            EndReason::Time => "ends: the last ping was a while ago".to_owned(),
            EndReason::Off { by } => format!("ends: {by} said so"),
            EndReason::Replaced => "ends: the new room was upgraded itself".to_owned(),
        },
        FollowUpEvent::Ended { .. } => "over".to_owned(),
    }
}

fn done(output: &Output) -> String {
    let refused = |refused: &[Refusal]| -> String {
        let refused = refused.iter().map(|refusal| {
            let Refusal { code, message, .. } = refusal;
            format!("; refused: {code} {message}")
        });
        refused.collect()
    };
    match output {
        Output::Stored => "done: the old room is stored".to_owned(),
        Output::Created { new_room } => {
            format!("done: {new_room} is made; nothing leads there yet")
        }
        Output::Reviewed { until } => {
            format!("done: the new room is shown, until {}", utc(*until))
        }
        Output::Switched { new_room } => format!("done: the new room is {new_room}"),
        Output::Pinned {
            count: posted,
            lost,
            ..
        } => format!(
            "done: {} posted again, {lost} lost",
            count(*posted, "pinned message", "pinned messages")
        ),
        Output::Closed {
            made,
            refused: what,
        } => format!(
            "done: {} made{}",
            count(*made, "change", "changes"),
            refused(what)
        ),
        Output::Noticed {
            event,
            refused: what,
        } => {
            let event = event.as_ref().map_or("not sent", |event| event.as_str());
            format!("done: message {event}{}", refused(what))
        }
        Output::Verified { todos, .. } => {
            format!("done: {} left", count(todos.len(), "to-do", "to-dos"))
        }
    }
}

fn why(reason: &WaitReason) -> String {
    match reason {
        WaitReason::RateLimit { bucket } => format!("the server limits {bucket}"),
        WaitReason::Unreachable => "the server does not answer".to_owned(),
        WaitReason::ServerError { status } => format!("the server answers with error {status}"),
        WaitReason::AccountBlocked { code } => {
            format!("the server does not let the account do anything ({code})")
        }
        WaitReason::Settling => "the server may still be working".to_owned(),
        WaitReason::NotInAdminRoom => "the bot was not in the admin room".to_owned(),
        WaitReason::Scheduled => "it begins later".to_owned(),
        WaitReason::Problem { problem } => problem.clone(),
    }
}

#[cfg(test)]
mod tests;
