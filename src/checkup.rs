//! What `doctor` looks at, and what of it is wrong, the worst first. Pure.
//!
//! Left out: reading any of it (`survey`, `store`, the port) and its words (`message`).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ruma::{OwnedRoomId, OwnedUserId};

use crate::model::Bucket;

/// How far the clocks may be apart. Beyond it, commands look too old or too new, and waits that the
/// server asks for end at the wrong time.
pub const CLOCK_APART_MAX: SignedDuration = SignedDuration::from_secs(30);

/// A limit that has let nothing through for so long is not waited out without a word.
pub const LIMIT_CLOSED_LONG: Duration = Duration::from_hours(1);

/// What a server says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// What it calls its software.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What time it is there.
    pub now: Option<Timestamp>,
}

/// Whether the account vouches for the bot's device (cross-signing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The account has no identity that could.
    Missing,
    /// It has one, and this device is not signed by it.
    Unsigned,
    /// The device is signed.
    Signed,
}

/// Whether the keys of encrypted messages are kept on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backup {
    /// They are not.
    Off,
    /// They are not, though a recovery key is configured: the server has no backup (any more).
    Gone,
    /// Somebody else's client keeps them there, and the recovery key that is configured does not open that.
    Shut,
    /// They are.
    On,
}

/// How the account stands with encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncryptionFacts {
    /// Whether people see the bot's device as verified.
    pub identity: Identity,
    /// Whether keys survive the loss of the device.
    pub backup: Backup,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Version of its form.
    pub schema: i64,
    /// Size in bytes.
    pub bytes: u64,
    /// What SQLite found wrong with it.
    pub damage: Option<String>,
}

/// How the server limits the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Not known: only a server admin can ask.
    Unknown,
    /// Not known: the account is said to be a server admin's, but the server denies it.
    Denied,
    /// Not at all.
    Lifted,
    /// As everybody, or by an override that is not a zero.
    Apply,
}

/// A room in which the bot has too little power for an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeakRoom {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// What people call it.
    pub label: String,
    /// What the tombstone takes.
    pub needed: i64,
    /// What the bot has.
    pub have: i64,
}

/// The rooms that can be upgraded from the admin rooms that were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomFacts {
    /// How many were looked at.
    pub looked_at: usize,
    /// Those in which the bot has too little power.
    pub weak: Vec<WeakRoom>,
    /// Admin rooms in which nobody but the bot can give commands.
    pub without_commander: Vec<SilentRoom>,
}

/// An admin room in which nobody but the bot can give commands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SilentRoom {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Who could, once they accept their invitation.
    pub invited: Vec<OwnedUserId>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// The bot's account.
    pub account: OwnedUserId,
    /// The account's server.
    pub server: ServerFacts,
    /// Encryption; `None` where it could not be found out.
    pub encryption: Option<EncryptionFacts>,
    /// The database.
    pub database: DatabaseFacts,
    /// Rate limits.
    pub limits: Limits,
    /// Limits that have let nothing through for [`LIMIT_CLOSED_LONG`], each with how long that has been.
    pub closed: BTreeMap<Bucket, Duration>,
    /// Rooms.
    pub rooms: RoomFacts,
    /// When it was looked.
    pub at: Timestamp,
}

/// Something that is wrong, or could be better. In the order of how bad it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Complaint {
    /// The database is damaged.
    Database(String),
    /// The clocks are apart by this many seconds; positive if ours is ahead.
    Clock(i64),
    /// A limit has let nothing through for so long.
    Closed(Bucket, Duration),
    /// Nobody can give commands in an admin room.
    NoCommander(SilentRoom),
    /// People see the bot as not verified.
    NotVerified,
    /// Keys would be lost with the device.
    NoBackup,
    /// Encryption could not be looked at.
    EncryptionUnknown,
    /// The server limits the bot.
    Limited,
    /// Whether it does is not known.
    LimitsUnknown,
}

impl Checkup {
    /// How far our clock is ahead of the server's.
    #[must_use]
    pub fn ahead(&self) -> Option<SignedDuration> {
        Some(self.at.duration_since(self.server.now?))
    }

    /// What is wrong, the worst first. Rooms without enough power are told apart.
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        let mut found = Vec::new();
        found.extend(self.database.damage.clone().map(Complaint::Database));
        let apart = self.ahead().filter(|ahead| ahead.abs() > CLOCK_APART_MAX);
        found.extend(apart.map(|ahead| Complaint::Clock(ahead.as_secs())));
        let closed = self.closed.iter();
        found.extend(closed.map(|(bucket, lasts)| Complaint::Closed(*bucket, *lasts)));
        let silent = self.rooms.without_commander.iter().cloned();
        found.extend(silent.map(Complaint::NoCommander));
        match self.encryption {
            None => found.push(Complaint::EncryptionUnknown),
            Some(encryption) => {
                if encryption.identity != Identity::Signed {
                    found.push(Complaint::NotVerified);
                }
                if encryption.backup != Backup::On {
                    found.push(Complaint::NoBackup);
                }
            }
        }
        match self.limits {
            Limits::Lifted => {}
            Limits::Apply => found.push(Complaint::Limited),
            Limits::Unknown | Limits::Denied => found.push(Complaint::LimitsUnknown),
        }
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Checkup {
        let at = Timestamp::from_second(1000).unwrap();
        Checkup {
            account: "@bot:b".parse().unwrap(),
            server: ServerFacts {
                name: None,
                version: None,
                now: Some(at),
            },
            encryption: Some(EncryptionFacts {
                identity: Identity::Signed,
                backup: Backup::On,
            }),
            database: DatabaseFacts {
                schema: 1,
                bytes: 1,
                damage: None,
            },
            limits: Limits::Lifted,
            closed: BTreeMap::new(),
            rooms: RoomFacts::default(),
            at,
        }
    }

    #[test]
    fn the_worst_is_told_first() {
        assert_eq!(healthy().complaints(), []);
        let mut ill = healthy();
        ill.limits = Limits::Unknown;
        ill.encryption = Some(EncryptionFacts {
            identity: Identity::Unsigned,
            backup: Backup::Off,
        });
        ill.server.now = Timestamp::from_second(1031).ok();
        ill.database.damage = Some("page 3".to_owned());
        ill.closed = [(Bucket::Joins, LIMIT_CLOSED_LONG)].into();
        let silent_room = SilentRoom {
            room_id: "!a:b".try_into().unwrap(),
            invited: vec![],
        };
        ill.rooms.without_commander = vec![silent_room.clone()];
        assert_eq!(
            ill.complaints(),
            [
                Complaint::Database("page 3".to_owned()),
                Complaint::Clock(-31),
                Complaint::Closed(Bucket::Joins, LIMIT_CLOSED_LONG),
                Complaint::NoCommander(silent_room),
                Complaint::NotVerified,
                Complaint::NoBackup,
                Complaint::LimitsUnknown,
            ]
        );
        let mut silent = healthy();
        silent.server.now = Timestamp::from_second(1030).ok();
        assert_eq!(silent.complaints(), [], "half a minute is nothing");
        silent.server.now = None;
        silent.encryption = None;
        assert_eq!(silent.complaints(), [Complaint::EncryptionUnknown]);
    }
}
