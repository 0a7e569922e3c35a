//! Reads what `doctor` looks at, but for the database.
//!
//! Power in rooms is taken from what sync told, since there may be many; only the admin rooms are
//! read anew.

use std::collections::{BTreeSet, VecDeque};

use jiff::Timestamp;
use ruma::{OwnedRoomId, RoomId};

use super::{SPACE_WALK_ROOMS_MAX, follow};
use crate::checkup::{Checkup, DatabaseFacts, Limits, RoomFacts, WeakRoom};
use crate::config::Scope;
use crate::homeserver::{Homeserver, HomeserverError, Result};
use crate::permissions::{self, Office};
use crate::room::power::Allowance;
use crate::room::state::Membership;

/// Reads everything.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn checkup(
    port: &dyn Homeserver,
    offices: &[Office],
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
        rooms: rooms(port, offices).await?,
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

async fn rooms(port: &dyn Homeserver, offices: &[Office]) -> Result<RoomFacts> {
    let mut facts = RoomFacts::default();
    let mut scope = BTreeSet::new();
    for office in offices {
        scope.extend(in_scope(port, &office.rules.scope).await?);
        let room = port.state(&office.room_id).await?;
        let power = room.power();
        let somebody = room
            .members(Membership::Join)
            .filter(|user| user != port.account())
            .any(|user| permissions::may_command(&office.rules, power.power(&user)));
        if !somebody {
            facts.without_commander.push(office.room_id.clone());
        }
    }
    for room_id in scope {
        if offices.iter().any(|office| office.room_id == room_id) {
            continue;
        }
        let Some(room) = port.known_state(&room_id).await? else {
            continue;
        };
        if room.tombstone().is_some() {
            continue;
        }
        facts.looked_at += 1;
        let may = room
            .power()
            .can_send_state(port.account(), "m.room.tombstone");
        if let Allowance::Short { needed, have } = may {
            facts.weak.push(WeakRoom {
                label: room.label(),
                room_id,
                needed,
                have,
            });
        }
    }
    Ok(facts)
}

/// Rooms of a scope: those in its spaces, nested ones too, and without one all that the bot is in.
async fn in_scope(port: &dyn Homeserver, scope: &Scope) -> Result<BTreeSet<OwnedRoomId>> {
    let Scope::Only(named) = scope else {
        return port.joined_rooms().await;
    };
    let mut queue: VecDeque<OwnedRoomId> = VecDeque::new();
    for name in named {
        queue.extend(match <&RoomId>::try_from(&**name) {
            Ok(id) => Some(id.to_owned()),
            Err(alias) => follow(port, alias).await?,
        });
    }
    let mut seen = BTreeSet::new();
    while let Some(next) = queue.pop_front() {
        if seen.len() < SPACE_WALK_ROOMS_MAX && seen.insert(next.clone()) {
            queue.extend(port.children(&next).await?);
        }
    }
    Ok(seen)
}
