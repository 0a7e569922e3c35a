//! The community that a simulation takes place in: an admin room, a space, and a room with everything
//! in it that gets lost in upgrades.

use std::fmt::Write as _;

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};

use crate::world::{ELSEWHERE, GONE, SERVER, World, content};

/// How people get into the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Public,
    Invite,
    Knock,
    Restricted,
}

/// What the community is to be like.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) version: &'static str,
    pub(crate) entry: Entry,
    pub(crate) bot_level: i64,
    pub(crate) bot_level_around: i64,
    pub(crate) members: usize,
    pub(crate) members_elsewhere: usize,
    pub(crate) members_gone: usize,
    pub(crate) bans: usize,
    pub(crate) pins: usize,
    pub(crate) is_listed: bool,
    /// Further rooms of the space.
    pub(crate) siblings: usize,
    /// A second admin room, with moderators of its own.
    pub(crate) has_second_admin_room: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            version: "10",
            entry: Entry::Public,
            bot_level: 100,
            bot_level_around: 100,
            members: 2,
            members_elsewhere: 1,
            members_gone: 0,
            bans: 1,
            pins: 1,
            is_listed: true,
            siblings: 0,
            has_second_admin_room: false,
        }
    }
}

/// Who is there, and where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) bot: OwnedUserId,
    /// Level 100 everywhere; types the commands.
    pub(crate) moderator: OwnedUserId,
    /// Level 50 everywhere.
    pub(crate) deputy: OwnedUserId,
    /// Level 0 in the admin room.
    pub(crate) reader: OwnedUserId,
    pub(crate) members: Vec<OwnedUserId>,
    pub(crate) banned: Vec<OwnedUserId>,
    pub(crate) admin_room: OwnedRoomId,
    pub(crate) second_admin_room: Option<OwnedRoomId>,
    pub(crate) space: OwnedRoomId,
    pub(crate) room: OwnedRoomId,
    pub(crate) alias: OwnedRoomAliasId,
    pub(crate) second_alias: OwnedRoomAliasId,
    /// A room that lets members of the room in.
    pub(crate) guarded: OwnedRoomId,
}

impl Place {
    pub(crate) fn make(world: &mut World, setup: &Setup) -> Self {
        let bot = world.register("roomlift");
        let moderator = world.register("maria");
        let deputy = world.register("dan");
        let reader = world.register("rita");
        let mut members: Vec<_> = (0..setup.members)
            .map(|number| world.register(&format!("member{number}")))
            .collect();
        members.extend(
            (0..setup.members_elsewhere)
                .map(|number| world.register(&format!("far{number}:{ELSEWHERE}"))),
        );
        members.extend(
            (0..setup.members_gone).map(|number| world.register(&format!("lost{number}:{GONE}"))),
        );
        let banned: Vec<_> = (0..setup.bans)
            .map(|number| world.register(&format!("spammer{number}")))
            .collect();
        let users = |bot_level: i64| json!({ moderator.as_str(): 100, deputy.as_str(): 50, bot.as_str(): bot_level });
        let people = [&deputy, &reader, &bot];
        let admin = |world: &mut World, name: &str| {
            make(
                world,
                &moderator,
                json!({
                    "room_version": "11", "preset": "private_chat", "name": name, "invite": people,
                    "power_level_content_override": { "users": users(50) },
                }),
            )
        };
        let admin_room = admin(world, "Management");
        let second_admin_room = setup
            .has_second_admin_room
            .then(|| admin(world, "Second management"));
        for user in people {
            for room in second_admin_room.iter().chain([&admin_room]) {
                world.join(user, room).expect("a join");
            }
        }
        let around = json!({ "users": users(setup.bot_level_around) });
        let space = make(
            world,
            &moderator,
            json!({
                "room_version": "10", "preset": "public_chat", "name": "Garden Community",
                "creation_content": { "type": "m.space" }, "power_level_content_override": around,
            }),
        );
        world.join(&bot, &space).expect("a join");
        let room = make_room(world, &moderator, setup, &space, &users(setup.bot_level));
        let place = Self {
            alias: alias("garden"),
            second_alias: alias("plants"),
            guarded: guarded(world, &moderator, &around, &room),
            bot,
            moderator,
            deputy,
            reader,
            members,
            banned,
            admin_room,
            second_admin_room,
            space,
            room,
        };
        place.fill(world, setup);
        place.make_siblings(world, setup);
        place
    }

