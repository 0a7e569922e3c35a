//! Words shared by all modules: ids, references to rooms, the options of an upgrade, text for people.
//!
//! Everything here is plain data that may be stored; it knows no other module. What a room *is*
//! lives in `room`, what a job *does* in `job`. Ids of rooms, users and events are ruma's own.

mod id;

pub use self::id::{CampaignId, JobId, WorkId, WorkKey};

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};

/// Which database an account works with, as the account's own data says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseMark {
    /// The id of the database.
    pub database: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a bot does whose account works with another database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It does not start.
    IfFree,
    /// It takes the account over.
    TakeOver,
}

/// A room as somebody named it, with the servers that were given to reach it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRef {
    /// The id or the alias.
    pub name: RoomName,
    /// Servers from a link's `via`; empty for a bare id or alias.
    pub via: Vec<OwnedServerName>,
}

/// The id or the alias of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomName {
    /// `!opaque:server`, or `!opaque` from room version 12 on.
    Id(OwnedRoomId),
    /// `#name:server`.
    Alias(OwnedRoomAliasId),
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Alias(alias) => alias.fmt(f),
        }
    }
}

/// What a job refers to when a command names one: its number or its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRef {
    /// By number.
    Id(JobId),
    /// All of a campaign.
    Campaign(CampaignId),
    /// By old (or new) room.
    Room(RoomRef),
}

/// How the new room comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The homeserver's own `/upgrade`, mended afterwards.
    Server,
    /// The bot makes the new room, completes it, and points the old one to it.
    Staged,
    /// Somebody else began; the bot finishes it.
    Adopt,
}

/// Which method is wanted; `Auto` leaves it to the bot, which says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodChoice {
    /// Whatever suits the room and the server.
    Auto,
    /// [`Method::Server`].
    Server,
    /// [`Method::Staged`].
    Staged,
    /// [`Method::Adopt`]. Has a command of its own.
    Adopt,
}

impl MethodChoice {
    /// Those that can be chosen, as they are written.
    pub const WORDS: [(&str, Self); 3] = [
        ("auto", Self::Auto),
        ("server", Self::Server),
        ("staged", Self::Staged),
    ];
}

impl fmt::Display for MethodChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Server => "server",
            Self::Staged => "staged",
            Self::Adopt => "adopt",
        })
    }
}

/// What becomes of a join rule that members of the old room could not enter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinRulePolicy {
    /// Members of the old room may enter (MSC3325).
    Restricted,
    /// The rule stays, and members are invited.
    Keep,
}

impl JoinRulePolicy {
    /// As they are written.
    pub const WORDS: [(&str, Self); 2] = [("restricted", Self::Restricted), ("keep", Self::Keep)];
}

/// What becomes of the old room's place in its spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldChildLink {
    /// The new room takes it.
    Remove,
    /// Both are in the space.
    Keep,
}

/// Who is invited to the new room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvitePolicy {
    /// Bots and creators, and members where they cannot enter by themselves.
    #[default]
    Auto,
    /// Everybody who is in the old room.
    All,
    /// Nobody.
    None,
}

/// What becomes of the rules of a policy room (MSC4321).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policies {
    /// They are copied, and the old list need not be watched any more.
    Move,
    /// They stay; both lists are to be watched.
    Transition,
}

impl Policies {
    /// As they are written.
    pub const WORDS: [(&str, Self); 2] = [("move", Self::Move), ("transition", Self::Transition)];

    /// The word for it, in commands and tombstones.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Transition => "transition",
        }
    }
}

/// A type that the new room gets in place of the old one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomType {
    /// A policy room (MSC3784).
    Policy,
}

impl RoomType {
    /// As they are written.
    pub const WORDS: [(&str, Self); 1] = [("m.policy", Self::Policy)];

    /// The type as it stands in a create event.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Policy => "m.policy",
        }
    }
}

impl InvitePolicy {
    /// As they are written.
    pub const WORDS: [(&str, Self); 3] = [
        ("auto", Self::Auto),
        ("all", Self::All),
        ("none", Self::None),
    ];
}

/// Whether moderators look at a staged room before the old one is pointed to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// They do not.
    #[default]
    Skip,
    /// They do.
    Wanted,
}

/// Whether a room in which commands are taken may be upgraded itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnAdminRoom {
    /// It may not.
    #[default]
    Spare,
    /// Somebody said that this is what they mean.
    Included,
}

