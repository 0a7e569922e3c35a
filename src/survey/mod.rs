//! Reads rooms and their surroundings through the port: for plans, steps and verification alike.
//!
//! Only reads (P4), but for [`successor`], which may have to join a room to read it. Turns what was
//! read into plain data for the rules in `room`; a whole state is read once instead of one request
//! per type. Left out: deciding what to do about it.

pub(crate) mod checkup;
pub(crate) mod cost;
mod findings;
pub(crate) mod inventory;
pub(crate) mod plan;
pub(crate) mod surroundings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::future::{join3, try_join, try_join_all, try_join4};
use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, UserId};

pub use self::surroundings::{ServerTraits, Surroundings};
use crate::config::Scope;
use crate::homeserver::{Homeserver, HomeserverError, Result, ensure_reachable};
use crate::model::{RoomName, RoomRef};
use crate::permissions::Within;
use crate::room::change::Observed;
use crate::room::finding::{FalseWhy, Finding};
use crate::room::join_rules;
use crate::room::level::Allowance;
use crate::room::power::{self, POWER_LEVELS, PowerLevels};
use crate::room::state::{Content, Listing, RoomState, Slot, Snapshot, slot};
use crate::room::target::{self, Target};

/// How many changes of power levels since a room was closed are gone back through.
const LEVELS_BACK_MAX: usize = 10;

/// How many rooms a walk through nested spaces looks at before it gives up.
const SPACE_WALK_ROOMS_MAX: usize = 5_000;

/// Directories of other servers that are looked at.
const REMOTE_DIRECTORIES_MAX: usize = 5;

/// Finds the room that somebody named. `None`: the address leads nowhere.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn find(port: &dyn Homeserver, room: &RoomRef) -> Result<Option<OwnedRoomId>> {
    match &room.name {
        RoomName::Id(id) => Ok(Some(id.clone())),
        RoomName::Alias(alias) => follow(port, alias).await,
    }
}

