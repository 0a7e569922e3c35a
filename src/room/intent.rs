//! What somebody asked a room to become. What follows from it is in `target`.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, RoomVersionId, ServerName};
use serde::{Deserialize, Serialize};

use crate::model::{
    InvitePolicy, JoinRulePolicy, Method, OldChildLink, Policies, Review, RoomType,
};

/// What was asked for, with everything that was left open filled in from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Version of the new room.
    pub version: RoomVersionId,
    /// How it comes to be.
    pub method: Method,
    /// Whether moderators look at it first.
    #[serde(default)]
    pub review: Review,
    /// The account that does it.
    pub bot: OwnedUserId,
    /// Creators beside the bot; empty where the version has none.
    pub creators: BTreeSet<OwnedUserId>,
    /// What becomes of closed join rules.
    pub join_rule: JoinRulePolicy,
    #[serde(default)]
    pub invite: InvitePolicy,
    /// Patterns of bots' user ids.
    #[serde(default)]
    pub bots: Vec<String>,
    /// What becomes of the old room's place in its spaces.
    pub old_child_link: OldChildLink,
    /// Level that the new room's tombstone needs at least, in versions with creators.
    pub tombstone_level: i64,
    /// What becomes of policy rules, where somebody chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Policies>,
    /// Which type the new room gets, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_type: Option<RoomType>,
    /// Why; shown to members.
    pub reason: Option<String>,
}

impl Intent {
    /// Everybody who stands above power levels in the new room: the bot as well, unless somebody
    /// else made that room.
    #[must_use]
    pub fn all_creators(&self) -> BTreeSet<OwnedUserId> {
        let bot = Some(self.bot.clone()).filter(|_| self.method != Method::Adopt);
        self.creators.iter().cloned().chain(bot).collect()
    }

    pub(super) fn server(&self) -> &ServerName {
        self.bot.server_name()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `@bot:x` is to do, as far as nothing else is said.
    pub(crate) fn intent(version: &str) -> Intent {
        Intent {
            version: version.try_into().unwrap(),
            method: Method::Server,
            review: Review::Skip,
            bot: "@bot:x".try_into().unwrap(),
            creators: BTreeSet::new(),
            join_rule: JoinRulePolicy::Restricted,
            invite: InvitePolicy::Auto,
            bots: Vec::new(),
            old_child_link: OldChildLink::Remove,
            tombstone_level: 150,
            policies: None,
            room_type: None,
            reason: None,
        }
    }
}
