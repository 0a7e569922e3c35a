//! What the receive loop asks of sync, as plain data: one trait, implemented for the SDK's session.
//!
//! As with the port, nothing here retries: each failure is told. The simulation of the tests
//! implements it too, so that gaps, late events and lost answers can be tried without a server. Left
//! out: what is done with what sync tells (`receive`).

mod sdk;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::MatrixError;
use super::syncs::Syncs;
use crate::homeserver::Result;
use crate::model::Device;
use crate::room::state::Content;

/// One answer of sync.
#[derive(Debug, Clone, Default)]
pub struct SyncAnswer {
    /// Rooms that the account is in and that have news.
    pub joined: BTreeMap<OwnedRoomId, RoomUpdate>,
    /// Rooms that the account was invited to.
    pub invited: BTreeSet<OwnedRoomId>,
    /// Rooms that the account is not in any more.
    pub left: BTreeSet<OwnedRoomId>,
}

/// News of a room.
#[derive(Debug, Clone, Default)]
pub struct RoomUpdate {
    /// State that changed outside the timeline.
    pub state: Vec<Box<RawValue>>,
    /// What was said, oldest first; state among it.
    pub timeline: Vec<TimelineEvent>,
    /// Where reading back begins.
    pub prev_batch: Option<String>,
    /// Whether events were left out before this timeline.
    pub gap: Gap,
}

/// Whether events were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gap {
    /// The timeline continues the one before.
    #[default]
    None,
    /// Something was left out; it has to be read back.
    Before,
}

/// An event of a timeline, decrypted where possible.
#[derive(Debug, Clone)]
pub struct TimelineEvent {
    /// The event.
    pub json: Box<RawValue>,
    /// What is known of the device that it came from.
    pub device: Device,
    /// There if it could not be decrypted.
    pub undecrypted: Option<Undecrypted>,
}

/// An event that could not be decrypted.
#[derive(Debug, Clone, Default)]
pub struct Undecrypted {
    /// The session whose key is missing, where the event says.
    pub session: Option<String>,
}

/// A page of a room's history, newest event first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The events.
    pub events: Vec<TimelineEvent>,
    /// Where the next page begins; `None` at the beginning of the room.
    pub end: Option<String>,
}

/// An open invitation of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who invites; `None` where sync did not tell.
    pub inviter: Option<OwnedUserId>,
}

impl TimelineEvent {
    /// The whole event; `null` where it is no JSON.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(self.json.get()).unwrap_or_default()
    }

    /// Its id.
    #[must_use]
    pub fn event_id(&self) -> Option<OwnedEventId> {
        self.field("event_id")
    }

    /// Who sent it.
    #[must_use]
    pub fn sender(&self) -> Option<OwnedUserId> {
        self.field("sender")
    }

    /// One of its fields, if it is what it should be.
    #[must_use]
    pub fn field<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(self.json.get()).ok()?;
        serde_json::from_str(fields.get(name)?.get()).ok()
    }
}

/// Where the receive loop gets its events from.
#[async_trait]
pub trait SyncSource: Send + Sync {
    /// The bot's own account.
    fn account(&self) -> &UserId;

    /// Which syncs were taken in, shared with the port.
    fn syncs(&self) -> &Syncs;

    /// Whether this device has synced before, and so is not told of all rooms again.
    async fn has_synced(&self) -> bool;

    /// One sync. The homeserver may hold its answer for as long as `poll`, if there is nothing to tell.
    async fn sync(&self, poll: Duration) -> Result<SyncAnswer>;

    /// A page of a room's history, back from a point or from its end. `None`: the account is not in the
    /// room, as far as sync has told.
    async fn messages(&self, room: &RoomId, from: Option<&str>, limit: u32)
    -> Result<Option<Page>>;

    /// An event of the account's own data, as sync last told.
    async fn account_data(&self, kind: &str) -> Option<Content>;

    /// Sets an event of the account's own data.
    async fn set_account_data(&self, kind: &str, content: &Content) -> Result<()>;

    /// Tombstones of the rooms that the account is in, as sync last told.
    async fn tombstones(&self) -> Vec<(OwnedRoomId, Box<RawValue>)>;

    /// Open invitations, as sync last told.
    async fn invitations(&self) -> Vec<Invitation>;

    /// Accepts an invitation.
    async fn accept(&self, room: &RoomId) -> Result<()>;

    /// Tries once more to decrypt an event of a room.
    async fn decrypt(&self, room: &RoomId, event: &RawValue) -> Option<TimelineEvent>;

    /// Sets up the account's encryption, after the first sync.
    ///
    /// # Errors
    /// [`MatrixError::Encryption`] for what may work another time; others are for somebody to correct.
    async fn set_up_encryption(&self) -> Result<(), MatrixError>;
}
