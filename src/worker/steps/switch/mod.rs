//! The point of no return: the old room leads to the new one. One file per method.

mod adopt;
mod server;
mod staged;

use ruma::{RoomId, UserId};
use serde_json::json;

use super::{Done, Drive, StepError, plan_of};
use crate::job::{Job, Plan, State};
use crate::message::member;
use crate::model::Method;
use crate::room::state::{Content, content};

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    match plan_of(state)?.intent.method {
        Method::Server => server::run(drive, job, state).await,
        Method::Staged => staged::run(drive, job, state).await,
        Method::Adopt => adopt::run(drive, job, state).await,
    }
}

/// Content of the event that points the old room to the new one.
fn tombstone(drive: &Drive, plan: &Plan, new_room: &RoomId) -> Result<Content, StepError> {
    let variables = member::Variables::of(plan, new_room, drive.port.server_name());
    let body = member::render(&drive.setup.messages.tombstone, &variables)?;
    Ok(content(json!({
        "body": body,
        "replacement_room": new_room,
    })))
}

/// Somebody else was faster.
fn overtaken(by: &UserId, to: Option<&ruma::OwnedRoomId>, old_room: &RoomId) -> String {
    let to = to.map_or_else(|| "no room".to_owned(), ToString::to_string);
    format!(
        "{by} upgraded this room meanwhile; it leads to {to}. I made no second room. \
         `!upgrade adopt {old_room}` finishes what they began."
    )
}
