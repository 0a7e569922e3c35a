//! Rooms to be moved: a space full of rooms that are alike.

use roomlift_testbed::{Community, User};
use serde_json::json;

/// What the rooms are moved from.
const FROM: &str = "10";

/// What every room of a village is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Furniture {
    /// Everybody of the community in it, the banned banned, two addresses, a listing.
    Full,
    /// Nobody but the bot and whoever made it, and a name.
    Bare,
}

/// A space and the rooms in it.
pub(crate) struct Village {
    pub(crate) space: String,
    /// Who made the space, and lists rooms in it.
    founder: User,
    pub(crate) homes: Vec<Home>,
}

/// A room, and the addresses that lead to it.
pub(crate) struct Home {
    pub(crate) room: String,
    pub(crate) aliases: Vec<String>,
}

impl Village {
    /// A space in which the bot may do everything, without rooms.
    pub(crate) async fn found(community: &Community, host: &User) -> Self {
        let space = room(
            community,
            host,
            json!({"creation_content": {"type": "m.space"}}),
        )
        .await;
        Self {
            space,
            founder: host.clone(),
            homes: Vec::new(),
        }
    }

    /// Adds rooms until there are so many. `host` makes them.
    pub(crate) async fn grow(
        &mut self,
        community: &Community,
        host: &User,
        homes: usize,
        furniture: Furniture,
    ) {
        let server = server_of(host);
        while self.homes.len() < homes {
            let number = self.homes.len() + 1;
            let room = room(community, host, json!({"name": format!("Home {number}")})).await;
            let mut aliases = Vec::new();
            if furniture == Furniture::Full {
                let tag = room.trim_start_matches('!');
                let tag = tag.split(':').next().unwrap_or(tag);
                for user in &community.members {
                    user.join(&room).await;
                }
                for user in &community.banned {
                    host.ban(&room, &user.user_id, "spam").await;
                }
                for kind in ["home", "house"] {
                    let alias = format!("#{kind}-{tag}:{server}");
                    host.set_alias(&alias, &room).await;
                    aliases.push(alias);
                }
                let shown = json!({"alias": aliases[0], "alt_aliases": [aliases[1]]});
                host.put_state(&room, "m.room.canonical_alias", "", shown)
                    .await;
                host.set_listed(&room, true).await;
            }
            let link = json!({"via": [server], "order": format!("a{number}"), "suggested": true});
            self.founder
                .put_state(&self.space, "m.space.child", &room, link)
                .await;
            self.homes.push(Home { room, aliases });
        }
    }
}

/// Where a room leads.
pub(crate) async fn replacement(user: &User, room: &str) -> Option<String> {
    let tombstone = user.state_event(room, "m.room.tombstone", "").await?;
    Some(tombstone["replacement_room"].as_str()?.to_owned())
}

async fn room(community: &Community, host: &User, more: serde_json::Value) -> String {
    let bot = &community.bot;
    let mut body = json!({
        "preset": "public_chat",
        "room_version": FROM,
        "power_level_content_override": {
            "users": { &host.user_id: 100, &bot.user_id: 100 },
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let room = host.create_room(body).await;
    bot.join(&room).await;
    room
}

pub(crate) fn server_of(user: &User) -> &str {
    user.user_id
        .split_once(':')
        .map_or("", |(_, server)| server)
}
