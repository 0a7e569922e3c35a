//! The plan as a moderator reads it before saying yes.

use jiff::Timestamp;

use super::doc::{Doc, Span, own, room};
use super::{count, duration, finding, moment, until};
use crate::job::{Plan, Schedule};
use crate::model::{Confirmation, JobId, Method, Review, Text};
use crate::room::finding::{Finding, Permission, Weight};

/// Findings of one weight that are listed; the rest is counted.
const FINDINGS_SHOWN_MAX: usize = 15;

/// Whether the room changed since an earlier plan was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlanReason {
    Asked,
    /// A confirmed plan no longer fits.
    RoomChanged,
    /// The bot was away when it should have begun.
    StartMissed,
}

/// The plan: the verdict, what is lost or left for people, and last the question; the rest is folded.
pub(crate) fn plan(
    id: JobId,
    plan: &Plan,
    confirmation: Confirmation,
    occasion: PlanReason,
    now: Timestamp,
) -> Text {
    let mut doc = Doc::new();
    doc = match occasion {
        PlanReason::Asked => doc,
        PlanReason::RoomChanged => doc.say("The room changed after the plan was confirmed. Nothing was done. Here is the new plan:"),
        PlanReason::StartMissed => doc.say("I was offline at the agreed time. Nothing was done. Shall I start now?"),
    };
    doc = doc.line(&verdict(id, plan));
    if let Some(successor) = &plan.successor {
        doc = doc.line(&[
            Span::Text("The new room: ".to_owned()),
            Span::Code(successor.to_string()),
            Span::Text(format!(", version {}.", plan.intent.version)),
        ]);
    }
    if plan.is_blocked() {
        // What would be lost does not matter to somebody who cannot start.
        return findings(doc, plan, Weight::Blocker, "What blocks it:")
            .say("Nothing has changed. Fix this, then send the command again.")
            .finish();
    }
    doc = findings(doc, plan, Weight::Loss, "Lost, or left for you to do:");
    let limited = if plan.limited_seconds > 0 {
        ", rate limits included"
    } else {
        ""
    };
    doc = doc.say(&format!(
        "It will take about {} ({}{limited}).",
        duration(plan.seconds),
        count(plan.requests, "request", "requests")
    ));
    if let Some(schedule) = &plan.schedule {
        doc = doc.say(&beginning(schedule, occasion, now));
    }
    if plan.from.is_some() {
        let lines: Vec<_> = outline(plan).iter().map(|line| own(line)).collect();
        doc = doc.folded("What will happen", &lines);
    }
    let notes = listed(plan, Weight::Note);
    if !notes.is_empty() {
        doc = doc.folded("Good to know", &notes);
    }
    let counted = counted(plan.of_weight(Weight::Loss));
    match confirmation {
        Confirmation::Given => doc.say("Confirmed with `--yes`."),
        Confirmation::PlanOnly => doc.say(
            "This is only a preview; nothing will happen. To upgrade, send the command without `plan`.",
        ),
        Confirmation::Ask => doc.say(&question(&id.to_string(), &counted, &until(plan.expires_at, now))),
    }
    .finish()
}

/// The question below a plan, which repeats what is lost and left.
pub(super) fn question(id: &str, counted: &str, expires: &str) -> String {
    let with = if counted.is_empty() {
        String::new()
    } else {
        format!(" with {counted}")
    };
    format!(
        "Upgrade{with}? It cannot be undone. ✅ or `!upgrade confirm {id}` starts it, ❌ or \
         `!upgrade cancel {id}` drops it. This plan expires in {expires}."
    )
}

/// How much is lost, and how much is left for people; empty where nothing is.
pub(super) fn counted<'a>(losses: impl Iterator<Item = &'a Finding>) -> String {
    let (left, lost): (Vec<_>, Vec<_>) = losses.partition(|loss| loss.is_left_for_people());
    let parts = [
        (lost.len(), count(lost.len(), "loss", "losses")),
        (left.len(), format!("{} left for you", left.len())),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(_, words)| words)
        .collect();
    parts.join(", ")
}

fn verdict(id: JobId, plan: &Plan) -> Vec<Span> {
    let deed = match plan.intent.method {
        Method::Adopt => "finish the upgrade of",
        Method::Server | Method::Staged => "upgrade",
    };
    let (ready, yet) = if plan.is_blocked() {
        ("cannot", " yet")
    } else {
        ("ready to", "")
    };
    let mut title = vec![Span::Bold(format!("Plan #{id}: {ready} {deed} "))];
    title.extend(room(&plan.label, &plan.old_room, &[]));
    // A new room that was not found has no version that could be told.
    let is_unfit = plan.findings.iter().any(|finding| {
        matches!(
            finding,
            Finding::NotUpgraded | Finding::FalseSuccessor { .. } | Finding::SuccessorClosed { .. }
        )
    });
    title.push(Span::Text(match &plan.from {
        _ if is_unfit => yet.to_owned(),
        Some(from) => format!(" from version {from} to {}{yet}", plan.intent.version),
        None => format!(" to version {}{yet}", plan.intent.version),
    }));
    let counted = counted(plan.of_weight(Weight::Loss));
    if !plan.is_blocked() && !counted.is_empty() {
        title.push(Span::Bold(format!(" · {counted}")));
    }
    title
}

