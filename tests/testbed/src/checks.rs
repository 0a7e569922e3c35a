//! What must hold on the server after an upgrade, checked by reading it as a member would.
//!
//! Shared by the demo, which prints it, and by the tests, which insist on it. Expectations are
//! written out here from what the community was made of, not taken from the bot.

use serde_json::{Value, json};

use crate::community::{Community, Entry, Listing, Presence, extras, settings};
use crate::user::User;
use crate::version::has_creators;

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub what: String,
    /// How it is in the old room.
    pub old: String,
    /// How it is in the new room.
    pub new: String,
    /// Whether it is as it should be.
    pub holds: Outcome,
}

/// Whether a check holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It does.
    Holds,
    /// It does not.
    Fails,
}

fn short(value: Option<&Value>) -> String {
    let text = match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    if text.chars().count() > 48 {
        format!("{}…", text.chars().take(47).collect::<String>())
    } else {
        text
    }
}

impl Community {
    /// The room that the old one leads to.
    pub async fn replacement(&self) -> Option<String> {
        let tombstone = self
            .moderator
            .state_event(&self.room, "m.room.tombstone", "")
            .await?;
        Some(tombstone.get("replacement_room")?.as_str()?.to_owned())
    }

    /// Rooms the bot is in that name the old room as the one they replace.
    pub async fn successors(&self) -> Vec<String> {
        let mut found = Vec::new();
        for room in self.bot.joined_rooms().await {
            let create = self.bot.state_event(&room, "m.room.create", "").await;
            let predecessor = create
                .as_ref()
                .and_then(|c| c["predecessor"]["room_id"].as_str());
            if predecessor == Some(self.room.as_str()) {
                found.push(room);
            }
        }
        found
    }

    /// Checks everything about the new room, of this version, that the bot made, and its
    /// surroundings.
    pub async fn checks(&self, new: &str, version: &str) -> Vec<Check> {
        self.checks_of(new, version, &self.bot).await
    }

