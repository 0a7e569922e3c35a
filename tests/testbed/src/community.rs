//! A small community to try the bot on: a space, a room with everything in it that gets lost in
//! upgrades, a moderator, members, and a management room with the bot; on demand, more rooms, and
//! members on a second server.
//!
//! Only uses what anybody's client can do. Left out: the bot itself.

use std::time::Duration;

use serde_json::{Value, json};

pub use self::wanted::{Entry, Listing, Presence, Wanted};
use crate::version::has_creators;
use crate::{Synapse, User, eventually, seg};

mod wanted;

/// How long news may take from one server to the other.
const NEWS_DEADLINE: Duration = Duration::from_secs(20);

/// The smallest of images.
const IMAGE: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\
    \x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;";

/// The version of all rooms but the one to be upgraded and the management room.
const OTHER_ROOMS: &str = "10";

/// Who is in the community and where.
pub struct Community {
    /// What it was made from.
    pub wanted: Wanted,
    /// The moderator who types commands; power 100 everywhere, and creator of the rooms.
    pub moderator: User,
    /// The bot's account; the power wanted in the rooms, 50 in the management room.
    pub bot: User,
    /// Ordinary members of the room.
    pub members: Vec<User>,
    /// Banned from the room.
    pub banned: Vec<User>,
    /// The room's additional creators, who are in it.
    pub creators: Vec<User>,
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
    /// The pinned messages, in the order they are pinned.
    pub pins: Vec<String>,
    /// The `mxc:` address of the image that is pinned last.
    pub image: Option<String>,
    /// A room that lets members of the room in, and nobody else. The bot is in it.
    pub guarded: Option<String>,
    /// A space in the space.
    pub nested: Option<Nested>,
    /// What is on the second server.
    pub remote: Option<Remote>,
}

/// A space in the community's space. The bot is in both.
#[derive(Debug, Clone)]
pub struct Nested {
    /// The space.
    pub space: String,
    /// The room in it.
    pub room: String,
}

/// What is on the second server.
#[derive(Debug)]
pub struct Remote {
    /// Members of the room.
    pub members: Vec<User>,
    /// An address of the room there; the room shows it.
    pub alias: String,
}

impl Community {
    /// Makes a community on a server. Every one has users and rooms of its own.
    pub async fn make(synapse: &Synapse, wanted: &Wanted) -> Self {
        let people = People::register(synapse, wanted).await;
        let mut community = Self::found(synapse, people, wanted).await;
        community.fill(synapse).await;
        community
    }

    /// Makes a community on server `a`, with some members on server `b`.
    pub async fn make_federated(a: &Synapse, b: &Synapse, wanted: &Wanted) -> Self {
        let mut community = Self::make(a, wanted).await;
        let room = community.room.as_str();
        let mut members = Vec::new();
        for _ in 0..wanted.remote_members {
            let member = b.register("remote").await;
            community.admit(&member, &a.server_name()).await;
            members.push(member);
        }
        let first = members.first().expect("members on the second server");
        let tag = community.moderator.localpart();
        let alias = format!("#gardening-{tag}:{}", b.server_name());
        first.set_alias(&alias, room).await;
        let shown = json!({
            "alias": community.alias,
            "alt_aliases": [community.second_alias, alias],
        });
        let moderator = &community.moderator;
        moderator
            .put_state(room, "m.room.canonical_alias", "", shown)
            .await;
        if wanted.settings == Presence::Present {
            set_settings(first, room).await;
        }
        community.remote = Some(Remote { members, alias });
        community
    }

