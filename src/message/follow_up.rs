//! How a move is going: who came, who did not, when they are pinged, and how it ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use ruma::OwnedUserId;

use super::doc::{Doc, Span, own, person, room, shortened};
use super::{count, duration, report, todo, until};
use crate::clock::quiet_hours::QuietHours;
use crate::job::follow_up::{Door, End, EndReason, FollowUp, OldRoomOutcome, Stage};
use crate::job::{Job, State};
use crate::model::{CampaignId, JobId, Text, WorkId};
use crate::room::moves::{Moves, Tally, Whereabouts};

/// People that are listed; the rest is counted. As many of the longest ids fit into an event.
const PEOPLE_SHOWN_MAX: usize = 75;

/// Who came, in a sentence or two.
pub(crate) fn tally(tally: &Tally) -> String {
    // Writing to a String cannot fail.
    let mut text = format!("Moved: {} of {}.", tally.moved, tally.expected());
    let part = |number, words: &str| (number > 0).then(|| format!("{number} {words}"));
    let parts = |parts: Vec<Option<String>>| {
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    };
    if tally.stragglers() > 0 {
        let _ = write!(text, " Not there yet: {}", tally.stragglers());
        let known = parts(vec![
            part(tally.invited, "invited"),
            part(tally.declined, "declined the invitation"),
        ]);
        text.push_str(&known.map_or_else(|| ".".to_owned(), |known| format!(" ({known}).")));
    }
    let others = parts(vec![
        part(tally.left, "left"),
        part(tally.removed, "removed from the new room"),
        part(
            tally.cannot_follow,
            "on servers that do not know the new version",
        ),
    ]);
    if let Some(others) = others {
        let _ = write!(text, " Not counted: {others}.");
    }
    text
}

/// When the next ping comes, and what comes after the last.
pub(crate) fn next(
    follow_up: Option<&FollowUp>,
    quiet_hours: Option<&QuietHours>,
    now: Timestamp,
) -> String {
    let Some(follow_up) = follow_up else {
        return "No pings are planned.".to_owned();
    };
    let sent = match follow_up.pings {
        0 => String::new(),
        pings => format!(" So far: {}.", count(pings as usize, "ping", "pings")),
    };
    let words = match (&follow_up.stage, follow_up.next_ping(quiet_hours)) {
        (Stage::Over, _) => "The follow-up is over.".to_owned(),
        (Stage::Checking(_) | Stage::Closing(_), _) => "The follow-up is ending.".to_owned(),
        (Stage::Open, _) if follow_up.pinging.is_some() || follow_up.asked.is_some() => {
            "A ping is on its way.".to_owned()
        }
        (Stage::Open, Some(next)) if next <= now => "Next ping: any moment.".to_owned(),
        (Stage::Open, Some(next)) => format!("Next ping: in {}.", until(next, now)),
        (Stage::Open, None) => {
            let end = follow_up.timetable.end(follow_up.last);
            format!("No more pings; the follow-up ends in {}.", until(end, now))
        }
    };
    words + sent.as_str()
}

/// What stands below the picture of a move.
pub(crate) fn caption(label: &str, of: &Tally) -> Text {
    Doc::new()
        .line(&[
            Span::Bold(shortened(label)),
            Span::Text(format!(": {}", tally(of))),
        ])
        .finish()
}

/// The state of a finished upgrade, with how the move is going.
pub(crate) fn status(
    job: &Job,
    state: &State,
    of: &Tally,
    quiet_hours: Option<&QuietHours>,
    now: Timestamp,
) -> Text {
    let next = next(state.follow_up.as_ref(), quiet_hours, now);
    let moves = Doc::new().say(&tally(of)).say(&next).finish();
    match report::report(job, state) {
        Some(report) => Text {
            plain: format!("{}\n{}", report.plain, moves.plain),
            html: report.html + moves.html.as_str(),
        },
        None => moves,
    }
}

