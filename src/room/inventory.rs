//! Where each room stands between its version and the wanted one: what `rooms` lists. Pure.
//!
//! Told from little state (create event, names, power levels, tombstone), so that many rooms cost
//! no request each. A plan reads a room whole and knows more. Left out: which rooms (`survey`).

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, RoomVersionId, UserId};

use super::level::{Allowance, Power};
use super::state::RoomState;

/// A room of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub room_id: OwnedRoomId,
    /// What people call it; its id where the bot is not in it.
    pub label: String,
    /// What an upgrade would meet.
    pub standing: Standing,
    /// What is known of it; nothing where the bot is not in it.
    pub seen: Option<Seen>,
}

/// What is known of a room that the bot is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether it is a space.
    pub kind: Kind,
    pub version: RoomVersionId,
    /// How many people are in it, the bot included.
    pub members: u64,
    /// The bot's power there.
    pub power: Power,
}

/// What a room is to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// People talk in it.
    Room,
    /// It lists other rooms.
    Space,
}

/// What an upgrade to the wanted version would meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// The bot lacks the power to close it.
    NeedsPower {
        /// The level it takes.
        needed: i64,
    },
    /// Nothing that could be seen from here is in the way.
    Ready,
    /// The bot is not in it.
    NotJoined {
        /// The space that lists it; `None` where it was named itself.
        listed_by: Option<String>,
    },
    /// Commands are taken there: it takes a command of its own.
    AdminRoom,
    /// It has the wanted version.
    Wanted,
    /// It has a newer one.
    Newer,
    /// It leads to another room.
    Replaced {
        /// What people call that one.
        by: String,
    },
}

/// A room that the bot is in. `label_of` names the room that replaces it.
pub(crate) fn joined(
    room: &RoomState,
    members: u64,
    bot: &UserId,
    wanted: &RoomVersionId,
    admin_rooms: &BTreeSet<OwnedRoomId>,
    label_of: impl Fn(&OwnedRoomId) -> String,
) -> Entry {
    let version = room.create().version;
    let power = room.power();
    let standing = match (
        room.replaced().and_then(|tombstone| tombstone.replacement),
        power.can_send_state(bot, "m.room.tombstone"),
    ) {
        (Some(new), _) => Standing::Replaced { by: label_of(&new) },
        (None, _) if admin_rooms.contains(&room.room_id) => Standing::AdminRoom,
        (None, _) if version == *wanted => Standing::Wanted,
        (None, _) if is_newer(&version, wanted) => Standing::Newer,
        (None, Allowance::Short { needed, .. }) => Standing::NeedsPower { needed },
        (None, Allowance::Allowed) => Standing::Ready,
    };
    Entry {
        room_id: room.room_id.clone(),
        label: room.label(),
        standing,
        seen: Some(Seen {
            kind: if room.is_space() {
                Kind::Space
            } else {
                Kind::Room
            },
            version,
            members,
            power: power.power(bot),
        }),
    }
}

/// Whether a version comes after another. Only numbers have an order; others are opaque.
pub(crate) fn is_newer(version: &RoomVersionId, than: &RoomVersionId) -> bool {
    let number = |version: &RoomVersionId| version.as_str().parse::<u32>().ok();
    matches!((number(version), number(than)), (Some(a), Some(b)) if a > b)
}

/// A room that is named somewhere, and that the bot is not in.
pub(crate) fn not_joined(room_id: OwnedRoomId, listed_by: Option<String>) -> Entry {
    Entry {
        label: room_id.to_string(),
        room_id,
        standing: Standing::NotJoined { listed_by },
        seen: None,
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::{Value, json};

    use super::super::state::tests::room;
    use super::*;

    #[test]
    fn the_table_of_standings() {
        let bot = user_id!("@bot:x");
        let levels = |bot: i64, tombstone: i64| json!({"users": {"@bot:x": bot}, "events": {"m.room.tombstone": tombstone}});
        let of = |version: &str, creator: &str, levels: Value, tombstone: Option<Value>| {
            let mut events = vec![
                (
                    "m.room.create",
                    "",
                    creator,
                    json!({"room_version": version}),
                ),
                ("m.room.power_levels", "", "@a:x", levels),
            ];
            events.extend(tombstone.map(|content| ("m.room.tombstone", "", "@a:x", content)));
            let none = BTreeSet::new();
            let old = room("!r:x", &events);
            let entry = joined(&old, 7, bot, &RoomVersionId::V12, &none, |id| {
                format!("the room {id}")
            });
            (entry.standing, entry.seen.unwrap().power)
        };
        let closed = |to: Value| Some(json!({"replacement_room": to}));
        let replaced = |by: &str| Standing::Replaced { by: by.to_owned() };
        let short = |needed| Standing::NeedsPower { needed };
        for (found, expected, power) in [
            (
                of("10", "@a:x", levels(100, 100), None),
                Standing::Ready,
                100,
            ),
            (of("10", "@a:x", levels(50, 100), None), short(100), 50),
            (of("10", "@a:x", levels(0, 0), None), Standing::Ready, 0),
            // What is done needs no power, and what leads elsewhere is not done again.
            (of("12", "@a:x", levels(0, 150), None), Standing::Wanted, 0),
            (
                of("12", "@a:x", levels(0, 150), closed(json!("!n:x"))),
                replaced("the room !n:x"),
                0,
            ),
            // It leads nowhere.
            (
                of("9", "@a:x", levels(0, 100), closed(json!(7))),
                short(100),
                0,
            ),
            // Taken back.
            (
                of("9", "@a:x", levels(99, 100), Some(json!({}))),
                short(100),
                99,
            ),
            // A version that nobody knows is another one.
            (
                of("org.x.y", "@a:x", levels(100, 100), None),
                Standing::Ready,
                100,
            ),
        ] {
            assert_eq!(found, (expected, Power::Level(power)));
        }
        let by_bot = room(
            "!r:x",
            &[("m.room.create", "", "@bot:x", json!({"room_version": "12"}))],
        );
        let of = |wanted: &RoomVersionId, admin_rooms: &BTreeSet<OwnedRoomId>| {
            joined(&by_bot, 1, bot, wanted, admin_rooms, ToString::to_string)
        };
        let own = BTreeSet::from([by_bot.room_id.clone()]);
        let opaque = RoomVersionId::try_from("org.x.y").unwrap();
        assert_eq!(of(&RoomVersionId::V11, &own).standing, Standing::AdminRoom);
        let none = BTreeSet::new();
        assert_eq!(of(&RoomVersionId::V11, &none).standing, Standing::Newer);
        let entry = of(&opaque, &none);
        assert_eq!(entry.standing, Standing::Ready);
        assert_eq!(entry.seen.unwrap().power, Power::Creator);
    }
}
