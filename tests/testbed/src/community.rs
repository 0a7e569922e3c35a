//! A small community to try the bot on: a space, a room with everything in it that gets lost in
//! upgrades, a moderator, members, and a management room with the bot.
//!
//! Only uses what anybody's client can do. Left out: the bot itself.

use serde_json::{Value, json};

use crate::{Synapse, User};

/// Who is in the community and where.
pub struct Community {
    /// The moderator who types commands; power 100 everywhere.
    pub moderator: User,
    /// The bot's account; power 100 in the rooms, 50 in the management room.
    pub bot: User,
    /// Ordinary members of the room.
    pub members: Vec<User>,
    /// Banned from the room.
    pub banned: Vec<User>,
    /// The management room.
    pub admin_room: String,
    /// The space with the room in it.
    pub space: String,
    /// The room to be upgraded.
    pub room: String,
    /// Its main address.
    pub alias: String,
    /// Another address of it.
    pub second_alias: String,
}

/// What the room is to be like.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Room version.
    pub version: &'static str,
    /// How many ordinary members.
    pub members: usize,
    /// How many bans.
    pub bans: usize,
    /// Power of the bot in the room and in the space.
    pub bot_power: i64,
    /// Power of the bot in the space.
    pub bot_power_in_space: i64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            version: "10",
            members: 3,
            bans: 2,
            bot_power: 100,
            bot_power_in_space: 100,
        }
    }
}

impl Community {
    /// Makes a community on a server. Every one has users and rooms of its own.
    #[expect(clippy::too_many_lines, reason = "a list of rooms and what is in them")]
    pub async fn make(synapse: &Synapse, wanted: &Wanted) -> Self {
        let moderator = synapse.register("maria").await;
        let bot = synapse.register("roomlift").await;
        let mut members = Vec::new();
        for _ in 0..wanted.members {
            members.push(synapse.register("member").await);
        }
        let mut banned = Vec::new();
        for _ in 0..wanted.bans {
            banned.push(synapse.register("spammer").await);
        }
        let powers = |bot_power: i64| {
            json!({
                "users": {
                    &moderator.user_id: 100,
                    &bot.user_id: bot_power,
                },
            })
        };

        let admin_room = moderator
            .create_room(json!({
                "preset": "private_chat",
                "name": "Management",
                "room_version": "11",
                "invite": [bot.user_id],
                "power_level_content_override": powers(50),
            }))
            .await;
        let space = moderator
            .create_room(json!({
                "preset": "public_chat",
                "name": "Garden Community",
                "creation_content": {"type": "m.space"},
                "room_version": "10",
                "power_level_content_override": powers(wanted.bot_power_in_space),
            }))
            .await;
        let tag = moderator.localpart().to_owned();
        let room = moderator
            .create_room(json!({
                "preset": "public_chat",
                "name": "Gardening & <b>Tools</b>",
                "topic": "Everything that grows",
                "room_alias_name": format!("gardening-{tag}"),
                "room_version": wanted.version,
                "power_level_content_override": powers(wanted.bot_power),
                "initial_state": [
                    {"type": "m.room.guest_access", "state_key": "",
                     "content": {"guest_access": "forbidden"}},
                ],
            }))
            .await;
        let server = synapse.server_name();
        let server = server.as_str();
        let alias = format!("#gardening-{tag}:{server}");
        let second_alias = format!("#plants-{tag}:{server}");
        moderator.set_alias(&second_alias, &room).await;
        moderator
            .put_state(
                &room,
                "m.room.canonical_alias",
                "",
                json!({"alias": alias, "alt_aliases": [second_alias]}),
            )
            .await;
        moderator.set_listed(&room, true).await;
        for (kind, key, content) in extras(server) {
            moderator.put_state(&room, kind, key, content).await;
        }
        moderator
            .put_state(
                &space,
                "m.space.child",
                &room,
                json!({"via": [server], "order": "a1", "suggested": true}),
            )
            .await;
        moderator
            .put_state(
                &room,
                "m.space.parent",
                &space,
                json!({"via": [server], "canonical": true}),
            )
            .await;
        for member in &members {
            member.join(&room).await;
        }
        for user in &banned {
            moderator
                .ban(&room, &user.user_id, "selling seeds that do not grow")
                .await;
        }
        for joined in [&admin_room, &space, &room] {
            bot.join(joined).await;
        }
        Self {
            moderator,
            bot,
            members,
            banned,
            admin_room,
            space,
            room,
            alias,
            second_alias,
        }
    }

    /// A configuration for the bot, reaching the server at `homeserver`.
    #[must_use]
    pub fn config(&self, homeserver: &str) -> String {
        format!(
            "data_dir = \"data\"\nlog = \"roomlift=debug,info\"\n\n[account]\nhomeserver = \"{homeserver}\"\n\
             user_id = \"{}\"\npassword = \"{}\"\n\n[[admin_room]]\nroom = \"{}\"\n",
            self.bot.user_id, self.bot.password, self.admin_room
        )
    }
}

/// State that the server's own upgrade leaves behind: widgets, custom state, policy rules.
pub fn extras(server: &str) -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "im.vector.modular.widgets",
            "jitsi",
            json!({"type": "m.custom", "url": "https://example.org/w", "name": "Calendar"}),
        ),
        (
            "org.example.settings",
            "",
            json!({"language": "en", "nested": {"list": [1, 2, 3]}}),
        ),
        ("org.example.settings", "other", json!({"on": true})),
        (
            "m.policy.rule.user",
            "rule-1",
            json!({"entity": "@spam*:example.org", "recommendation": "m.ban", "reason": "spam"}),
        ),
        (
            "m.room.server_acl",
            "",
            json!({"allow": ["*"], "deny": ["evil.example.org"],
            "allow_ip_literals": true, "org.example.of": server}),
        ),
    ]
}