    /// People, addresses, pins, links.
    fn fill(&self, world: &mut World, setup: &Setup) {
        let (moderator, room) = (&self.moderator, &self.room);
        for name in [&self.alias, &self.second_alias] {
            world.create_alias(moderator, name, room).expect("an alias");
        }
        let shown = json!({ "alias": self.alias, "alt_aliases": [self.second_alias] });
        put(world, moderator, room, "m.room.canonical_alias", "", shown);
        if setup.is_listed {
            world.set_listed(moderator, room, true).expect("a listing");
        }
        link(world, moderator, &self.space, room, "a1");
        let everybody = self.members.iter().chain([&self.bot, &self.deputy]);
        for user in everybody {
            match setup.entry {
                Entry::Public => {}
                Entry::Invite | Entry::Knock => {
                    world
                        .invite(moderator, room, user, None)
                        .expect("an invitation");
                }
                Entry::Restricted => {
                    world.join(user, &self.space).expect("a join");
                }
            }
            world.join(user, room).expect("a join");
        }
        for user in &self.banned {
            world
                .ban(moderator, room, user, Some("sells seeds"))
                .expect("a ban");
        }
        world.join(&self.bot, &self.guarded).expect("a join");
        let mut pinned = Vec::new();
        for number in 0..setup.pins {
            let text = json!({ "msgtype": "m.text", "body": format!("Rule {number}") });
            let sent = world.send(
                moderator,
                room,
                "m.room.message",
                &format!("p{number}"),
                &content(text),
            );
            pinned.push(sent.expect("a message"));
        }
        if setup.pins > 0 {
            let pins = json!({ "pinned": pinned });
            put(world, moderator, room, "m.room.pinned_events", "", pins);
        }
        for member in &self.members {
            let settings = (member.clone(), room.clone());
            world.tags.insert(settings, "favourite".to_owned());
        }
    }

    fn make_siblings(&self, world: &mut World, setup: &Setup) {
        let users = json!({ self.moderator.as_str(): 100, self.bot.as_str(): setup.bot_level });
        for number in 0..setup.siblings {
            let room = make(
                world,
                &self.moderator,
                json!({
                    "room_version": setup.version, "preset": "public_chat",
                    "name": format!("Bed {number}"),
                    "creation_content": creation(setup, &users, &self.moderator),
                    "power_level_content_override": levels(setup, &users, &self.moderator),
                }),
            );
            world.join(&self.bot, &room).expect("a join");
            world.join(&self.members[0], &room).expect("a join");
            let order = format!("b{number}");
            link(world, &self.moderator, &self.space, &room, &order);
        }
    }

    /// A configuration for the bot.
    pub(crate) fn config(&self) -> String {
        let mut config = format!(
            "data_dir = \"data\"\n\n[account]\nhomeserver = \"https://{SERVER}\"\n\
             user_id = \"{}\"\npassword = \"{SECRET}\"\n",
            self.bot
        );
        for room in self.second_admin_room.iter().chain([&self.admin_room]) {
            let _written = write!(config, "\n[[admin_room]]\nroom = \"{room}\"\n");
            if self.second_admin_room.is_some() {
                let _written = writeln!(config, "scope = [\"{}\"]", self.space);
            }
        }
        config
    }
}

/// The password in the configuration. It must be found nowhere else (P9).
pub(crate) const SECRET: &str = "xyzzy-very-secret";

fn alias(name: &str) -> OwnedRoomAliasId {
    format!("#{name}:{SERVER}").parse().expect("an alias")
}

