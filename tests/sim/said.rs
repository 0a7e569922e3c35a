//! Scenes about what people are told: plan, report and to-dos say the same, leave nothing out, and end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::Phase;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::fault::{Endpoint, Fault, Rule};
use crate::oracle;
use crate::place::{Entry, Place, Setup};
use crate::sim::{Sim, body, react, say};
use crate::world::{ELSEWHERE, Room, Software, World, content};

const ALIASES: &str = "m.room.canonical_alias";
const LEVELS: &str = "m.room.power_levels";
const PARENT: &str = "m.space.parent";
const TOMBSTONE: &str = "m.room.tombstone";

/// The moderator sets the state of a room.
fn set(world: &mut World, place: &Place, room: &RoomId, kind: &str, key: &str, value: Value) {
    let by = &place.moderator;
    world
        .put_state(by, room, kind, key, &content(value))
        .unwrap();
}

fn successor(world: &World, room: &RoomId) -> OwnedRoomId {
    let new = world.rooms[room].successor().unwrap();
    new.parse().unwrap()
}

fn is_encrypted(room: &Room) -> bool {
    room.content("m.room.encryption", "").is_some()
}

fn assert_not_said(sim: &Sim, part: &str) {
    let said = sim.said(&sim.place.admin_room);
    assert!(
        !said.iter().any(|text| text.contains(part)),
        "{part:?} was said:\n{}",
        said.join("\n---\n")
    );
}

/// What the bot says with these words in it, before it changes any of it.
pub(crate) fn first_with(sim: &Sim, part: &str) -> Arc<Mutex<String>> {
    let heard = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&heard);
    sim.when_said(part, move |_, _, event| {
        let text = body(event).unwrap_or_default();
        text.clone_into(&mut kept.lock().unwrap());
    });
    heard
}

/// What the bot said last with these words in it.
pub(crate) fn last_with(sim: &Sim, part: &str) -> String {
    let said = sim.said(&sim.place.admin_room);
    let found = said.iter().rev().find(|text| text.contains(part));
    let found = found.unwrap_or_else(|| panic!("nobody said {part:?}:\n{}", said.join("\n---\n")));
    found.clone()
}

#[test]
fn auto_keeps_a_room_unencrypted_on_a_server_that_encrypts() {
    let mut sim = Sim::new();
    sim.world().encrypts_new_rooms = true;
    sim.say("!upgrade #garden:sim.test 12");
    sim.confirms();
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    let world = sim.world();
    let new = successor(&world, &sim.place.room);
    assert!(!is_encrypted(&world.rooms[&new]));
    drop(world);
    sim.assert_said("Method `staged`, as the server's own upgrade would encrypt the new room");
}

#[test]
fn a_room_that_cannot_stay_unencrypted_is_not_begun() {
    let mut sim = Sim::with(&Setup {
        entry: Entry::Invite,
        ..Setup::default()
    });
    sim.world().encrypts_new_rooms = true;
    sim.say("!upgrade #garden:sim.test 12 --yes");
    sim.run();
    sim.assert_promises();
    assert_eq!(sim.world().rooms[&sim.place.room].successor(), None);
    sim.assert_said("encryption_enabled_by_default_for_room_type");
    sim.assert_said("--method server");
    assert_not_said(&sim, "Not done, upgrade");
}

#[test]
fn encryption_by_the_servers_own_upgrade_is_in_plan_and_report() {
    let mut sim = Sim::new();
    sim.world().encrypts_new_rooms = true;
    sim.say("!upgrade #garden:sim.test 12 --method server");
    sim.confirms();
    sim.run();
    let plan = last_with(&sim, "Plan #1");
    assert!(plan.contains("will be encrypted"), "{plan}");
    let report = last_with(&sim, "Upgrade #1 is done");
    assert!(report.contains("The new room is encrypted"), "{report}");
}