/// Everybody who is not in the new room, and why.
pub(crate) fn stragglers(id: JobId, label: &str, moves: &Moves) -> Text {
    let mut doc = Doc::new().line(&[
        Span::Bold(format!("Upgrade #{id}, {}: ", shortened(label))),
        Span::Text(tally(&moves.tally())),
    ]);
    let mut shown = 0;
    let mut hidden = 0;
    for (words, is_it) in [
        ("Not there yet", is(Whereabouts::Waiting)),
        ("Invited", is(Whereabouts::Invited)),
        ("Declined the invitation", is(Whereabouts::Declined)),
        (
            "Their server does not know the new version",
            is(Whereabouts::CannotFollow),
        ),
        ("Sent away from the new room", is(Whereabouts::Removed)),
    ] {
        for (user, _) in moves.people.iter().filter(|(_, at)| is_it(**at)) {
            if shown == PEOPLE_SHOWN_MAX {
                hidden += 1;
                continue;
            }
            shown += 1;
            doc = doc.item(&[Span::Text(format!("{words}: ")), person(user)]);
        }
    }
    if hidden > 0 {
        doc = doc.item(&own(&format!("and {hidden} more")));
    }
    if shown == 0 {
        doc = doc.say("Nobody is left behind.");
    }
    doc.finish()
}

/// Everybody who has not come to some room of a campaign, with how many rooms they lag in.
pub(crate) fn stragglers_of_campaign(
    id: CampaignId,
    label: &str,
    rooms: &[(String, Moves)],
) -> Text {
    let all = rooms.iter().map(|(_, moves)| moves.tally());
    let all = all.fold(Tally::default(), std::ops::Add::add);
    let mut doc = Doc::new().line(&[
        Span::Bold(format!("Campaign {id}, {}: ", shortened(label))),
        Span::Text(tally(&all)),
    ]);
    let mut people: BTreeMap<&OwnedUserId, Vec<&str>> = BTreeMap::new();
    for (label, moves) in rooms {
        for (user, _) in moves.stragglers() {
            people.entry(user).or_default().push(label);
        }
    }
    for (user, rooms) in people.iter().take(PEOPLE_SHOWN_MAX) {
        let words = match rooms.as_slice() {
            [only] => format!(": {}", shortened(only)),
            many => format!(": {} rooms", many.len()),
        };
        doc = doc.item(&[person(user), Span::Text(words)]);
    }
    if people.len() > PEOPLE_SHOWN_MAX {
        doc = doc.item(&own(&format!(
            "and {} more",
            people.len() - PEOPLE_SHOWN_MAX
        )));
    }
    doc.finish()
}

fn is(wanted: Whereabouts) -> impl Fn(Whereabouts) -> bool {
    move |at| at == wanted
}

fn work(id: WorkId) -> String {
    match id {
        WorkId::Job(id) => format!("#{id}"),
        WorkId::Campaign(id) => format!("campaign {id}"),
    }
}

fn new_room_of(id: WorkId) -> String {
    match id {
        WorkId::Job(_) => format!("the new room of {}", work(id)),
        WorkId::Campaign(_) => format!("the new rooms of {}", work(id)),
    }
}

pub(crate) fn scheduled(id: WorkId, after: &[Duration]) -> Text {
    let times: Vec<_> = after
        .iter()
        .map(|after| duration(after.as_secs()))
        .collect();
    Doc::new()
        .say(&format!(
            "I will ping members who have not joined {}, {} from now.",
            new_room_of(id),
            times.join(", ")
        ))
        .finish()
}

/// A ping was asked for.
pub(crate) fn asked(id: WorkId, of: &Tally) -> Text {
    Doc::new()
        .say(&format!(
            "Pinging {} of those who have not joined {}.",
            of.stragglers(),
            new_room_of(id)
        ))
        .finish()
}

/// A ping was asked for, and there is nobody to be pinged.
pub(crate) fn nobody(id: WorkId) -> Text {
    Doc::new()
        .say(&format!("Nobody left to ping for {}.", new_room_of(id)))
        .finish()
}

/// The follow-up was ended by a command.
pub(crate) fn off(id: WorkId) -> Text {
    Doc::new()
        .say(&format!(
            "No more pings for {}. I check what is left to do once more, and then report.",
            work(id)
        ))
        .finish()
}