    /// Makes the management room, the space and the room, with nobody in them but the moderator.
    async fn found(synapse: &Synapse, people: People, wanted: &Wanted) -> Self {
        let People {
            moderator,
            bot,
            members,
            banned,
            creators,
        } = people;
        let admin_room = moderator
            .create_room(json!({
                "preset": "private_chat",
                "name": "Management",
                "room_version": "11",
                "invite": [bot.user_id],
                "power_level_content_override": {
                    "users": { &moderator.user_id: 100, &bot.user_id: 50 },
                },
            }))
            .await;
        let around = json!({
            "users": { &moderator.user_id: 100, &bot.user_id: wanted.bot_power_in_space },
        });
        let space = moderator
            .create_room(json!({
                "preset": "public_chat",
                "name": "Garden Community",
                "creation_content": {"type": "m.space"},
                "room_version": OTHER_ROOMS,
                "power_level_content_override": around,
            }))
            .await;
        let tag = moderator.localpart().to_owned();
        let mut powers = json!({ "users": { &bot.user_id: wanted.bot_power } });
        let mut creation = json!({});
        if has_creators(wanted.version) {
            let ids: Vec<&str> = creators.iter().map(|user| user.user_id.as_str()).collect();
            creation["additional_creators"] = ids.into();
        } else {
            powers["users"][&moderator.user_id] = 100.into();
        }
        let room = moderator
            .create_room(json!({
                "preset": "public_chat",
                "name": "Gardening & <b>Tools</b>",
                "topic": "Everything that grows",
                "room_alias_name": format!("gardening-{tag}"),
                "room_version": wanted.version,
                "creation_content": creation,
                "power_level_content_override": powers,
                "initial_state": [
                    {"type": "m.room.guest_access", "state_key": "",
                     "content": {"guest_access": "forbidden"}},
                    {"type": "m.room.join_rules", "state_key": "",
                     "content": join_rules(wanted.entry, &space)},
                ],
            }))
            .await;
        let server = synapse.server_name();
        Self {
            wanted: wanted.clone(),
            moderator,
            bot,
            members,
            banned,
            creators,
            admin_room,
            space,
            room,
            alias: format!("#gardening-{tag}:{server}"),
            second_alias: format!("#plants-{tag}:{server}"),
            pins: Vec::new(),
            image: None,
            guarded: None,
            nested: None,
            remote: None,
        }
    }

    /// Puts into the rooms what belongs there, and the people; makes the rooms around.
    async fn fill(&mut self, synapse: &Synapse) {
        let (moderator, room, space) = (&self.moderator, self.room.as_str(), self.space.as_str());
        let server = synapse.server_name();
        let server = server.as_str();
        moderator.set_alias(&self.second_alias, room).await;
        let shown = json!({"alias": self.alias, "alt_aliases": [self.second_alias]});
        moderator
            .put_state(room, "m.room.canonical_alias", "", shown)
            .await;
        if self.wanted.listing == Listing::Listed {
            moderator.set_listed(room, true).await;
        }
        for (kind, key, content) in extras(server) {
            moderator.put_state(room, kind, key, content).await;
        }
        self.link(space, room, server, "a1").await;
        for user in self.members.iter().chain(&self.creators) {
            self.admit(user, server).await;
        }
        for user in &self.banned {
            moderator
                .ban(room, &user.user_id, "selling seeds that do not grow")
                .await;
        }
        self.bot.join(&self.admin_room).await;
        self.bot.join(space).await;
        self.admit(&self.bot, server).await;

        if self.wanted.settings == Presence::Present {
            set_settings(self.members.first().expect("a member"), room).await;
        }
        if self.wanted.nested == Presence::Present {
            self.nested = Some(self.make_nested(server).await);
        }
        if self.wanted.guarded == Presence::Present {
            let guarded = self.make_around("Greenhouse", json!({}), &self.room).await;
            self.guarded = Some(guarded);
        }
        if self.wanted.pins > 0 {
            self.pin().await;
        }
    }

    /// Lets a user into the room, by way of that server.
    async fn admit(&self, user: &User, server: &str) {
        match self.wanted.entry {
            Entry::Public => {}
            Entry::Invite | Entry::Knock => self.moderator.invite(&self.room, &user.user_id).await,
            Entry::Restricted => self.join(user, &self.space, server).await,
        }
        self.join(user, &self.room, server).await;
    }

    /// Has a user join a room by way of a server that is in it, as ids do not tell one. Returns once
    /// the moderator sees it: a user whose own server is in the room already joins there, and that
    /// server tells the others afterwards.
    async fn join(&self, user: &User, room: &str, server: &str) {
        let path = format!("join/{}?server_name={}", seg(room), seg(server));
        if let Err(e) = user.call("POST", &path, Some(json!({}))).await {
            panic!("{} cannot join {room}: {e}", user.user_id);
        }
        let joined = async || {
            let key = user.user_id.as_str();
            let member = self.moderator.state_event(room, "m.room.member", key);
            (member.await?["membership"] == "join").then_some(())
        };
        eventually("the join to be seen", NEWS_DEADLINE, joined).await;
    }

    /// Puts a room, or a space, into a space.
    async fn link(&self, space: &str, room: &str, server: &str, order: &str) {
        let child = json!({"via": [server], "order": order, "suggested": true});
        let parent = json!({"via": [server], "canonical": true});
        let moderator = &self.moderator;
        moderator
            .put_state(space, "m.space.child", room, child)
            .await;
        moderator
            .put_state(room, "m.space.parent", space, parent)
            .await;
    }

    /// Makes a space in the space, and a room in it.
    async fn make_nested(&self, server: &str) -> Nested {
        let kind = json!({"type": "m.space"});
        let space = self.make_around("Vegetables", kind, &self.space).await;
        let room = self.make_around("Potatoes", json!({}), &space).await;
        self.link(&self.space, &space, server, "b1").await;
        self.link(&space, &room, server, "a1").await;
        Nested { space, room }
    }

