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
pub enum PlanReason {
    /// The first plan.
    Asked,
    /// A confirmed plan no longer fits.
    RoomChanged,
    /// The bot was away when it should have begun.
    StartMissed,
}

/// The plan.
#[must_use]
pub fn plan(
    id: JobId,
    plan: &Plan,
    confirmation: Confirmation,
    occasion: PlanReason,
    now: Timestamp,
) -> Text {
    let bot = &plan.intent.bot;
    let mut doc = Doc::new();
    doc = match occasion {
        PlanReason::Asked => doc,
        PlanReason::RoomChanged => doc.say("The room changed after the plan was confirmed. Nothing was done. Here is the new plan:"),
        PlanReason::StartMissed => doc.say("I was away at the time that was agreed for this. Nothing was done. Shall I begin now?"),
    };
    let deed = match plan.intent.method {
        Method::Adopt => "finish the upgrade of",
        Method::Server | Method::Staged => "upgrade",
    };
    let mut title = vec![Span::Bold(format!("Plan #{id}: {deed} "))];
    title.extend(room(&plan.label, &plan.old_room, &[]));
    // A new room that was not found has no version that could be told.
    let is_unfit = plan.findings.iter().any(|finding| {
        matches!(
            finding,
            Finding::NotUpgraded | Finding::FalseSuccessor { .. } | Finding::SuccessorClosed { .. }
        )
    });
    title.push(Span::Text(match &plan.from {
        _ if is_unfit => String::new(),
        Some(from) => format!(" from version {from} to {}", plan.intent.version),
        None => format!(" to version {}", plan.intent.version),
    }));
    doc = doc.line(&title);
    if let Some(successor) = &plan.successor {
        doc = doc.line(&[
            Span::Text("The new room: ".to_owned()),
            Span::Code(successor.to_string()),
            Span::Text(format!(", version {}.", plan.intent.version)),
        ]);
    }

    if plan.from.is_some() && !plan.is_blocked() {
        doc = doc.heading("What will happen:");
        for text in outline(plan) {
            doc = doc.item(&own(&text));
        }
    }
    for (weight, heading) in [
        (Weight::Blocker, "In the way:"),
        (Weight::Loss, "What gets lost or is left for you:"),
        (Weight::Note, "Good to know:"),
    ] {
        // What would be lost does not matter to somebody who cannot begin.
        if plan.is_blocked() && weight != Weight::Blocker {
            continue;
        }
        let findings: Vec<_> = plan.of_weight(weight).collect();
        if findings.is_empty() {
            continue;
        }
        doc = doc.heading(heading);
        for found in findings.iter().take(FINDINGS_SHOWN_MAX) {
            doc = doc.item(&finding::line(found, bot));
        }
        if findings.len() > FINDINGS_SHOWN_MAX {
            let more = findings.len() - FINDINGS_SHOWN_MAX;
            doc = doc.item(&own(&format!("and {more} more of this kind")));
        }
    }
    if plan.is_blocked() {
        return doc
            .say("Nothing was changed. When this is solved, send the command again.")
            .finish();
    }
    let limited = if plan.limited_seconds > 0 {
        ", which limits how fast I may send"
    } else {
        ""
    };
    doc = doc.say(&format!(
        "It will take about {} ({} to the server{limited}).",
        duration(plan.seconds),
        count(plan.requests, "request", "requests")
    ));
    if let Some(schedule) = &plan.schedule {
        doc = doc.say(&beginning(schedule, occasion, now));
    }
    match confirmation {
        Confirmation::Given => doc.say("Confirmed with `--yes`."),
        Confirmation::PlanOnly => {
            doc.say("This is the plan only; nothing will happen. To upgrade, send the command without `plan`.")
        }
        Confirmation::Ask => doc.say(&format!(
            "An upgrade cannot be undone. To begin, react with ✅ (yes) or type \
             `!upgrade confirm {id}`; to drop it, ❌ (no) or `!upgrade cancel {id}`. The plan is \
             good for {}.",
            until(plan.expires_at, now)
        )),
    }
    .finish()
}

/// When it begins, and when members are told.
fn beginning(schedule: &Schedule, occasion: PlanReason, now: Timestamp) -> String {
    let start = &schedule.start;
    if start.at <= now {
        return match occasion {
            PlanReason::Asked => {
                "The time it should begin at is over: it begins at once.".to_owned()
            }
            PlanReason::RoomChanged | PlanReason::StartMissed => format!(
                "It should have begun on {}; with your yes it begins at once.",
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
        format!(" I tell the members in the room {}.", times.join("; "))
    };
    format!(
        "It begins on {}, {} from now; with a yes after that, at once.{announced}",
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
                "The server makes the new room and points the old one to it. {people} will see a \
                 link to follow; nobody is moved automatically."
            ),
            format!("I compare it with the old room ({content}) and add what the server left out."),
        ],
        (Method::Staged, review) => {
            let mut lines = vec![format!(
                "I make the new room, which nobody can find yet, and complete it ({content})."
            )];
            if review == Review::Wanted {
                lines.push(
                    "I invite you there and wait until you say yes. If you say no, I take the new \
                     room back."
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
            "The new room is there already. I compare it with the old one ({content}) and add what \
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
