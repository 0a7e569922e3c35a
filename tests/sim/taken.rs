//! Scenes in which people take something away, or change something, while a room is upgraded: nothing older
//! than the moment is written back (P12).

use std::time::Duration;

use jiff::SignedDuration;
use roomlift::room::state::Content;
use serde_json::{Value, json};

use crate::fault::{Endpoint, Request, Rule};
use crate::limits::{Kind, Limits};
use crate::place::Place;
use crate::sim::{Sim, say};
use crate::world::{Levels, Room, Software, World, content};

const LEVELS: &str = "m.room.power_levels";
const TOMBSTONE: &str = "m.room.tombstone";

fn sets(kind: &'static str) -> impl Fn(&Request) -> bool + Send {
    move |request| request.endpoint == Endpoint::PutState && request.detail.starts_with(kind)
}

fn posts(transaction: &'static str) -> impl Fn(&Request) -> bool + Send {
    move |request| request.endpoint == Endpoint::Send && request.detail.contains(transaction)
}

fn is(endpoint: Endpoint) -> impl Fn(&Request) -> bool + Send {
    move |request| request.endpoint == endpoint
}

/// The moderator sets the state of a room.
fn set(world: &mut World, place: &Place, kind: &str, value: Value) {
    let (by, room) = (&place.moderator, &place.room);
    world
        .put_state(by, room, kind, "", &content(value))
        .unwrap();
}

fn demote_deputy(world: &mut World, place: &Place) {
    let levels = world.rooms[&place.room].content(LEVELS, "");
    let mut levels = levels.unwrap().clone();
    levels["users"][place.deputy.as_str()] = 0.into();
    levels.insert("ban".to_owned(), 70.into());
    set(world, place, LEVELS, Value::Object(levels));
}

fn successor<'a>(world: &'a World, place: &Place) -> &'a Room {
    let new = world.rooms[&place.room].successor().unwrap();
    &world.rooms[<&ruma::RoomId>::try_from(new).unwrap()]
}

fn levels_of(room: &Room) -> Content {
    room.content(LEVELS, "").unwrap().clone()
}

