//! What people saw of a simulation, in a form that two runs can be compared by: without ids that differ
//! from run to run, and without what the bot says of its own effort.

use std::collections::BTreeMap;

use ruma::OwnedRoomId;
use serde_json::Value;

use crate::sim::{Sim, said};
use crate::world::World;

/// Lines that differ when a step was begun twice, or took longer.
pub(crate) const OF_EFFORT: [&str; 4] = [
    "I compared settings",
    "It will take about ",
    "The server asked for a pause",
    "Waiting",
];

/// Whether a message only says how far an upgrade is. There is none where it is done quickly.
pub(crate) fn is_progress(text: &str) -> bool {
    text.starts_with("Upgrade #") && text.contains(" steps\n")
}

/// Everything people saw, and what the rooms are like.
pub(crate) fn story(sim: &Sim) -> String {
    let (world, place) = (sim.world(), &sim.place);
    let rooms = names(&world);
    let mut story = String::new();
    for (id, name) in &rooms {
        for text in said(&world, id, &place.bot) {
            if !is_progress(&text) {
                story.extend([name.as_str(), " | ", &text, "\n"]);
            }
        }
        let Some(room) = world.rooms.get(id) else {
            continue;
        };
        let mut marks: Vec<String> = room
            .events
            .iter()
            .filter(|event| event.sender == place.bot && event.redacted_because.is_none())
            .filter(|event| event.kind == "m.reaction")
            .filter_map(|event| {
                let (relation, to) = event.relation()?;
                let to = room.events.iter().find(|other| other.id == to)?;
                let to = crate::sim::body(to)?.lines().next()?.to_owned();
                let key = event.content.get("m.relates_to")?.get("key")?.as_str()?;
                Some(format!("{relation} {key} on {to}"))
            })
            .collect();
        marks.sort();
        for mark in marks {
            story.extend([name.as_str(), " | ", &mark, "\n"]);
        }
        let mut state: Vec<String> = room
            .state_events()
            .map(|event| {
                let key = event.state_key.as_deref().unwrap_or_default();
                let content = Value::Object(event.content.clone());
                format!("{} {key:?} {} {content}", event.kind, event.sender)
            })
            .collect();
        state.sort();
        for event in state {
            story.extend([name.as_str(), " | ", &event, "\n"]);
        }
    }
    for (alias, address) in &world.aliases {
        story.extend(["address ", alias.as_str(), " ", address.room.as_str(), "\n"]);
    }
    for room in &world.listed {
        story.extend(["listed ", room.as_str(), "\n"]);
    }
    let story = without_event_ids(&story);
    // A room that was taken back is in no story, but in what was said of it.
    let gone = String::from("<gone>");
    let gone = world
        .rooms
        .keys()
        .filter(|id| !rooms.contains_key(*id))
        .map(|id| (id, &gone));
    let mut ids: Vec<_> = rooms.iter().chain(gone).collect();
    // The longest first: one id may be the beginning of another.
    ids.sort_by_key(|(id, _)| std::cmp::Reverse(id.as_str().len()));
    let story = ids
        .into_iter()
        .fold(story, |story, (id, name)| story.replace(id.as_str(), name));
    story
        .lines()
        .filter(|line| !OF_EFFORT.iter().any(|part| line.contains(part)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Names for all rooms: those that were there by their ids, new ones by what they replace.
fn names(world: &World) -> BTreeMap<OwnedRoomId, String> {
    let mut names = BTreeMap::new();
    for (id, room) in &world.rooms {
        let mut back = vec![id.to_string()];
        let mut at = Some(room);
        while let Some(old) = at.and_then(|room| room.predecessor()) {
            back.push(old.to_owned());
            at = world.rooms.values().find(|room| room.id == old);
        }
        let is_alive = !room.members("join").is_empty();
        let first = back.last().cloned().unwrap_or_default();
        if is_alive || first == id.as_str() {
            let name = format!("<{}+{}>", first.trim_start_matches('!'), back.len() - 1);
            names.insert(id.clone(), name);
        }
    }
    names
}

/// Event ids count up with everything that happens.
fn without_event_ids(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("$e") {
        let (before, id) = rest.split_at(at);
        clean.push_str(before);
        clean.push_str("$EVENT");
        let digits = id[2..].find(|c: char| !c.is_ascii_digit());
        rest = &id[2 + digits.unwrap_or(id.len() - 2)..];
    }
    clean.push_str(rest);
    clean
}
