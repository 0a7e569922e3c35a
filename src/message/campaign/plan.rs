//! The plan of a campaign: what goes, what does not and why, in which order, what it costs.

use jiff::Timestamp;
use ruma::UserId;

use super::{
    Span, count, finding, how, listed, of_child, of_left_out, own, room, server, until, why,
};
use crate::campaign::rooms::Why;
use crate::campaign::{Campaign, Child, Found, Plan};
use crate::job::Plan as JobPlan;
use crate::message::doc::Doc;
use crate::message::plan::{PlanReason, counted, question};
use crate::message::{duration, moment};
use crate::model::{Confirmation, Method, Text};
use crate::room::finding::{Finding, MethodReason, Weight};

/// Rooms that are listed in each part of the plan.
const ROOMS_SHOWN_MAX: usize = 60;

/// Findings of one weight that are listed; the rest is counted.
const FINDINGS_SHOWN_MAX: usize = 12;

/// Rooms that are named behind a finding that several have.
const NAMED_MAX: usize = 3;

/// A room with the plan that its job made.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub child: Child,
    pub plan: JobPlan,
}

/// The rooms of a campaign that were looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rooms<'a> {
    /// Those that have a plan.
    pub planned: &'a [Planned],
    /// Those that could not be planned.
    pub failed: &'a [&'a Child],
}

#[expect(clippy::too_many_lines, reason = "a paragraph after the other")]
pub(crate) fn plan(
    campaign: &Campaign,
    found: &Found,
    plan: &Plan,
    rooms: Rooms<'_>,
    occasion: PlanReason,
    bot: &UserId,
    now: Timestamp,
) -> Text {
    let id = campaign.id;
    let Rooms {
        planned: rooms,
        failed,
    } = rooms;
    let going: Vec<_> = rooms
        .iter()
        .filter(|room| room.child.is_waiting_for_its_turn())
        .collect();
    let blocked: Vec<_> = rooms.iter().filter(|room| room.plan.is_blocked()).collect();
    let version = rooms
        .first()
        .map(|room| room.plan.intent.version.to_string());
    let losses = shared(&going, Weight::Loss);
    let mut counted = counted(losses.iter().map(|(finding, _)| finding));
    if !blocked.is_empty() {
        let cannot = count(blocked.len(), "room", "rooms") + " blocked";
        counted = if counted.is_empty() {
            cannot
        } else {
            format!("{cannot}, {counted}")
        };
    }
    let mut title = vec![Span::Bold(if going.is_empty() {
        format!("Plan {id}: cannot upgrade any room of ")
    } else {
        format!(
            "Plan {id}: ready to upgrade {} of ",
            count(going.len(), "room", "rooms")
        )
    })];
    title.extend(room(&plan.label, &campaign.request.space, &[]));
    if let (Some(version), false) = (&version, going.is_empty()) {
        title.push(Span::Text(format!(" to version {version}")));
    }
    if !counted.is_empty() {
        title.push(Span::Bold(format!(" · {counted}")));
    }
    let mut doc = Doc::new();
    if occasion == PlanReason::StartMissed {
        doc = doc.say("I was offline at the agreed time, and nothing was done. Shall I start now?");
    }
    doc = doc.line(&title);
    if let Some(schedule) = &plan.schedule {
        let start = moment::start(&schedule.start);
        doc = doc.say(&format!("It starts on {start}."));
    }
    if !blocked.is_empty() {
        doc = doc.heading(&format!(
            "Cannot be upgraded now: {}",
            count(blocked.len(), "room", "rooms")
        ));
        for planned in blocked.iter().take(FINDINGS_SHOWN_MAX) {
            let mut line = of_child(&planned.child, &server(bot));
            line.push(Span::Text(": ".to_owned()));
            for blocker in planned.plan.of_weight(Weight::Blocker).take(1) {
                line.extend(finding::line(blocker, bot));
            }
            doc = doc.item(&line);
        }
        doc = more(doc, blocked.len());
    }
    if !failed.is_empty() {
        doc = doc.heading(&format!(
            "Could not be checked, will be skipped: {}",
            count(failed.len(), "room", "rooms")
        ));
        for child in failed.iter().take(FINDINGS_SHOWN_MAX) {
            let mut line = of_child(child, &server(bot));
            line.push(Span::Text(": ".to_owned()));
            line.extend(how(child, bot, now));
            doc = doc.item(&line);
        }
        doc = more(doc, failed.len());
    }
    if !losses.is_empty() {
        doc = doc.heading("Lost, or left for you to do:");
        doc = of_rooms(&losses, &going, bot)
            .iter()
            .fold(doc, |doc, line| doc.item(line));
    }
    doc = left_out(doc, campaign, found);
    if going.is_empty() {
        return doc
            .say(if failed.is_empty() {
                "Nothing to upgrade here. Nothing was changed."
            } else {
                "No room can be upgraded now. Nothing was changed. Please send the command again later."
            })
            .finish();
    }
    doc = listed(doc, "Rooms, in order", &going, ROOMS_SHOWN_MAX, |room| {
        let mut line = of_child(&room.child, &server(bot));
        let from = room.plan.from.as_ref();
        line.push(Span::Text(format!(
            ", version {}, {}",
            from.map_or("?", |from| from.as_str()),
            count(room.plan.counts.members, "member", "members")
        )));
        line
    });
    let lines: Vec<_> = outline(&going).iter().map(|line| own(line)).collect();
    doc = doc.folded("What will happen", &lines);
    let notes = shared(&going, Weight::Note);
    if !notes.is_empty() {
        doc = doc.folded("Good to know", &of_rooms(&notes, &going, bot));
    }
    doc = doc.say(&format!(
        "It will take about {} ({}), longer if rate-limited.",
        duration(plan.seconds),
        count(plan.requests, "request", "requests")
    ));
    match campaign.request.confirmation {
        Confirmation::Given if occasion == PlanReason::Asked => doc.say("Confirmed with `--yes`."),
        Confirmation::PlanOnly => doc.say(
            "This is only a preview; nothing will happen. To upgrade, send `!upgrade space` with \
             this space.",
        ),
        Confirmation::Ask | Confirmation::Given => {
            let expires = until(plan.expires_at, now);
            doc.say(&question(&id.to_string(), &counted, &expires))
        }
    }
    .finish()
}

