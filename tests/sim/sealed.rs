//! Scenes about what is encrypted, and about files: keys that are late or missing, rooms in which nothing can be said
//! for lack of them, and uploads that fail; each with what people read then.

use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::Phase;
use serde_json::json;

use crate::fault::{Endpoint, Fault, Fired, Request, Rule};
use crate::oracle;
use crate::place::Place;
use crate::sim::{Sim, body, say};
use crate::world::{MEGOLM, World, content};

const UNREADABLE: &str = "I cannot decrypt this message";

/// The room is encrypted from here on.
fn encrypt(sim: &Sim, room: impl Fn(&Place) -> &ruma::OwnedRoomId) {
    let algorithm = content(json!({ "algorithm": MEGOLM }));
    let (place, kind) = (&sim.place, "m.room.encryption");
    let room = room(place);
    sim.world()
        .put_state(&place.moderator, room, kind, "", &algorithm)
        .unwrap();
}

/// The moderator types into the encrypted admin room, in a session whose key comes later, or never.
fn whisper(sim: &Sim, text: &str, session: &'static str, key: Option<Duration>) {
    let text = text.to_owned();
    sim.after(Duration::from_secs(1), move |world, place| {
        let sent = say(world, &place.moderator, &place.admin_room, &text);
        world.sealed.insert(sent.unwrap(), session.to_owned());
        if let Some(wait) = key {
            world.schedule(wait, move |world| {
                world.keys.insert(session.to_owned());
            });
        }
    });
}

fn said_times(sim: &Sim, part: &str) -> usize {
    let said = sim.said(&sim.place.admin_room);
    said.iter().filter(|text| text.contains(part)).count()
}

fn phases(sim: &Sim) -> Vec<Phase> {
    let jobs = oracle::jobs(&sim.place, &sim.store());
    jobs.iter().map(|(_, state)| state.phase).collect()
}

/// A command is carried out once it can be read; its sender hears of it where the key is not there soon.
#[test]
fn a_command_whose_key_is_late_is_carried_out_once_it_comes() {
    for (key, told, done) in [
        (Some(Duration::ZERO), 0, true),
        (Some(Duration::from_secs(5)), 0, true),
        (Some(Duration::from_mins(2)), 1, true),
        // After ten minutes nobody looks any more.
        (Some(Duration::from_mins(20)), 1, false),
        (None, 1, false),
    ] {
        let mut sim = Sim::new();
        encrypt(&sim, |place| &place.admin_room);
        let command = "!upgrade #garden:sim.test 12 --method staged --yes";
        whisper(&sim, command, "s1", key);
        sim.run();
        sim.assert_promises();
        assert_eq!(said_times(&sim, UNREADABLE), told, "{key:?}");
        let expected: &[Phase] = if done { &[Phase::Done] } else { &[] };
        assert_eq!(phases(&sim), expected, "{key:?}");
    }
}

/// Many messages of one session lack the same key.
#[test]
fn one_missing_key_is_told_of_once() {
    let mut sim = Sim::new();
    encrypt(&sim, |place| &place.admin_room);
    for _ in 0..3 {
        whisper(&sim, "Good morning", "s1", None);
    }
    whisper(&sim, "Good morning", "s2", None);
    sim.run();
    sim.assert_promises();
    assert_eq!(said_times(&sim, UNREADABLE), 2, "once for each session");
}

/// Somebody sends more than are kept for their keys, while a command waits for its own.
#[test]
fn a_flood_of_messages_without_keys_drops_no_command_of_others() {
    let mut sim = Sim::new();
    encrypt(&sim, |place| &place.admin_room);
    let command = "!upgrade #garden:sim.test 12 --method staged --yes";
    whisper(&sim, command, "s1", Some(Duration::from_mins(2)));
    for number in 0..150_u64 {
        let wait = Duration::from_millis(5_000 + number * 100);
        sim.after(wait, |world, place| {
            let sent = say(world, &place.reader, &place.admin_room, "Lorem ipsum");
            world.sealed.insert(sent.unwrap(), "s2".to_owned());
        });
    }
    sim.run();
    sim.assert_promises();
    assert_eq!(phases(&sim), [Phase::Done]);
}

/// The bot has not been told who is in an encrypted room, and so can say nothing there: as the port tells it.
fn sends_to(sim: &Sim, room: &ruma::RoomId, times: usize) -> Fired {
    let room = room.to_string();
    let lacks_keys =
        move |request: &Request| request.endpoint == Endpoint::Send && request.about == room;
    sim.fault(Rule::when(lacks_keys, Fault::Reset).times(times))
}

