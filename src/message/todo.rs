//! A to-do: what is left, in which room, who could do it, and the exact command or click (P7).

use ruma::{OwnedRoomAliasId, RoomId, UserId};

use super::count;
use super::doc::{Doc, Span, own, person, shortened};
use super::finding::ask;
use crate::job::Todo;
use crate::room::change::{Change, Obstacle, Side};
use crate::room::invitation::Role;

fn text(text: impl Into<String>) -> Span {
    Span::Text(text.into())
}

/// To-dos that the report of one room lists; the rest is counted.
const TODOS_SHOWN_MAX: usize = 20;

/// What is left for people, as a list. Of `left` things those in `lines` are shown.
pub(super) fn list(mut doc: Doc, left: usize, lines: impl Iterator<Item = Vec<Span>>) -> Doc {
    doc = doc.heading(&format!("Left for you: {}", count(left, "thing", "things")));
    let mut shown = 0;
    for line in lines {
        doc = doc.item(&line);
        shown += 1;
    }
    if left > shown {
        doc = doc.item(&own(&format!("and {} more", left - shown)));
    }
    doc
}

/// The to-dos of one room, as a list.
pub(super) fn list_of_room(doc: Doc, todos: &[Todo], bot: &UserId, new_room: &RoomId) -> Doc {
    let shown = todos.iter().take(TODOS_SHOWN_MAX);
    let lines = shown.map(|todo| line(todo, bot, new_room));
    list(doc, todos.len(), lines)
}

/// One to-do as a line.
pub(super) fn line(todo: &Todo, bot: &UserId, new_room: &RoomId) -> Vec<Span> {
    let mut spans = what(&todo.change, bot, new_room);
    match &todo.obstacle {
        Obstacle::Power {
            label,
            needed,
            have,
            holders,
            ..
        } => {
            spans.push(text(format!(
                " I need power level {needed} in {}, and have {have}.",
                shortened(label)
            )));
            spans.extend(ask(holders, bot, *needed));
        }
        Obstacle::OtherServer | Obstacle::TheirMove => {}
        Obstacle::LeadsElsewhere { room } => {
            spans.push(text(
                " Someone pointed it at another room; I left that alone: ",
            ));
            spans.push(Span::Code(room.to_string()));
            spans.push(text("."));
        }
        Obstacle::Refused { message, code } => {
            let message = shortened(message);
            if code.is_empty() {
                spans.push(text(format!(" It did not work: {message}.")));
            } else {
                spans.push(text(format!(" The server refused it: {message} (")));
                spans.extend([Span::Code(shortened(code)), text(").")]);
            }
        }
        Obstacle::DidNotTake => {
            spans.push(text(
                " The server accepted it and still shows something else.",
            ));
        }
    }
    spans
}

