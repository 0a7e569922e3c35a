//! Scenes about policy rooms (ban lists): what becomes of their rules is chosen, and so is their type.

use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::place::Place;
use crate::sim::{Sim, react};
use crate::world::{Room, SERVER, World, content};

const UNSTABLE: &str = "support.feline.policy.lists.msc.v1";
const SPECIFIED: &str = "m.policy";

/// Key of the tombstone that says what became of the rules (MSC4321).
const KEY: &str = "org.matrix.msc4321.policy_room_upgrade_type";

/// A room that the moderator made, where only who has power can write, with two rules.
fn list(sim: &Sim, kind: Option<&str>) -> OwnedRoomId {
    let place = &sim.place;
    let rule = |key: &str, entity: &str| {
        json!({ "type": "m.policy.rule.user", "state_key": key,
            "content": { "entity": entity, "reason": "spam", "recommendation": "m.ban" } })
    };
    let body = json!({
        "room_version": "10", "preset": "public_chat", "name": "Ban list",
        "creation_content": kind.map_or_else(|| json!({}), |kind| json!({ "type": kind })),
        "power_level_content_override": {
            "events_default": 50,
            "users": { place.moderator.as_str(): 100, place.bot.as_str(): 100 },
        },
        "initial_state": [rule("r1", "@bad:x"), rule("r2", "@worse:x")],
    });
    let mut world = sim.world();
    let room = world.create_room(&place.moderator, &content(body)).unwrap();
    world.join(&place.bot, &room).unwrap();
    room
}

fn new_room<'a>(world: &'a World, old: &RoomId) -> &'a Room {
    let new = world.rooms[old].successor().expect("it was upgraded");
    &world.rooms[<&RoomId>::try_from(new).unwrap()]
}

fn rules(room: &Room) -> Vec<Value> {
    let keys = ["r1", "r2"].into_iter();
    keys.filter_map(|key| room.content("m.policy.rule.user", key))
        .map(|rule| json!(rule))
        .collect()
}

fn kind(room: &Room) -> Option<Value> {
    room.content("m.room.create", "")?.get("type").cloned()
}

fn says(sim: &mut Sim, command: &str) {
    sim.say(command);
    sim.run();
    sim.assert_promises();
}

/// In the plan and in the report.
fn said_times(sim: &Sim, part: &str) -> usize {
    let said = sim.said(&sim.place.admin_room);
    said.iter().filter(|text| text.contains(part)).count()
}

/// Those who watch a list go by what its tombstone says became of the rules.
#[test]
fn a_policy_room_is_not_upgraded_before_somebody_says_what_becomes_of_its_rules() {
    for kind in [None, Some(UNSTABLE), Some(SPECIFIED)] {
        let mut sim = Sim::new();
        let room = list(&sim, kind);
        let before = sim.world().rooms.len();
        says(&mut sim, &format!("!upgrade {room} 12 --yes"));
        assert_eq!(sim.world().rooms[&room].successor(), None, "{kind:?}");
        assert_eq!(sim.world().rooms.len(), before);
        for choice in ["move", "transition"] {
            sim.assert_said(&format!("!upgrade {room} 12 --policies {choice}"));
        }
        sim.assert_said("2 rules");
    }
}

#[test]
fn rules_that_move_say_who_made_them_and_the_tombstone_says_that_they_moved() {
    let mut sim = Sim::new();
    let room = list(&sim, Some(UNSTABLE));
    says(
        &mut sim,
        &format!("!upgrade {room} 12 --policies move --yes"),
    );
    sim.assert_said("Upgrade #1 is done");
    assert_eq!(
        said_times(&sim, "has to confirm the new room or watch it"),
        2
    );
    sim.assert_said("Nothing else is left to do.");
    let world = sim.world();
    let old = &world.rooms[&room];
    let new = new_room(&world, &room);
    assert_eq!(old.content("m.room.tombstone", "").unwrap()[KEY], "move");
    let moved = rules(new);
    assert_eq!(moved.len(), 2);
    for (rule, key) in moved.iter().zip(["r1", "r2"]) {
        let first = old.event("m.policy.rule.user", key).unwrap();
        let mark = |name: &str| &rule[format!("org.matrix.msc4321.original_{name}")];
        assert_eq!(mark("sender"), first.sender.as_str());
        assert_eq!(mark("event_id"), first.id.as_str());
        assert!(mark("timestamp").is_number(), "{rule}");
    }
    assert_eq!(kind(new), Some(json!(UNSTABLE)), "nobody asked for another");
}