#[test]
fn what_cannot_be_encrypted_yet_is_said_in_the_admin_room_once_it_can() {
    let mut sim = Sim::new();
    encrypt(&sim, |place| &place.admin_room);
    let fired = sends_to(&sim, &sim.place.admin_room.clone(), 4);
    whisper(
        &sim,
        "!upgrade #garden:sim.test 12 --method staged --yes",
        "s1",
        Some(Duration::ZERO),
    );
    sim.run();
    sim.assert_promises();
    assert_eq!(fired.count(), 4);
    assert_eq!(phases(&sim), [Phase::Done]);
    assert_eq!(said_times(&sim, "Plan #1"), 1);
    assert_eq!(said_times(&sim, "Upgrade #1 is done"), 1);
}

/// The message with the link is a to-do as long as it cannot be sent, and the upgrade goes on.
#[test]
fn a_notice_that_cannot_be_encrypted_is_a_to_do_until_it_can() {
    let mut sim = Sim::new();
    encrypt(&sim, |place| &place.room);
    let fired = sends_to(&sim, &sim.place.room.clone(), 3);
    let missing = "The message with the link to the new room is missing in the old one";
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.lasts(SignedDuration::from_hours(3));
    sim.run();
    sim.assert_promises();
    assert_eq!(fired.count(), 3);
    assert_eq!(phases(&sim), [Phase::Done]);
    let world = sim.world();
    let ever = |part: &str| {
        let mut texts = world.rooms[&sim.place.admin_room]
            .events
            .iter()
            .filter_map(body);
        texts.any(|text| text.contains(part))
    };
    assert!(ever(missing), "the report names it");
    let told = |world: &World| {
        let events = &world.rooms[&sim.place.room].events;
        let mut texts = events.iter().filter(|event| event.sender == sim.place.bot);
        texts.any(|event| body(event).is_some_and(|text| text.contains("matrix.to")))
    };
    assert!(told(&world), "it was posted in the end");
    drop(world);
    assert_eq!(said_times(&sim, missing), 0, "the to-do is ticked off");
}

/// A report is files; where they cannot be uploaded, there are words.
#[test]
fn a_report_that_cannot_be_uploaded_is_answered_in_words() {
    for (fault, said) in [
        (
            Fault::Refuse(413, "M_TOO_LARGE"),
            "it is too large for this server",
        ),
        // A proxy in front of the server.
        (Fault::Page(413), "it is too large for this server"),
        (Fault::Refuse(403, "M_FORBIDDEN"), "the server refused it"),
        (Fault::Page(502), "the server answers with error 502"),
        (Fault::Reset, "the server does not answer"),
    ] {
        let mut sim = Sim::new();
        sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
        sim.run();
        let shown = fault.clone();
        let fired = sim.fault(Rule::on(Endpoint::Upload, fault).always());
        sim.say("!upgrade report 1");
        sim.say_after(Duration::from_mins(10), "!upgrade help");
        sim.run();
        sim.assert_promises();
        assert!(fired.count() > 0);
        for file in ["upgrade-1.txt", "upgrade-1.json"] {
            sim.assert_said(file);
        }
        assert_eq!(said_times(&sim, said), 2, "{shown:?}");
        sim.assert_said("I upgrade rooms");
        assert_eq!(reactions(&sim, "!upgrade report 1"), ["❌"], "{shown:?}");
    }
}

/// The words below a picture say what it shows.
#[test]
fn a_picture_that_cannot_be_uploaded_leaves_its_words() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    let refused = Fault::Refuse(403, "M_FORBIDDEN");
    let fired = sim.fault(Rule::on(Endpoint::Upload, refused).always());
    sim.say("!upgrade status 1");
    sim.run();
    sim.assert_promises();
    assert_eq!(fired.count(), 1);
    sim.assert_said("Gardening: Moved: ");
    assert_eq!(reactions(&sim, "!upgrade status 1"), ["✅"]);
}

/// One that works after a while is sent as it was meant.
#[test]
fn a_report_is_uploaded_once_the_server_can() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    sim.fault(Rule::on(Endpoint::Upload, Fault::Page(502)).times(3));
    sim.say("!upgrade report 1");
    sim.run();
    sim.assert_promises();
    let files = {
        let world = sim.world();
        let events = &world.rooms[&sim.place.admin_room].events;
        let files = events
            .iter()
            .filter(|event| event.text("msgtype") == Some("m.file"));
        files.count()
    };
    assert_eq!(files, 2);
    assert_eq!(reactions(&sim, "!upgrade report 1"), ["✅"]);
}

/// What the bot reacted to a command with.
fn reactions(sim: &Sim, command: &str) -> Vec<String> {
    let world = sim.world();
    let events = &world.rooms[&sim.place.admin_room].events;
    let command = events.iter().find(|event| body(event) == Some(command));
    let command = command.unwrap().id.clone();
    let of_it = events
        .iter()
        .filter(|event| event.redacted_because.is_none());
    of_it
        .filter_map(|event| {
            let relation = event.content.get("m.relates_to")?;
            let is_of_it =
                relation["rel_type"] == "m.annotation" && relation["event_id"] == command.as_str();
            is_of_it.then(|| relation["key"].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}