fn outline(going: &[&Planned]) -> Vec<String> {
    let spaces = going.iter().filter(|room| room.child.rank > 0).count();
    let rooms = going.len() - spaces;
    let first = match rooms {
        1 => "1 room goes first".to_owned(),
        _ => format!("{rooms} rooms go first, several at the same time"),
    };
    let order = match (rooms, spaces) {
        (1, 0) => "1 room goes.".to_owned(),
        (_, 0) => format!("{rooms} rooms go, several at the same time."),
        (0, 1) => "1 space goes.".to_owned(),
        (0, _) => format!("{spaces} spaces go, innermost first."),
        (_, 1) => format!("{first}, then the space."),
        _ => format!("{first}, then {spaces} spaces, innermost first."),
    };
    let of = |method| {
        going
            .iter()
            .filter(|room| room.plan.intent.method == method)
            .count()
    };
    let (server, staged) = (of(Method::Server), of(Method::Staged));
    let way = match (server, staged) {
        (0, _) => "I create each new room myself, complete it, and then point the old one to it.",
        (_, 0) => {
            "The server creates each new room and points the old one to it; I add what it left out."
        }
        _ => {
            "Each room gets a new one, made by the server or by me, whichever loses less; what is \
             missing there I add."
        }
    };
    let is_short = going.iter().any(|room| {
        let mut losses = room.plan.of_weight(Weight::Loss);
        losses.any(|loss| {
            matches!(
                loss,
                Finding::CannotEdit { .. }
                    | Finding::RemoteAlias { .. }
                    | Finding::UnseenSpace { .. }
            )
        })
    });
    let members: usize = going.iter().map(|room| room.plan.counts.members).sum();
    vec![
        order,
        way.to_owned(),
        format!(
            "{} (counted once per room) will see a link to follow; nobody is moved \
             automatically.",
            count(members, "member", "members")
        ),
        format!(
            "Addresses, directory listings, spaces and join rules move to the new rooms; the old rooms become \
             read-only{}.",
            if is_short {
                ", except what is named above"
            } else {
                ""
            }
        ),
        "If one room fails, the others continue.".to_owned(),
    ]
}