/// The server did not say so before.
#[test]
fn encryption_that_nobody_could_know_of_is_in_the_report() {
    let mut sim = Sim::new();
    sim.fault(Rule::before(
        |request| request.endpoint == Endpoint::Upgrade,
        |world| world.encrypts_new_rooms = true,
    ));
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.run();
    let report = last_with(&sim, "Upgrade #1 is done");
    assert!(report.contains("The new room is encrypted"), "{report}");
}

#[test]
fn nobody_who_is_banned_becomes_a_creator() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --creator @spammer0:sim.test --yes");
    sim.run();
    sim.assert_promises();
    sim.assert_said("is banned in this room");
    assert_eq!(sim.world().rooms[&sim.place.room].successor(), None);
}

/// Somebody else is faster, at whatever step.
#[test]
fn who_was_faster_is_named_and_where_it_leads() {
    let faster = |world: &mut World, place: &Place| {
        let (by, room) = (&place.moderator, &place.room);
        world.upgrade(by, room, "11", &[].into()).unwrap();
    };
    for (options, endpoint) in [
        ("--method staged --review", None),
        ("--method staged", Some(Endpoint::CreateRoom)),
        ("--method server", Some(Endpoint::Upgrade)),
    ] {
        let mut sim = Sim::new();
        let place = sim.place.clone();
        if let Some(endpoint) = endpoint {
            sim.fault(Rule::before(
                move |request| request.endpoint == endpoint,
                move |world| faster(world, &place),
            ));
        }
        sim.when_said("please look at the new room", move |world, place, asked| {
            faster(world, place);
            react(world, &place.moderator, &asked.room, &asked.id, "✅");
        });
        sim.say(&format!("!upgrade #garden:sim.test 12 {options} --yes"));
        sim.run();
        let jobs = oracle::jobs(&sim.place, &sim.store());
        assert_eq!(jobs[0].1.phase, Phase::Failed, "{options}");
        let new = successor(&sim.world(), &sim.place.room);
        let said = last_with(&sim, "Not done, upgrade #1");
        let adopt = format!("!upgrade adopt {}", sim.place.room);
        for part in [sim.place.moderator.as_str(), new.as_str(), &adopt] {
            assert!(said.contains(part), "{options}: {part} is not in {said}");
        }
        assert!(!said.contains("!upgrade retry"), "{options}: {said}");
        assert_not_said(&sim, "The old room is unchanged");
    }
}

/// It closed nothing: nobody is led anywhere by it.
#[test]
fn a_room_whose_tombstone_names_no_room_is_upgraded() {
    for (method, target) in [("staged", ""), ("server", ""), ("staged", "itself")] {
        let mut sim = Sim::new();
        {
            let place = sim.place.clone();
            let mut world = sim.world();
            let to = match target {
                "itself" => place.room.as_str(),
                _ => "",
            };
            let tombstone = json!({ "body": "closed", "replacement_room": to });
            // Not every server refuses these.
            let (by, room) = (&place.moderator, &place.room);
            world.append(room, by, TOMBSTONE, Some(""), content(tombstone));
        }
        sim.say(&format!("!upgrade #garden:sim.test 12 --method {method}"));
        sim.confirms();
        sim.run();
        let plan = last_with(&sim, "Plan #1");
        assert!(plan.contains("leads nowhere"), "{plan}");
        assert!(!plan.contains("adopt"), "{plan}");
        let report = last_with(&sim, "Upgrade #1 is done");
        assert!(report.contains("points to the new one"), "{report}");
        let new = successor(&sim.world(), &sim.place.room);
        assert_ne!(new, sim.place.room, "{method} {target}");
    }
}