/// Where an address leads. `None`: nowhere, or its own server does not say, which is nothing that
/// waiting here mends.
async fn follow(port: &dyn Homeserver, alias: &RoomAliasId) -> Result<Option<OwnedRoomId>> {
    match port.resolve(alias).await {
        Ok(found) => Ok(found.map(|found| found.room_id)),
        Err(error) if alias.server_name() == port.server_name() => Err(error),
        Err(HomeserverError::Refused { .. }) => Ok(None),
        // Is it ours that is away, or does it ask the other one in vain?
        Err(HomeserverError::Uncertain { .. }) => {
            ensure_reachable(port).await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Power levels of a room, as they are now; `None` where the account is not in it. Who created it, and so
/// stands above all levels in newer versions, never changes and is known from sync; where sync has not
/// told, the whole state is read, as the sender of an event is in no smaller answer.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn power_in(port: &dyn Homeserver, room: &RoomId) -> Result<Option<PowerLevels>> {
    let levels = match port.known_state(room).await? {
        Some(known) if known.event("m.room.create", "").is_some() => {
            port.state_event(room, POWER_LEVELS, "").await
        }
        _ => return Ok(joined_state(port, room).await?.map(|state| state.power())),
    };
    // Only now: whoever was sent away meanwhile was shown the levels as they were then.
    let Some(mut known) = port.known_state(room).await? else {
        return Ok(None);
    };
    let slot = slot(POWER_LEVELS, "");
    match levels {
        Ok(Some(content)) => known.put(slot, port.account(), content),
        Ok(None) => drop(known.events.remove(&slot)),
        Err(HomeserverError::Refused { status: 403, .. }) => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(Some(known.power()))
}

/// Whether somebody is in a room. Power levels go on naming those who left or were banned.
///
/// # Errors
/// When the room cannot be read.
pub async fn is_in(port: &dyn Homeserver, room: &RoomId, user: &UserId) -> Result<Presence> {
    let member = port
        .state_event(room, "m.room.member", user.as_str())
        .await?;
    Ok(Presence::of(member.as_ref()))
}

/// Whether the account itself is in a room. A server shows those who left the room as it was then, their
/// own leaving included.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn is_here(port: &dyn Homeserver, room: &RoomId) -> Result<bool> {
    match is_in(port, room, port.account()).await {
        Ok(presence) => Ok(presence == Presence::In),
        Err(HomeserverError::Refused {
            status: 403 | 404, ..
        }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether somebody is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// They are.
    In,
    /// They left, or were sent away.
    Gone,
    /// They never were.
    NotYet,
}

impl Presence {
    /// What the content of a membership says; there is none of who was never there.
    #[must_use]
    pub fn of(member: Option<&Content>) -> Self {
        let membership = member.and_then(|member| member.get("membership")?.as_str());
        match membership {
            Some("join") => Self::In,
            Some("leave" | "ban") => Self::Gone,
            _ => Self::NotYet,
        }
    }
}

/// Whether a room is in a scope: named itself, or in one of its spaces, nested ones too. An address
/// in the scope that leads nowhere now puts nothing into it.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn within(port: &dyn Homeserver, scope: &Scope, room: &RoomId) -> Result<Within> {
    let Scope::Only(named) = scope else {
        return Ok(Within::Scope);
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
        if next == room {
            return Ok(Within::Scope);
        }
        if seen.len() < SPACE_WALK_ROOMS_MAX && seen.insert(next.clone()) {
            queue.extend(port.children(&next).await?);
        }
    }
    Ok(Within::Outside)
}

/// Whether somebody could send the tombstone of a room themselves; `None` where the account is not in
/// the room, and so cannot tell.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn target_power(
    port: &dyn Homeserver,
    room: &RoomId,
    user: &UserId,
) -> Result<Option<Allowance>> {
    let power = power_in(port, room).await?;
    Ok(power.map(|power| power.can_send_state(user, "m.room.tombstone")))
}

/// Reads a room and all that refers to it. `None`: the account is not in the room.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn snapshot(
    port: &dyn Homeserver,
    room: &RoomId,
    around: &Surroundings,
) -> Result<Option<Snapshot>> {
    let state = joined_state(port, room);
    let (state, aliases, listing) =
        join3(state, port.local_aliases(room), port.listing(room)).await;
    // Where the account is not in the room, what was asked beside that counts for nothing, nor does a refusal.
    let Some(mut state) = state? else {
        return Ok(None);
    };
    let (aliases, listing) = (aliases?, listing?);
    if let Some(levels) = levels_when_open(port, &state).await?
        && let Some(event) = state.events.get_mut(&slot(POWER_LEVELS, ""))
    {
        event.content = levels;
    }
    let mut replaced = BTreeMap::new();
    let parents = target::parents(&state);
    for named in join_rules::rooms(&state).into_iter().chain(parents) {
        if let Some(replacement) = around.replacement(&named) {
            replaced.insert(named, replacement);
        }
    }
    let mut snapshot = Snapshot {
        room: state,
        replaced,
        aliases,
        listing,
        referrers: around.referrers(room),
        known_successors: around.successors(room),
    };
    see_spaces(&around.rooms, &mut snapshot);
    Ok(Some(snapshot))
}

/// Power levels of a closed room without what closing raised, as a room made after them would be closed as
/// well. `None` where they hold, or the former ones cannot be read.
async fn levels_when_open(port: &dyn Homeserver, room: &RoomState) -> Result<Option<Content>> {
    let Some(levels) = room.event(POWER_LEVELS, "") else {
        return Ok(None);
    };
    let closed = match room.event("m.room.tombstone", "") {
        Some(event) if room.tombstone().is_some() => event.origin_server_ts,
        // Open, or open again: a tombstone that was redacted counts for nothing.
        _ => return Ok(None),
    };
    if levels.origin_server_ts < closed {
        return Ok(None);
    }
    let mut before = levels.replaces.clone();
    for _ in 0..LEVELS_BACK_MAX {
        let Some(event_id) = before else { break };
        let Some(event) = port.event(&room.room_id, &event_id).await? else {
            break;
        };
        if event.origin_server_ts < closed {
            return Ok(Some(power::reopened(&levels.content, &event.content)));
        }
        before = event.replaces;
    }
    Ok(None)
}

/// The room that a tombstone leads to, if it is one to be followed: the bot is in it, and it says
/// that it replaces the old one. Otherwise what is wrong.
///
/// Joins that room where the bot can, as it cannot be read from outside. Two ask: `adopt`, whose
/// sender wants the bot there, and an admin room that was closed by somebody with the power to give
/// commands. A room that turns out to be a stranger's is left again.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn successor(
    port: &dyn Homeserver,
    old: &RoomState,
) -> Result<std::result::Result<RoomState, Finding>> {
    let Some(tombstone) = old.tombstone() else {
        return Ok(Err(Finding::NotUpgraded));
    };
    let by = tombstone.sender;
    let wrong = |room: Option<OwnedRoomId>, why| Finding::FalseSuccessor {
        room,
        by: by.clone(),
        why,
    };
    let Some(id) = tombstone.replacement else {
        return Ok(Err(wrong(None, FalseWhy::NoRoom)));
    };
    if id == old.room_id {
        return Ok(Err(wrong(Some(id), FalseWhy::Itself)));
    }
    let inside = joined_state(port, &id).await?;
    let (new, just_joined) = if let Some(state) = inside {
        (Some(state), false)
    } else {
        let room = RoomRef {
            name: RoomName::Id(id.clone()),
            via: vec![by.server_name().to_owned()],
        };
        match port.join(&room).await {
            Ok(_) => (joined_state(port, &id).await?, true),
            Err(HomeserverError::Refused { .. }) => (None, false),
            Err(HomeserverError::Uncertain { .. }) => {
                ensure_reachable(port).await?;
                (None, false)
            }
            Err(error) => return Err(error),
        }
    };
    let Some(new) = new else {
        return Ok(Err(wrong(Some(id), FalseWhy::CannotEnter)));
    };
    if new.create().predecessor.as_ref() != Some(&old.room_id) {
        if just_joined {
            port.leave(&id).await?;
        }
        return Ok(Err(wrong(Some(id), FalseWhy::NotPredecessor)));
    }
    Ok(Ok(new))
}

