//! What becomes of a room's state, row by row of the table in the design, looked up in the real
//! rooms, and by both methods: what the server does and what the bot does end the same.
//!
//! Its rows: `levels` (power levels, creators, bans), `doors` (join rules, rooms that let members of
//! others in, spaces), `contents` (state, create event, pins, encryption). Rows that are tested
//! elsewhere: power levels as text and with junk (`odd_rooms`), versions (`versions`, `plan`), version
//! 12 to itself and lower (`versions`, `servers`), a creator that does not exist (`plan`), creators and
//! members on other servers (`federated`), and what is in every room, such as a name, addresses and
//! bans with their reason (`Community::checks`, so wherever `assert_moved` is called).

mod contents;
mod doors;
mod levels;

use roomlift_testbed::{Community, user};
use serde_json::Value;

use crate::scene::Scene;

/// Both ways in which the bot upgrades a room.
const METHODS: [&str; 2] = ["server", "staged"];

async fn read(scene: &Scene, room: &str, kind: &str, key: &str) -> Option<Value> {
    scene.community.bot.state_event(room, kind, key).await
}

async fn must_read(scene: &Scene, room: &str, kind: &str, key: &str) -> Value {
    let found = read(scene, room, kind, key).await;
    found.unwrap_or_else(|| panic!("{kind} {key} is missing"))
}

/// Upgrades a room, confirmed by command; returns the plan and the new room.
async fn upgrade(scene: &mut Scene, room: &str, options: &str) -> (String, String) {
    scene.say(&format!("!upgrade {room} {options}")).await;
    let plan = scene.hear("Plan #").await;
    let plan = user::text(&plan).to_owned();
    let id = plan["Plan #".len()..].split(':').next().expect("a number");
    scene.say(&format!("!upgrade confirm {id}")).await;
    scene.hear(&format!("Upgrade #{id} is done")).await;
    let tombstone = must_read(scene, room, "m.room.tombstone", "").await;
    let new = tombstone["replacement_room"].as_str().expect("a room");
    (plan, new.to_owned())
}

/// Changes the old room's power levels.
async fn change_levels(community: &Community, change: impl FnOnce(&mut Value)) -> Value {
    let (moderator, room) = (&community.moderator, &community.room);
    let levels = moderator.state_event(room, "m.room.power_levels", "").await;
    let mut levels = levels.expect("power levels");
    change(&mut levels);
    moderator
        .put_state(room, "m.room.power_levels", "", levels.clone())
        .await;
    levels
}