#[expect(clippy::too_many_lines, reason = "a sentence per kind of change")]
fn what(change: &Change, bot: &UserId, new_room: &RoomId) -> Vec<Span> {
    match change {
        Change::NewState { slot, .. } => {
            let mut spans = vec![
                text("In the new room, this is missing or differs: "),
                Span::Code(shortened(&slot.0)),
            ];
            if !slot.1.is_empty() {
                spans.push(text(" "));
                spans.push(Span::Code(shortened(&slot.1)));
            }
            spans.push(text(
                ". Somebody with enough power there can set it (in Element: ",
            ));
            spans.extend([Span::Code("/devtools".to_owned()), text(").")]);
            spans
        }
        Change::Ban { user, .. } => vec![
            text("Not banned in the new room: "),
            Span::Code(shortened(user)),
            text(". Somebody with enough power there can type "),
            Span::Code(format!("/ban {}", shortened(user))),
            text("."),
        ],
        Change::MoveAlias { alias, .. } => vec![
            text("The address "),
            Span::Code(alias.to_string()),
            text(
                " does not lead to the new room. Whoever made it can move it: room settings, General, Local addresses.",
            ),
        ],
        Change::RemoteAlias {
            alias,
            now,
            shown_by,
        } => {
            let mut spans = vec![
                text("The address "),
                Span::Code(alias.to_string()),
                text(format!(
                    " {}. Somebody with an account on {} removes it from the old room and adds it in \
                     the settings of the new one (",
                    match now {
                        Some(_) => "still leads elsewhere",
                        None => "leads nowhere",
                    },
                    alias.server_name()
                )),
                Span::Code(new_room.to_string()),
                text(")."),
            ];
            if let Some(user) = shown_by {
                spans.push(text(" The old room's addresses were last set by "));
                spans.push(person(user));
                spans.push(text("."));
            }
            spans
        }
        Change::RemoteListing { server } => vec![text(format!(
            "The directory of {server} still lists the old room. Somebody with an account there \
             who could change the room takes it out (room settings, General), or asks that \
             server's admin."
        ))],
        Change::ShowAliases {
            side: Side::Old, ..
        } => vec![text(
            "The old room still shows addresses that were moved. Somebody with enough power there removes \
             them: room settings, General.",
        )],
        Change::ShowAliases {
            side: Side::New,
            missing,
            ..
        } => not_shown(missing, bot),
        Change::List { side, .. } => vec![text(match side {
            Side::Old => {
                "The old room is still in the server's directory. Somebody who may change its addresses takes it out: room settings, General."
            }
            Side::New => {
                "The new room is not in the server's directory. Somebody who may change its addresses publishes it: room settings, General."
            }
        })],
        Change::OtherState {
            room,
            slot,
            content,
        } => {
            let mut spans = if slot.0 == "m.space.parent" && content.is_empty() {
                vec![text(
                    "This room still says that it belongs to the old space: ",
                )]
            } else if slot.0 == "m.space.parent" {
                vec![text(
                    "This room does not say that it belongs to the new space: ",
                )]
            } else if slot.0 == "m.space.child" && content.is_empty() {
                vec![text("The space still lists the old room: ")]
            } else if slot.0 == "m.space.child" {
                vec![text("The space does not list the new room: ")]
            } else if slot.0 == "m.room.message" {
                vec![text(
                    "The message with the link to the new room is missing in the old one; please post it there: ",
                )]
            } else if slot.0 == "m.room.pinned_events" {
                vec![text(
                    "The message with the link to the new room is not pinned in the old one; please pin it: ",
                )]
            } else {
                vec![text(
                    "This room does not admit members of the new room yet: ",
                )]
            };
            spans.push(Span::Code(room.to_string()));
            spans.push(text(if matches!(slot.0.as_str(), "m.room.message") {
                "."
            } else {
                ". Somebody with enough power there can change that."
            }));
            spans
        }
        Change::UnseenSpace { space } => vec![
            text("The room is in a space which I am not in: "),
            Span::Code(space.to_string()),
            text(
                ". Somebody who may change that space invites me there, and I put the new room into its list: ",
            ),
            Span::Code(format!("/invite {bot}")),
            text("."),
        ],
        Change::Uninvited { people } => vec![
            text(if *people == 1 {
                "1 member of the old room needs an invitation to the new one and has none. Somebody in there can type "
                    .to_owned()
            } else {
                format!(
                    "{people} members of the old room need an invitation to the new one and have none. Somebody in \
                     there can type "
                )
            }),
            Span::Code("/invite @user:server".to_owned()),
            text("."),
        ],
        Change::Invite { user, .. } => vec![
            text("Not invited to the new room: "),
            person(user),
            text(". Somebody in there can type "),
            Span::Code(format!("/invite {user}")),
            text("."),
        ],
        Change::Arrival { user, role } => vec![
            text(match role {
                Role::Bot => "Bot invited but not joined yet: ",
                Role::Creator => "This creator is invited to the new room and has not come yet: ",
                Role::Member => "Invited to the new room, and not there yet: ",
            }),
            person(user),
            text(match role {
                Role::Bot => ". Its operator may have to add the new room to its configuration.",
                Role::Creator | Role::Member => ".",
            }),
        ],
        Change::Knock { user } => vec![
            text("Asked to be let into the old room, and has no answer: "),
            person(user),
            text(". To let them into the new one, somebody in there types "),
            Span::Code(format!("/invite {user}")),
            text("; otherwise, say no in the old one."),
        ],
        Change::Tombstone { now, by } => {
            let mut spans = vec![text("The old room does not lead to the new one any more.")];
            if let Some(by) = by {
                spans.extend([
                    text(" Its tombstone was changed by "),
                    person(by),
                    text("."),
                ]);
            }
            if let Some(now) = now {
                spans.extend([
                    text(" It leads to "),
                    Span::Code(now.to_string()),
                    text("."),
                ]);
            }
            spans.extend([
                text(" If that is a mistake, somebody who can upgrade the old room sets the tombstone back to "),
                Span::Code(new_room.to_string()),
                text(" (in Element: "),
                Span::Code("/devtools".to_owned()),
                text(", "),
                Span::Code("m.room.tombstone".to_owned()),
                text(")."),
            ]);
            spans
        }
        Change::Lock { .. } => vec![text(
            "The old room is still open to messages. Somebody with enough power there raises what it takes to \
             send them: room settings, Roles & Permissions.",
        )],
    }
}

/// Addresses that the new room does not show, and who can change that: a server may show those of other
/// servers to nobody but its own people.
fn not_shown(missing: &[OwnedRoomAliasId], bot: &UserId) -> Vec<Span> {
    if missing.is_empty() {
        return vec![text(
            "The new room has another main address than the old one had. Somebody with enough power there \
             chooses it: room settings, General.",
        )];
    }
    let mut spans = vec![text("The new room does not show ")];
    for (number, alias) in missing.iter().enumerate() {
        if number > 0 {
            spans.push(text(", "));
        }
        spans.push(Span::Code(alias.to_string()));
    }
    let elsewhere = missing
        .iter()
        .find(|alias| alias.server_name() != bot.server_name());
    spans.push(text(match elsewhere {
        Some(alias) => format!(
            ". Somebody with an account on {} and enough power in the new room adds it: room settings, General.",
            alias.server_name()
        ),
        None => ". Somebody with enough power there adds it: room settings, General.".to_owned(),
    }));
    spans
}
