//! The configuration: a TOML file, and a few variables of the environment, as checked values.
//!
//! All mistakes are reported at once, each with its key and what to write instead. No text made here
//! contains a value that could be a secret. Only files are asked, never the homeserver: whether the
//! account and the rooms exist is found out on start.

mod follow_up;
mod read;
mod secret;
mod section;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use ruma::{OwnedRoomOrAliasId, OwnedUserId, RoomVersionId};
use thiserror::Error;

pub use self::follow_up::{FollowUpSettings, OldRoom};
pub use self::read::{
    ANNOUNCEMENT_VARIABLES, ENV_ACCESS_TOKEN, ENV_LISTEN, ENV_LOG, ENV_PASSWORD, TEMPLATE_VARIABLES,
};
use self::read::{listed, read};
use self::secret::Origin;
pub use self::secret::Secret;
use crate::model::{InvitePolicy, JoinRulePolicy, MethodChoice, OldChildLink};
use crate::telemetry::LogFormat;

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the database, the SDK's store and the lock.
    pub data_dir: PathBuf,
    /// Directives of what is logged, for `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// Where health and metrics are told; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// The account of the bot.
    pub account: Account,
    /// Where commands are read; at least one, no two for the same room.
    pub admin_rooms: Vec<AdminRoomRules>,
    /// How rooms are upgraded where a command says nothing else.
    pub upgrade: UpgradeSettings,
    /// How people who did not come are followed up.
    pub follow_up: FollowUpSettings,
    /// Upgrades that begin later.
    pub schedule: ScheduleSettings,
    /// How long what is over is kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// Texts for members.
    pub messages: Messages,
    /// What the account may do as a server admin, if it is one.
    pub synapse_admin: Option<SynapseAdmin>,
    /// What works but should be changed.
    pub warnings: Vec<Finding>,
}

/// The account of the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `http(s)://host[:port]` of the homeserver, without a slash at the end.
    pub homeserver: String,
    /// Its id. The server in it may differ from the host of the homeserver.
    pub user_id: OwnedUserId,
    /// How it logs in.
    pub credentials: Credentials,
    /// Opens the secrets that the account keeps on its server: a recovery key or a passphrase.
    pub recovery_key: Option<Secret>,
    /// User ids, with `*` and `?` as in [`UpgradeSettings::bots`], of people whose invitations are
    /// accepted, beside those who may give commands.
    pub accept_invites_from: Vec<String>,
}

/// How the account logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// With a password.
    Password(Secret),
    /// With the token of a session that exists.
    AccessToken(Secret),
}

/// A room where commands are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRoomRules {
    /// The room.
    pub room: OwnedRoomOrAliasId,
    /// Power level in this room from which on somebody may change anything.
    pub command_level: i64,
    /// Power level in this room from which on somebody may ask; not above `command_level`.
    pub read_level: i64,
    /// What may be upgraded from here.
    pub scope: Scope,
    /// Whether power in the room to be upgraded is needed as well.
    pub target_power: TargetPower,
    /// Whether it takes a verified device to change anything.
    pub verified_device: VerifiedDevice,
}

/// What may be upgraded from an admin room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every room that the bot can upgrade. Only where there is a single admin room.
    Everything,
    /// These rooms, and what is in these spaces; at least one.
    Only(Vec<OwnedRoomOrAliasId>),
}

/// Whether a sender needs power in the room to be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetPower {
    /// Power in the admin room is enough.
    NotNeeded,
    /// The sender must also be able to send `m.room.tombstone` there.
    Needed,
}

/// Whether who changes something must do so from a device that they verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifiedDevice {
    /// Any device will do, also one that does not encrypt.
    NotNeeded,
    /// The message must be encrypted, by a device that its owner signed (cross-signing).
    Needed,
}