    /// Makes another room, which members of `door` may join, with the bot in it.
    async fn make_around(&self, name: &str, creation: Value, door: &str) -> String {
        let (moderator, bot) = (&self.moderator, &self.bot);
        let power = self.wanted.bot_power_in_space;
        let room = moderator
            .create_room(json!({
                "preset": "public_chat",
                "name": name,
                "room_version": OTHER_ROOMS,
                "creation_content": creation,
                "power_level_content_override": {
                    "users": { &moderator.user_id: 100, &bot.user_id: power },
                },
                "initial_state": [
                    {"type": "m.room.join_rules", "state_key": "",
                     "content": join_rules(Entry::Restricted, door)},
                ],
            }))
            .await;
        bot.join(&room).await;
        room
    }

    /// Writes messages and pins them.
    async fn pin(&mut self) {
        let (moderator, room) = (&self.moderator, self.room.as_str());
        for number in 1..self.wanted.pins {
            let text = format!("Rule {number}: water your plants");
            self.pins.push(moderator.send_text(room, &text).await);
        }
        let address = moderator.upload("image/gif", IMAGE).await;
        let image = json!({
            "msgtype": "m.image",
            "body": "beds.gif",
            "url": address,
            "info": {"mimetype": "image/gif", "size": IMAGE.len(), "w": 1, "h": 1},
        });
        let id = moderator.send_event(room, "m.room.message", image).await;
        self.pins.push(id);
        self.image = Some(address);
        let pinned = json!({ "pinned": self.pins });
        moderator
            .put_state(room, "m.room.pinned_events", "", pinned)
            .await;
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

/// Everybody on the first server.
struct People {
    moderator: User,
    bot: User,
    members: Vec<User>,
    banned: Vec<User>,
    creators: Vec<User>,
}

impl People {
    /// Registers them.
    async fn register(synapse: &Synapse, wanted: &Wanted) -> Self {
        assert!(
            wanted.creators == 0 || has_creators(wanted.version),
            "rooms of version {} have no additional creators",
            wanted.version
        );
        let several = async |name: &str, count: usize| {
            let mut users = Vec::new();
            for _ in 0..count {
                users.push(synapse.register(name).await);
            }
            users
        };
        Self {
            moderator: synapse.register("maria").await,
            bot: synapse.register("roomlift").await,
            members: several("member", wanted.members).await,
            banned: several("spammer", wanted.bans).await,
            creators: several("owner", wanted.creators).await,
        }
    }
}

/// A user's own settings for a room: how it notifies, and the tags. Equal for two rooms whose
/// settings are the same.
pub async fn settings(user: &User, room: &str) -> Value {
    let (rule, tags) = settings_paths(user, room);
    let rule = match user.call("GET", &rule, None).await {
        Ok(rule) => rule["actions"].clone(),
        Err(e) if e.status == 404 => Value::Null,
        Err(e) => panic!("the push rule of {} for {room}: {e}", user.user_id),
    };
    let tags = user.call("GET", &tags, None).await;
    let tags = tags.unwrap_or_else(|e| panic!("the tags of {} for {room}: {e}", user.user_id));
    json!({ "actions": rule, "tags": tags["tags"] })
}

/// Mutes a room for a user, and makes it a favourite.
async fn set_settings(user: &User, room: &str) {
    let (rule, tags) = settings_paths(user, room);
    for (path, content) in [
        (rule, json!({ "actions": [] })),
        (format!("{tags}/m.favourite"), json!({ "order": 0.25 })),
    ] {
        if let Err(e) = user.call("PUT", &path, Some(content)).await {
            panic!("PUT {path} by {}: {e}", user.user_id);
        }
    }
}

/// Where a user's push rule for a room is, and where the tags are.
fn settings_paths(user: &User, room: &str) -> (String, String) {
    let (id, room) = (seg(&user.user_id), seg(room));
    (
        format!("pushrules/global/room/{room}"),
        format!("user/{id}/rooms/{room}/tags"),
    )
}

/// The rule for that way in; `door` is the room whose members may join, where it says so.
fn join_rules(entry: Entry, door: &str) -> Value {
    match entry {
        Entry::Public => json!({ "join_rule": "public" }),
        Entry::Invite => json!({ "join_rule": "invite" }),
        Entry::Knock => json!({ "join_rule": "knock" }),
        Entry::Restricted => json!({
            "join_rule": "restricted",
            "allow": [{ "type": "m.room_membership", "room_id": door }],
        }),
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