#[test]
fn rules_that_stay_are_not_copied_and_both_lists_have_to_be_watched() {
    let mut sim = Sim::new();
    let room = list(&sim, None);
    sim.say(&format!("!upgrade {room} 12 --policies transition"));
    sim.confirms();
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    assert_eq!(said_times(&sim, "Both lists have to be watched"), 2);
    let world = sim.world();
    let old = &world.rooms[&room];
    assert_eq!(
        old.content("m.room.tombstone", "").unwrap()[KEY],
        "transition"
    );
    assert_eq!(rules(old).len(), 2);
    assert_eq!(rules(new_room(&world, &room)), Vec::<Value>::new());
}

/// Only an upgrade can change the type of a room.
#[test]
fn a_policy_room_can_get_the_type_that_is_specified() {
    for old in [None, Some(UNSTABLE), Some(SPECIFIED)] {
        let mut sim = Sim::new();
        let room = list(&sim, old);
        let command = format!("!upgrade {room} 12 --policies move");
        says(
            &mut sim,
            &format!("!upgrade plan {room} 12 --policies move"),
        );
        let offered = sim.said(&sim.place.admin_room);
        let offered = offered
            .iter()
            .any(|text| text.contains("--room-type m.policy"));
        assert_eq!(offered, old != Some(SPECIFIED), "{old:?}");
        says(&mut sim, &format!("{command} --room-type m.policy --yes"));
        assert_eq!(kind(new_room(&sim.world(), &room)), Some(json!(SPECIFIED)));
    }
}

#[test]
fn what_is_only_for_policy_rooms_is_refused_elsewhere() {
    for option in ["--policies move", "--room-type m.policy"] {
        let mut sim = Sim::new();
        let room = sim.place.guarded.clone();
        says(&mut sim, &format!("!upgrade {room} 12 {option} --yes"));
        sim.assert_said("are for policy rooms");
        assert_eq!(sim.world().rooms[&room].successor(), None);
    }
}

/// It copies no rules, and its tombstone says nothing of them.
#[test]
fn the_servers_own_upgrade_is_refused_for_a_policy_room() {
    let mut sim = Sim::new();
    let room = list(&sim, None);
    let command = format!("!upgrade {room} 12 --policies move --method server --yes");
    says(&mut sim, &command);
    sim.assert_said("--method staged");
    assert_eq!(sim.world().rooms[&room].successor(), None);
}

/// People talk in the room of the community, which has a rule as well: it is upgraded as before, unless somebody
/// says what becomes of the rule.
#[test]
fn a_room_to_talk_in_keeps_its_rules_and_can_say_so() {
    for (option, mark) in [("", None), (" --policies move", Some(json!("move")))] {
        let mut sim = Sim::new();
        let room = sim.place.room.clone();
        says(
            &mut sim,
            &format!("!upgrade #garden:sim.test 12{option} --yes"),
        );
        let world = sim.world();
        let tombstone = world.rooms[&room].content("m.room.tombstone", "").unwrap();
        assert_eq!(tombstone.get(KEY).cloned(), mark, "{option}");
        assert_eq!(rules(new_room(&world, &room)).len(), 1);
    }
}

