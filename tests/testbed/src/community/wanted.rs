//! What a community is to be like.

/// How people get into the room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Entry {
    /// Anybody may join.
    #[default]
    Public,
    /// By invitation.
    Invite,
    /// By invitation, for which one may ask. Needs version 7.
    Knock,
    /// Members of the space may join. Needs version 8.
    Restricted,
}

/// Whether the room is in the server's directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listing {
    /// It is.
    #[default]
    Listed,
    /// It is not.
    Unlisted,
}

/// Whether the community has something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// It has not.
    #[default]
    Absent,
    /// It has.
    Present,
}

/// What the room is to be like, and what is to be around it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Room version. From 12 on, the tombstone needs 150: a bot with less cannot upgrade.
    pub version: &'static str,
    /// How many ordinary members.
    pub members: usize,
    /// How many bans.
    pub bans: usize,
    /// Power of the bot in the room.
    pub bot_power: i64,
    /// Power of the bot in the spaces, and in the rooms around.
    pub bot_power_in_space: i64,
    /// How people get into the room.
    pub entry: Entry,
    /// Whether the room is in the directory.
    pub listing: Listing,
    /// How many messages are pinned. The last one is an image.
    pub pins: usize,
    /// How many additional creators. Needs version 12.
    pub creators: usize,
    /// Whether there is [`Community::guarded`](super::Community::guarded).
    pub guarded: Presence,
    /// Whether there is [`Community::nested`](super::Community::nested).
    pub nested: Presence,
    /// Whether the first member, on each server, has [`settings`](super::settings) of their own for the room: it is
    /// muted, and a favourite.
    pub settings: Presence,
    /// How many members on the second server, where there is one.
    pub remote_members: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            version: "10",
            members: 3,
            bans: 2,
            bot_power: 100,
            bot_power_in_space: 100,
            entry: Entry::default(),
            listing: Listing::default(),
            pins: 0,
            creators: 0,
            guarded: Presence::default(),
            nested: Presence::default(),
            settings: Presence::default(),
            remote_members: 2,
        }
    }
}

impl Wanted {
    /// A room one is invited to, and that is in no directory.
    #[must_use]
    pub fn private() -> Self {
        Self {
            entry: Entry::Invite,
            listing: Listing::Unlisted,
            ..Self::default()
        }
    }
}
