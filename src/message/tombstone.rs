//! What the bot says about a room that somebody else closed.

use ruma::{OwnedRoomId, UserId};

use super::doc::{Doc, Span, own, person, room};
use super::finding;
use crate::model::Text;
use crate::room::finding::Finding;
use crate::room::state::RoomState;

/// An offer to finish an upgrade.
pub(crate) fn offer(old: &RoomState, by: &UserId, replacement: &OwnedRoomId) -> Text {
    let mut line = vec![person(by), Span::Text(" upgraded ".to_owned())];
    line.extend(room(&old.label(), &old.room_id, &[]));
    line.push(Span::Text(
        " outside Roomlift; it now points to ".to_owned(),
    ));
    line.push(Span::Code(replacement.to_string()));
    line.push(Span::Text(".".to_owned()));
    Doc::new()
        .line(&line)
        .say(&format!(
            "To see what is missing in the new room, and let me add it, type `!upgrade adopt {}`.",
            old.room_id
        ))
        .finish()
}

/// The first words in the new admin room.
pub(crate) fn moved(old: &RoomState) -> Text {
    let mut line = own("I followed the upgrade: this room replaces ");
    line.extend(room(&old.label(), &old.room_id, &[]));
    line.push(Span::Text(
        ". From now on I take commands here, and not there any more.".to_owned(),
    ));
    Doc::new().line(&line).finish()
}

/// Why the bot stays in an admin room that was closed.
pub(crate) fn stays(old: &RoomState, found: Option<&Finding>, bot: &UserId) -> Text {
    let doc = Doc::new().say("This room was marked as replaced, but I stay here for now:");
    let line = if let Some(found) = found {
        finding::line(found, bot)
    } else {
        let by = old.tombstone().map(|tombstone| tombstone.sender);
        let mut line: Vec<_> = by.iter().map(|by| person(by)).collect();
        line.push(Span::Text(
            " could close the room, but has too little power to give me commands.".to_owned(),
        ));
        line
    };
    doc.item(&line)
        .say("Whoever runs me can name another room in the configuration.")
        .finish()
}
