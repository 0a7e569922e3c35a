//! What somebody should know before a room is upgraded: what forbids it, what it costs, what is
//! worth a word.
//!
//! Plain data that may be stored. Left out on purpose: how a finding is looked for (the other
//! modules of `room`) and how it is told to people (`message`).

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};

use super::level::Power;
use crate::model::{JobId, Method};

/// How many people are named who could do what the bot may not.
pub(crate) const HOLDERS_SHOWN_MAX: usize = 5;

/// How much a finding matters; the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// The upgrade is not begun.
    Blocker,
    /// The upgrade goes ahead, and something is lost or stays for people to do.
    Loss,
    /// Nothing is lost; people should know.
    Note,
}

/// One thing that was found out about an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    // Blockers.
    /// The bot is not in the room.
    NotJoined,
    /// The room has a tombstone.
    AlreadyUpgraded {
        /// The room it leads to, if it names one.
        replacement: Option<OwnedRoomId>,
        by: OwnedUserId,
    },
    /// The wanted version is none that this program knows.
    UnknownVersion {
        version: RoomVersionId,
        /// What the server offers.
        available: Vec<RoomVersionId>,
    },
    /// The homeserver does not offer the wanted version.
    VersionNotOffered {
        version: RoomVersionId,
        /// What the server offers.
        available: Vec<RoomVersionId>,
    },
    /// From a version with creators to one without: the server's own upgrade would leave
    /// everybody without power. Source: Synapse 1.163.2, measured; its issue 18810.
    CreatorsTakeBack {
        /// Version of the old room.
        from: RoomVersionId,
        to: RoomVersionId,
    },
    /// The bot may not do in the old room what an upgrade needs.
    NoPower {
        /// What it may not do.
        what: Permission,
        /// The level it takes.
        needed: i64,
        /// The level the bot has.
        have: i64,
        holders: Vec<Holder>,
    },
    /// The bot is a server admin's account, and can have the server give it power in the room, or a
    /// place in it. Stands with the blocker that it would remove.
    ServerGivesPower {
        room: OwnedRoomId,
        /// In whose name it would act, as far as that can be seen.
        through: Option<OwnedUserId>,
    },
    /// The room has no power levels event: the server's own upgrade fails (Synapse: 500).
    NoPowerLevels,
    /// Junk in the power levels which the server's own upgrade fails at (Synapse: 500).
    BrokenPowerLevels {
        /// Where, such as `events.m.room.name`.
        places: Vec<String>,
    },
    /// Banned users whom the bot could not ban anew: the server's own upgrade fails half-way.
    UnbannableBans { users: Vec<String> },
    /// Another job is at work on the room.
    ActiveJob { job: JobId },
    /// The old room's version is one that this program does not know.
    UnknownOldVersion { version: RoomVersionId },
    /// The room the bot takes its orders in.
    OwnAdminRoom,
    /// The same, where its upgrade is to be finished.
    AdminRoomClosed,
    /// There is no upgrade to finish: the room has no tombstone.
    NotUpgraded,
    /// The tombstone leads to something that does not replace this room.
    FalseSuccessor {
        /// Where it leads, if anywhere.
        room: Option<OwnedRoomId>,
        by: OwnedUserId,
        /// What is wrong with it.
        why: FalseWhy,
    },
    /// The tombstone leads to a room that is closed itself.
    SuccessorClosed {
        room: OwnedRoomId,
        /// Where that one leads, if anywhere.
        replacement: Option<OwnedRoomId>,
    },
    /// The server encrypts every room that the bot could make for this one, which is not encrypted.
    ServerEncryptsAll,
    /// What becomes of the rules of a policy room has to be chosen first (MSC4321).
    PoliciesUndecided {
        room: OwnedRoomId,
        /// The wanted version; `None` where an upgrade is to be finished.
        version: Option<RoomVersionId>,
        /// How many rules it has.
        count: usize,
    },
    /// The server's own upgrade cannot do what was chosen for policy rules, or for the type.
    PoliciesNeedStaged,
    /// Something was asked for that there is only for policy rooms.
    NoPolicyRoom,
    /// A creator that was asked for does not exist.
    NoSuchUser { user: OwnedUserId },

    /// Somebody who is to be a creator for ever cannot be in the room.
    ShutOutCreator { user: OwnedUserId, why: ShutOut },

    // Losses.
    /// The server's own upgrade encrypts the new room, which nobody can undo.
    WillBeEncrypted,
    /// A creator of the old room, who stays one, and cannot be in the new one.
    AbsentCreator { user: OwnedUserId, why: ShutOut },
    /// A state event does not come along.
    NotCarried {
        kind: String,
        state_key: String,
        why: LeftBehind,
    },
    /// The bot may not change what refers to the old room.
    CannotEdit {
        /// The room to be changed.
        room: OwnedRoomId,
        /// What people call it.
        label: String,
        /// What the bot may not do.
        deed: Permission,
        /// The level it takes.
        needed: i64,
        /// The level the bot has.
        have: i64,
        holders: Vec<Holder>,
    },
    /// The room says that it is in a space which the bot cannot see.
    UnseenSpace { space: OwnedRoomId },
    /// An address on another server, which only its own people can move.
    RemoteAlias { alias: OwnedRoomAliasId },
    /// Members cannot enter the new room by themselves.
    InvitationsNeeded {
        /// How many are joined or invited.
        count: usize,
    },
    /// People asked to be let into the old room, and have no answer.
    KnocksWait { users: Vec<OwnedUserId> },
    /// The room names a policy server, which has to be told of the new room (MSC4284).
    PolicyServer {
        /// Its name, as the room gives it.
        server: String,
    },
    /// Policy rules are copied; whoever watches the list has to go along (MSC4321, `move`).
    PoliciesMove { count: usize },
    /// Policy rules stay in the old room; both rooms have to be watched (MSC4321, `transition`).
    PoliciesStay { room: OwnedRoomId, count: usize },
    /// The pinned messages of the old room are not posted again in the new one.
    PinsStay { why: Unreadable },
    /// Keys of the create event that the server's own upgrade forgets; making the room by hand keeps
    /// them.
    CreateKeysStay { keys: Vec<String> },
    /// Tags and notification settings of people on this server, which only its own upgrade moves.
    /// Source: Synapse 1.163.2, measured; its issue 19199.
    SettingsStay { people: usize },
    /// A join rule this program does not know, kept as it is; whether members can enter is unknown.
    JoinRuleKept { rule: String },

    // Notes.
    /// The room has a tombstone that leads nowhere, and is upgraded all the same.
    LeadsNowhere { by: OwnedUserId },
    /// The room the bot takes its orders in, and somebody said that it is meant.
    FollowsAdminRoom,
    /// How the new room comes to be, and why.
    MethodChosen {
        method: Method,
        reason: MethodReason,
    },
    /// Who gets an invitation.
    Invites {
        bots: usize,
        creators: usize,
        members: usize,
    },
    /// Levels that are no numbers; they are left out.
    LevelsDropped { places: Vec<String> },
    /// Power levels written as text; they become numbers.
    TextLevels {
        /// Where, such as `users.@a:example.org`.
        places: Vec<String>,
    },
    /// An address that the room shows, and that does not lead to it: the new room does not show it.
    StrayAddress { alias: OwnedRoomAliasId },
    /// A creator whose server could not be asked whether they exist.
    UnknownCreator { user: OwnedUserId },
    /// Who stands above all power levels in the new room, for ever (MSC4289).
    Creators { users: Vec<OwnedUserId> },
    /// The level it will take to upgrade the new room.
    TombstoneLevel { level: i64 },
    /// Members of the old room can enter the new one by themselves.
    MembersFollow {
        /// The join rule of the new room.
        rule: String,
    },
    /// Policy rules come along, marked with who made them (MSC4321).
    PolicyRules { count: usize },
    /// The new room gets the type of policy rooms (MSC3784).
    BecomesPolicyRoom,
    /// A policy room keeps another type than the one that is specified (MSC3784), or none.
    OtherPolicyType { kind: Option<String> },
    /// Accounts of bridges that stand for people elsewhere: they are neither counted nor invited.
    BridgeAccounts {
        count: usize,
        /// The bots of the bridges, which bring them.
        bots: Vec<OwnedUserId>,
    },
    /// The room is a space; its rooms come along.
    SpaceChildren { count: usize },
}