fn findings(doc: Doc, plan: &Plan, weight: Weight, heading: &str) -> Doc {
    let lines = listed(plan, weight);
    if lines.is_empty() {
        return doc;
    }
    let doc = doc.heading(heading);
    lines.iter().fold(doc, |doc, line| doc.item(line))
}

/// Findings of one weight, as many as are shown.
fn listed(plan: &Plan, weight: Weight) -> Vec<Vec<Span>> {
    let bot = &plan.intent.bot;
    let all = plan.of_weight(weight).count();
    let shown = plan.of_weight(weight).take(FINDINGS_SHOWN_MAX);
    let mut lines: Vec<_> = shown.map(|found| finding::line(found, bot)).collect();
    if all > FINDINGS_SHOWN_MAX {
        let more = all - FINDINGS_SHOWN_MAX;
        lines.push(own(&format!("and {more} more of this kind")));
    }
    lines
}

/// When it begins, and when members are told.
fn beginning(schedule: &Schedule, occasion: PlanReason, now: Timestamp) -> String {
    let start = &schedule.start;
    if start.at <= now {
        return match occasion {
            PlanReason::Asked => "The start time has passed: it starts at once.".to_owned(),
            PlanReason::RoomChanged | PlanReason::StartMissed => format!(
                "It should have started on {}; once you confirm, it starts at once.",
                moment::start(start)
            ),
        };
    }
    let (overdue, later): (Vec<Timestamp>, Vec<Timestamp>) =
        schedule.announcements.iter().partition(|at| **at <= now);
    let at_once = (!overdue.is_empty()).then(|| "as soon as it is confirmed".to_owned());
    let later = later
        .into_iter()
        .map(|at| format!("on {}", moment::moment(at, &start.zone)));
    let times: Vec<_> = at_once.into_iter().chain(later).collect();
    let announced = if times.is_empty() {
        String::new()
    } else {
        format!(" I will announce it in the room {}.", times.join("; "))
    };
    format!(
        "It starts on {}, {} from now; confirmed later, at once.{announced}",
        moment::start(start),
        moment::rest(start.at.duration_since(now)),
    )
}

fn outline(plan: &Plan) -> Vec<String> {
    let counts = &plan.counts;
    let mut content = count(counts.state, "setting", "settings");
    for (number, one, many) in [
        (counts.bans, "ban", "bans"),
        (counts.pins, "pinned message", "pinned messages"),
    ] {
        if number > 0 {
            content = format!("{content}, {}", count(number, one, many));
        }
    }
    let people = format!(
        "{} on {}",
        count(counts.members, "member", "members"),
        count(counts.servers, "server", "servers")
    );
    let mut lines = match (plan.intent.method, plan.intent.review) {
        (Method::Server, _) => vec![
            format!(
                "The server creates the new room and points the old one to it. {people} will see a \
                 link to follow; nobody is moved automatically."
            ),
            format!("I compare it with the old room ({content}) and add what the server left out."),
        ],
        (Method::Staged, review) => {
            let mut lines = vec![format!(
                "I create the new room, which nobody can find yet, and complete it ({content})."
            )];
            if review == Review::Wanted {
                lines.push(
                    "I invite you there and wait for your yes. If you say no, I discard the new \
                     room."
                        .to_owned(),
                );
            }
            lines.push(format!(
                "Then the old room points to it. {people} will see a link to follow; nobody is \
                 moved automatically."
            ));
            lines
        }
        (Method::Adopt, _) => vec![format!(
            "The new room already exists. I compare it with the old one ({content}) and add what \
             is missing; what people changed in it since stays as it is."
        )],
    };
    if counts.aliases > 0 {
        lines.push(format!(
            "{} to the new room.",
            count(counts.aliases, "address moves", "addresses move")
        ));
    }
    if counts.spaces > 0 {
        lines.push(format!(
            "{} the new room.",
            count(counts.spaces, "space lists", "spaces list")
        ));
    }
    let may = |wanted: &Permission| {
        !plan.findings.iter().any(|finding| {
            matches!(finding, Finding::CannotEdit { room, deed, .. } if *room == plan.old_room && deed == wanted)
        })
    };
    let message = if may(&Permission::Pin) {
        "gets a pinned message with the link"
    } else {
        "gets a message with the link"
    };
    lines.push(if may(&Permission::ChangePowerLevels) {
        format!("The old room is closed to new messages and {message}.")
    } else {
        format!("The old room {message}.")
    });
    lines
}
