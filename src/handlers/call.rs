//! A command or reaction as handlers see it, and the ways to answer it.
//!
//! Each answer has a key made from the event, so that the same event answered again is one message (P1).

use ruma::UserId;

use crate::message::emoji;
use crate::model::Text;
use crate::permissions::AdminRoom;
use crate::room::power::PowerLevels;
use crate::store::{Outgoing, Post, PostKey, Received, ReceivedKind, Target, Write};

/// A command or reaction, where it came from and what its sender can do there.
pub(super) struct Call<'a> {
    pub(super) received: &'a Received,
    pub(super) admin_room: &'a AdminRoom,
    pub(super) power: PowerLevels,
}

/// A reaction to an event.
pub(super) fn react(received: &Received, emoji: &str) -> Write {
    let event = &received.event_id;
    let key = if emoji == emoji::WORKING {
        PostKey::Acknowledged(event.clone())
    } else {
        PostKey::Ended(event.clone())
    };
    Write::Enqueue(Outgoing {
        key,
        room_id: received.room_id.clone(),
        post: Post::Reaction {
            to: Target::Event(event.clone()),
            emoji: emoji.to_owned(),
        },
    })
}

/// An answer to an event.
pub(super) fn reply(received: &Received, text: Text) -> Write {
    Write::Enqueue(Outgoing {
        key: PostKey::Reply(received.event_id.clone()),
        room_id: received.room_id.clone(),
        post: Post::Message {
            text,
            reply_to: Some(received.event_id.clone()),
        },
    })
}

/// Something that answers no message which people can still see.
pub(super) fn say(received: &Received, text: Text) -> Write {
    Write::Enqueue(Outgoing {
        key: PostKey::Reply(received.event_id.clone()),
        room_id: received.room_id.clone(),
        post: Post::Message {
            text,
            reply_to: None,
        },
    })
}

/// Takes back that an event is worked on.
pub(super) fn unack(received: &Received) -> Write {
    let event = &received.event_id;
    Write::Enqueue(Outgoing {
        key: PostKey::AcknowledgedGone(event.clone()),
        room_id: received.room_id.clone(),
        post: Post::Redaction {
            of: Target::Post(PostKey::Acknowledged(event.clone())),
        },
    })
}

/// An event that comes to nothing. Who invites the bot does not hear it.
pub(super) fn sorry(received: &Received, text: Text) -> Vec<Write> {
    let reply = reply(received, text);
    match received.kind {
        ReceivedKind::Invitation => vec![],
        ReceivedKind::Message { .. } => {
            vec![reply, unack(received), react(received, emoji::NO)]
        }
        _ => vec![reply],
    }
}

/// No, and why. What was acknowledged because it takes its time is so no more.
pub(super) fn refuse(received: &Received, text: Text) -> Vec<Write> {
    match received.kind {
        // A reaction needs no reaction.
        ReceivedKind::Reaction { .. } => vec![reply(received, text)],
        ReceivedKind::Message { .. } | ReceivedKind::Edited => vec![
            reply(received, text),
            react(received, emoji::NO),
            unack(received),
        ],
        // Nobody asked.
        ReceivedKind::Tombstone { .. }
        | ReceivedKind::Invitation
        | ReceivedKind::Removed
        | ReceivedKind::TakenBack { .. }
        | ReceivedKind::Unreadable { .. } => vec![],
    }
}

impl Call<'_> {
    pub(super) fn sender(&self) -> &UserId {
        &self.received.sender
    }

    pub(super) fn reply(&self, text: Text) -> Write {
        reply(self.received, text)
    }

    pub(super) fn react(&self, emoji: &str) -> Write {
        react(self.received, emoji)
    }

    /// An answer that is all there is to it.
    pub(super) fn answer(&self, text: Text) -> Vec<Write> {
        vec![self.reply(text), self.react(emoji::YES)]
    }
}
