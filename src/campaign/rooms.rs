//! Which rooms of a space a campaign is about: found by walking through nested spaces, each room
//! once, in the order in which they go.
//!
//! Pure: it walks through rooms as sync told them. Left out: joining rooms the bot is not in, and
//! everything that a plan of one room says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruma::{OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, UserId};
use serde::{Deserialize, Serialize};

use super::Narrow;
use crate::room::inventory::is_newer;
use crate::room::level::Allowance;
use crate::room::state::{RoomState, StateEvent};
use crate::room::target::{is_link, via_of};

/// Most rooms of one campaign. More would not be read by anybody in one plan.
pub(crate) const ROOMS_MAX: usize = 2_000;

/// What decides about a room beside the room itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The version to upgrade to.
    pub version: &'a RoomVersionId,
    /// Which rooms are meant.
    pub narrow: &'a Narrow,
    /// Rooms in which commands are taken: each takes a command of its own.
    pub admin_rooms: &'a BTreeSet<OwnedRoomId>,
    /// Whoever has to be able to upgrade each room themselves.
    pub needs_power: Option<&'a UserId>,
}

/// A room that is to be upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub room: OwnedRoomId,
    /// When it goes: rooms are 0, spaces more than every space in them.
    pub rank: u32,
}

/// A room that is not to be upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub room: OwnedRoomId,
    /// What people call it; its id where the bot cannot look into it.
    pub label: String,
    pub why: Why,
}

/// Why a room is not to be upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// It has the wanted version.
    HasVersion,
    /// It has a newer version.
    IsNewer { version: RoomVersionId },
    /// It was replaced already.
    Replaced,
    /// The bot is not in it.
    NotJoined,
    /// Whoever asked may not upgrade it, as the configuration wants them to.
    NoTargetPower {
        /// The level it takes.
        needed: i64,
    },
    /// Commands are taken there.
    AdminRoom,
    /// It is not among those that were asked for.
    NotMeant,
    /// There are too many before it.
    TooMany,
}

/// A room that the bot is not in, and how it could be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outside {
    pub room: OwnedRoomId,
    /// Servers to join it by.
    pub via: Vec<OwnedServerName>,
}

/// What the walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Rooms to be upgraded, those that go first in front.
    pub members: Vec<Member>,
    pub left_out: Vec<LeftOut>,
    /// Among those, the ones that the bot is not in.
    pub outside: Vec<Outside>,
}

/// Walks through a space.
pub(crate) fn walk(
    rooms: &BTreeMap<OwnedRoomId, RoomState>,
    space: &RoomId,
    wanted: Wanted<'_>,
) -> Walk {
    let mut found = Walk::default();
    let mut via: BTreeMap<OwnedRoomId, Vec<OwnedServerName>> = BTreeMap::new();
    let mut order = vec![space.to_owned()];
    let mut seen = BTreeSet::from([space.to_owned()]);
    let mut queue = VecDeque::from([space.to_owned()]);
    while let Some(next) = queue.pop_front() {
        let Some(inner) = rooms.get(&next).filter(|room| is_open_space(room)) else {
            continue;
        };
        for link in links(inner) {
            let Ok(child) = OwnedRoomId::try_from(link.state_key.as_str()) else {
                continue;
            };
            via.entry(child.clone())
                .or_default()
                .extend(via_of(&link.content));
            if seen.insert(child.clone()) {
                order.push(child.clone());
                queue.push_back(child);
            }
        }
    }
    let heights = heights(rooms, space);
    for id in order {
        let Some(room) = rooms.get(&id) else {
            found.left_out.push(LeftOut {
                label: id.to_string(),
                room: id.clone(),
                why: Why::NotJoined,
            });
            let via = via.remove(&id).unwrap_or_default();
            found.outside.push(Outside { room: id, via });
            continue;
        };
        let why = reason(room, wanted)
            .or_else(|| (found.members.len() >= ROOMS_MAX).then_some(Why::TooMany));
        if let Some(why) = why {
            found.left_out.push(LeftOut {
                label: room.label(),
                room: id,
                why,
            });
        } else {
            let rank = heights.get(&id).copied().unwrap_or(0);
            found.members.push(Member { room: id, rank });
        }
    }
    found.members.sort_by_key(|member| member.rank);
    found
}

/// Why a room is left out, if it is.
fn reason(room: &RoomState, wanted: Wanted<'_>) -> Option<Why> {
    let narrow = wanted.narrow;
    let id = &room.room_id;
    let version = room.create().version;
    let is_meant = (narrow.only.is_empty() || narrow.only.contains(id))
        && !narrow.skip.contains(id)
        && narrow.from.as_ref().is_none_or(|from| *from == version);
    if room.replaced().is_some() {
        Some(Why::Replaced)
    } else if !is_meant {
        Some(Why::NotMeant)
    } else if wanted.admin_rooms.contains(id) {
        Some(Why::AdminRoom)
    } else if version == *wanted.version {
        Some(Why::HasVersion)
    } else if is_newer(&version, wanted.version) {
        Some(Why::IsNewer { version })
    } else if let Some(user) = wanted.needs_power
        && let Allowance::Short { needed, .. } =
            room.power().can_send_state(user, "m.room.tombstone")
    {
        Some(Why::NoTargetPower { needed })
    } else {
        None
    }
}

fn is_open_space(room: &RoomState) -> bool {
    room.is_space() && room.replaced().is_none()
}

/// Links of a space in the order in which clients show them.
/// Source: Matrix specification, "Ordering of children within a space".
fn links(space: &RoomState) -> Vec<&StateEvent> {
    let mut links: Vec<_> = space
        .of_kind("m.space.child")
        .filter(|link| is_link(&link.content))
        .collect();
    let order = |link: &StateEvent| {
        let order = link.content.get("order").and_then(|order| order.as_str());
        (order.is_none(), order.unwrap_or_default().to_owned())
    };
    links.sort_by_cached_key(|link| (order(link), link.origin_server_ts, link.state_key.clone()));
    links
}

/// How many spaces are nested in each space, itself included; rooms have none. Spaces that contain
/// each other are cut where the walk meets one again that it is in. Each link is looked at once.
fn heights(told: &BTreeMap<OwnedRoomId, RoomState>, root: &RoomId) -> BTreeMap<OwnedRoomId, u32> {
    let mut heights = BTreeMap::new();
    let mut entered = BTreeSet::new();
    let mut path = vec![root.to_owned()];
    while let Some(room) = path.last().cloned() {
        let space = told.get(&room).filter(|room| is_open_space(room));
        let children = space.map(links).unwrap_or_default();
        let children = children
            .into_iter()
            .filter_map(|link| OwnedRoomId::try_from(link.state_key.as_str()).ok());
        entered.insert(room.clone());
        let mut below = Vec::new();
        let mut next = Vec::new();
        for child in children {
            match heights.get(&child) {
                Some(height) => below.push(*height),
                None if !entered.contains(&child) => next.push(child),
                None => {}
            }
        }
        if next.is_empty() {
            path.pop();
            let own = u32::from(space.is_some());
            heights
                .entry(room)
                .or_insert_with(|| own + below.into_iter().max().unwrap_or(0));
        } else {
            path.extend(next);
        }
    }
    heights
}
