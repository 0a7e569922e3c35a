//! What an event may ask of the bot: read from JSON that may be anything. Pure.
//!
//! Left out: which rooms it comes from, and what is done about it.

use jiff::Timestamp;
use ruma::{RoomId, UserId};
use serde_json::Value;

use crate::model::{Addressee, Device, TakenBack};
use crate::store::{Received, ReceivedKind, Withdrawal};

/// Longest message body that is kept whole; an event cannot hold a longer one.
const LONGEST_BODY_BYTES: usize = 64 * 1024;

/// What is kept of a longer one.
const MAX_STORED_BODY_BYTES: usize = 16 * 1024;

/// Longest key of a reaction; emoji are far shorter.
const LONGEST_KEY_BYTES: usize = 256;

/// Tells what may be meant for the bot; everything else is not even stored.
#[derive(Debug, Clone, Copy)]
pub struct ForUs {
    /// Whether the body of a message may.
    pub body: fn(&str) -> bool,
    /// The same of a message that calls the bot by its name, as a command: by its own id, the body, the
    /// HTML, and whom it mentions.
    pub addressed: fn(&UserId, &str, Option<&str>, Addressee) -> Option<String>,
    /// Whether the key of a reaction may.
    pub reaction: fn(&str) -> bool,
}

/// What an event may ask of the bot; `None` for all that is not for it. The JSON may be anything.
#[must_use]
pub fn received(event: &Value, room: &RoomId, own: &UserId, for_us: ForUs) -> Option<Received> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let sender = text("sender")?;
    let redacted = event
        .pointer("/unsigned/redacted_because")
        .is_some_and(|why| !why.is_null());
    if sender == own.as_str() || redacted || event.get("state_key").is_some() {
        return None;
    }
    let content = event.get("content")?;
    // The server may tell only the original, with its newest edit beside it.
    let is_edited = event
        .pointer("/unsigned/m.relations/m.replace")
        .is_some_and(|edit| !edit.is_null());
    let kind = match text("type")? {
        "m.room.message" => match message(content, own, for_us)? {
            _ if is_edited => ReceivedKind::Edited,
            message => message,
        },
        "m.reaction" => reaction(content, for_us.reaction)?,
        _ => return None,
    };
    stored(event, room, kind)
}

/// What an event says of another one that it edits or removes; `None` for any other event. The relation of
/// an edit is readable also where the edit itself is encrypted.
/// Source: Matrix specification, client-server API, "Event replacements" and "Redactions".
pub(super) fn withdrawal(event: &Value) -> Option<Withdrawal> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let (of, how) = match text("/type")? {
        "m.room.message" | "m.room.encrypted"
            if text("/content/m.relates_to/rel_type") == Some("m.replace") =>
        {
            let of = text("/content/m.relates_to/event_id")?;
            (of, TakenBack::Edited)
        }
        // From room version 11 on in the content.
        "m.room.redaction" => {
            let of = text("/content/redacts").or_else(|| text("/redacts"))?;
            (of, TakenBack::Removed)
        }
        _ => return None,
    };
    Some(Withdrawal {
        event: of.parse().ok()?,
        by: text("/sender")?.parse().ok()?,
        how,
    })
}

/// The same as something to be handled: what was taken back may have been handled already.
pub(super) fn taken_back(
    event: &Value,
    room: &RoomId,
    withdrawal: &Withdrawal,
) -> Option<Received> {
    let kind = ReceivedKind::TakenBack {
        event: withdrawal.event.clone(),
        how: withdrawal.how,
    };
    stored(event, room, kind)
}

/// The tombstone of a room; `None` for any other event.
pub(super) fn tombstone(event: &Value, room: &RoomId) -> Option<Received> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    let is_tombstone =
        text("type") == Some("m.room.tombstone") && text("state_key").is_some_and(str::is_empty);
    if !is_tombstone {
        return None;
    }
    let replacement = event
        .pointer("/content/replacement_room")
        .and_then(Value::as_str)
        .and_then(|room| room.parse().ok());
    stored(event, room, ReceivedKind::Tombstone { replacement })
}

/// The same event once more, under a name of its own: an event that was handled is not handled
/// again.
pub(super) fn once_more(received: Received) -> Option<Received> {
    let id = received.event_id.as_str().trim_start_matches('$');
    Some(Received {
        event_id: format!("$again.{id}").parse().ok()?,
        ..received
    })
}

/// An event as it goes into the inbox.
fn stored(event: &Value, room: &RoomId, kind: ReceivedKind) -> Option<Received> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    Some(Received {
        event_id: text("event_id")?.parse().ok()?,
        room_id: room.to_owned(),
        sender: text("sender")?.parse().ok()?,
        sent_at: Timestamp::from_millisecond(event.get("origin_server_ts")?.as_i64()?).ok()?,
        kind,
    })
}

fn message(content: &Value, own: &UserId, for_us: ForUs) -> Option<ReceivedKind> {
    let relation = content
        .pointer("/m.relates_to/rel_type")
        .and_then(Value::as_str);
    let is_edit = relation == Some("m.replace") || content.get("m.new_content").is_some();
    let body = content.get("body")?.as_str()?;
    if is_edit || content.get("msgtype")?.as_str()? != "m.text" {
        return None;
    }
    let thread = content.pointer("/m.relates_to/event_id");
    let thread = thread.filter(|_| relation == Some("m.thread"));
    let thread = thread.and_then(|root| root.as_str()?.parse().ok());
    let is_html = content.get("format").and_then(Value::as_str) == Some("org.matrix.custom.html");
    let html = content
        .get("formatted_body")
        .and_then(Value::as_str)
        .filter(|_| is_html);
    let html = html.filter(|html| html.len() <= LONGEST_BODY_BYTES);
    if !(for_us.body)(body) {
        let body = (for_us.addressed)(own, body, html, addressee(content, own))?;
        return Some(ReceivedKind::Message {
            body,
            formatted_body: None,
            device: Device::Unknown,
            thread,
        });
    }
    if body.len() <= LONGEST_BODY_BYTES {
        return Some(ReceivedKind::Message {
            body: body.to_owned(),
            formatted_body: html.map(ToOwned::to_owned),
            device: Device::Unknown,
            thread,
        });
    }
    let end = body.floor_char_boundary(MAX_STORED_BODY_BYTES);
    Some(ReceivedKind::Message {
        body: body[..end].to_owned(),
        formatted_body: None,
        device: Device::Unknown,
        thread,
    })
}

/// Source: Matrix specification, "User and room mentions".
fn addressee(content: &Value, own: &UserId) -> Addressee {
    let users = content.pointer("/m.mentions/user_ids");
    let users = users
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let is_answer = content.pointer("/m.relates_to/m.in_reply_to").is_some()
        && content.pointer("/m.relates_to/is_falling_back") != Some(&Value::Bool(true));
    match users {
        [user] if user.as_str() == Some(own.as_str()) && !is_answer => Addressee::BotAlone,
        _ => Addressee::Other,
    }
}

fn reaction(content: &Value, answers: fn(&str) -> bool) -> Option<ReceivedKind> {
    let relation = content.get("m.relates_to")?;
    let text = |key: &str| relation.get(key).and_then(Value::as_str);
    let key = text("key").filter(|key| key.len() <= LONGEST_KEY_BYTES && answers(key))?;
    if text("rel_type")? != "m.annotation" {
        return None;
    }
    Some(ReceivedKind::Reaction {
        to: text("event_id")?.parse().ok()?,
        key: key.to_owned(),
    })
}
