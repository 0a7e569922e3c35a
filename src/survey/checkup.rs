//! Reads what `doctor` looks at, but for the database.
//!
//! Power in rooms is taken from what sync told, since there may be many; only the admin rooms are
//! read anew.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ruma::{OwnedUserId, RoomVersionId};

use super::inventory::inventory;
use crate::checkup::{
    Checkup, DatabaseFacts, LIMIT_CLOSED_LONG, Limits, RoomFacts, SilentRoom, WeakRoom,
};
use crate::homeserver::{Homeserver, HomeserverError, Result};
use crate::permissions::{self, AdminRoom};
use crate::room::inventory::Standing;
use crate::room::level::Power;
use crate::room::state::Membership;

/// Reads everything.
///
/// # Errors
/// When the homeserver does not answer.
pub(crate) async fn checkup(
    port: &dyn Homeserver,
    admin_rooms: &[AdminRoom],
    wanted: &RoomVersionId,
    database: DatabaseFacts,
    at: Timestamp,
) -> Result<Checkup> {
    let encryption = match port.encryption().await {
        Ok(encryption) => Some(encryption),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot tell how encryption stands");
            None
        }
    };
    Ok(Checkup {
        account: port.account().to_owned(),
        server: port.server_facts().await?,
        encryption,
        database,
        limits: limits(port).await?,
        closed: port.closed_limits(LIMIT_CLOSED_LONG),
        rooms: rooms(port, admin_rooms, wanted).await?,
        at,
    })
}

async fn limits(port: &dyn Homeserver) -> Result<Limits> {
    let Some(admin) = port.admin() else {
        return Ok(Limits::Unknown);
    };
    match admin.limits().await {
        Ok(limits) => Ok(limits),
        Err(HomeserverError::Refused { .. }) => Ok(Limits::Denied),
        Err(error) => Err(error),
    }
}

/// The rooms that `rooms` lists of all these admin rooms, and what it says of them.
async fn rooms(
    port: &dyn Homeserver,
    admin_rooms: &[AdminRoom],
    wanted: &RoomVersionId,
) -> Result<RoomFacts> {
    let mut facts = RoomFacts::default();
    let own: BTreeSet<_> = admin_rooms
        .iter()
        .map(|room| room.room_id.clone())
        .collect();
    let mut entries = BTreeMap::new();
    for admin_room in admin_rooms {
        let scope = &admin_room.rules.scope;
        let found = inventory(port, scope, None, wanted, &own).await?;
        entries.extend(
            found
                .into_iter()
                .map(|entry| (entry.room_id.clone(), entry)),
        );
        let room = port.state(&admin_room.room_id).await?;
        let power = room.power();
        let may =
            |user: &OwnedUserId| permissions::may_command(&admin_room.rules, power.power(user));
        let others = room.members(Membership::Join);
        if !others
            .filter(|user| user != port.account())
            .any(|user| may(&user))
        {
            facts.without_commander.push(SilentRoom {
                room_id: admin_room.room_id.clone(),
                invited: room.members(Membership::Invite).filter(may).collect(),
            });
        }
    }
    for (room_id, entry) in entries {
        match (entry.standing, entry.seen) {
            (Standing::Ready, _) => facts.looked_at += 1,
            (Standing::NeedsPower { needed }, Some(seen)) => {
                facts.looked_at += 1;
                facts.weak.push(WeakRoom {
                    label: entry.label,
                    room_id,
                    needed,
                    have: match seen.power {
                        Power::Level(level) => level,
                        Power::Creator => i64::MAX,
                    },
                });
            }
            _ => {}
        }
    }
    Ok(facts)
}