/// The same for an upgrade that is to be finished: what leads to the old room is not moved to one that is
/// closed as well (P11).
///
/// # Errors
/// When the homeserver does not answer.
pub async fn open_successor(
    port: &dyn Homeserver,
    old: &RoomState,
) -> Result<std::result::Result<RoomState, Finding>> {
    let found = successor(port, old).await?;
    Ok(found.and_then(|new| match new.tombstone() {
        None => Ok(new),
        Some(tombstone) => Err(Finding::SuccessorClosed {
            room: new.room_id,
            replacement: tombstone.replacement,
        }),
    }))
}

/// The state of a room the account is in, as it is now; `None` where it is not: a server shows those who
/// left the state as it was then.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn joined_state(port: &dyn Homeserver, room: &RoomId) -> Result<Option<RoomState>> {
    match port.state(room).await {
        Ok(state) => {
            // Who was in a room can still read it, as it was then.
            let is_in = state.has_joined(port.account());
            Ok(is_in.then_some(state))
        }
        Err(HomeserverError::Refused {
            status: 403 | 404, ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Servers whose directory lists a room, among those that most likely do: the ones that its
/// addresses and most of its members are on. A server that does not answer is left out.
pub async fn listed_on(port: &dyn Homeserver, before: &Snapshot) -> Vec<OwnedServerName> {
    let room = &before.room;
    let aliases = room.published_aliases();
    let servers: BTreeSet<_> = aliases
        .iter()
        .map(|alias| alias.server_name().to_owned())
        .chain(room.via(port.server_name()))
        .filter(|server| server != port.server_name())
        .take(REMOTE_DIRECTORIES_MAX)
        .collect();
    let mut listed = Vec::new();
    let label = room.label();
    for server in servers {
        let asked = port.listed_elsewhere(&server, &room.room_id, &label);
        if let Ok(Listing::Public) = asked.await {
            listed.push(server);
        }
    }
    listed
}

/// Where the addresses of a target lead. The new room's own list answers for those that lead there
/// already, however many; only the others are looked up one by one.
async fn where_lead(
    port: &dyn Homeserver,
    target: &Target,
    new_room: &RoomId,
) -> Result<BTreeMap<OwnedRoomAliasId, Option<OwnedRoomId>>> {
    let moved = if target.aliases.is_empty() {
        BTreeSet::new()
    } else {
        port.local_aliases(new_room).await?
    };
    let addresses = target.aliases.iter().chain(&target.remote_aliases);
    let lead = addresses.map(async |alias| {
        let room = if moved.contains(alias) {
            Some(new_room.to_owned())
        } else {
            follow(port, alias).await?
        };
        Ok((alias.clone(), room))
    });
    Ok(try_join_all(lead).await?.into_iter().collect())
}

/// Adds the spaces that the bot came to be in since the room was read.
///
/// # Errors
/// When what sync told cannot be read.
pub async fn add_seen_spaces(port: &dyn Homeserver, before: &mut Snapshot) -> Result<()> {
    if !target::unseen_spaces(before).is_empty() {
        see_spaces(&surroundings::told(port).await?, before);
    }
    Ok(())
}

/// Adds the spaces that a room says it is in, where the bot is in them as well.
fn see_spaces(rooms: &BTreeMap<OwnedRoomId, RoomState>, before: &mut Snapshot) {
    let unseen = target::unseen_spaces(before);
    let seen = unseen.iter().filter_map(|space| rooms.get(space));
    let seen = seen.map(|space| surroundings::naming(space, &before.room.room_id));
    before.referrers.extend(seen.collect::<Vec<_>>());
}

/// The old room as it is now; `None` where the account is not in it any more.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn old_room(port: &dyn Homeserver, room: &RoomId) -> Result<Option<RoomState>> {
    joined_state(port, room).await
}

/// Reads what the target speaks of, as it is now, beside the old room, which was read already.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn observe(
    port: &dyn Homeserver,
    before: &Snapshot,
    old: RoomState,
    target: &Target,
    new_room: &RoomId,
) -> Result<Observed> {
    // All at once: none depends on another, and one after the other they are most of the time that
    // an upgrade takes.
    let old_room = &before.room.room_id;
    let aliases = where_lead(port, target, new_room);
    let slots = target
        .others
        .iter()
        .flat_map(|(room, wanted)| wanted.keys().map(move |slot| (room, slot)));
    let others = try_join_all(slots.map(async |(room, slot)| {
        match port.state_event(room, &slot.0, &slot.1).await {
            Ok(content) => Ok((room, slot, content.unwrap_or_default())),
            // The bot is not there any more: it reads as empty, and becomes a to-do.
            Err(HomeserverError::Refused { .. }) => Ok((room, slot, Content::new())),
            Err(error) => Err(error),
        }
    }));
    let listings = async {
        match target.listing {
            Listing::Private => Ok((Listing::Private, Listing::Private)),
            Listing::Public => try_join(port.listing(old_room), port.listing(new_room)).await,
        }
    };
    let (new, aliases, others, (old_listing, new_listing)) =
        try_join4(port.state(new_room), aliases, others, listings).await?;

    let mut others_now: BTreeMap<OwnedRoomId, BTreeMap<Slot, Content>> = BTreeMap::new();
    for (room, slot, content) in others {
        let room = others_now.entry(room.clone()).or_default();
        room.insert(slot.clone(), content);
    }
    Ok(Observed {
        old,
        new,
        aliases,
        old_listing,
        new_listing,
        since: before.room.closed_at(),
        others: others_now,
    })
}
