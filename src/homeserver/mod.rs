//! The port: what steps, plans and commands may ask of a homeserver, and how it can fail.
//!
//! One trait, implemented by `matrix` for real servers, and by `paced` around it, which keeps the server's
//! rate limits. It is narrow on purpose: each method is one request, and none retries by itself, so that
//! whoever asks sees every refusal and can store the wait. Left out: sync.

pub mod admin;
pub mod pace;
pub mod paced;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use ruma::{
    EventId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId,
    RoomAliasId, RoomId, RoomVersionId, ServerName, UserId,
};
use serde_json::Value;

use self::admin::ServerAdmin;
use crate::checkup::{EncryptionFacts, ServerFacts};
use crate::model::RoomRef;

pub use crate::model::{Bucket, RateLimit};
use crate::room::creation::Preset;
use crate::room::moves::MemberEvent;
use crate::room::state::{Content, Listing, RoomEvent, RoomState};

/// Longest wait for an ordinary answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest wait for a new room. Synapse needs a minute for an `/upgrade` with 2,000 bans.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_mins(5);

/// How long to wait after a 429 that does not say.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);

/// HTTP status of a refusal.
const FORBIDDEN: u16 = 403;

/// Type of the event that is a message.
pub const MESSAGE: &str = "m.room.message";

/// Why a request to the homeserver did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HomeserverError {
    /// Too many requests; asking again after the wait is expected to work.
    #[error("{request}: rate limited for {} ms", limit.retry_after.as_millis())]
    RateLimited {
        /// What was asked.
        request: String,
        /// The limit it ran into.
        limit: RateLimit,
    },
    /// The server understood and said no (a 4xx answer with a Matrix error code), or has no such request
    /// (501).
    #[error("{request}: refused with {status} {code}: {message}")]
    Refused {
        /// What was asked.
        request: String,
        /// HTTP status.
        status: u16,
        /// Matrix error code, such as `M_FORBIDDEN`.
        code: String,
        /// The server's own words.
        message: String,
    },
    /// The server does not let the account do anything now: it is suspended, locked or over a limit, it has
    /// to accept terms, or its session is over. Says nothing about what was asked.
    #[error("{request}: the account may not act: {status} {code}: {message}")]
    AccountBlocked {
        /// What was asked.
        request: String,
        /// HTTP status.
        status: u16,
        /// Matrix error code.
        code: String,
        /// The server's own words.
        message: String,
    },
    /// No answer of the homeserver, so that it is open whether the work was done: the connection was cut or
    /// timed out, the answer is a 5xx, or it comes from something in front of the server, such as an HTML
    /// page of a proxy.
    #[error("{request}: no certain answer")]
    Uncertain {
        /// What was asked.
        request: String,
        /// HTTP status, where there was an answer at all.
        status: Option<u16>,
        /// What the client library saw.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer makes no sense, or the request could not be built.
    #[error("{request}: unusable")]
    Unusable {
        /// What was asked.
        request: String,
        /// What the client library saw.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl HomeserverError {
    /// Whether the session is over: nothing can be asked with it any more.
    /// Source: Matrix specification, client-server API, standard error responses.
    #[must_use]
    pub fn is_unknown_token(&self) -> bool {
        matches!(self, Self::AccountBlocked { code, .. }
            if code == "M_UNKNOWN_TOKEN" || code == "M_MISSING_TOKEN")
    }

    /// What was asked.
    #[must_use]
    pub fn request(&self) -> &str {
        match self {
            Self::RateLimited { request, .. }
            | Self::Refused { request, .. }
            | Self::AccountBlocked { request, .. }
            | Self::Uncertain { request, .. }
            | Self::Unusable { request, .. } => request,
        }
    }

    /// Whether the same may be asked again later, without an end: the answer says nothing about what was
    /// asked.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Uncertain { .. } => true,
            Self::AccountBlocked { code, .. } => {
                !self.is_unknown_token() && code != "M_USER_DEACTIVATED"
            }
            Self::Refused { .. } | Self::Unusable { .. } => false,
        }
    }

    /// What a 4xx answer with a Matrix error code means: a refusal of what was asked, or a state of the
    /// account.
    /// Source: Matrix specification, client-server API, standard error responses, account locking and
    /// suspension; MSC3823. Synapse refuses to join large rooms with 400 `M_RESOURCE_LIMIT_EXCEEDED`, which
    /// is about the room.
    #[must_use]
    pub fn refused(request: String, status: u16, code: String, message: String) -> Self {
        let is_about_account = match code.as_str() {
            "M_UNKNOWN_TOKEN"
            | "M_MISSING_TOKEN"
            | "M_USER_LOCKED"
            | "M_USER_SUSPENDED"
            | "M_USER_DEACTIVATED"
            | "M_CONSENT_NOT_GIVEN" => true,
            "M_RESOURCE_LIMIT_EXCEEDED" => status == FORBIDDEN,
            _ => false,
        };
        if is_about_account {
            Self::AccountBlocked {
                request,
                status,
                code,
                message,
            }
        } else {
            Self::Refused {
                request,
                status,
                code,
                message,
            }
        }
    }
}

