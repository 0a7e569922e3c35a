//! What a change is made of, right before it is sent: whatever it rests on is read again, so that nothing older than
//! that moment is written back (P12).

use super::address::read_shown;
use super::{JobRun, Seen};
use crate::homeserver::{Bucket, Homeserver, HomeserverError};
use crate::room::addresses::{left_in_old, showable};
use crate::room::change::{Change, Observed, Side};
use crate::room::diff::repointed_rules;
use crate::room::join_rules::JOIN_RULES;
use crate::room::power::{POWER_LEVELS, locked};
use crate::room::state::{RoomState, slot};
use crate::room::target::Target;

/// A change right before it is sent, made from what is there now where that matters. `None` where nothing is left
/// to change.
pub(super) async fn prepared(
    job_run: &JobRun,
    seen: &mut Seen,
    mut change: Change,
) -> Result<Option<Change>, HomeserverError> {
    let port = &*job_run.port;
    let shows_new = matches!(change, Change::ShowAliases { side, .. } if side == Side::New);
    if !shows_new {
        port.release();
    }
    if is_made_of_what_is_there(&change) || is_main_address(&change, &seen.target) {
        // Before it is read, so that nothing is older than the moment it is written (P12); and before the main
        // address is moved, so that the new room shows it at once (P11).
        port.reserve(Bucket::Everything).await?;
    }
    if let Change::ShowAliases { side, content, .. } = &mut change {
        if !job_run.holds(seen.read) {
            read_shown(port, *side, &mut seen.now).await?;
        }
        let shown = match side {
            // The server refuses all of it if one address does not lead there.
            Side::New => Some(showable(&seen.target, &seen.now)).filter(|new| !new.is_empty()),
            // Only what has moved by now is taken away (P11).
            Side::Old => left_in_old(&seen.target, &seen.now),
        };
        let Some(shown) = shown else { return Ok(None) };
        *content = shown;
    }
    as_it_is_now(port, change, &mut seen.now).await
}

/// Whether a change moves the address by which the room is known.
pub(super) fn is_main_address(change: &Change, target: &Target) -> bool {
    let main = target.canonical.alias.as_ref();
    matches!(change, Change::MoveAlias { alias, .. } if Some(alias) == main)
}

/// Whether a change is made from what is there right before it.
fn is_made_of_what_is_there(change: &Change) -> bool {
    match change {
        Change::Lock { .. } | Change::ShowAliases { .. } => true,
        Change::OtherState { slot, .. } => slot.0 == JOIN_RULES,
        _ => false,
    }
}

/// Reads one event of a room again, and whether it is there.
pub(super) async fn read_again(
    port: &dyn Homeserver,
    room: &mut RoomState,
    kind: &str,
) -> Result<bool, HomeserverError> {
    let Some(now) = port.state_event(&room.room_id, kind, "").await? else {
        return Ok(false);
    };
    if room.content(kind, "") != Some(&now) {
        let by = room.event(kind, "").map(|event| event.sender.clone());
        let by = by.unwrap_or_else(|| port.account().to_owned());
        room.put(slot(kind, ""), &by, now);
    }
    Ok(true)
}

/// A change made from what is there now, right before it is sent: power levels and join rules are whole, so
/// that what somebody changed in them since they were read would be undone (P12). `None` where nothing is
/// left to change, or where somebody else decides by now.
async fn as_it_is_now(
    port: &dyn Homeserver,
    change: Change,
    seen: &mut Observed,
) -> Result<Option<Change>, HomeserverError> {
    match &change {
        Change::Lock { .. } => {
            if !read_again(port, &mut seen.old, POWER_LEVELS).await? {
                return Ok(Some(change));
            }
            Ok(locked(&seen.old).map(|content| Change::Lock { content }))
        }
        Change::OtherState { room, slot, .. } if slot.0 == JOIN_RULES => {
            let now = match port.state_event(room, &slot.0, &slot.1).await {
                Ok(now) => now.unwrap_or_default(),
                Err(HomeserverError::Refused { .. }) => return Ok(Some(change)),
                Err(error) => return Err(error),
            };
            let content = repointed_rules(&now, seen);
            let others = seen.others.entry(room.clone()).or_default();
            others.insert(slot.clone(), now);
            Ok(content.map(|content| Change::OtherState {
                room: room.clone(),
                slot: slot.clone(),
                content,
            }))
        }
        _ => Ok(Some(change)),
    }
}
