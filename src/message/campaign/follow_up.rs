//! The closing report of a campaign's follow-up: one for all its rooms.

use super::{Span, count, label, listed, own, room, space_now};
use crate::campaign::{Campaign, Child, Phase, State};
use crate::job::Following;
use crate::job::follow_up::{Door, End, OldRoomOutcome};
use crate::message::doc::{Doc, shortened};
use crate::message::follow_up::tally;
use crate::model::Text;
use crate::room::moves::Tally;

/// Rooms that are listed; the rest is counted.
const ROOMS_SHOWN_MAX: usize = 25;

/// New rooms that are still open and are listed; the rest is counted.
const DOORS_SHOWN_MAX: usize = 10;

/// A room whose follow-up is over, and how it ended.
type Ended<'a> = (&'a Child, &'a End);

/// How the follow-up of all rooms ended; `None` while one of them is not over, or where none is known.
pub(crate) fn ended(campaign: &Campaign, state: &State, children: &[Child]) -> Option<Text> {
    let is_open = |child: &Child| child.summary.following == Following::Open;
    if state.phase != Phase::Done || children.iter().any(|it| !it.is_settled() || is_open(it)) {
        return None;
    }
    let rooms: Vec<Ended<'_>> = children
        .iter()
        .filter_map(|child| match &child.summary.following {
            Following::Over { end, .. } => Some((child, end.as_ref()?)),
            Following::Nothing | Following::Open => None,
        })
        .collect();
    if rooms.is_empty() {
        return None;
    }
    let mut title = vec![Span::Bold(format!(
        "The follow-up of campaign {} is over: ",
        campaign.id
    ))];
    title.extend(room(
        &label(campaign, state),
        &space_now(campaign, children),
        &[],
    ));
    let all = rooms.iter().map(|(_, end)| end.tally);
    let all = all.fold(Tally::default(), std::ops::Add::add);
    let doc = Doc::new().line(&title).say(&format!(
        "{} Whoever is in several rooms is counted in each.",
        tally(&all)
    ));
    let summary = count(rooms.len(), "room", "rooms");
    let mut doc = listed(doc, &summary, &rooms, ROOMS_SHOWN_MAX, |ended| {
        let tally = &ended.1.tally;
        line(ended, format!(": {} of {}", tally.moved, tally.expected()))
    });
    if rooms.iter().any(|(_, end)| end.door == Door::Shut) {
        doc = doc.say(
            "Being a member of an old room lets nobody into its new one any more; who comes late needs \
             an invitation.",
        );
    }
    doc = left(doors(doc, &rooms), &rooms);
    let todos: usize = rooms.iter().map(|(child, _)| child.summary.todos).sum();
    if todos > 0 {
        doc = doc.say(&format!(
            "Left for you: {}. `!upgrade status {}` shows in which rooms.",
            count(todos, "thing", "things"),
            campaign.id
        ));
    }
    Some(doc.finish())
}

fn line((child, _): &Ended<'_>, words: String) -> Vec<Span> {
    let id = child.summary.new_room.as_ref().unwrap_or(&child.old_room);
    let mut line = room(&child.summary.label, id, &[]);
    line.push(Span::Text(words));
    line
}