/// A moment that people agreed on, and the time zone they think in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The moment.
    pub at: Timestamp,
    /// A name such as `Europe/Berlin`, or an offset such as `+01:00`.
    pub zone: String,
}

/// Whether members are told beforehand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Announce {
    /// They are not.
    #[default]
    Silent,
    /// They are, in the old room, as long before as is configured.
    Wanted,
}

/// What somebody asked for, beside the room itself. Absent means: as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOptions {
    /// Wanted room version.
    pub version: Option<RoomVersionId>,
    /// Wanted method.
    pub method: Option<MethodChoice>,
    /// Further creators, beside the configured ones.
    pub creators: Vec<OwnedUserId>,
    /// Why; shown to members.
    pub reason: Option<String>,
    /// Who is to be invited.
    #[serde(default)]
    pub invite: Option<InvitePolicy>,
    /// What becomes of a closed join rule.
    #[serde(default)]
    pub join_rule: Option<JoinRulePolicy>,
    /// What becomes of policy rules.
    #[serde(default)]
    pub policies: Option<Policies>,
    /// Which type the new room gets; absent: that of the old one.
    #[serde(default)]
    pub room_type: Option<RoomType>,
    /// Whether moderators look before the switch.
    #[serde(default)]
    pub review: Review,
    /// Whether an admin room is meant.
    #[serde(default)]
    pub own_admin_room: OwnAdminRoom,
    /// When people who did not come are pinged.
    #[serde(default)]
    pub ping: Option<Pings>,
    /// When it is to begin; absent: at once.
    #[serde(default)]
    pub start: Option<Start>,
    /// Whether members are told beforehand.
    #[serde(default)]
    pub announce: Announce,
}

/// When people who did not come to the new room are pinged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pings {
    /// Never.
    Off,
    /// This long after the switch, shortest first; at least one.
    After(Vec<Duration>),
}

/// How long after the switch a ping may come: a year, as `humantime` counts it, is longer than anybody
/// remembers the old room.
pub const PING_AFTER: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(8_766);

/// Most pings of one upgrade; more would only annoy.
pub const PINGS_MAX: usize = 20;

/// Whom a ping notifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    /// Those who did not come.
    Stragglers,
    /// Everybody in the old room.
    Room,
    /// Nobody: it is only there to be read.
    Nobody,
}

/// Whether an upgrade waits for somebody's yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// The plan is shown and waits.
    Ask,
    /// `--yes`: begun at once when the plan has no blocker.
    Given,
    /// `plan`: shown only; cannot be confirmed.
    PlanOnly,
}

/// Whom a message mentions (`m.mentions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// The bot and nobody else, and it is no answer to what the bot said: clients mention whom somebody
    /// answers.
    BotAlone,
    /// Others, too, or nobody.
    Other,
}

/// How an event was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenBack {
    /// Edited: nobody knows whether its first words still count.
    Edited,
    /// Removed.
    Removed,
}

/// What is known of the device that a message came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// Nothing: the message was not encrypted, or by a device that nobody vouches for.
    #[default]
    Unknown,
    /// The message was encrypted by a device that its owner signed (cross-signing).
    Verified,
}

/// Text for people in both of the forms that a Matrix message carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The fall-back body: complete by itself.
    pub plain: String,
    /// The same as HTML; everything that came from outside is escaped.
    pub html: String,
}

/// Rate limits that homeservers count apart from one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// `/createRoom` and `/upgrade`.
    RoomCreation,
    /// Joins by the bot itself.
    Joins,
    /// Invitations of others.
    Invitations,
    /// Addresses and the directory. Apart from the rest: an address that is being moved must not wait
    /// for messages (P11).
    Addresses,
    /// Whatever changes nothing. Apart from the rest, as most servers do not limit it.
    Reads,
    /// Messages, state events, bans and the rest.
    Everything,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoomCreation => "creating rooms",
            Self::Joins => "joining rooms",
            Self::Invitations => "inviting people",
            Self::Addresses => "moving addresses",
            Self::Reads => "reading",
            Self::Everything => "sending",
        })
    }
}

/// A limit of the homeserver that a request ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Which.
    pub bucket: Bucket,
    /// How long the server asked to wait.
    pub retry_after: Duration,
}