impl Finding {
    /// Whether it stays the same while people come and go: only then is a yes bound to it.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        !matches!(
            self,
            Self::InvitationsNeeded { .. }
                | Self::KnocksWait { .. }
                | Self::BridgeAccounts { .. }
                | Self::SettingsStay { .. }
                | Self::Invites { .. }
                | Self::MethodChosen { .. }
        )
    }

    /// Whether somebody can still do it by hand; the other losses are lost.
    #[must_use]
    pub fn is_left_for_people(&self) -> bool {
        matches!(
            self,
            Self::CannotEdit { .. }
                | Self::RemoteAlias { .. }
                | Self::UnseenSpace { .. }
                | Self::InvitationsNeeded { .. }
                | Self::KnocksWait { .. }
                | Self::PolicyServer { .. }
                | Self::PoliciesMove { .. }
                | Self::PoliciesStay { .. }
        )
    }

    /// How much it matters.
    #[must_use]
    pub fn weight(&self) -> Weight {
        match self {
            Self::NotJoined
            | Self::AlreadyUpgraded { .. }
            | Self::UnknownVersion { .. }
            | Self::VersionNotOffered { .. }
            | Self::CreatorsTakeBack { .. }
            | Self::NoPower { .. }
            | Self::ServerGivesPower { .. }
            | Self::NoPowerLevels
            | Self::BrokenPowerLevels { .. }
            | Self::UnbannableBans { .. }
            | Self::ActiveJob { .. }
            | Self::UnknownOldVersion { .. }
            | Self::OwnAdminRoom
            | Self::AdminRoomClosed
            | Self::NotUpgraded
            | Self::FalseSuccessor { .. }
            | Self::SuccessorClosed { .. }
            | Self::ServerEncryptsAll
            | Self::ShutOutCreator { .. }
            | Self::PoliciesUndecided { .. }
            | Self::PoliciesNeedStaged
            | Self::NoPolicyRoom
            | Self::NoSuchUser { .. } => Weight::Blocker,
            Self::NotCarried { .. }
            | Self::WillBeEncrypted
            | Self::AbsentCreator { .. }
            | Self::CannotEdit { .. }
            | Self::RemoteAlias { .. }
            | Self::UnseenSpace { .. }
            | Self::InvitationsNeeded { .. }
            | Self::KnocksWait { .. }
            | Self::PinsStay { .. }
            | Self::PolicyServer { .. }
            | Self::PoliciesMove { .. }
            | Self::PoliciesStay { .. }
            | Self::CreateKeysStay { .. }
            | Self::SettingsStay { .. }
            | Self::JoinRuleKept { .. } => Weight::Loss,
            Self::FollowsAdminRoom
            | Self::LeadsNowhere { .. }
            | Self::MethodChosen { .. }
            | Self::Invites { .. }
            | Self::LevelsDropped { .. }
            | Self::TextLevels { .. }
            | Self::StrayAddress { .. }
            | Self::UnknownCreator { .. }
            | Self::Creators { .. }
            | Self::TombstoneLevel { .. }
            | Self::MembersFollow { .. }
            | Self::PolicyRules { .. }
            | Self::BecomesPolicyRoom
            | Self::OtherPolicyType { .. }
            | Self::BridgeAccounts { .. }
            | Self::SpaceChildren { .. } => Weight::Note,
        }
    }
}

