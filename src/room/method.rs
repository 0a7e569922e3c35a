//! Which method suits a room and its server, and why: what `auto` means. Pure.
//!
//! Facts behind the rules were measured on Synapse 1.163.2, or read in the code of other servers.
//! Left out: what a method does (`worker`).

use ruma::UserId;
use serde::{Deserialize, Serialize};

use super::power::{OddityKind, Presence};
use super::state::{Membership, RoomState};
use super::target::Intent;
use super::versions::has_creators;
use crate::model::{Method, MethodChoice, Review};

/// The homeserver whose own upgrade moves what nothing else can.
const SYNAPSE: &str = "Synapse";

/// Why a method was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Somebody asked for it.
    Asked,
    /// Moderators want to look first, which the server's own upgrade does not allow.
    Review,
    /// The server's own upgrade would leave everybody without power.
    CreatorsTakeBack,
    /// The server's own upgrade fails at the power levels or bans of this room.
    ServerWouldFail,
    /// Only the server's own upgrade moves tags and notification settings of its users.
    KeepsSettings {
        /// How many people on this server are in the room, without the bot.
        people: usize,
    },
    /// Nobody on this server but the bot is in the room: nothing speaks for the server's own way.
    NobodyLocal,
    /// Not every other server's own upgrade can be relied on.
    OtherServer,
}

/// What is known about the server's own upgrade of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerUpgrade {
    /// It would do.
    Works,
    /// It would break off.
    Fails,
}

/// Picks the method that was asked for, or the one that suits.
#[must_use]
pub fn choose(
    choice: MethodChoice,
    review: Review,
    old: Option<&RoomState>,
    intent: &Intent,
    software: Option<&str>,
) -> (Method, Reason) {
    match (choice, review) {
        (MethodChoice::Adopt, _) => return (Method::Adopt, Reason::Asked),
        (MethodChoice::Staged, _) => return (Method::Staged, Reason::Asked),
        // Looking first is what was asked for last, and it takes the bot's own way.
        (_, Review::Wanted) => return (Method::Staged, Reason::Review),
        (MethodChoice::Server, Review::Skip) => return (Method::Server, Reason::Asked),
        (MethodChoice::Auto, Review::Skip) => {}
    }
    let Some(old) = old else {
        return (Method::Staged, Reason::OtherServer);
    };
    if takes_creators_back(old, intent) {
        return (Method::Staged, Reason::CreatorsTakeBack);
    }
    if software != Some(SYNAPSE) {
        return (Method::Staged, Reason::OtherServer);
    }
    if of_server(old) == ServerUpgrade::Fails {
        return (Method::Staged, Reason::ServerWouldFail);
    }
    match locals(old, &intent.bot) {
        0 => (Method::Staged, Reason::NobodyLocal),
        people => (Method::Server, Reason::KeepsSettings { people }),
    }
}

/// Whether creators of the old room are none in a version without them.
#[must_use]
pub fn takes_creators_back(old: &RoomState, intent: &Intent) -> bool {
    has_creators(&old.create().version) && !has_creators(&intent.version)
}

/// What becomes of the server's own upgrade, as far as power levels tell.
/// Source: Synapse 1.163.2, measured: 500 where there are none, or where one is no number.
fn of_server(old: &RoomState) -> ServerUpgrade {
    let power = old.power();
    let broken = power.presence == Presence::Missing
        || power
            .oddities
            .iter()
            .any(|oddity| oddity.kind != OddityKind::TextNumber);
    if broken {
        ServerUpgrade::Fails
    } else {
        ServerUpgrade::Works
    }
}

/// People on the bot's server who are in the room, without the bot.
fn locals(old: &RoomState, bot: &UserId) -> usize {
    old.members(Membership::Join)
        .filter(|user| user.server_name() == bot.server_name() && user != bot)
        .count()
}
