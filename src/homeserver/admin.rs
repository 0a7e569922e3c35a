//! What a server admin may ask beyond the Matrix specification: Synapse's admin API.
//!
//! There only where the operator said that the account is one (`[synapse_admin]`).

use async_trait::async_trait;
use ruma::{RoomId, UserId};

use super::Result;
use crate::checkup::Limits;

/// Whether the bot may have itself made admin of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomPower {
    /// It may not.
    Never,
    /// When somebody with `command_level` tells it to.
    WhenTold,
}

/// Requests of a server admin. Each may be repeated.
#[async_trait]
pub trait ServerAdmin: Send + Sync {
    /// Whether the bot may have itself made admin of a room.
    fn room_power(&self) -> RoomPower;

    /// How the server limits the bot's account.
    async fn limits(&self) -> Result<Limits>;

    /// Lifts all limits from the bot's account.
    async fn lift_limits(&self) -> Result<()>;

    /// Gives a user of this server the power of the local user who has most, in whose name the server
    /// acts. Refused where none has enough.
    async fn make_room_admin(&self, room: &RoomId, user: &UserId) -> Result<()>;

    /// Deletes a room from this server. Nobody of it may be left in there.
    async fn delete_room(&self, room: &RoomId) -> Result<()>;
}