/// `adopt` says what to do instead, and that works.
#[test]
fn there_is_a_way_out_of_a_tombstone_to_a_strangers_room() {
    let mut sim = Sim::new();
    {
        let place = sim.place.clone();
        let mut world = sim.world();
        let tombstone = json!({ "body": "closed", "replacement_room": place.space });
        set(&mut world, &place, &place.room, TOMBSTONE, "", tombstone);
    }
    sim.say("!upgrade adopt #garden:sim.test");
    sim.say_after(Duration::from_secs(20), "!upgrade #garden:sim.test 12");
    sim.after(Duration::from_secs(40), |world, place| {
        let tombstone = world.rooms[&place.room].event(TOMBSTONE, "").unwrap();
        let id = tombstone.id.clone();
        let (by, room) = (&place.moderator, &place.room);
        world.redact(by, room, id.as_str(), "away").unwrap();
        let (admin, again) = (&place.admin_room, "!upgrade #garden:sim.test 12 --yes");
        say(world, by, admin, again);
    });
    sim.run();
    let adopt = last_with(&sim, "Plan #1");
    assert!(adopt.contains("remove the event"), "{adopt}");
    let plain = last_with(&sim, "Plan #2");
    assert!(!plain.contains("!upgrade adopt"), "{plain}");
    assert!(plain.contains("remove the event"), "{plain}");
    sim.assert_said("Upgrade #3 is done");
}

/// A community whose room is shown under an address on another server as well, which its people move at once.
fn with_address_elsewhere() -> (Sim, String) {
    let sim = Sim::new();
    let far = format!("#far:{ELSEWHERE}");
    let place = sim.place.clone();
    {
        let mut world = sim.world();
        let user = place.members.last().unwrap();
        let alias = far.as_str().try_into().unwrap();
        world.create_alias(user, alias, &place.room).unwrap();
        let shown = json!({ "alias": place.alias, "alt_aliases": [place.second_alias, far] });
        set(&mut world, &place, &place.room, ALIASES, "", shown);
        world.refuses_to_show.insert(alias.to_owned());
    }
    let address = far.clone();
    let moves = Rule::before(
        |request| request.endpoint == Endpoint::Resolve,
        move |world| {
            if let Some(new) = world.rooms[&place.room].successor() {
                let new = new.parse().unwrap();
                let alias: ruma::OwnedRoomAliasId = address.parse().unwrap();
                world.aliases.get_mut(&alias).unwrap().room = new;
            }
        },
    );
    sim.fault(moves.always());
    (sim, far)
}

#[test]
fn an_address_that_the_server_does_not_show_hides_no_other() {
    let (mut sim, far) = with_address_elsewhere();
    sim.lasts(SignedDuration::from_hours(3));
    sim.when_said("Upgrade #1 is done", {
        let far = far.clone();
        move |world, place, _| {
            let new = successor(world, &place.room);
            let shown = world.rooms[&new].content(ALIASES, "").unwrap().clone();
            assert_eq!(shown["alias"], json!(place.alias));
            assert_eq!(shown["alt_aliases"], json!([place.second_alias]));
            // Somebody shows it whose server does.
            let shown = json!({ "alias": place.alias, "alt_aliases": [place.second_alias, far] });
            let place = place.clone();
            world.schedule(Duration::from_mins(30), move |world| {
                world.refuses_to_show.clear();
                world.join(&place.moderator, &new).unwrap();
                set(world, &place, &new, ALIASES, "", shown);
            });
        }
    });
    sim.world().software = Software::Palpo;
    sim.say("!upgrade #garden:sim.test 11 --method server --yes");
    let first = first_with(&sim, "Upgrade #1 is done");
    sim.run();
    let first = first.lock().unwrap();
    assert!(first.contains(&format!("does not show `{far}`")), "{first}");
    let last = last_with(&sim, "Upgrade #1 is done");
    assert!(!last.contains("does not show"), "it ticks off: {last}");
}

#[test]
fn the_end_of_a_campaign_names_all_rooms_of_its_plan() {
    let mut sim = Sim::with(&Setup {
        siblings: 2,
        ..Setup::default()
    });
    {
        let place = sim.place.clone();
        let mut world = sim.world();
        let named = |room: &Room| {
            let name = room.content("m.room.name", "");
            name.is_some_and(|name| name["name"] == "Bed 1")
        };
        let bed = world.rooms.values().find(|room| named(room)).unwrap();
        let mut levels = bed.content(LEVELS, "").unwrap().clone();
        let bed = bed.id.clone();
        levels["users"][place.bot.as_str()] = 0.into();
        world.append(&bed, &place.moderator, LEVELS, Some(""), levels);
    }
    let space = sim.place.space.clone();
    sim.say(&format!("!upgrade space {space} 12 --yes"));
    sim.run();
    sim.assert_promises();
    let plan = last_with(&sim, "Plan C1");
    assert!(plan.contains("upgrade 3 rooms of"), "{plan}");
    assert!(plan.contains("Cannot be upgraded now: 1 room"), "{plan}");
    let end = last_with(&sim, "Upgraded 3 of");
    assert!(end.contains("Upgraded 3 of 4 rooms"), "{end}");
    assert!(end.contains("Bed 1"), "{end}");
    assert!(!end.contains("Done, campaign"), "{end}");
}

