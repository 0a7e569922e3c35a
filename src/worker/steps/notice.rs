//! The message in the old room, with a link that works in every client, and pinned.
//!
//! Sent with a transaction id that belongs to the job, so that a repeat is the same message.

use serde_json::{Value, json};

use super::{Done, Drive, StepError, new_room, plan_of};
use crate::homeserver::HomeserverError;
use crate::job::{Job, Output, Refusal, State};
use crate::message::member::{Variables, notice};
use crate::room::diff::Change;
use crate::room::state::Content;
use crate::room::target::slot;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let plan = plan_of(state)?;
    let port = &*drive.port;
    let old = &job.request.old_room;
    let new = new_room(state)?;
    let variables = Variables::of(plan, &new, port.server_name());
    let content = notice(&drive.setup.messages.notice, &variables)?;
    let transaction = format!("notice.{}", job.request.key());
    let refusal = |change, code, message| Output::Noticed {
        event: None,
        refused: vec![Refusal {
            change,
            code,
            message,
        }],
    };
    let change = |kind: &str, content: Content| Change::OtherState {
        room: old.clone(),
        slot: slot(kind, ""),
        content,
    };
    let event = match port.send_message(old, &transaction, &content).await {
        Ok(event) => event,
        Err(HomeserverError::Refused { code, message, .. }) => {
            return Ok(refusal(change("m.room.message", content), code, message).into());
        }
        Err(error) => return Err(error.into()),
    };

    let mut pins = port
        .state_event(old, "m.room.pinned_events", "")
        .await?
        .unwrap_or_default();
    let mut pinned: Vec<Value> = pins
        .get("pinned")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut refused = Vec::new();
    if !pinned
        .iter()
        .any(|pin| pin.as_str() == Some(event.as_str()))
    {
        // First: clients show the first or the last, and the list may be long.
        pinned.insert(0, json!(event));
        pins.insert("pinned".to_owned(), Value::Array(pinned));
        match port.put_state(old, "m.room.pinned_events", "", &pins).await {
            Ok(_) => {}
            Err(HomeserverError::Refused { code, message, .. }) => refused.push(Refusal {
                change: change("m.room.pinned_events", pins),
                code,
                message,
            }),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Output::Noticed {
        event: Some(event),
        refused,
    }
    .into())
}
