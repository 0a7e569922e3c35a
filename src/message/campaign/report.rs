//! How a campaign ended: totals, what was not done, what is left to do.

use jiff::Timestamp;
use ruma::{OwnedRoomId, UserId};

use super::plan::left_out;
use super::{Span, count, how, label, listed, of_child, of_left_out, own, room, server, space_now};
use crate::campaign::{Campaign, Child, Course, Phase, State};
use crate::job::{Encryption, Phase as JobPhase, Todo};
use crate::message::doc::{Doc, shortened};
use crate::message::todo;
use crate::model::Text;

/// To-dos that are listed; the rest is counted.
const TODOS_SHOWN_MAX: usize = 25;

/// Rooms that were not done and are listed; the rest is counted.
const NOT_DONE_SHOWN_MAX: usize = 15;

/// A to-do of one of the rooms.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    /// What people call the room.
    pub label: String,
    pub new_room: OwnedRoomId,
    /// What is left to do.
    pub todo: Todo,
}

/// The end of a campaign; `None` while it has not ended, or where the plan itself says it all.
#[expect(clippy::too_many_lines, reason = "a paragraph after the other")]
pub(crate) fn report(
    campaign: &Campaign,
    state: &State,
    children: &[Child],
    open: &[Open],
    bot: &UserId,
    now: Timestamp,
) -> Option<Text> {
    let id = campaign.id;
    let titled = |words: &str| {
        let mut title = vec![Span::Bold(format!("{words} {id}: "))];
        title.extend(room(
            &label(campaign, state),
            &space_now(campaign, children),
            &[server(bot)],
        ));
        Doc::new().line(&title)
    };
    match state.phase {
        Phase::Done => {}
        Phase::Cancelled => {
            return Some(
                titled("Cancelled, campaign")
                    .say("Nothing was changed.")
                    .finish(),
            );
        }
        Phase::Expired => {
            return Some(
                titled("Plan expired")
                    .say(
                        "Nobody confirmed it in time, or a newer plan took its place. Nothing was \
                         changed.",
                    )
                    .finish(),
            );
        }
        _ => return None,
    }
    let moved = children.iter().filter(|child| child.is_moved()).count();
    let not_done: Vec<_> = children
        .iter()
        .filter(|child| {
            !child.is_moved() && child.was_meant_to_go() || child.phase == JobPhase::Stuck
        })
        .cloned()
        .collect();
    let blocked: Vec<_> = children
        .iter()
        .filter(|child| !child.is_moved() && !child.was_meant_to_go())
        .collect();
    let mut doc = titled(match state.course {
        Course::Stopped => "Stopped, campaign",
        _ if not_done.is_empty() && blocked.is_empty() => "Done, campaign",
        _ => "Ended, campaign",
    });
    doc = doc.say(&format!(
        "Upgraded {} of {}.",
        moved,
        count(children.len(), "room", "rooms")
    ));
    if !not_done.is_empty() {
        doc = doc.heading(&format!(
            "Not done: {}",
            count(not_done.len(), "room", "rooms")
        ));
        for child in not_done.iter().take(NOT_DONE_SHOWN_MAX) {
            let mut line = of_child(child, &server(bot));
            line.push(Span::Text(": ".to_owned()));
            line.extend(how(child, bot, now));
            doc = doc.item(&line);
        }
        if not_done.len() > NOT_DONE_SHOWN_MAX {
            doc = doc.item(&own(&format!(
                "and {} more",
                not_done.len() - NOT_DONE_SHOWN_MAX
            )));
        }
    }
    if !blocked.is_empty() {
        doc = doc.heading(&format!(
            "Could not be upgraded: {}",
            count(blocked.len(), "room", "rooms")
        ));
        for child in blocked.iter().take(NOT_DONE_SHOWN_MAX) {
            let mut line = of_child(child, &server(bot));
            line.push(Span::Text(": ".to_owned()));
            line.extend(how(child, bot, now));
            doc = doc.item(&line);
        }
        if blocked.len() > NOT_DONE_SHOWN_MAX {
            let more = blocked.len() - NOT_DONE_SHOWN_MAX;
            doc = doc.item(&own(&format!("and {more} more")));
        }
    }
    if !not_done.is_empty() || !blocked.is_empty() {
        doc = doc.say(&format!(
            "To try all of them again, type `!upgrade retry {id}`."
        ));
    }
    if let Some(found) = &state.found {
        doc = left_out(doc, campaign, found);
    }
    let encrypted: Vec<_> = children
        .iter()
        .filter(|child| child.summary.encryption == Encryption::New)
        .collect();
    if !encrypted.is_empty() {
        doc = listed(
            doc,
            &format!(
                "Encrypted now, which nobody can undo, and not before: {}",
                count(encrypted.len(), "room", "rooms")
            ),
            &encrypted,
            NOT_DONE_SHOWN_MAX,
            |child| of_child(child, &server(bot)),
        );
    }
    if !state.added.is_empty() {
        doc = listed(
            doc,
            &format!(
                "Added to the space since, not upgraded: {}",
                count(state.added.len(), "room", "rooms")
            ),
            &state.added,
            NOT_DONE_SHOWN_MAX,
            of_left_out,
        );
    }
    let of_rooms: usize = children.iter().map(|child| child.summary.todos).sum();
    let left = of_rooms.max(open.len()) + state.todos.len();
    if left == 0 {
        return Some(doc.say("Nothing is left to do.").finish());
    }
    let space = space_now(campaign, children);
    let of_campaign = state.todos.iter();
    let of_campaign = of_campaign.map(|todo| todo::line(todo, bot, &space));
    let of_rooms = open.iter().map(|open| {
        let mut line = vec![Span::Bold(format!("{}: ", shortened(&open.label)))];
        line.extend(todo::line(&open.todo, bot, &open.new_room));
        line
    });
    let lines = of_campaign.chain(of_rooms).take(TODOS_SHOWN_MAX);
    Some(
        todo::list(doc, left, lines).say(&format!(
            "I look again by myself and shorten this list. To check now, type `!upgrade verify {id}`."
        ))
        .finish(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::fixture::campaign;
    use super::*;
    use crate::job::Summary;
    use crate::model::JobId;
    use crate::room::change::{Change, Obstacle};

    fn todo(number: usize) -> Todo {
        Todo {
            change: Change::RemoteAlias {
                alias: format!("#a{number}:far.example").try_into().unwrap(),
                now: None,
                shown_by: None,
            },
            obstacle: Obstacle::OtherServer,
        }
    }

    /// P7: what is not listed is counted, whichever list it was cut from.
    #[test]
    fn what_is_left_out_of_the_list_is_counted() {
        let campaign = campaign();
        let bot: ruma::OwnedUserId = "@bot:x".try_into().unwrap();
        let new_room: OwnedRoomId = "!new:x".try_into().unwrap();
        for (of_links, of_rooms, read, shown, left_out) in [
            (30, 0, 0, 25, Some(5)),
            (20, 20, 20, 25, Some(15)),
            (0, 40, 30, 25, Some(15)),
            (3, 4, 4, 7, None),
        ] {
            let state = State {
                phase: Phase::Done,
                todos: (0..of_links).map(todo).collect(),
                ..State::default()
            };
            let child = Child {
                id: JobId(1),
                old_room: "!old:x".try_into().unwrap(),
                rank: 0,
                phase: JobPhase::Done,
                summary: Summary {
                    new_room: Some(new_room.clone()),
                    todos: of_rooms,
                    ..Summary::default()
                },
            };
            let open: Vec<_> = (0..read)
                .map(|number| Open {
                    label: "Tools".to_owned(),
                    new_room: new_room.clone(),
                    todo: todo(number),
                })
                .collect();
            let text = report(
                &campaign,
                &state,
                &[child],
                &open,
                &bot,
                Timestamp::UNIX_EPOCH,
            );
            let text = text.unwrap().plain;
            let all = of_links + of_rooms;
            assert!(
                text.contains(&format!("Left for you: {all} things")),
                "{text}"
            );
            let listed = text.lines().filter(|line| line.contains("far.example"));
            assert_eq!(listed.count(), shown, "{text}");
            let more = left_out.map(|count| format!("and {count} more"));
            assert_eq!(text.contains("more"), more.is_some(), "{text}");
            assert!(more.is_none_or(|more| text.contains(&more)), "{text}");
        }
    }
}
