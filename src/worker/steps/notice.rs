//! The message in the old room, with a link that works in every client, and pinned.
//!
//! Sent with a transaction id that belongs to the job, so that a repeat is the same message. What the
//! server refuses becomes a to-do, which `verify` has tried again. It is the last that is changed, and
//! nothing that `verify` compares: both rooms are looked at for it meanwhile.

use std::sync::Arc;

use futures_util::future::join;
use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};

use super::close::{self, Stage};
use super::{Done, JobRun, RequestFailure, StepError, new_room, plan_of};
use crate::homeserver::{Bucket, Homeserver, HomeserverError, MESSAGE};
use crate::job::{Job, Output, Plan, Refusal, State, Todo};
use crate::message::member::{Variables, notice};
use crate::room::change::Change;
use crate::room::state::{Content, slot};

const PINNED: &str = "m.room.pinned_events";

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let (plan, new_room) = (plan_of(state)?, new_room(state)?);
    let (event, refused) = match post(job_run, job, plan, &new_room).await? {
        Ok(event) => {
            // By now all is changed that `verify` looks at: its look need not wait for the pin.
            let old = &job.request.old_room;
            let pin = pin(&*job_run.port, old, event.as_str());
            let look = close::read(job_run, job, plan, &new_room, Stage::Final);
            let (refused, look) = join(pin, look).await;
            // What cannot be read now, `verify` reads itself.
            job_run.look = look.ok();
            (Some(event), refused?)
        }
        Err(refusal) => (None, Some(refusal)),
    };
    let refused = refused.into_iter().collect();
    Ok(Output::Noticed { event, refused }.into())
}

/// Tries once more what was refused before, as far as it is among the to-dos; says what is refused
/// again.
pub(super) async fn again(
    job_run: &mut JobRun,
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
            MESSAGE => refused.extend(match post(job_run, job, plan, new_room).await? {
                Ok(event) => pin(&*job_run.port, room, event.as_str()).await?,
                Err(refusal) => Some(refusal),
            }),
            PINNED => {
                let event = pins_of(content).next().and_then(Value::as_str);
                if let Some(event) = event {
                    refused.extend(pin(&*job_run.port, room, event).await?);
                }
            }
            _ => {}
        }
    }
    Ok(refused)
}

/// Posts the message, or says why it was refused.
async fn post(
    job_run: &mut JobRun,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
) -> Result<Result<OwnedEventId, Refusal>, StepError> {
    let port = Arc::clone(&job_run.port);
    let old = &job.request.old_room;
    let variables = Variables::of(plan, new_room, port.server_name());
    let content = notice(&job_run.setup.messages.notice, &variables)?;
    let transaction = format!("notice.{}", job.request.key());
    if let Some(Some(event)) = job_run.kept.posted.get(&transaction) {
        return Ok(Ok(event.clone()));
    }
    match port.send_event(old, MESSAGE, &transaction, &content).await {
        Ok(event) => {
            let posted = Some(event.clone());
            job_run.kept.posted.insert(transaction, posted);
            Ok(Ok(event))
        }
        Err(HomeserverError::Refused { code, message, .. }) => Ok(Err(Refusal {
            change: change(old, MESSAGE, content),
            code,
            message,
        })),
        Err(error) => match job_run.failed(error).await? {
            RequestFailure::GivenUp(message) => Ok(Err(Refusal {
                change: change(old, MESSAGE, content),
                code: String::new(),
                message,
            })),
            RequestFailure::TryAgain(error) => Err(error.into()),
        },
    }
}

/// Pins an event unless it is. What else is pinned is read right before, as somebody may just have pinned it.
async fn pin(
    port: &dyn Homeserver,
    room: &RoomId,
    event: &str,
) -> Result<Option<Refusal>, HomeserverError> {
    port.reserve(Bucket::Everything).await?;
    let mut pins = port
        .state_event(room, PINNED, "")
        .await?
        .unwrap_or_default();
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
