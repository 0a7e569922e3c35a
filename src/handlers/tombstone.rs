//! A room was closed in favour of another: an admin room by anybody, any other by somebody else.
//!
//! An admin room: the bot goes along, if that is safe. Any other room that it manages: it offers,
//! once, to finish what the other program left out. Nobody is bothered about rooms in which the
//! bot could not do anything.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId};

use super::{HandleError, HandlerContext};
use crate::clock::earlier;
use crate::homeserver::HomeserverError;
use crate::message::tombstone;
use crate::model::Text;
use crate::permissions::{self, AdminRoom, Within};
use crate::room::finding::{FalseWhy, Finding};
use crate::room::level::{Allowance, Power};
use crate::store::post_key::Stays;
use crate::store::{Outgoing, Post, PostKey, Received, Write};
use crate::survey;

/// What happened longer ago is no news.
const NEWS_AGE_MAX: Duration = Duration::from_hours(7 * 24);

pub(super) async fn run(
    context: &HandlerContext,
    received: &Received,
    replacement: Option<&OwnedRoomId>,
) -> Result<Vec<Write>, HandleError> {
    if let Some(admin_room) = permissions::admin_room(&context.admin_rooms, &received.room_id) {
        return follow(context, admin_room).await;
    }
    if context.store.admin_room_now(&received.room_id)? != received.room_id {
        // The bot went along already.
        return Ok(vec![]);
    }
    let is_news = received.sent_at >= earlier(context.clock.now(), NEWS_AGE_MAX);
    let Some(replacement) = replacement.filter(|_| is_news) else {
        return Ok(vec![]);
    };
    // A job at work says itself what it found.
    if context.store.active_job(&received.room_id)?.is_some() {
        return Ok(vec![]);
    }
    let old = match context.port.state(&received.room_id).await {
        Ok(old) => old,
        Err(HomeserverError::Refused { .. }) => return Ok(vec![]),
        Err(error) => return Err(error.into()),
    };
    let may = old
        .power()
        .can_send_state(context.port.account(), "m.room.tombstone");
    if may != Allowance::Allowed {
        return Ok(vec![]);
    }
    let mut writes = Vec::new();
    for admin_room in &context.admin_rooms {
        let scope = &admin_room.rules.scope;
        if survey::within(&*context.port, scope, &received.room_id).await? == Within::Scope {
            let text = tombstone::offer(&old, &received.sender, replacement);
            let event = Some(received.event_id.clone());
            writes.push(say(event, None, admin_room.room_id.clone(), text));
        }
    }
    Ok(writes)
}

/// Goes along to the new admin room. What counts is the tombstone that is there now: another may
/// have taken the place of the one that was received.
async fn follow(
    context: &HandlerContext,
    admin_room: &AdminRoom,
) -> Result<Vec<Write>, HandleError> {
    let from = admin_room.room_id.clone();
    let old = context.port.state(&from).await?;
    let closed = old.event("m.room.tombstone", "");
    let Some(closed) = closed.filter(|_| old.tombstone().is_some()) else {
        // It was taken back.
        return Ok(vec![]);
    };
    let event = closed.event_id.clone();
    let needed = admin_room.rules.command_level;
    // Each reason is said once, however often it is looked at.
    let stay = |finding: Option<&Finding>| {
        let text = tombstone::stays(&old, finding, context.port.account());
        let why = match finding {
            Some(Finding::FalseSuccessor { why, .. }) => match why {
                FalseWhy::NoRoom => Stays::NoRoom,
                FalseWhy::Itself => Stays::Itself,
                FalseWhy::CannotEnter => Stays::CannotEnter,
                FalseWhy::NotPredecessor => Stays::NotPredecessor,
            },
            _ => Stays::Power,
        };
        vec![say(event.clone(), Some(why), from.clone(), text)]
    };
    // Who may close a room may not have been meant to command the bot. What the bot closed itself,
    // somebody who may command it has asked for.
    let is_own = closed.sender == context.port.account();
    if !is_own && old.power().power(&closed.sender) < Power::Level(needed) {
        return Ok(stay(None));
    }
    match survey::successor(&*context.port, &old).await? {
        Ok(new) => {
            let to = new.room_id;
            Ok(vec![
                Write::MoveAdminRoom {
                    from: from.clone(),
                    to: to.clone(),
                },
                say(event.clone(), None, to, tombstone::moved(&old)),
            ])
        }
        Err(finding) => Ok(stay(Some(&finding))),
    }
}

/// Says something about a tombstone, once per reason and room.
fn say(
    event: Option<OwnedEventId>,
    stays: Option<Stays>,
    room_id: OwnedRoomId,
    text: Text,
) -> Write {
    Write::Enqueue(Outgoing {
        key: PostKey::Tombstone {
            event,
            stays,
            told: room_id.clone(),
        },
        room_id,
        post: Post::Message {
            text,
            reply_to: None,
        },
    })
}