fn upgrade(sim: &mut Sim, method: &str) {
    sim.say(&format!(
        "!upgrade #garden:sim.test 11 --method {method} --yes"
    ));
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

#[test]
fn who_is_demoted_in_the_last_moment_stays_demoted_in_both_rooms() {
    type When = Box<dyn Fn(&Request) -> bool + Send>;
    let moments: [(&str, When); 5] = [
        ("staged", Box::new(sets(TOMBSTONE))),
        ("staged", Box::new(is(Endpoint::CreateRoom))),
        ("staged", Box::new(is(Endpoint::CreateAlias))),
        ("server", Box::new(is(Endpoint::Upgrade))),
        ("server", Box::new(posts("notice."))),
    ];
    for (method, moment) in moments {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        let fired = sim.fault(Rule::before(moment, move |world| {
            demote_deputy(world, &place);
        }));
        upgrade(&mut sim, method);
        assert_eq!(fired.count(), 1);
        let world = sim.world();
        let deputy = &sim.place.deputy;
        let (old, new) = (&world.rooms[&sim.place.room], successor(&world, &sim.place));
        assert_eq!(Levels::of(old).of_user(deputy), 0, "old room, {method}");
        assert_eq!(Levels::of(new).of_user(deputy), 0, "new room, {method}");
        assert_eq!(levels_of(new)["ban"], json!(70), "{method}");
    }
}

#[test]
fn what_is_changed_while_the_new_room_is_made_comes_along() {
    for (method, moment) in [
        ("staged", Endpoint::CreateRoom),
        ("server", Endpoint::Upgrade),
    ] {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        sim.fault(Rule::before(is(moment), move |world| {
            set(world, &place, "m.room.name", json!({ "name": "Gardens" }));
            let spam = place.members[0].clone();
            world
                .ban(&place.moderator, &place.room, &spam, None)
                .unwrap();
        }));
        upgrade(&mut sim, method);
        let world = sim.world();
        let new = successor(&world, &sim.place);
        assert_eq!(
            new.content("m.room.name", "").unwrap()["name"],
            json!("Gardens")
        );
        assert_eq!(new.membership(&sim.place.members[0]), "ban");
    }
}

/// An address that somebody removes does not come back, and one that somebody adds is moved.
#[test]
fn addresses_that_are_removed_or_added_meanwhile_are_as_people_left_them() {
    let mut sim = Sim::new();
    let place = sim.place.clone();
    let [gone, more] = ["#gone:sim.test", "#more:sim.test"].map(|alias| {
        let alias: ruma::OwnedRoomAliasId = alias.parse().unwrap();
        alias
    });
    let by = &place.moderator;
    sim.world().create_alias(by, &gone, &place.room).unwrap();
    let (removed, added, at) = (gone.clone(), more.clone(), place.clone());
    sim.fault(Rule::before(is(Endpoint::CreateRoom), move |world| {
        let by = &at.moderator;
        world.delete_alias(by, &removed).unwrap();
        world.create_alias(by, &added, &at.room).unwrap();
    }));
    upgrade(&mut sim, "staged");
    let world = sim.world();
    let new = &successor(&world, &place).id;
    assert!(!world.aliases.contains_key(&gone), "it came back");
    assert_eq!(world.aliases[&more].room, *new);
}

/// After the tombstone the old room is what people leave behind.
#[test]
fn a_new_name_for_the_closed_room_stays_there() {
    for method in ["staged", "server"] {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        sim.fault(Rule::before(posts("notice."), move |world| {
            set(
                world,
                &place,
                "m.room.name",
                json!({ "name": "[old] Garden" }),
            );
        }));
        upgrade(&mut sim, method);
        let world = sim.world();
        let new = successor(&world, &sim.place);
        assert_eq!(
            new.content("m.room.name", "").unwrap()["name"],
            json!("Gardening")
        );
    }
}

#[test]
fn a_pin_of_the_last_moment_stays_pinned() {
    let mut sim = Sim::new();
    let place = sim.place.clone();
    sim.fault(Rule::before(posts("notice."), move |world| {
        let pin = say(world, &place.moderator, &place.room, "pin me").unwrap();
        set(
            world,
            &place,
            "m.room.pinned_events",
            json!({ "pinned": [pin] }),
        );
    }));
    upgrade(&mut sim, "staged");
    let world = sim.world();
    let pinned = &world.rooms[&sim.place.room]
        .content("m.room.pinned_events", "")
        .unwrap()["pinned"];
    assert_eq!(pinned.as_array().unwrap().len(), 2, "{pinned}");
}

/// Another room that lets in the old one's members is closed just before the bot repoints its rule.
#[test]
fn a_room_that_was_just_closed_is_not_opened_again() {
    for moment in [Endpoint::CreateAlias, Endpoint::SetListing] {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        let fired = sim.fault(Rule::before(is(moment), move |world| {
            let rules = content(json!({ "join_rule": "invite" }));
            let (by, kind) = (&place.moderator, "m.room.join_rules");
            world
                .put_state(by, &place.guarded, kind, "", &rules)
                .unwrap();
        }));
        upgrade(&mut sim, "staged");
        if fired.count() == 0 {
            continue;
        }
        let world = sim.world();
        let rules = world.rooms[&sim.place.guarded].content("m.room.join_rules", "");
        assert_eq!(rules.unwrap()["join_rule"], json!("invite"), "{moment:?}");
    }
}

/// Somebody closes the room by mistake, takes that back, and the room is used on.
#[test]
fn a_redacted_tombstone_gives_no_power_back() {
    for (software, method) in [
        (Software::Bare, "staged"),
        (Software::Bare, "server"),
        (Software::Synapse, "staged"),
    ] {
        let mut sim = Sim::new();
        {
            let (mut world, place) = (sim.world(), &sim.place);
            world.software = software;
            let moderator = &place.moderator;
            let nowhere =
                content(json!({ "body": "oops", "replacement_room": "!nowhere:sim.test" }));
            let sent = world
                .put_state(moderator, &place.room, TOMBSTONE, "", &nowhere)
                .unwrap();
            world
                .redact(moderator, &place.room, sent.as_str(), "oops")
                .unwrap();
            demote_deputy(&mut world, place);
        }
        upgrade(&mut sim, method);
        let world = sim.world();
        let new = successor(&world, &sim.place);
        assert_eq!(
            Levels::of(new).of_user(&sim.place.deputy),
            0,
            "{software:?} {method}"
        );
        assert_eq!(levels_of(new)["ban"], json!(70));
    }
}

/// A room that somebody else closed, with levels that were changed since: only what closing raises is undone.
#[test]
fn adopting_undoes_only_what_closing_raised() {
    let mut sim = Sim::new();
    {
        let (mut world, place) = (sim.world(), sim.place.clone());
        let none = [].into();
        world
            .upgrade(&place.moderator, &place.room, "11", &none)
            .unwrap();
        demote_deputy(&mut world, &place);
    }
    let room = sim.place.room.clone();
    sim.say(&format!("!upgrade adopt {room} --yes"));
    sim.run();
    sim.assert_said("Upgrade #1 is done");
    let world = sim.world();
    let new = successor(&world, &sim.place);
    assert_eq!(Levels::of(new).of_user(&sim.place.deputy), 0);
}

/// A limit holds up what is written, and not what was read for it: that is read when the turn has come.
#[test]
fn who_is_demoted_while_a_limit_holds_up_the_bot_stays_demoted() {
    let mut sim = Sim::new();
    sim.world().limits = Limits::none().with(Kind::Messages, 0.1, 2.0);
    sim.lasts(SignedDuration::from_hours(2));
    let place = sim.place.clone();
    let room = place.room.to_string();
    let of_levels = move |request: &Request| {
        request.endpoint == Endpoint::StateEvent
            && request.about == room
            && request.detail.starts_with(LEVELS)
    };
    let fired = sim.fault(Rule::before(of_levels, move |world| {
        let place = place.clone();
        world.schedule(Duration::from_secs(3), move |world| {
            demote_deputy(world, &place);
        });
    }));
    upgrade(&mut sim, "staged");
    assert_eq!(fired.count(), 1);
    let world = sim.world();
    let (old, deputy) = (&world.rooms[&sim.place.room], &sim.place.deputy);
    assert_eq!(Levels::of(old).of_user(deputy), 0);
}
