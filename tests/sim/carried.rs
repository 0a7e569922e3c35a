//! Scenes about what comes along to the new room, and what is said of the rest.

use roomlift::room::state::Content;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::place::{Entry, Place, Setup};
use crate::sim::Sim;
use crate::world::{Room, SERVER, World, content};

const JOIN_RULES: &str = "m.room.join_rules";
const PARENT: &str = "m.space.parent";

fn successor<'a>(world: &'a World, place: &Place) -> &'a Room {
    let new = world.rooms[&place.room].successor().unwrap();
    &world.rooms[<&RoomId>::try_from(new).unwrap()]
}

/// The moderator sets the state of a room.
fn set(world: &mut World, place: &Place, room: &RoomId, slot: (&str, &str), value: Value) {
    world
        .put_state(&place.moderator, room, slot.0, slot.1, &content(value))
        .unwrap();
}

/// The moderator makes a room, and the bot is in it.
fn make(world: &mut World, place: &Place, body: Value) -> OwnedRoomId {
    let room = world.create_room(&place.moderator, &content(body)).unwrap();
    world.join(&place.bot, &room).unwrap();
    room
}

/// The moderator upgrades a room by the server's own command, and the bot goes along.
fn replace(world: &mut World, place: &Place, room: &RoomId) -> OwnedRoomId {
    let new = world
        .upgrade(&place.moderator, room, "11", &[].into())
        .unwrap();
    world.join(&place.bot, &new).unwrap();
    new
}