/// It can be put into the list by the bot, once that is invited there.
#[test]
fn a_space_that_the_bot_cannot_see_is_left_to_do_until_it_can() {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(4));
    let hidden = {
        let place = sim.place.clone();
        let mut world = sim.world();
        let users = json!({ place.moderator.as_str(): 100, place.bot.as_str(): 100 });
        let body = json!({
            "room_version": "10", "preset": "private_chat", "name": "Hidden",
            "creation_content": { "type": "m.space" },
            "power_level_content_override": { "users": users },
        });
        let hidden = world.create_room(&place.moderator, &content(body)).unwrap();
        let link = json!({ "via": ["sim.test"] });
        let (room, key) = (&place.room, hidden.as_str());
        set(&mut world, &place, room, PARENT, key, link.clone());
        set(
            &mut world,
            &place,
            &hidden,
            "m.space.child",
            room.as_str(),
            link,
        );
        hidden
    };
    let space = hidden.clone();
    sim.when_said("Upgrade #1 is done", move |world, place, _| {
        let place = place.clone();
        world.schedule(Duration::from_mins(20), move |world| {
            let (by, bot) = (&place.moderator, &place.bot);
            world.invite(by, &space, bot, None).unwrap();
            world.join(bot, &space).unwrap();
        });
    });
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    let first = first_with(&sim, "Upgrade #1 is done");
    sim.run();
    sim.assert_promises();
    let plan = last_with(&sim, "Plan #1");
    assert!(plan.contains(hidden.as_str()), "{plan}");
    let first = first.lock().unwrap();
    assert!(first.contains("Left for you: 1 thing"), "{first}");
    assert!(first.contains(hidden.as_str()), "{first}");
    let last = last_with(&sim, "Upgrade #1 is done");
    assert!(last.contains("Nothing is left to do"), "{last}");
    let world = sim.world();
    let new = successor(&world, &sim.place.room);
    let link = world.rooms[&hidden].content("m.space.child", new.as_str());
    assert!(link.is_some(), "{last}");
}

#[test]
fn a_plan_says_only_what_the_bot_may_do() {
    let mut sim = Sim::with(&Setup {
        bot_level_around: 0,
        ..Setup::default()
    });
    sim.say("!upgrade plan #garden:sim.test 12");
    sim.run();
    let plan = last_with(&sim, "Plan #1");
    assert!(plan.contains("change its list of rooms"), "{plan}");
    assert!(!plan.contains("space lists the new room"), "{plan}");
}

#[test]
fn doctor_and_rooms_count_the_same() {
    let mut sim = Sim::with(&Setup {
        version: "12",
        bot_level: 50,
        ..Setup::default()
    });
    sim.say("!upgrade doctor");
    sim.say_after(Duration::from_secs(20), "!upgrade rooms");
    sim.run();
    let rooms = last_with(&sim, "target version 12");
    assert!(rooms.contains("Ready: 2 rooms"), "{rooms}");
    assert!(rooms.contains("Already on version 12: 1 room"), "{rooms}");
    let doctor = last_with(&sim, "Checks");
    assert!(!doctor.contains("Power level too low"), "{doctor}");
    assert!(doctor.contains("enough in 2 of 2 rooms"), "{doctor}");
}

