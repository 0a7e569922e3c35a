//! Scenes about where people are answered, and by what they may call the bot.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedUserId};
use serde_json::{Value, json};

use crate::limits::{Kind, Limits};
use crate::place::{Place, Setup};
use crate::sim::{Sim, body, react};
use crate::world::{World, content};

/// Somebody sends a message to the admin room with all that their client puts into it.
fn send(world: &mut World, place: &Place, by: &OwnedUserId, message: Value) -> OwnedEventId {
    let transaction = format!("talk{}", world.stream());
    let (room, kind) = (&place.admin_room, "m.room.message");
    world
        .send(by, room, kind, &transaction, &content(message))
        .unwrap()
}

/// A message in the thread that begins with `root`.
fn in_thread(root: &OwnedEventId, text: &str) -> Value {
    let relation = json!({
        "rel_type": "m.thread", "event_id": root,
        "is_falling_back": true, "m.in_reply_to": { "event_id": root },
    });
    json!({ "msgtype": "m.text", "body": text, "m.relates_to": relation })
}

/// What the bot sent to the admin room, edits and reactions left out: the text, and how it relates.
fn sent(sim: &Sim) -> Vec<(String, Value)> {
    let world = sim.world();
    let events = &world.rooms[&sim.place.admin_room].events;
    let messages = events
        .iter()
        .filter(|event| event.sender == sim.place.bot && event.redacted_because.is_none());
    let messages = messages.filter_map(|event| {
        let relation = event.content.get("m.relates_to").cloned();
        let relation = relation.unwrap_or_default();
        let is_edit = relation["rel_type"] == "m.replace";
        Some((body(event)?.to_owned(), relation)).filter(|_| !is_edit)
    });
    messages.collect()
}

#[test]
fn whatever_is_asked_in_a_thread_is_answered_in_it() {
    let mut sim = Sim::with(&Setup {
        pins: 3,
        ..Setup::default()
    });
    // Slow enough for progress to be shown.
    sim.world().limits = Limits::none().with(Kind::Messages, 1.0, 5.0);
    let root = {
        let place = sim.place.clone();
        let talk = json!({ "msgtype": "m.text", "body": "Shall we?" });
        send(&mut sim.world(), &place, &place.moderator, talk)
    };
    let asks = |wait: u64, text: &'static str| {
        let root = root.clone();
        sim.after(Duration::from_secs(wait), move |world, place| {
            send(world, place, &place.moderator, in_thread(&root, text));
        });
    };
    asks(1, "!upgrade #garden:sim.test 12 --method staged");
    sim.when_said("Plan #1", |world, place, plan| {
        react(world, &place.reader, &plan.room, &plan.id, "✅");
        react(world, &place.moderator, &plan.room, &plan.id, "✅");
    });
    asks(600, "!upgrade report 1");
    asks(610, "!upgrade status 1");
    asks(620, "!upgrade space nonsense");
    sim.say_after(Duration::from_secs(700), "!upgrade list");
    sim.run();
    sim.assert_promises();
    let mut said = sent(&sim);
    let (last, relation) = said.pop().unwrap();
    assert_eq!(
        relation.get("rel_type"),
        None,
        "not asked in a thread: {last}"
    );
    assert!(said.len() >= 6, "{said:?}");
    for (text, relation) in said {
        assert_eq!(relation["rel_type"], "m.thread", "{text}");
        assert_eq!(relation["event_id"], json!(root), "{text}");
        assert_eq!(relation["is_falling_back"], false, "{text}");
        assert!(relation["m.in_reply_to"]["event_id"].is_string(), "{text}");
    }
}

/// As clients send it: by hand, and as a pill.
#[test]
fn the_bot_is_called_by_its_name() {
    let bot = "@roomlift:sim.test";
    let pill = |link: &str, rest: &str| {
        json!({
            "msgtype": "m.text", "body": format!("Room Lift{rest}"), "format": "org.matrix.custom.html",
            "formatted_body": format!("<a href=\"https://matrix.to/#/{link}\">Room Lift</a>{rest}"),
            "m.mentions": { "user_ids": [if link.contains("maria") { link } else { bot }] },
        })
    };
    let plain = |text: &str| json!({ "msgtype": "m.text", "body": text });
    let mentioned = |text: &str| json!({ "msgtype": "m.text", "body": text, "m.mentions": { "user_ids": [bot] } });
    for (message, answer) in [
        (plain("roomlift: help"), "!upgrade confirm"),
        (plain("Roomlift, list"), "upgrade"),
        (plain("@roomlift:sim.test: help"), "!upgrade confirm"),
        (plain("@roomlift help"), "!upgrade confirm"),
        (mentioned("Lift: help"), "!upgrade confirm"),
        (pill(bot, " help"), "!upgrade confirm"),
        (pill("%40roomlift%3Asim.test", ": status 7"), "#7"),
        (pill(bot, ""), "!upgrade confirm"),
        (pill(bot, ": hepl"), ""),
        (pill(bot, " is great"), ""),
        (pill("@maria:sim.test", ": help"), ""),
        (plain("roomlift help"), ""),
        (plain("roomlift"), ""),
        (plain("Lift: help"), ""),
        (plain("help"), ""),
        (plain("I asked roomlift: help"), ""),
    ] {
        let mut sim = Sim::new();
        let told = message.clone();
        sim.after(Duration::from_secs(1), move |world, place| {
            send(world, place, &place.moderator, told);
        });
        sim.run();
        sim.assert_promises();
        let said = sim.said(&sim.place.admin_room).join("\n");
        assert_eq!(said.is_empty(), answer.is_empty(), "{message}: {said}");
        assert!(said.contains(answer), "{message}: {said}");
    }
}

/// Who answers the bot and names somebody else asks nothing of it.
#[test]
fn a_reply_that_names_somebody_else_is_no_command() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12");
    sim.when_said("Plan #1", |world, place, plan| {
        let message = json!({
            "msgtype": "m.text", "body": "Dan: confirm 1",
            "m.mentions": { "user_ids": [place.bot] },
            "m.relates_to": { "m.in_reply_to": { "event_id": plan.id } },
        });
        send(world, place, &place.moderator, message);
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("Plan expired");
}

/// A room and a command, both as their clients write them.
#[test]
fn a_pill_of_the_bot_and_one_of_a_room_make_a_command() {
    let mut sim = Sim::new();
    sim.after(Duration::from_secs(1), |world, place| {
        let message = json!({
            "msgtype": "m.text", "body": "Room Lift: upgrade Gardening 12",
            "format": "org.matrix.custom.html",
            "formatted_body": "<p><a href=\"https://matrix.to/#/@roomlift:sim.test\">Room Lift</a>: upgrade \
                <a href=\"https://matrix.to/#/%23garden:sim.test\">Gardening</a> 12</p>",
            "m.mentions": { "user_ids": ["@roomlift:sim.test"] },
        });
        send(world, place, &place.moderator, message);
    });
    sim.confirms();
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}
