//! Matrix: the account's session, events into the inbox, posts out of the outbox, and the port's
//! implementation for a real homeserver. The only user of matrix-sdk.
//!
//! Left out: what events mean (`handlers`) and what is to be sent (`message`, `worker`). Neither
//! the SDK's event cache nor its send queue is used: inbox and outbox are ours, and survive a kill.

mod claim;
mod encryption;
mod enter;
mod event;
mod file;
mod first;
mod invitations;
mod members;
mod port;
mod post;
mod receive;
mod send;
mod session;
mod source;
mod syncs;
mod trouble;
mod unread;
mod wire;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use ruma::{OwnedRoomOrAliasId, OwnedUserId};

pub use enter::{Entered, Readiness, enter};
pub use event::{ForUs, received};
pub use first::{discover, sign_in};
pub use port::Port;
pub use receive::Receiver;
pub use send::run as send;
pub use session::{Session, connect};
pub use source::{
    Gap, Invitation, Page, RoomUpdate, SyncAnswer, SyncSource, TimelineEvent, Undecrypted,
};
pub use syncs::Syncs;

use crate::homeserver::HomeserverError;
use crate::model::DatabaseMark;
use crate::store::StoreError;

/// What another library saw.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why the bot cannot take part in Matrix. The `Display` is for the operator and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// The folder for the session cannot be made.
    #[error("cannot create the folder {}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The session file cannot be read or written.
    #[error("cannot read or write the session file {}", path.display())]
    SessionFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The session file holds something else than a session.
    #[error(
        "the session file {} is damaged; restore it from a backup, or move it and the folder \
         `matrix` beside it away to log in as a new device",
        path.display()
    )]
    SessionDamaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// The session file is somebody else's.
    #[error(
        "the session file {} belongs to {found}, but `account.user_id` is {expected}; correct \
         `account.user_id`, or use another `data_dir`",
        path.display()
    )]
    ForeignSession {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: OwnedUserId,
        /// Whose it should be.
        expected: OwnedUserId,
    },
    /// No homeserver answers at an address that was never used before.
    #[error("no Matrix homeserver answers at {typed}; check the address")]
    NoHomeserver {
        /// The address or name.
        typed: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// The client cannot be set up, before anything is asked of the homeserver.
    #[error("cannot set up a client for {homeserver}; check `account.homeserver`")]
    Client {
        /// Its address.
        homeserver: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// The store of the SDK cannot be used now, and nothing says that it is damaged: the disk is full, or the
    /// files may not be read or written.
    #[error(
        "cannot use the encryption store {}; free space on the disk, or correct the rights of its files, and \
         start again; nothing is lost",
        path.display()
    )]
    SdkStoreUnusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Source,
    },
    /// The store of the SDK is damaged, or of another account or device.
    #[error(
        "cannot open the encryption store {}: it is damaged, or belongs to another account or \
         device; restore it together with session.json from one backup, or move the folder away \
         to begin a new one (older encrypted messages become unreadable)",
        path.display()
    )]
    SdkStore {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Source,
    },
    /// The homeserver does not accept the password.
    #[error("the homeserver does not accept the password of {user}; correct `account.password`")]
    WrongPassword {
        /// The account.
        user: OwnedUserId,
        /// The server's answer.
        #[source]
        source: HomeserverError,
    },
    /// The homeserver does not let the account in, for another reason than the password.
    #[error("the homeserver does not let {user} log in")]
    LoginRefused {
        /// The account.
        user: OwnedUserId,
        /// The server's answer.
        #[source]
        source: HomeserverError,
    },
    /// The access token is not valid (any more), and there is no password to log in with.
    #[error("the access token of {user} was revoked; put a new one into `account.access_token`")]
    TokenRevoked {
        /// The account.
        user: OwnedUserId,
        /// The server's answer.
        #[source]
        source: HomeserverError,
    },
    /// The token is of an application service or a guest.
    #[error("the access token of {user} has no device; use one that comes from logging in")]
    NoDevice {
        /// The account.
        user: OwnedUserId,
    },
    /// The token or password is somebody else's.
    #[error("the homeserver says this is {found}, but `account.user_id` is {expected}")]
    WrongAccount {
        /// Who the homeserver says it is.
        found: OwnedUserId,
        /// Who it should be.
        expected: OwnedUserId,
    },
    /// The new token is of another device than the stored keys.
    #[error(
        "the access token is of the device {found}, but the keys in {} are of {expected}; use a \
         token of {expected}, or move the folder and session.json beside it away",
        path.display()
    )]
    WrongDevice {
        /// Folder of the keys.
        path: PathBuf,
        /// Device of the token.
        found: String,
        /// Device of the keys.
        expected: String,
    },
    /// The session was ended from outside while the bot was at work.
    #[error("the homeserver ended the session of {user}; start again to log in anew")]
    SignedOut {
        /// The account.
        user: OwnedUserId,
    },
    /// Another database has the account.
    #[error(
        "{user} works with another database: with {}, since {}; this one is {own}. Two at once would make two \
         new rooms for each upgrade. Use the data_dir of the other one; or stop the other one for good, and \
         take over from it: roomlift run --take-over",
        found.database,
        found.since
    )]
    OtherDatabase {
        /// The account.
        user: OwnedUserId,
        /// What the account's data say.
        found: DatabaseMark,
        /// The id of this database.
        own: String,
    },
    /// The key for the account's secret storage opens nothing.
    #[error(
        "the key in `account.recovery_key_file` does not open the secret storage of {user}; put the \
         right recovery key or passphrase into the file"
    )]
    RecoveryKey {
        /// The account.
        user: OwnedUserId,
        /// What the SDK saw.
        #[source]
        source: Source,
    },
    /// Cross-signing or the key backup cannot be set up now.
    #[error("cannot set up cross-signing and key backup")]
    Encryption(#[source] Source),
    /// The bot is to stop, and had not connected yet.
    #[error("stopped before the homeserver could be reached")]
    Stopped,
    /// An admin room cannot be entered.
    #[error(
        "cannot enter the admin room {room}; invite {user} there, or correct `admin_room.room`"
    )]
    EnterRoom {
        /// The room as configured.
        room: OwnedRoomOrAliasId,
        /// The bot's account.
        user: OwnedUserId,
        /// What the homeserver says; absent where the alias leads nowhere.
        #[source]
        source: Option<HomeserverError>,
    },
    /// The inbox cannot be read or written. What was not stored is read again on the next start.
    #[error("cannot use the inbox")]
    Inbox(#[source] StoreError),
    /// The outbox cannot be read or written.
    #[error("cannot use the outbox")]
    Outbox(#[source] StoreError),
}