#[test]
fn doctor_waits_for_moderators_who_are_invited() {
    let mut sim = Sim::new();
    {
        let place = sim.place.clone();
        let mut world = sim.world();
        let room = &place.admin_room;
        world.leave(&place.deputy, room).unwrap();
        world.leave(&place.moderator, room).unwrap();
        let bot = &place.bot;
        world.invite(bot, room, &place.moderator, None).unwrap();
    }
    sim.after(Duration::from_secs(1), |world, place| {
        say(world, &place.reader, &place.admin_room, "!upgrade doctor");
    });
    sim.run();
    let doctor = last_with(&sim, "Checks");
    let invited = format!(
        "`{}` is invited and has not accepted yet",
        sim.place.moderator
    );
    assert!(doctor.contains(&invited), "{doctor}");
    assert!(!doctor.contains("Name another room"), "{doctor}");
}

/// The address cannot be made for the new room: that is what is left to do, and nothing that follows from it.
#[test]
fn an_address_that_stays_is_the_only_thing_left() {
    let mut sim = Sim::new();
    let bot = sim.place.bot.clone();
    sim.world().denies_aliases_to.insert(bot);
    let second = sim.place.second_alias.clone();
    {
        let place = sim.place.clone();
        let mut world = sim.world();
        world.delete_alias(&place.moderator, &second).unwrap();
        let shown = json!({ "alias": place.alias });
        set(&mut world, &place, &place.room, ALIASES, "", shown);
    }
    sim.oracle.forget();
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    let end = last_with(&sim, "Upgrade #1 is done");
    assert!(end.contains("Left for you: 1 thing"), "{end}");
    assert!(end.contains(sim.place.alias.as_str()), "{end}");
    assert!(end.contains("Not allowed to create alias"), "{end}");
    assert!(!end.contains("still shows something else"), "{end}");
}

/// Which request it was, and what the server said.
#[test]
fn a_request_that_is_refused_is_named() {
    let mut sim = Sim::new();
    let before: Vec<_> = sim.world().rooms.keys().map(ToString::to_string).collect();
    let reads = move |request: &crate::fault::Request| {
        request.endpoint == Endpoint::State && !before.contains(&request.about)
    };
    sim.fault(Rule::when(reads, Fault::Refuse(400, "M_UNKNOWN")).always());
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.run();
    let end = last_with(&sim, "Stuck, upgrade #1");
    let new = successor(&sim.world(), &sim.place.room);
    assert!(end.contains(&format!("State {new}")), "{end}");
    assert!(end.contains("simulated refusal"), "{end}");
}

/// What the server is called is a nicety.
#[test]
fn a_server_that_fails_to_say_what_it_is_upgrades_rooms() {
    for fault in [
        Fault::Page(502),
        Fault::Page(404),
        Fault::Reset,
        Fault::Refuse(404, "M_UNRECOGNIZED"),
    ] {
        let mut sim = Sim::new();
        let fired = sim.fault(Rule::on(Endpoint::Software, fault.clone()).always());
        sim.say("!upgrade #garden:sim.test 12");
        sim.confirms();
        sim.oracle.expect.all_done = true;
        sim.run();
        assert!(fired.count() > 0, "{fault:?}");
        sim.assert_promises();
        sim.assert_said("Upgrade #1 is done");
    }
}

/// Palpo stores some types of events under names of its own.
#[test]
fn what_the_server_renames_is_not_called_equal() {
    for method in ["staged", "server"] {
        let mut sim = Sim::new();
        let (kind, place) = ("im.ponies.room_emotes", sim.place.clone());
        let emotes = json!({ "images": { "wave": { "url": "mxc://sim.test/wave" } } });
        {
            let mut world = sim.world();
            set(&mut world, &place, &place.room, kind, "", emotes.clone());
            let stored = "m.room.image_pack".to_owned();
            world.renames.insert(kind.to_owned(), stored);
        }
        sim.say(&format!(
            "!upgrade #garden:sim.test 12 --method {method} --yes"
        ));
        sim.run();
        let end = last_with(&sim, "Upgrade #1 is done");
        assert!(end.contains(kind), "{method}: {end}");
        assert!(!end.contains("Nothing is left to do"), "{method}: {end}");
    }
}