/// Findings that say the same, with the rooms that have them; those of most rooms first.
fn shared(going: &[&Planned], weight: Weight) -> Vec<(Finding, Vec<String>)> {
    let mut found: Vec<(Finding, Vec<String>)> = Vec::new();
    for room in going {
        for finding in room.plan.of_weight(weight) {
            let label = room.plan.label.clone();
            match found
                .iter_mut()
                .position(|(known, _)| merge(known, finding))
            {
                Some(at) => found[at].1.push(label),
                None => found.push((finding.clone(), vec![label])),
            }
        }
    }
    found.sort_by_key(|(_, labels)| std::cmp::Reverse(labels.len()));
    found
}

/// Whether two findings say the same, but for how many people they are about, who are added up.
fn merge(known: &mut Finding, other: &Finding) -> bool {
    match (&mut *known, other) {
        (
            Finding::MethodChosen {
                method,
                reason: MethodReason::KeepsSettings { people },
            },
            Finding::MethodChosen {
                method: same,
                reason: MethodReason::KeepsSettings { people: more },
            },
        ) if method == same => *people += more,
        (Finding::SettingsStay { people }, Finding::SettingsStay { people: more }) => {
            *people += more;
        }
        (known, other) => return known == other,
    }
    true
}

/// Findings as lines, with the rooms that they are about.
fn of_rooms(found: &[(Finding, Vec<String>)], going: &[&Planned], bot: &UserId) -> Vec<Vec<Span>> {
    let shown = found.iter().take(FINDINGS_SHOWN_MAX);
    let mut lines: Vec<_> = shown
        .map(|(finding, labels)| {
            let mut line = finding::line(finding, bot);
            line.push(Span::Text(format!(" ({})", named(labels, going.len()))));
            line
        })
        .collect();
    if found.len() > FINDINGS_SHOWN_MAX {
        lines.push(own(&format!(
            "and {} more",
            found.len() - FINDINGS_SHOWN_MAX
        )));
    }
    lines
}

fn named(labels: &[String], all: usize) -> String {
    if labels.len() == all && all > 1 {
        return "in all of them".to_owned();
    }
    let shown: Vec<_> = labels
        .iter()
        .take(NAMED_MAX)
        .map(|label| crate::message::doc::shortened(label))
        .collect();
    match labels.len().saturating_sub(NAMED_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn more(doc: Doc, all: usize) -> Doc {
    match all.saturating_sub(FINDINGS_SHOWN_MAX) {
        0 => doc,
        more => doc.item(&own(&format!("and {more} more"))),
    }
}

/// Rooms of the space that are not part of it: those that somebody can do something about are
/// named.
pub(super) fn left_out(mut doc: Doc, campaign: &Campaign, found: &Found) -> Doc {
    let (quiet, told): (Vec<_>, Vec<_>) = found
        .left_out
        .iter()
        .partition(|left| matches!(left.why, Why::HasVersion | Why::Replaced | Why::NotMeant));
    let number = |why: &Why| quiet.iter().filter(|left| left.why == *why).count();
    let counted: Vec<_> = [
        (Why::HasVersion, "on that version already"),
        (Why::Replaced, "replaced already"),
        (Why::NotMeant, "not asked for"),
    ]
    .into_iter()
    .map(|(why, words)| (number(&why), words))
    .filter(|(number, _)| *number > 0)
    .map(|(number, words)| format!("{number} {words}"))
    .collect();
    if !counted.is_empty() {
        doc = doc.say(&format!(
            "Skipped: {} ({}).",
            count(quiet.len(), "room", "rooms"),
            counted.join(", ")
        ));
    }
    if told.is_empty() {
        return doc;
    }
    let summary = format!("Left out: {}", count(told.len(), "room", "rooms"));
    listed(doc, &summary, &told, FINDINGS_SHOWN_MAX, |left| {
        let mut line = of_left_out(left);
        line.push(Span::Text(": ".to_owned()));
        line.extend(own(&why(left, campaign.id)));
        line
    })
}
