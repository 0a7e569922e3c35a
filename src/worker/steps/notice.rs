//! The message in the old room, with a link that works in every client, and pinned.
//!
//! Sent with a transaction id that belongs to the job, so that a repeat is the same message. What the
//! server refuses becomes a to-do, which `verify` has tried again.

use futures_util::future::join;
use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};

use super::close::{self, Stage};
use super::{Done, Drive, StepError, new_room, plan_of};
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::{Job, Output, Plan, Refusal, State, Todo};
use crate::message::member::{Variables, notice};
use crate::room::diff::Change;
use crate::room::state::Content;
use crate::room::target::slot;

const MESSAGE: &str = "m.room.message";
const PINNED: &str = "m.room.pinned_events";

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let (plan, new_room) = (plan_of(state)?, new_room(state)?);
    let (event, refused) = match post(drive, job, plan, &new_room).await? {
        Posted::There { event, pins } => {
            // By now all is changed that `verify` looks at: it need not wait for the pin.
            let pin = pin(&*drive.port, &job.request.old_room, event.as_str(), pins);
            let read = close::read(drive, job, plan, &new_room, Stage::Final);
            let (refused, seen) = join(pin, read).await;
            // What cannot be read now, `verify` reads itself.
            drive.looked = seen.ok();
            (Some(event), refused?)
        }
        Posted::Refused(refusal) => (None, Some(refusal)),
    };
    let refused = refused.into_iter().collect();
    Ok(Output::Noticed { event, refused }.into())
}

/// Tries once more what was refused before, as far as it is among the to-dos; says what is refused
/// again.
pub(super) async fn again(
    drive: &Drive,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    todos: &[Todo],
) -> Result<Vec<Refusal>, StepError> {
    let mut refused = Vec::new();
    for todo in todos {
        let Change::OtherState {
            room,
            slot,
            content,
        } = &todo.change
        else {
            continue;
        };
        if *room != job.request.old_room {
            continue;
        }
        match slot.0.as_str() {
            MESSAGE => refused.extend(match post(drive, job, plan, new_room).await? {
                Posted::There { event, pins } => {
                    pin(&*drive.port, room, event.as_str(), pins).await?
                }
                Posted::Refused(refusal) => Some(refusal),
            }),
            PINNED => {
                let event = pins_of(content).next().and_then(Value::as_str);
                if let Some(event) = event {
                    let port = &*drive.port;
                    let pins = port.state_event(room, PINNED, "").await?;
                    refused.extend(pin(port, room, event, pins).await?);
                }
            }
            _ => {}
        }
    }
    Ok(refused)
}

/// What became of the message.
enum Posted {
    /// It is in the old room.
    There {
        /// The message.
        event: OwnedEventId,
        /// What is pinned there so far.
        pins: Option<Content>,
    },
    /// The server refused it.
    Refused(Refusal),
}

/// Posts the message.
async fn post(
    drive: &Drive,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
) -> Result<Posted, StepError> {
    let port = &*drive.port;
    let old = &job.request.old_room;
    let variables = Variables::of(plan, new_room, port.server_name());
    let content = notice(&drive.setup.messages.notice, &variables)?;
    let transaction = format!("notice.{}", job.request.key());
    // What is pinned is read meanwhile: the room is locked by now, and nobody else pins much.
    let sent = port.send_message(old, &transaction, &content);
    let (sent, pins) = join(sent, port.state_event(old, PINNED, "")).await;
    match sent {
        Ok(event) => Ok(Posted::There { event, pins: pins? }),
        Err(HomeserverError::Refused { code, message, .. }) => Ok(Posted::Refused(Refusal {
            change: change(old, MESSAGE, content),
            code,
            message,
        })),
        Err(error) => Err(error.into()),
    }
}

/// Pins an event unless it is among the pins.
async fn pin(
    port: &dyn Homeserver,
    room: &RoomId,
    event: &str,
    pins: Option<Content>,
) -> Result<Option<Refusal>, HomeserverError> {
    let mut pins = pins.unwrap_or_default();
    if pins_of(&pins).any(|pin| pin.as_str() == Some(event)) {
        return Ok(None);
    }
    // First: clients show the first or the last, and the list may be long.
    let pinned = std::iter::once(json!(event)).chain(pins_of(&pins).cloned());
    let pinned = Value::Array(pinned.collect());
    pins.insert("pinned".to_owned(), pinned);
    match port.put_state(room, PINNED, "", &pins).await {
        Ok(_) => Ok(None),
        Err(HomeserverError::Refused { code, message, .. }) => Ok(Some(Refusal {
            change: change(room, PINNED, pins),
            code,
            message,
        })),
        Err(error) => Err(error),
    }
}

fn pins_of(content: &Content) -> impl Iterator<Item = &Value> {
    let pinned = content.get("pinned").and_then(Value::as_array);
    pinned.into_iter().flatten()
}

fn change(room: &RoomId, kind: &str, content: Content) -> Change {
    Change::OtherState {
        room: room.to_owned(),
        slot: slot(kind, ""),
        content,
    }
}