fn upgrade(sim: &mut Sim, method: &str) {
    sim.say(&format!(
        "!upgrade #garden:sim.test 12 --method {method} --yes"
    ));
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

fn content_of(sim: &Sim, slot: (&str, &str)) -> Option<Content> {
    let world = sim.world();
    successor(&world, &sim.place)
        .content(slot.0, slot.1)
        .cloned()
}

/// A room that lets in the members of another, or says that it is in a space, which were upgraded twice since.
#[test]
fn references_to_rooms_that_were_upgraded_twice_lead_to_the_last() {
    for method in ["staged", "server"] {
        let mut sim = Sim::with(&Setup {
            entry: Entry::Restricted,
            ..Setup::default()
        });
        let place = sim.place.clone();
        let mut world = sim.world();
        let public = json!({ "preset": "public_chat", "room_version": "10" });
        let gate = make(&mut world, &place, public);
        let allow = json!([{ "type": "m.room_membership", "room_id": gate }]);
        let rules = json!({ "join_rule": "restricted", "allow": allow });
        set(&mut world, &place, &place.room, (JOIN_RULES, ""), rules);
        let second = replace(&mut world, &place, &gate);
        let gate = replace(&mut world, &place, &second);
        let space = replace(&mut world, &place, &place.space);
        let space = replace(&mut world, &place, &space);
        drop(world);
        upgrade(&mut sim, method);
        let rules = content_of(&sim, (JOIN_RULES, "")).unwrap();
        let allowed: Vec<_> = rules["allow"].as_array().unwrap().iter().collect();
        let allowed: Vec<_> = allowed.iter().map(|entry| &entry["room_id"]).collect();
        assert_eq!(allowed, [&json!(gate), &json!(place.room)], "{method}");
        let parent = content_of(&sim, (PARENT, space.as_str()));
        let expected = content(json!({ "via": [SERVER], "canonical": true }));
        assert_eq!(parent, Some(expected), "{method}");
        assert_eq!(content_of(&sim, (PARENT, place.space.as_str())), None);
    }
}

/// What leads to a room that is closed itself is not moved there.
#[test]
fn an_upgrade_to_a_room_that_was_upgraded_itself_is_not_finished() {
    let mut sim = Sim::new();
    let place = sim.place.clone();
    let mut world = sim.world();
    let second = replace(&mut world, &place, &place.room);
    let third = replace(&mut world, &place, &second);
    for alias in [&place.alias, &place.second_alias] {
        world.delete_alias(&place.moderator, alias).unwrap();
        world
            .create_alias(&place.moderator, alias, &place.room)
            .unwrap();
    }
    drop(world);
    sim.say(&format!("!upgrade adopt {} --yes", place.room));
    sim.run();
    sim.assert_promises();
    sim.assert_said("was upgraded itself");
    sim.assert_said(third.as_str());
    assert_eq!(sim.world().aliases[&place.alias].room, place.room);
}

/// The old room does not say that it is in its space.
fn without_parent(sim: &Sim) {
    let place = &sim.place;
    let slot = (PARENT, place.space.as_str());
    set(&mut sim.world(), place, &place.room, slot, json!({}));
}

/// The new room says that it is in a space that everybody can see, and not in any other.
#[test]
fn the_new_room_names_the_public_space_that_lists_it() {
    for (method, rule, expected) in [
        ("staged", "public", Some(json!({ "via": [SERVER] }))),
        ("server", "public", Some(json!({ "via": [SERVER] }))),
        ("staged", "invite", None),
    ] {
        let mut sim = Sim::new();
        without_parent(&sim);
        let place = sim.place.clone();
        let rules = json!({ "join_rule": rule });
        let slot = (JOIN_RULES, "");
        set(&mut sim.world(), &place, &place.space, slot, rules);
        upgrade(&mut sim, method);
        let parent = content_of(&sim, (PARENT, place.space.as_str()));
        assert_eq!(parent.map(Value::from), expected, "{method} {rule}");
    }
}

/// Who waits for an answer to their knock is no member, and hears of nothing.
#[test]
fn who_knocks_on_the_old_room_is_named_until_somebody_answers() {
    let mut sim = Sim::with(&Setup {
        entry: Entry::Knock,
        ..Setup::default()
    });
    let place = sim.place.clone();
    let (waits, comes) = {
        let mut world = sim.world();
        let (waits, comes) = (world.register("wanda"), world.register("carl"));
        for user in [&waits, &comes] {
            world.knock(user, &place.room).unwrap();
        }
        (waits, comes)
    };
    sim.say("!upgrade #garden:sim.test 12 --method staged");
    sim.confirms();
    sim.oracle.expect.all_done = true;
    let answered = comes.clone();
    sim.when_said("is done", move |world, place, _| {
        let new = successor(world, place).id.clone();
        world
            .invite(&place.moderator, &new, &answered, None)
            .or_else(|_| world.invite(&place.bot, &new, &answered, None))
            .unwrap();
    });
    sim.say_after(std::time::Duration::from_mins(5), "!upgrade verify 1");
    sim.run();
    sim.assert_promises();
    sim.assert_said("2 people asked to be let in");
    let said = sim.said(&place.admin_room);
    let mut reports = said.iter().filter(|text| text.contains("Left for you"));
    let report = reports.next_back().unwrap();
    assert!(report.contains(&format!("/invite {waits}")), "{report}");
    assert!(!report.contains(comes.as_str()), "{report}");
    let world = sim.world();
    assert_eq!(successor(&world, &place).membership(&waits), "leave");
}

/// Nobody who joins later could read copies of pinned messages.
#[test]
fn pins_that_nobody_could_read_are_not_copied_and_named() {
    for (slot, value, said) in [
        (
            "m.room.history_visibility",
            json!({ "history_visibility": "joined" }),
            "cannot read what was posted before they came",
        ),
        (
            "m.room.history_visibility",
            json!({ "history_visibility": "invited" }),
            "cannot read what was posted before they came",
        ),
        (
            "m.room.encryption",
            json!({ "algorithm": "m.megolm.v1.aes-sha2" }),
            "have no keys for what was posted before they came",
        ),
    ] {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        set(&mut sim.world(), &place, &place.room, (slot, ""), value);
        upgrade(&mut sim, "staged");
        assert_eq!(content_of(&sim, ("m.room.pinned_events", "")), None);
        let texts = sim.said(&place.admin_room);
        let named = texts.iter().filter(|text| text.contains(said));
        assert_eq!(named.count(), 2, "{slot}: {texts:#?}");
    }
}

/// A bridge makes its accounts follow by itself.
#[test]
fn the_bot_of_a_bridge_is_invited_and_none_of_its_accounts() {
    let mut sim = Sim::with(&Setup {
        entry: Entry::Invite,
        ..Setup::default()
    });
    let place = sim.place.clone();
    let (bridge, ghosts) = {
        let mut world = sim.world();
        let bridge = world.register("appservice-irc");
        let ghosts: Vec<_> = (0..24)
            .map(|number| world.register(&format!("_irc_nick{number}")))
            .collect();
        for user in ghosts.iter().chain([&bridge]) {
            world
                .invite(&place.moderator, &place.room, user, None)
                .unwrap();
            world.join(user, &place.room).unwrap();
        }
        (bridge, ghosts)
    };
    let record = json!({ "bridgebot": bridge, "protocol": { "id": "irc" } });
    let slot = ("uk.half-shot.bridge", "irc://libera/#garden");
    set(&mut sim.world(), &place, &place.room, slot, record);
    upgrade(&mut sim, "staged");
    let texts = sim.said(&place.admin_room);
    // The moderator, the deputy, three members, and the bridge's bot.
    sim.assert_said("6 members on 2 servers");
    sim.assert_said("24 accounts of a bridge");
    let world = sim.world();
    let new = successor(&world, &place);
    assert_eq!(new.membership(&bridge), "invite");
    for ghost in &ghosts {
        assert_eq!(new.membership(ghost), "leave");
        assert!(texts.iter().all(|text| !text.contains(ghost.as_str())));
    }
}

/// A policy server checks only what is sent in rooms that it is in.
#[test]
fn a_policy_server_comes_along_and_is_to_be_told() {
    for kind in ["m.room.policy", "org.matrix.msc4284.policy"] {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        let policy = json!({ "via": "policy.test", "public_keys": { "ed25519": "abc" } });
        set(
            &mut sim.world(),
            &place,
            &place.room,
            (kind, ""),
            policy.clone(),
        );
        upgrade(&mut sim, "server");
        assert_eq!(content_of(&sim, (kind, "")), Some(content(policy)));
        let said = sim.said(&place.admin_room);
        let named = said
            .iter()
            .filter(|text| text.contains("the policy server policy.test"));
        assert_eq!(named.count(), 2, "in the plan and in the report");
    }
}