/// A command about pings of an upgrade that has none.
pub(crate) fn no_follow_up(id: WorkId) -> Text {
    Doc::new()
        .say(&format!(
            "No pings are planned for {}. To plan some, type for example `!upgrade ping {id} 1d,3d`.",
            work(id)
        ))
        .finish()
}

/// The server did not let the bot ping. Said once.
pub(crate) fn refused(job: &Job, label: &str, message: &str) -> Text {
    let id = job.id;
    let mut title = vec![Span::Bold(format!(
        "I cannot ping in the old room of #{id}: "
    ))];
    title.extend(room(label, &job.request.old_room, &[]));
    Doc::new()
        .line(&title)
        .line(&[Span::Text(format!("The server says: {}", shortened(message)))])
        .say(&format!(
            "I probably can no longer write there. Once I can, I continue with the next scheduled ping; \
             `!upgrade ping {id} now` pings at once. I say this only once."
        ))
        .finish()
}

pub(crate) fn ended(job: &Job, state: &State, why: &EndReason, end: &End) -> Text {
    let id = job.id;
    let label = state.plan.as_ref().map_or("", |plan| &plan.label);
    let mut title = vec![Span::Bold(format!("The follow-up of #{id} is over: "))];
    title.extend(room(label, &job.request.old_room, &[]));
    let mut doc = Doc::new().line(&title);
    doc = doc.line(&match why {
        EndReason::Moved if end.tally.stragglers() == 0 => own("Nobody is left behind."),
        EndReason::Moved => own("Enough people have come."),
        EndReason::Time => own("The last ping was a while ago."),
        EndReason::Replaced => own("The new room has been upgraded in turn."),
        EndReason::Off { by } => vec![
            Span::Text("Ended by ".to_owned()),
            person(by),
            Span::Text(".".to_owned()),
        ],
    });
    doc = doc.say(&tally(&end.tally));
    doc = match &end.door {
        Door::WasShut => doc,
        Door::Shut => doc.say(
            "Members of the old room can no longer join by themselves; latecomers need an invitation.",
        ),
        Door::Refused { message } => doc.line(&[Span::Text(format!(
            "The new room still lets in members of the old one, since the server did not let me change \
             its join rule: {}. Somebody with enough power can do it: room settings, Security & \
             Privacy, Access.",
            shortened(message)
        ))]),
    };
    doc = match &end.farewell {
        OldRoomOutcome::Stays => doc,
        OldRoomOutcome::Left => doc.say("I left the old room."),
        OldRoomOutcome::Needed { why } => doc.say(&format!("I stay in the old room: {why}.")),
    };
    let todos = report::todos(state);
    let (Some(plan), Some(new_room), false) = (&state.plan, state.new_room(), todos.is_empty())
    else {
        return doc.finish();
    };
    todo::list_of_room(doc, todos, &plan.intent.bot, new_room).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_is_told_in_numbers() {
        let told: Vec<_> = [
            Tally::default(),
            Tally {
                moved: 40,
                waiting: 10,
                ..Tally::default()
            },
            Tally {
                moved: 40,
                invited: 3,
                waiting: 5,
                declined: 2,
                cannot_follow: 4,
                left: 6,
                removed: 1,
            },
        ]
        .iter()
        .map(tally)
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r##"
        Moved: 0 of 0.
        Moved: 40 of 50. Not there yet: 10.
        Moved: 40 of 50. Not there yet: 10 (3 invited, 2 declined the invitation). Not counted: 6 left, 1 removed from the new room, 4 on servers that do not know the new version.
        "##);
    }

    #[test]
    fn a_long_list_of_stragglers_is_cut_and_stays_below_the_size_of_an_event() {
        let people = (0..10_000).map(|n| {
            let user: OwnedUserId = format!("@{n}:{}", "x".repeat(245)).try_into().unwrap();
            (user, Whereabouts::Waiting)
        });
        let moves = Moves {
            people: people.collect(),
        };
        let text = stragglers(JobId(7), "Room", &moves);
        assert!(text.plain.contains("and 9925 more"), "{}", text.plain);
        assert!((text.plain.len() + text.html.len()) * 4 / 3 < 65_536);
    }
}