/// Asks the account's own server for something cheap, to tell whether it is the one that does not answer.
///
/// # Errors
/// When it does not.
pub async fn ensure_reachable(port: &dyn Homeserver) -> Result<()> {
    port.room_versions().await.map(drop)
}

/// Result of a request.
pub type Result<T, E = HomeserverError> = std::result::Result<T, E>;

/// Room versions as the homeserver offers them.
/// Source: `GET /capabilities`, `m.room_versions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomVersions {
    /// The one used for new rooms.
    pub default: RoomVersionId,
    /// All that it can make, stable or not.
    pub available: BTreeSet<RoomVersionId>,
}

/// A room found by alias or id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Servers to join it by.
    pub via: Vec<OwnedServerName>,
}

/// A room the account is in, as sync last told.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldRoom {
    /// Its create event, names, power levels, join rules, tombstone, links with spaces and the
    /// account's own membership; no other state. Links that were taken back are left out.
    pub state: RoomState,
    /// How many people are in it, the account included.
    pub members: u64,
}

/// A file to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What it is called.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Where an uploaded file is.
#[derive(Debug, Clone, PartialEq)]
pub struct Uploaded {
    /// Key of a message's content that says so: `url`, or `file` in encrypted rooms.
    pub key: &'static str,
    /// The value under that key.
    pub source: Value,
}

/// What may be asked of a homeserver.
#[async_trait]
pub trait Homeserver: Send + Sync {
    /// The bot's own account.
    fn account(&self) -> &UserId;

    /// The server of the account.
    fn server_name(&self) -> &ServerName {
        self.account().server_name()
    }

    /// Which room versions the server offers.
    async fn room_versions(&self) -> Result<RoomVersions>;

    /// With which presets made rooms are encrypted by the server unasked, as far as it says.
    /// Source: `GET /versions`, Synapse's `io.element.e2ee_forced.*`.
    async fn encrypted_presets(&self) -> Result<BTreeSet<Preset>>;

    /// Whether a user exists, as far as their server says. `None`: their server did not answer.
    async fn user_exists(&self, user: &UserId) -> Result<Option<Existence>>;

    /// The whole state of a room the account is in.
    async fn state(&self, room: &RoomId) -> Result<RoomState>;