    /// The same for a room that `maker` made: the bot, or the moderator.
    #[expect(
        clippy::too_many_lines,
        reason = "a list of checks, one after the other"
    )]
    pub async fn checks_of(&self, new: &str, version: &str, maker: &User) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut check = |what: &str, old: String, new: String, holds: bool| {
            let holds = if holds {
                Outcome::Holds
            } else {
                Outcome::Fails
            };
            checks.push(Check {
                what: what.to_owned(),
                old,
                new,
                holds,
            });
        };
        let (bot, old) = (&self.bot, self.room.as_str());
        let read = async |room: &str, kind: &str, key: &str| bot.state_event(room, kind, key).await;

        let successors = self.successors().await;
        check(
            "one replacement",
            String::new(),
            successors.len().to_string(),
            successors == [new],
        );

        let create_old = read(old, "m.room.create", "").await;
        let create = read(new, "m.room.create", "").await;
        let version_of = |create: &Option<Value>| {
            create
                .as_ref()
                .and_then(|c| c["room_version"].as_str())
                .unwrap_or("1")
                .to_owned()
        };
        check(
            "version",
            version_of(&create_old),
            version_of(&create),
            version_of(&create) == version,
        );

        for (what, kind, key) in [
            ("name", "m.room.name", ""),
            ("topic", "m.room.topic", ""),
            ("history", "m.room.history_visibility", ""),
            ("guests", "m.room.guest_access", ""),
        ] {
            let (before, after) = (read(old, kind, key).await, read(new, kind, key).await);
            let same = before.is_some() && before == after;
            check(what, short(before.as_ref()), short(after.as_ref()), same);
        }
        let rules = read(new, "m.room.join_rules", "").await;
        let wanted = self.join_rules_afterwards();
        check(
            "join rule",
            short(Some(&wanted)),
            short(rules.as_ref()),
            rules.as_ref() == Some(&wanted),
        );
        for (kind, key, wanted) in extras("") {
            let after = read(new, kind, key).await;
            let holds = match kind {
                "m.policy.rule.user" => after.as_ref().is_some_and(|rule| {
                    rule["entity"] == wanted["entity"]
                        && rule["org.matrix.msc4321.original_sender"]
                            == json!(self.moderator.user_id)
                }),
                "m.room.server_acl" => after
                    .as_ref()
                    .is_some_and(|acl| acl["deny"] == wanted["deny"]),
                _ => after.as_ref() == Some(&wanted),
            };
            let what = format!("{kind} {key}");
            check(
                what.trim(),
                short(Some(&wanted)),
                short(after.as_ref()),
                holds,
            );
        }

        let levels = read(new, "m.room.power_levels", "")
            .await
            .unwrap_or_default();
        let level = |user: &str| levels["users"].get(user).and_then(Value::as_i64);
        if has_creators(self.wanted.version) && has_creators(version) {
            let creators = &create.as_ref().unwrap_or(&Value::Null)["additional_creators"];
            let listed = creators.as_array().cloned().unwrap_or_default();
            let others = self.creators.iter().chain([&self.moderator]);
            for user in others.filter(|user| user.user_id != maker.user_id) {
                check(
                    "old creator is creator",
                    user.user_id.clone(),
                    short(Some(creators)),
                    listed.contains(&user.user_id.as_str().into()),
                );
            }
        } else {
            // Who was above all levels has the highest one.
            let wanted = if has_creators(self.wanted.version) {
                self.wanted.bot_power.max(100)
            } else {
                100
            };
            let moderator = level(&self.moderator.user_id);
            // In versions with creators, those are in no list of levels.
            let stands_above = has_creators(version) && maker.user_id == self.moderator.user_id;
            check(
                "moderator's power",
                wanted.to_string(),
                short(moderator.map(Value::from).as_ref()),
                moderator == (!stands_above).then_some(wanted),
            );
        }
        let tombstone = levels["events"]["m.room.tombstone"].as_i64();
        let bot_level = level(&bot.user_id);
        let bot_is_creator = has_creators(version) && maker.user_id == bot.user_id;
        check(
            "bot's power, unless it is creator",
            self.wanted.bot_power.to_string(),
            short(bot_level.map(Value::from).as_ref()),
            bot_level == (!bot_is_creator).then_some(self.wanted.bot_power),
        );
        if bot_is_creator {
            check(
                "power to upgrade again",
                "100".to_owned(),
                short(tombstone.map(Value::from).as_ref()),
                tombstone == Some(150),
            );
        }

        for user in &self.banned {
            let member = read(new, "m.room.member", &user.user_id)
                .await
                .unwrap_or_default();
            let holds = member["membership"] == "ban"
                && member["reason"] == "selling seeds that do not grow";
            check(
                "ban with reason",
                "ban".to_owned(),
                short(member.get("membership")),
                holds,
            );
        }

        for alias in [&self.alias, &self.second_alias] {
            let leads_to = bot.resolve_alias(alias).await;
            check(
                alias,
                old.to_owned(),
                leads_to.clone().unwrap_or_default(),
                leads_to.as_deref() == Some(new),
            );
        }
        let shown = read(new, "m.room.canonical_alias", "").await;
        let wanted = json!({"alias": self.alias, "alt_aliases": [self.second_alias]});
        check(
            "addresses shown",
            short(Some(&wanted)),
            short(shown.as_ref()),
            shown.as_ref() == Some(&wanted),
        );
        let left = read(old, "m.room.canonical_alias", "")
            .await
            .unwrap_or_default();
        check(
            "old room shows none",
            short(Some(&left)),
            String::new(),
            left.get("alias").is_none(),
        );

        let (listed_old, listed_new) = (bot.is_listed(old).await, bot.is_listed(new).await);
        check(
            "in the directory",
            listed_old.to_string(),
            listed_new.to_string(),
            listed_new == (self.wanted.listing == Listing::Listed) && !listed_old,
        );

        let link = read(&self.space, "m.space.child", new)
            .await
            .unwrap_or_default();
        let holds = link["order"] == "a1"
            && link["suggested"] == true
            && link["via"].as_array().is_some_and(|via| !via.is_empty());
        check(
            "space lists the new room",
            String::new(),
            short(Some(&link)),
            holds,
        );
        let link = read(&self.space, "m.space.child", old)
            .await
            .unwrap_or_default();
        check(
            "space drops the old room",
            short(Some(&link)),
            String::new(),
            link.get("via").is_none(),
        );
        let parent = read(new, "m.space.parent", &self.space)
            .await
            .unwrap_or_default();
        check(
            "room names its space",
            "true".to_owned(),
            short(parent.get("canonical")),
            parent["canonical"] == true,
        );

        if let Some(guarded) = &self.guarded {
            let rules = read(guarded, "m.room.join_rules", "").await;
            let rules = rules.unwrap_or_default();
            let wanted = json!([{ "type": "m.room_membership", "room_id": new }]);
            check(
                "members get into the other room",
                short(Some(&wanted)),
                short(rules.get("allow")),
                rules["allow"] == wanted,
            );
        }
        if self.wanted.settings == Presence::Present {
            let member = &self.members[0];
            let (before, after) = (settings(member, old).await, settings(member, new).await);
            let kept = before == after && after["actions"] == json!([]);
            let what = "member's own settings";
            check(what, short(Some(&before)), short(Some(&after)), kept);
        }

        let levels = read(old, "m.room.power_levels", "")
            .await
            .unwrap_or_default();
        let closed = levels["events_default"]
            .as_i64()
            .is_some_and(|level| level >= 50)
            && levels["invite"].as_i64().is_some_and(|level| level >= 50);
        check(
            "old room is closed",
            closed.to_string(),
            String::new(),
            closed,
        );
        let pins = read(old, "m.room.pinned_events", "")
            .await
            .unwrap_or_default();
        let pinned = pins["pinned"].as_array().cloned().unwrap_or_default();
        let mut linked = 0;
        for event in pinned.iter().filter_map(Value::as_str) {
            let event = bot.event(old, event).await.unwrap_or_default();
            let body = event["content"]["body"].as_str().unwrap_or_default();
            linked += usize::from(body.contains("https://matrix.to/#/") && body.contains(new));
        }
        check(
            "pinned message with link",
            linked.to_string(),
            String::new(),
            linked == 1,
        );
        let notices = bot
            .messages(old, 100)
            .await
            .iter()
            .filter(|event| {
                event["content"]["body"]
                    .as_str()
                    .is_some_and(|body| body.contains(new))
                    && event["type"] == "m.room.message"
            })
            .count();
        check(
            "linked message, once",
            notices.to_string(),
            String::new(),
            notices == 1,
        );
        checks
    }

    /// The new room's join rules: whoever could get into the old room gets in, and its members too
    /// (MSC3325).
    fn join_rules_afterwards(&self) -> Value {
        let member_of = |room: &str| json!({ "type": "m.room_membership", "room_id": room });
        let old = member_of(&self.room);
        match self.wanted.entry {
            Entry::Public => json!({ "join_rule": "public" }),
            Entry::Invite => json!({ "join_rule": "restricted", "allow": [old] }),
            Entry::Knock => json!({ "join_rule": "knock_restricted", "allow": [old] }),
            Entry::Restricted => {
                json!({ "join_rule": "restricted", "allow": [member_of(&self.space), old] })
            }
        }
    }

    /// Insists on all checks of a room that the bot made.
    pub async fn assert_moved(&self, version: &str) -> String {
        self.assert_moved_by(&self.bot, version).await
    }

    /// Insists on all checks of a room that `maker` made: the bot, or the moderator.
    pub async fn assert_moved_by(&self, maker: &User, version: &str) -> String {
        let new = self
            .replacement()
            .await
            .expect("the old room has a tombstone");
        let checks = self.checks_of(&new, version, maker).await;
        let failed: Vec<_> = checks
            .iter()
            .filter(|check| check.holds == Outcome::Fails)
            .collect();
        assert!(failed.is_empty(), "does not hold: {failed:#?}");
        new
    }
}
