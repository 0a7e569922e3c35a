//! Posts the pinned messages of the old room again in the new one, and pins them in the old order.
//!
//! Each copy has a transaction id of its own that belongs to the job, so that a repeat is the same
//! message. What people pinned in the new room meanwhile stays pinned.

use std::sync::Arc;
use std::time::Duration;

use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};

use super::{Done, Drive, RequestFailure, StepError, new_room, plan_of};
use crate::homeserver::{Homeserver, HomeserverError, MESSAGE};
use crate::job::{Job, Output, State};
use crate::message::pin::{Original, copy};
use crate::room::state::content;

/// Pinned messages that are posted again; clients show a few, and each takes two requests.
const PINS_MAX: usize = 50;

/// How long the copies wait for sync to tell of the new room.
const SYNC_PATIENCE: Duration = Duration::from_secs(2);

const PINNED_EVENTS: &str = "m.room.pinned_events";

/// What the step leaves where nothing was pinned.
pub(super) fn idle(drive: &Drive) -> Option<Output> {
    let (_, before) = drive.just_read()?;
    before
        .room
        .pins()
        .is_empty()
        .then_some(Output::Pinned { count: 0, lost: 0 })
}

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let before = drive.snapshot(job)?;
    let pins = before.room.pins();
    if pins.is_empty() {
        return Ok(Output::Pinned { count: 0, lost: 0 }.into());
    }
    let new = new_room(state)?;
    let old = &before.room.room_id;
    let via = before.room.via(plan_of(state)?.intent.bot.server_name());
    let port = Arc::clone(&drive.port);
    // Who can read the copies, if the room is encrypted, is known from sync.
    port.until_told(&[&new], SYNC_PATIENCE).await;
    let mut copies: Vec<Value> = Vec::new();
    for pin in pins.iter().take(PINS_MAX) {
        let transaction = format!("pin.{}.{pin}", job.request.key());
        let copy = if let Some(known) = drive.kept.posted.get(&transaction) {
            known.clone()
        } else {
            let original = Original {
                room: old,
                event: pin,
                via: &via,
            };
            let posted = match post(&*port, &new, &original, &transaction).await {
                Err(error @ HomeserverError::Uncertain { .. }) => {
                    match drive.failed(error).await? {
                        RequestFailure::GivenUp(_) => None,
                        RequestFailure::TryAgain(error) => return Err(error.into()),
                    }
                }
                posted => posted?,
            };
            drive.kept.posted.insert(transaction, posted.clone());
            posted
        };
        copies.extend(copy.map(|event| json!(event)));
    }
    let count = copies.len();
    if count > 0 {
        let now = port.state_event(&new, PINNED_EVENTS, "").await?;
        let pinned = now
            .as_ref()
            .and_then(|now| now.get("pinned"))
            .and_then(Value::as_array);
        let theirs: Vec<_> = pinned
            .into_iter()
            .flatten()
            .filter(|pin| !copies.contains(pin))
            .cloned()
            .collect();
        let all = [copies, theirs].concat();
        let wanted = content(json!({"pinned": all}));
        if now.as_ref() != Some(&wanted) {
            match port.put_state(&new, PINNED_EVENTS, "", &wanted).await {
                Ok(_) => {}
                Err(HomeserverError::Refused { .. }) => {
                    return Ok(Output::Pinned {
                        count: 0,
                        lost: pins.len(),
                    }
                    .into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Output::Pinned {
        count,
        lost: pins.len() - count,
    }
    .into())
}

/// Posts a copy of a pinned message. `None`: it cannot be read, or the server refuses it.
async fn post(
    port: &dyn Homeserver,
    new_room: &RoomId,
    original: &Original<'_>,
    transaction: &str,
) -> Result<Option<OwnedEventId>, HomeserverError> {
    let Some(event) = port.event(original.room, original.event).await? else {
        return Ok(None);
    };
    let content = copy(&event, original);
    match port
        .send_event(new_room, MESSAGE, transaction, &content)
        .await
    {
        Ok(event) => Ok(Some(event)),
        Err(HomeserverError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