    /// Content of one state event; `None` where there is none.
    async fn state_event(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Content>>;

    /// Everybody who is or was in a room, or was invited to it. One request, however many there are.
    async fn members(&self, room: &RoomId) -> Result<Vec<MemberEvent>>;

    /// Waits for the turn of the next request of a bucket, and keeps it for that request: what is read in
    /// between is as new as it can be when the request leaves. To be called where a write rests on what was read
    /// right before it. A server without limits that are kept has no turns.
    async fn reserve(&self, _bucket: Bucket) -> Result<Reserved> {
        Ok(Reserved::AtOnce)
    }

    /// Gives back turns that were kept and not used.
    fn release(&self) {}

    /// Sends a state event. Sending what is there already is harmless.
    async fn put_state(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Content,
    ) -> Result<OwnedEventId>;

    /// Finds out what a message to a room takes, such as whether it is to be encrypted, so that the message
    /// itself need not wait for that. What cannot be found out now is asked then.
    async fn get_ready_for_message(&self, room: &RoomId);

    /// Sends an event that is no state; the same transaction id sends it once. Encrypted where the room
    /// is.
    async fn send_event(
        &self,
        room: &RoomId,
        kind: &str,
        transaction: &str,
        content: &Content,
    ) -> Result<OwnedEventId>;

    /// Redacts an event; the same transaction id redacts it once.
    async fn redact(
        &self,
        room: &RoomId,
        event: &EventId,
        transaction: &str,
    ) -> Result<OwnedEventId>;

    /// One event as it was last edited, decrypted if it can be; `None` if it is not there or may not
    /// be read.
    async fn event(&self, room: &RoomId, event: &EventId) -> Result<Option<RoomEvent>>;

    /// Makes a room from the body of `/createRoom` as it is. Not repeatable: each call makes one.
    async fn create_room(&self, body: &Content) -> Result<OwnedRoomId>;

    /// Uploads a file for a message in a room, encrypted where the room is.
    async fn upload(&self, room: &RoomId, file: &Upload) -> Result<Uploaded>;

    /// Invites a user.
    async fn invite(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()>;

    /// Removes a user, who may come back.
    async fn kick(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()>;

    /// Leaves a room. Not being in it is success.
    async fn leave(&self, room: &RoomId) -> Result<()>;

    /// Bans a user.
    async fn ban(&self, room: &RoomId, user: &str, reason: Option<&str>) -> Result<()>;

    /// Joins a room.
    async fn join(&self, room: &RoomRef) -> Result<OwnedRoomId>;

    /// Rooms the account is in, asked of the server.
    async fn joined_rooms(&self) -> Result<BTreeSet<OwnedRoomId>>;

    /// Where an alias leads; `None` where it leads nowhere.
    async fn resolve(&self, alias: &RoomAliasId) -> Result<Option<Resolved>>;

    /// Aliases on the account's own server that lead to a room.
    async fn local_aliases(&self, room: &RoomId) -> Result<BTreeSet<OwnedRoomAliasId>>;

    /// Creates an alias on the account's own server.
    async fn create_alias(&self, alias: &RoomAliasId, room: &RoomId) -> Result<()>;

    /// Removes an alias from the account's own server.
    async fn delete_alias(&self, alias: &RoomAliasId) -> Result<()>;

    /// Whether the server's directory lists a room.
    async fn listing(&self, room: &RoomId) -> Result<Listing>;

    /// Lists a room in the server's directory, or takes it out.
    async fn set_listing(&self, room: &RoomId, listing: Listing) -> Result<()>;

    /// Whether the directory of another server lists a room, among those it finds by a word of the
    /// room's name, topic or address.
    async fn listed_elsewhere(
        &self,
        server: &ServerName,
        room: &RoomId,
        term: &str,
    ) -> Result<Listing>;

    /// What the account's server calls its software, such as `Synapse`; `None` if it does not say.
    /// Source: `GET /_matrix/federation/v1/version`.
    async fn server_software(&self) -> Result<Option<String>>;

    /// What the server says about itself, and its time.
    async fn server_facts(&self) -> Result<ServerFacts>;

    /// How the account stands with encryption.
    async fn encryption(&self) -> Result<EncryptionFacts>;

    /// Limits that have let nothing through for `least`, each with how long that has been.
    fn closed_limits(&self, _least: Duration) -> BTreeMap<Bucket, Duration> {
        BTreeMap::new()
    }

    /// What only a server admin may ask; `None` where the operator did not say that the account is
    /// one.
    fn admin(&self) -> Option<&dyn ServerAdmin>;

    /// The server's own upgrade. Not repeatable: see the step `switch`.
    async fn upgrade(
        &self,
        room: &RoomId,
        version: &RoomVersionId,
        additional_creators: &BTreeSet<OwnedUserId>,
    ) -> Result<OwnedRoomId>;

    /// Waits until sync has told that the account is in these rooms, not longer than `patience`.
    async fn until_told(&self, rooms: &[&RoomId], patience: Duration);

    /// Waits until sync has told of everything that happened up to now, not longer than `patience`: the
    /// server says nothing where there is nothing to be told.
    async fn until_now(&self, patience: Duration);

    /// Every room the account is in, as sync last told, by room id: whatever concerns many rooms
    /// at once takes one pass over what is stored here and no request.
    async fn told_rooms(&self) -> Result<Vec<ToldRoom>>;

    /// A room the account is in, as sync last told: its create event, names, power levels and
    /// tombstone.
    async fn known_state(&self, room: &RoomId) -> Result<Option<RoomState>>;

    /// Children of a space the account is in, as sync last told.
    async fn children(&self, space: &RoomId) -> Result<BTreeSet<OwnedRoomId>>;
}

/// How a turn was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// There was one, or it was kept already.
    AtOnce,
    /// It had to be waited for: what was read before may be old.
    AfterWait,
}

/// Whether somebody's server knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existence {
    /// It does.
    Known,
    /// It does not.
    Unknown,
}