/// New rooms whose join rule could not be changed.
fn doors(mut doc: Doc, rooms: &[Ended<'_>]) -> Doc {
    let open: Vec<_> = rooms
        .iter()
        .filter_map(|ended| match &ended.1.door {
            Door::Refused { message } => Some(line(ended, format!(": {}", shortened(message)))),
            Door::WasShut | Door::Shut => None,
        })
        .collect();
    if open.is_empty() {
        return doc;
    }
    doc = doc.say(
        "These still let in members of their old rooms, since the server did not let me change their \
         join rules. Somebody with enough power can do it: room settings, Security & Privacy, Access.",
    );
    for line in open.iter().take(DOORS_SHOWN_MAX) {
        doc = doc.item(line);
    }
    if open.len() > DOORS_SHOWN_MAX {
        let more = open.len() - DOORS_SHOWN_MAX;
        doc = doc.item(&own(&format!("and {more} more")));
    }
    doc
}

/// What became of the bot in the old rooms.
fn left(mut doc: Doc, rooms: &[Ended<'_>]) -> Doc {
    let gone = |(_, end): &&Ended<'_>| end.farewell == OldRoomOutcome::Left;
    let gone = rooms.iter().filter(gone).count();
    if gone > 0 {
        doc = doc.say(&format!("I left {}.", count(gone, "old room", "old rooms")));
    }
    let needed = rooms.iter().filter_map(|(_, end)| match &end.farewell {
        OldRoomOutcome::Needed { why } => Some(why),
        OldRoomOutcome::Left | OldRoomOutcome::Stays => None,
    });
    let needed: Vec<_> = needed.collect();
    if let Some(why) = needed.first() {
        doc = doc.say(&format!(
            "I stay in {}, where I am needed: {why}{}.",
            count(needed.len(), "old room", "old rooms"),
            if needed.len() > 1 { ", for one" } else { "" }
        ));
    }
    doc
}

#[cfg(test)]
mod tests {
    use super::super::fixture::campaign;
    use super::*;
    use crate::campaign::Found;
    use crate::job::{Phase as JobPhase, Summary};
    use crate::model::JobId;

    fn done() -> State {
        State {
            phase: Phase::Done,
            found: Some(Found {
                label: "Village".to_owned(),
                ..Found::default()
            }),
            ..State::default()
        }
    }

    fn child(number: i64, label: &str, following: Following) -> Child {
        Child {
            id: JobId(number),
            old_room: format!("!old{number}:x").try_into().unwrap(),
            rank: 0,
            phase: JobPhase::Done,
            summary: Summary {
                label: label.to_owned(),
                new_room: Some(format!("!new{number}:x").try_into().unwrap()),
                todos: usize::from(number == 1),
                following,
                ..Summary::default()
            },
        }
    }

    fn over(moved: usize, end: End) -> Following {
        let tally = Tally {
            moved,
            waiting: 10 - moved,
            ..Tally::default()
        };
        let end = Some(End { tally, ..end });
        Following::Over { ends: 1, end }
    }

    fn refused(message: &str) -> End {
        End {
            door: Door::Refused {
                message: message.to_owned(),
            },
            farewell: OldRoomOutcome::Needed {
                why: "something is left to do".to_owned(),
            },
            ..End::default()
        }
    }

    #[test]
    fn one_report_for_all_rooms() {
        let shut = End {
            door: Door::Shut,
            farewell: OldRoomOutcome::Left,
            ..End::default()
        };
        let children = [
            child(1, "Mill", over(9, shut)),
            child(2, "Inn", over(5, refused("no power"))),
            child(3, "Bakery", Following::Nothing),
        ];
        let text = ended(&campaign(), &done(), &children).unwrap();
        insta::assert_snapshot!(text.plain, @r"
        The follow-up of campaign C1 is over: Village (`!space:x`)
        Moved: 14 of 20. Not there yet: 6. Whoever is in several rooms is counted in each.
        2 rooms
        - Mill (`!new1:x`): 9 of 10
        - Inn (`!new2:x`): 5 of 10
        Being a member of an old room lets nobody into its new one any more; who comes late needs an invitation.
        These still let in members of their old rooms, since the server did not let me change their join rules. Somebody with enough power can do it: room settings, Security & Privacy, Access.
        - Inn (`!new2:x`): no power
        I left 1 old room.
        I stay in 1 old room, where I am needed: something is left to do.
        Left for you: 1 thing. `!upgrade status C1` shows in which rooms.
        ");
    }

    #[test]
    fn it_waits_for_the_last_room() {
        let over = |number| child(number, "Mill", over(9, End::default()));
        let told = |last: Child| ended(&campaign(), &done(), &[over(1), last]).is_some();
        assert!(told(over(2)));
        assert!(!told(child(2, "Inn", Following::Open)), "it is followed");
        let with = |phase| Child {
            phase,
            ..child(2, "Inn", Following::Nothing)
        };
        assert!(!told(with(JobPhase::Running)), "it may be followed yet");
        // Whatever becomes of the last room, the others have their report.
        assert!(told(with(JobPhase::Failed)));
        assert!(told(with(JobPhase::Stuck)));
        // Nothing is said anew of what ended before such things were written down.
        let unknown = Following::Over { ends: 1, end: None };
        let children = [child(1, "Mill", unknown)];
        assert_eq!(ended(&campaign(), &done(), &children), None);
    }

    #[test]
    fn five_hundred_rooms_fit_into_an_event_and_open_doors_come_first() {
        let mut children: Vec<_> = (0..500)
            .map(|number| {
                let end = over(1, refused(&"y".repeat(2_000)));
                let mut child = child(number, &"x".repeat(300), end);
                let id = format!("!{number}:{}", "x".repeat(240));
                child.summary.new_room = Some(id.try_into().unwrap());
                child
            })
            .collect();
        children[490].summary.label = "Inn".to_owned();
        let text = ended(&campaign(), &done(), &children).unwrap();
        assert!(text.plain.contains("and 475 more"), "{}", text.plain);
        assert!(text.plain.contains("and 490 more"), "{}", text.plain);
        assert!((text.plain.len() + text.html.len()) * 4 / 3 < 65_536);
    }
}
