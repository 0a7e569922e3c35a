//! What the bot says about an invitation it got. The room's name is left out: of a room that the bot
//! is not in, it is whatever the inviter wants people to read.

use ruma::{RoomId, UserId};

use super::doc::{Doc, Span, person};
use crate::model::Text;

pub(crate) fn accepted(room: &RoomId, by: &UserId) -> Text {
    Doc::new()
        .line(&about(by, room, ", and I joined."))
        .finish()
}

/// It may go there, but cannot.
pub(crate) fn failed(room: &RoomId, by: &UserId) -> Text {
    Doc::new()
        .line(&about(
            by,
            room,
            ", but the server did not let me join. Perhaps the invitation was taken back; please \
             try again.",
        ))
        .finish()
}

/// It does not go there.
pub(crate) fn left(room: &RoomId, by: &UserId) -> Text {
    Doc::new()
        .line(&about(by, room, ". I declined."))
        .say(
            "I only accept invitations from people who can command me here, or who are listed in `accept_invites_from`.",
        )
        .finish()
}

fn about(by: &UserId, room: &RoomId, rest: &str) -> Vec<Span> {
    vec![
        person(by),
        Span::Text(" invited me to ".to_owned()),
        Span::Code(room.to_string()),
        Span::Text(rest.to_owned()),
    ]
}
