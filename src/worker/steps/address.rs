//! Addresses of the old room, and which rooms show them.
//!
//! Only the server's own upgrade can point an address to another room at once: a client removes it and makes it
//! again. What is done around that instant is in here: nothing comes between the two, and an address that cannot
//! be made goes back (P11).

use std::collections::BTreeSet;

use ruma::{RoomAliasId, RoomId};

use super::Seen;
use super::prepare::read_again;
use crate::homeserver::{Homeserver, HomeserverError};
use crate::room::addresses::{addresses_in, left_in_old, showable, without};
use crate::room::authority::shortage;
use crate::room::change::{Change, Observed, Side};
use crate::room::state::{RoomState, slot};

/// Type of the event with the addresses that a room shows.
pub(super) const ALIASES: &str = "m.room.canonical_alias";

/// HTTP status of an address that exists.
const CONFLICT: u16 = 409;

/// Points an address to the new room. Making it is tried first, which a server that does not let the bot make it
/// refuses before anything is lost.
/// Source: Matrix specification, `PUT /directory/room`: 409 where the address exists; Synapse checks its
/// `alias_creation_rules` before that.
pub(super) async fn move_alias(
    port: &dyn Homeserver,
    alias: &RoomAliasId,
    leads_to: Option<&RoomId>,
    old_room: &RoomId,
    new_room: &RoomId,
) -> Result<(), HomeserverError> {
    let made = match port.create_alias(alias, new_room).await {
        Err(error) if is_conflict(&error) && leads_to.is_some() => {
            port.delete_alias(alias).await?;
            port.create_alias(alias, new_room).await
        }
        made if leads_to.is_some() => return made,
        made => made,
    };
    match made {
        Err(error @ (HomeserverError::Refused { .. } | HomeserverError::Uncertain { .. })) => {
            put_back(port, alias, old_room, new_room, error).await
        }
        made => made,
    }
}

/// Has an address lead to one of the rooms, that leads nowhere as making it for the new one failed: to the old one
/// first. An answer that is no refusal may mean that it was made.
async fn put_back(
    port: &dyn Homeserver,
    alias: &RoomAliasId,
    old_room: &RoomId,
    new_room: &RoomId,
    failed: HomeserverError,
) -> Result<(), HomeserverError> {
    for room in [old_room, new_room, old_room] {
        match port.create_alias(alias, room).await {
            Ok(()) if room == new_room => return Ok(()),
            // Where the server is away, the address is the first thing that is seen to afterwards.
            Ok(()) | Err(HomeserverError::Uncertain { .. }) => break,
            Err(error) if is_conflict(&error) => {
                let now = port.resolve(alias).await?;
                if now.is_some_and(|now| now.room_id == new_room) {
                    return Ok(());
                }
                break;
            }
            Err(HomeserverError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(failed)
}

fn is_conflict(error: &HomeserverError) -> bool {
    matches!(
        error,
        HomeserverError::Refused {
            status: CONFLICT,
            ..
        }
    )
}

/// After an address could not be moved: has the old room show it again where it did, as servers stop showing what is
/// removed.
pub(super) async fn show_again(
    port: &dyn Homeserver,
    alias: &RoomAliasId,
    seen: &mut Seen,
) -> Result<(), HomeserverError> {
    let leads_to = port.resolve(alias).await?.map(|found| found.room_id);
    seen.now.aliases.insert(alias.to_owned(), leads_to);
    let old_room = seen.now.old.room_id.clone();
    let shown = port.state_event(&old_room, ALIASES, "").await?;
    let shown = shown.unwrap_or_default();
    if seen.now.old.content(ALIASES, "") != Some(&shown) {
        // By the server, as the bot removed the address.
        let slot = slot(ALIASES, "");
        seen.now.old.put(slot, port.account(), shown);
    }
    let Some(shown) = left_in_old(&seen.target, &seen.now) else {
        return Ok(());
    };
    match port.put_state(&old_room, ALIASES, "", &shown).await {
        Ok(_) => seen.now.old.put(slot(ALIASES, ""), port.account(), shown),
        Err(HomeserverError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Has the new room show the addresses that lead there by now, before the others have to wait: some servers
/// stop showing an address in the old room as soon as it is moved (P11). What fails here is tried again later.
pub(super) async fn show_moved(port: &dyn Homeserver, seen: &mut Seen) {
    let shown = showable(&seen.target, &seen.now);
    if shown.is_empty() || seen.now.new.content(ALIASES, "") == Some(&shown) {
        return;
    }
    let new_room = seen.now.new.room_id.clone();
    if port.put_state(&new_room, ALIASES, "", &shown).await.is_ok() {
        seen.now.new.put(slot(ALIASES, ""), port.account(), shown);
    }
}

/// Reads again which addresses a room shows: they are written whole.
pub(super) async fn read_shown(
    port: &dyn Homeserver,
    side: Side,
    now: &mut Observed,
) -> Result<(), HomeserverError> {
    let room = match side {
        Side::Old => &mut now.old,
        Side::New => &mut now.new,
    };
    match read_again(port, room, ALIASES).await {
        Ok(_) | Err(HomeserverError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Shows in the new room what the server lets it show, after it refused all addresses for one, such as for one
/// of another server; says how many changes that were.
pub(super) async fn show_others(
    port: &dyn Homeserver,
    refused: &Change,
    new: &mut RoomState,
) -> Result<usize, HomeserverError> {
    let Change::ShowAliases {
        side: Side::New,
        content: wanted,
        ..
    } = refused
    else {
        return Ok(0);
    };
    if shortage(new, port.account(), ALIASES).is_some() {
        return Ok(0);
    }
    let all: BTreeSet<_> = addresses_in(wanted).into_iter().collect();
    let there = new.content(ALIASES, "").map(addresses_in);
    let there = there.unwrap_or_default().into_iter();
    let mut shown: BTreeSet<_> = there.filter(|alias| all.contains(alias)).collect();
    let own = all
        .iter()
        .filter(|alias| alias.server_name() == port.server_name());
    // The account's own server's at once, then one after the other.
    let mut tries = vec![own.cloned().collect::<BTreeSet<_>>()];
    tries.extend(all.iter().map(|alias| [alias.clone()].into()));
    let mut made = 0;
    for more in tries {
        let to_show = &shown | &more;
        if to_show == shown || to_show == all {
            continue;
        }
        let content = without(wanted, |alias| !to_show.contains(alias));
        match port.put_state(&new.room_id, ALIASES, "", &content).await {
            Ok(_) => {
                new.put(slot(ALIASES, ""), port.account(), content);
                shown = to_show;
                made += 1;
            }
            Err(HomeserverError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}