/// The moderator replaces the list by hand, and says in the tombstone what became of the rules.
fn replaced(sim: &Sim, mark: Option<&str>) -> OwnedRoomId {
    let room = list(sim, Some(UNSTABLE));
    let Place { moderator, bot, .. } = &sim.place;
    let mut world = sim.world();
    let body = json!({
        "room_version": "11", "preset": "public_chat",
        "creation_content": { "predecessor": { "room_id": room } },
        "power_level_content_override": { "users": { moderator.as_str(): 100, bot.as_str(): 100 } },
    });
    let new = world.create_room(moderator, &content(body)).unwrap();
    world.join(bot, &new).unwrap();
    let mut tombstone = content(json!({ "body": "replaced", "replacement_room": new }));
    tombstone.extend(mark.map(|mark| (KEY.to_owned(), json!(mark))));
    world
        .put_state(moderator, &room, "m.room.tombstone", "", &tombstone)
        .unwrap();
    room
}

/// What somebody else's tombstone says of the rules counts, and somebody's word before that.
#[test]
fn an_adopted_policy_room_goes_by_its_tombstone_or_asks() {
    for (mark, option, expected) in [
        (None, "", None),
        (None, " --policies move", Some(2)),
        (None, " --policies transition", Some(0)),
        (Some("move"), "", Some(2)),
        (Some("moved"), "", Some(2)),
        (Some("transition"), "", Some(0)),
        (Some("nonsense"), "", None),
        (Some("transition"), " --policies move", Some(2)),
    ] {
        let mut sim = Sim::new();
        let room = replaced(&sim, mark);
        says(&mut sim, &format!("!upgrade adopt {room}{option} --yes"));
        let copied = rules(new_room(&sim.world(), &room)).len();
        assert_eq!(copied, expected.unwrap_or(0), "{mark:?} {option}");
        match expected {
            Some(_) => sim.assert_said("is done"),
            None => sim.assert_said(&format!("!upgrade adopt {room} --policies move")),
        }
    }
}

/// Lists a room in the space.
fn put_into_space(sim: &Sim, room: &RoomId) {
    let place = &sim.place;
    let link = content(json!({ "via": [SERVER] }));
    let (by, space) = (&place.moderator, &place.space);
    sim.world()
        .put_state(by, space, "m.space.child", room.as_str(), &link)
        .unwrap();
}

/// One room that needs a decision holds up none of the others.
#[test]
fn a_policy_room_in_a_space_is_told_apart_and_the_others_are_upgraded() {
    let mut sim = Sim::new();
    let (room, place) = (list(&sim, Some(SPECIFIED)), sim.place.clone());
    put_into_space(&sim, &room);
    sim.say(&format!("!upgrade space {} 12", place.space));
    sim.when_said("Plan C1", |world, place, plan| {
        react(world, &place.moderator, &plan.room, &plan.id, "✅");
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("Cannot be upgraded now: 1 room");
    // What follows the campaign and what ends it count the same rooms.
    sim.assert_said("2 of 3 rooms moved");
    sim.assert_said("2 done, 1 cannot be upgraded");
    sim.assert_said("Upgraded 2 of 3 rooms");
    sim.assert_said(&format!("!upgrade {room} 12 --policies transition"));
    assert_eq!(sim.world().rooms[&room].successor(), None);
    for done in [&place.room, &place.space] {
        assert!(sim.world().rooms[done].successor().is_some(), "{done}");
    }
}

/// What is said for the whole space counts for the policy rooms in it.
#[test]
fn the_choice_for_a_space_is_for_the_policy_rooms_in_it() {
    let mut sim = Sim::new();
    let (room, place) = (list(&sim, None), sim.place.clone());
    put_into_space(&sim, &room);
    says(
        &mut sim,
        &format!(
            "!upgrade space {} 12 --policies move --room-type m.policy --yes",
            place.space
        ),
    );
    let world = sim.world();
    let tombstone = |room: &RoomId| {
        world.rooms[room]
            .content("m.room.tombstone", "")
            .unwrap()
            .get(KEY)
            .cloned()
    };
    assert_eq!(tombstone(&room), Some(json!("move")));
    assert_eq!(kind(new_room(&world, &room)), Some(json!(SPECIFIED)));
    assert_eq!(tombstone(&place.space), None);
    assert_eq!(kind(new_room(&world, &place.space)), Some(json!("m.space")));
}