fn make(world: &mut World, by: &OwnedUserId, body: Value) -> OwnedRoomId {
    world.create_room(by, &content(body)).expect("a room")
}

fn put(
    world: &mut World,
    by: &OwnedUserId,
    room: &OwnedRoomId,
    kind: &str,
    key: &str,
    value: Value,
) {
    world
        .put_state(by, room, kind, key, &content(value))
        .expect("a state event");
}

/// Further creators: in version 12 whoever has level 100.
fn creation(setup: &Setup, users: &Value, creator: &OwnedUserId) -> Value {
    if setup.version != "12" {
        return json!({});
    }
    let users = users.as_object().into_iter().flatten();
    let creators: Vec<_> = users
        .filter(|(user, level)| *user != creator && level.as_i64() == Some(100))
        .map(|(user, _)| user)
        .collect();
    json!({ "additional_creators": creators })
}

/// Levels for a version: creators are in no list.
fn levels(setup: &Setup, users: &Value, creator: &OwnedUserId) -> Value {
    let mut users = users.clone();
    if setup.version == "12"
        && let Some(users) = users.as_object_mut()
    {
        users.remove(creator.as_str());
        users.retain(|_, level| level.as_i64() != Some(100));
    }
    json!({ "users": users })
}

fn make_room(
    world: &mut World,
    moderator: &OwnedUserId,
    setup: &Setup,
    space: &OwnedRoomId,
    users: &Value,
) -> OwnedRoomId {
    let member_of = json!([{ "type": "m.room_membership", "room_id": space }]);
    let rules = match setup.entry {
        Entry::Public => json!({ "join_rule": "public" }),
        Entry::Invite => json!({ "join_rule": "invite" }),
        Entry::Knock => json!({ "join_rule": "knock" }),
        Entry::Restricted => json!({ "join_rule": "restricted", "allow": member_of }),
    };
    let state = |kind: &str, key: &str, content: Value| json!({ "type": kind, "state_key": key, "content": content });
    make(
        world,
        moderator,
        json!({
            "room_version": setup.version, "preset": "public_chat", "name": "Gardening",
            "topic": "Everything that grows",
            "creation_content": creation(setup, users, moderator),
            "power_level_content_override": levels(setup, users, moderator),
            "initial_state": [
                state("m.room.join_rules", "", rules),
                state("m.room.guest_access", "", json!({ "guest_access": "forbidden" })),
                state("org.example.beds", "north", json!({ "count": 3 })),
                state("m.space.parent", space.as_str(), json!({ "via": [SERVER], "canonical": true })),
                state("m.policy.rule.user", "r1",
                    json!({ "entity": "@bad:*", "reason": "spam", "recommendation": "m.ban" })),
            ],
        }),
    )
}

/// A room that lets members of another one in.
fn guarded(
    world: &mut World,
    moderator: &OwnedUserId,
    levels: &Value,
    room: &OwnedRoomId,
) -> OwnedRoomId {
    let allow = json!([{ "type": "m.room_membership", "room_id": room }]);
    let id = make(
        world,
        moderator,
        json!({
            "room_version": "10", "preset": "public_chat", "name": "Greenhouse",
            "power_level_content_override": levels,
        }),
    );
    let bot: Vec<_> = levels["users"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(user, _)| user.clone())
        .collect();
    for user in bot {
        if let Ok(user) = <&ruma::UserId>::try_from(user.as_str()) {
            let _in_already = world.join(user, &id);
        }
    }
    let rules = json!({ "join_rule": "restricted", "allow": allow });
    put(world, moderator, &id, "m.room.join_rules", "", rules);
    id
}

fn link(world: &mut World, by: &OwnedUserId, space: &OwnedRoomId, room: &OwnedRoomId, order: &str) {
    let child = json!({ "via": [SERVER], "order": order, "suggested": true });
    put(world, by, space, "m.space.child", room.as_str(), child);
}