/// How rooms are upgraded where a command says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeSettings {
    /// Version of new rooms.
    pub version: RoomVersionId,
    /// How they come to be.
    pub method: MethodChoice,
    /// Their creators, beside the bot.
    pub additional_creators: Vec<OwnedUserId>,
    /// What becomes of closed join rules.
    pub join_rule: JoinRulePolicy,
    /// Who is invited to the new room.
    pub invite: InvitePolicy,
    /// User ids, with `*` for any characters and `?` for any one, of bots: invited first.
    pub bots: Vec<String>,
    /// What becomes of the old room's place in its spaces.
    pub old_child_link: OldChildLink,
    /// Power level needed to upgrade the new room again, from version 12 on.
    pub tombstone_level: i64,
    /// Jobs at the same time, 1 to 16.
    pub concurrency: u8,
    /// How old a command may be when the bot gets to read it.
    pub max_command_age: Duration,
    /// How long a plan can be confirmed.
    pub plan_expires: Duration,
}

/// Upgrades that begin later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// The zone of times without one; absent: each time must name its own.
    pub time_zone: Option<String>,
    /// How long before the start members are told, where a command asks for it.
    pub announce: Vec<Duration>,
    /// What becomes of a start at which the bot was away.
    pub missed_start: MissedStart,
}

/// What becomes of a start at which the bot was away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MissedStart {
    /// The upgrade begins as soon as the bot is back.
    #[default]
    Run,
    /// The bot asks whether it should begin.
    Ask,
}

/// What the account may do as an admin of its server, a Synapse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynapseAdmin {
    /// Whether it may have itself made admin of a room.
    pub make_room_admin: MakeRoomAdmin,
}

/// Whether the bot may have itself made admin of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakeRoomAdmin {
    /// It may not.
    Never,
    /// When somebody with `command_level` tells it to.
    WhenTold,
}

/// Texts for members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages {
    /// minijinja template of what the old room is told before a scheduled upgrade; uses only
    /// [`ANNOUNCEMENT_VARIABLES`].
    pub announcement: String,
    /// The same for what it is told if nothing comes of an upgrade that was announced.
    pub called_off: String,
    /// minijinja template of the notice in the old room; uses only [`TEMPLATE_VARIABLES`], and has been
    /// rendered once to see that it can be.
    pub notice: String,
    /// The same for the body of the tombstone, which clients show where the room ends.
    pub tombstone: String,
    /// The same for the reason that an invitation to the new room gives.
    pub invite: String,
    /// The same for the pings in the old room.
    pub ping: String,
}

/// Something to say about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key with its tables: `account.user_id`, `admin_room[1].scope`; counted from 0.
    pub key: String,
    /// What is wrong and what to write instead, in one line.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// A configuration that cannot be used. The `Display` is for the operator and holds no secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("the configuration is not valid TOML: line {line}, column {column}: {text}")]
    Syntax {
        /// Line, counted from 1.
        line: usize,
        /// Character in the line, counted from 1.
        column: usize,
        /// What is wrong, without any text of the file.
        text: String,
    },
    /// Some keys are wrong.
    #[error("the configuration has mistakes:{}", listed(.0))]
    Invalid(Vec<Finding>),
}

/// The environment: a variable's value, if it is set.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads the file at `path`. Paths in it are relative to its folder.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all mistakes, unless the file is missing or not TOML.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let access = secret::access(&path.metadata().map_err(unreadable)?);
        let base_dir = path.parent().unwrap_or(Path::new(""));
        let (mut config, origin) = read(&text, base_dir, env)?;
        if let Origin::Configuration(key) = origin
            && access == secret::Access::Anybody
        {
            config.warnings.push(Finding {
                key: format!("account.{key}"),
                text: format!(
                    "every user of this machine can read it; run `chmod 600 {}`",
                    path.display()
                ),
            });
        }
        Ok(config)
    }

    /// Reads the text of a file in `base_dir`. The only files it opens are those that hold secrets.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`], or [`ConfigError::Invalid`] with all mistakes.
    pub fn parse(text: &str, base_dir: &Path, env: Env<'_>) -> Result<Self, ConfigError> {
        read(text, base_dir, env).map(|(config, _)| config)
    }
}

#[cfg(test)]
mod tests;