/// Somebody who has the power that the bot lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub user: OwnedUserId,
    /// With how much power.
    pub power: Power,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Close the room for good.
    SendTombstone,
    /// Change who may do what.
    ChangePowerLevels,
    /// Add rooms to a space and take them out.
    EditSpace,
    /// Say which space a room is in.
    EditParent,
    /// Change who may enter.
    EditJoinRules,
    /// Change the published addresses.
    ChangeAliases,
    Pin,
    Invite,
    /// Send any other state event.
    SendState {
        kind: String,
    },
}

/// Why who joins a room cannot read what was posted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// The room shows its history only to who was there, or invited.
    History,
    /// It is encrypted, and they get no keys.
    Encrypted,
}

/// Why somebody cannot be in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutOut {
    Banned,
    /// The room's server access list denies their server.
    ServerDenied,
    /// The room is closed to servers other than its first creator's.
    NotFederated,
}

/// Why a tombstone is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FalseWhy {
    /// It names no room.
    NoRoom,
    /// It names the room it stands in.
    Itself,
    /// The bot is not in that room and cannot join it, or there is none.
    CannotEnter,
    /// That room does not say that it replaces this one.
    NotPredecessor,
}

/// Why a state event does not come along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftBehind {
    /// Its state key is another user's id: nobody else may send it.
    /// Source: Matrix specification, authorization rules, all versions.
    PersonsOwn,
    /// A bridge's own record; the bridge makes a new one.
    BridgeRecord,
    /// A call or a live location, which belongs to the moment.
    CallOrLocation,
    /// An invitation by e-mail, which only the identity server can make valid.
    ThirdPartyInvite,
    /// Too large for an event.
    TooLarge {
        /// Size of its content.
        bytes: usize,
    },
    /// A number which versions since 6 refuse: no integer, or beyond 2^53-1.
    Fraction,
    /// Its type or state key is `.` or `..`, which every client and proxy takes out of a path.
    /// Source: RFC 3986, "Remove Dot Segments"; URL Standard, "Single-dot URL path segment".
    NoPath,
}

/// Why a method was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodReason {
    /// Somebody asked for it.
    Asked,
    /// Moderators want to look first, which the server's own upgrade does not allow.
    Review,
    /// The server's own upgrade can neither say what becomes of policy rules nor change the type of a room.
    PolicyRoom,
    /// The server's own upgrade would leave everybody without power.
    CreatorsTakeBack,
    /// The server's own upgrade fails at the power levels or bans of this room.
    ServerWouldFail,
    /// The server's own upgrade would encrypt a room that is not, which cannot be undone.
    ServerEncrypts,
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

#[cfg(test)]
mod tests;
