//! A message in an admin room that cannot be decrypted: it may have been a command, so its sender is
//! told. Once for each key, and a few times an hour at most.

use ruma::OwnedEventId;

use super::{HandleError, HandlerContext};
use crate::clock::earlier;
use crate::message::answer;
use crate::store::post_key::Unasked;
use crate::store::{Outgoing, Post, Received, Write};

/// How often in an hour a room is told: in a room where people talk, more would drown them.
const TOLD_MAX: usize = 3;

pub(super) fn run(
    context: &HandlerContext,
    received: &Received,
    event: &OwnedEventId,
) -> Result<Vec<Write>, HandleError> {
    if received.sent_at < earlier(context.clock.now(), context.max_command_age) {
        // Nobody waits for an answer any more.
        return Ok(vec![]);
    }
    let key = context.rate_limited_key(Unasked::Unreadable, &received.room_id, TOLD_MAX)?;
    let told = key.map(|key| {
        Write::Enqueue(Outgoing {
            key,
            room_id: received.room_id.clone(),
            post: Post::Message {
                text: answer::unreadable(),
                reply_to: Some(event.clone()),
            },
        })
    });
    Ok(told.into_iter().collect())
}
