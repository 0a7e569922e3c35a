//! Posts the pinned messages of the old room again in the new one, and pins them in the old order.
//!
//! Each copy has a transaction id of its own that belongs to the job, so that a repeat is the same
//! message. What people pinned in the new room meanwhile stays pinned.

use std::sync::Arc;
use std::time::Duration;

use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};

use super::{Done, JobRun, RequestFailure, StepError, new_room, plan_of};
use crate::homeserver::{Bucket, Homeserver, HomeserverError, MESSAGE};
use crate::job::{Job, Output, State};
use crate::message::pin::{Original, copy};
use crate::room::state::{Snapshot, content};
use crate::room::transfer::unreadable_pins;

/// Pinned messages that are posted again; clients show a few, and each takes two requests.
const PINS_MAX: usize = 50;

/// How long the copies wait for sync to tell of the new room.
const SYNC_PATIENCE: Duration = Duration::from_secs(2);

const PINNED_EVENTS: &str = "m.room.pinned_events";

/// What the step leaves where there is nothing to post.
pub(super) fn idle(job_run: &JobRun) -> Option<Output> {
    let before = job_run.just_read()?;
    without_copies(job_run, before)
}

/// What the step leaves where nothing was pinned, or nobody could read the copies.
fn without_copies(job_run: &JobRun, before: &Snapshot) -> Option<Output> {
    let lost = before.room.pins().len();
    // A room that somebody else made may be another.
    let new = job_run.seen.as_ref().map(|seen| &seen.now.new);
    let rooms = new.into_iter().chain([&before.room]);
    let unreadable = rooms.filter(|_| lost > 0).find_map(unreadable_pins);
    (lost == 0 || unreadable.is_some()).then_some(Output::Pinned {
        count: 0,
        lost,
        unreadable,
    })
}

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let before = job_run.snapshot(job)?;
    if let Some(output) = without_copies(job_run, &before) {
        return Ok(output.into());
    }
    let pins = before.room.pins();
    let new = new_room(state)?;
    let old = &before.room.room_id;
    let via = before.room.via(plan_of(state)?.intent.bot.server_name());
    let port = Arc::clone(&job_run.port);
    // Whether the new room is encrypted, though the old one is not, is known from sync.
    port.until_told(&[&new], SYNC_PATIENCE).await;
    let mut copies: Vec<Value> = Vec::new();
    for pin in pins.iter().take(PINS_MAX) {
        let transaction = format!("pin.{}.{pin}", job.request.key());
        let copy = if let Some(known) = job_run.kept.posted.get(&transaction) {
            known.clone()
        } else {
            let original = Original {
                room: old,
                event: pin,
                via: &via,
            };
            let posted = match post(&*port, &new, &original, &transaction).await {
                Err(error @ HomeserverError::Uncertain { .. }) => {
                    match job_run.failed(error).await? {
                        RequestFailure::GivenUp(_) => None,
                        RequestFailure::TryAgain(error) => return Err(error.into()),
                    }
                }
                posted => posted?,
            };
            job_run.kept.posted.insert(transaction, posted.clone());
            posted
        };
        copies.extend(copy.map(|event| json!(event)));
    }
    let count = copies.len();
    if count > 0 {
        port.reserve(Bucket::Everything).await?;
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
                        unreadable: None,
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
        unreadable: None,
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
