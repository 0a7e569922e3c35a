//! The whole bot: the same community and the same conversation on both servers, in the simulation and as a
//! process of its own beside Synapse. What it said and what became of all rooms must be equal.

use std::path::Path;
use std::time::Duration;

use roomlift_testbed::{Bot, Synapse, Timeline, user};
use serde_json::{Value, json};

use super::difference::assert_equal;
use super::server::{Real, Simulated};
use super::{Person, Stage, Transcript};
use crate::place::Place;
use crate::sim::{End, Sim, say};
use crate::story::{OF_EFFORT, is_progress};
use crate::world::World;

/// Longest wait for what the bot says next.
const SPEECH: Duration = Duration::from_mins(1);

/// What is played.
struct Play {
    /// The join rule of the room.
    entry: &'static str,
    steps: fn(&Community, &Stage<'_>) -> Vec<Step>,
}

/// What the moderator does, and after which words of the bot.
struct Step {
    heard: &'static str,
    act: Act,
}

enum Act {
    Say(String),
    /// By another program.
    Upgrade(&'static str),
}

/// Who is there, and where.
struct Community {
    bot: String,
    moderator: String,
    deputy: String,
    member: String,
    banned: String,
    admin_room: String,
    space: String,
    room: String,
    guarded: String,
}

/// A room with everything in it that gets lost in upgrades, and what is around it.
async fn settle(stage: &Stage<'_>, entry: &str) -> Community {
    let [moderator, bot, deputy] = [
        stage.person("maria").await,
        stage.person("roomlift").await,
        stage.person("dan").await,
    ];
    let [member, banned] = [stage.person("member").await, stage.person("spammer").await];
    let server = stage.server_name();
    let users = |bot_level: i64| {
        let (moderator, deputy) = (moderator.id.as_str(), deputy.id.as_str());
        json!({ moderator: 100, deputy: 50, bot.id.as_str(): bot_level })
    };
    let make = async |more: Value| {
        let mut body = json!({
            "room_version": "10", "preset": "public_chat",
            "power_level_content_override": { "users": users(100) },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        moderator.create_room(body).await
    };
    let admin_room = make(json!({
        "room_version": "11", "preset": "private_chat", "name": "Management",
        "invite": [bot.id, deputy.id],
        "power_level_content_override": { "users": users(50) },
    }))
    .await;
    let space =
        make(json!({ "name": "Garden Community", "creation_content": { "type": "m.space" } }))
            .await;
    let event = |kind: &str, key: &str, content: Value| json!({ "type": kind, "state_key": key, "content": content });
    let room = make(json!({
        "name": "Gardening", "topic": "Everything that grows",
        "initial_state": [
            event("m.room.join_rules", "", json!({ "join_rule": entry })),
            event("m.room.guest_access", "", json!({ "guest_access": "forbidden" })),
            event("org.example.beds", "north", json!({ "count": 3 })),
            event("m.space.parent", &space, json!({ "via": [server], "canonical": true })),
            event("m.policy.rule.user", "r1",
                json!({ "entity": "@bad:*", "reason": "spam", "recommendation": "m.ban" })),
        ],
    }))
    .await;
    let allow = json!([{ "type": "m.room_membership", "room_id": room }]);
    let guarded = make(json!({ "name": "Greenhouse" })).await;
    for person in [&bot, &deputy, &member] {
        if entry != "public" {
            moderator.invite(&room, person).await;
        }
        person.join(&room).await;
    }
    for room in [&admin_room, &space, &guarded] {
        bot.join(room).await;
        deputy.join(room).await;
    }
    let rules = json!({ "join_rule": "restricted", "allow": allow });
    moderator
        .put(&guarded, "m.room.join_rules", "", rules)
        .await;
    let [main, second] = [stage.alias("garden"), stage.alias("plants")];
    moderator.set_alias(&main, &room).await;
    moderator.set_alias(&second, &room).await;
    let shown = json!({ "alias": main, "alt_aliases": [second] });
    moderator
        .put(&room, "m.room.canonical_alias", "", shown)
        .await;
    moderator.set_listed(&room, true).await;
    let child = json!({ "via": [server], "order": "a1", "suggested": true });
    moderator.put(&space, "m.space.child", &room, child).await;
    moderator.ban(&room, &banned).await;
    let pin = moderator.say(&room, "Water your plants").await;
    let pins = json!({ "pinned": [pin] });
    moderator.put(&room, "m.room.pinned_events", "", pins).await;
    let id = |person: &Person<'_>| person.id.clone();
    Community {
        bot: id(&bot),
        moderator: id(&moderator),
        deputy: id(&deputy),
        member: id(&member),
        banned: id(&banned),
        admin_room,
        space,
        room,
        guarded,
    }
}

impl Community {
    fn place(&self, stage: &Stage<'_>) -> Place {
        let room = |id: &str| id.parse().expect("a room id");
        let user = |id: &str| id.parse().expect("a user id");
        let alias = |name: &str| stage.alias(name).parse().expect("an address");
        Place {
            bot: user(&self.bot),
            moderator: user(&self.moderator),
            deputy: user(&self.deputy),
            reader: user(&self.member),
            members: vec![user(&self.member)],
            banned: vec![user(&self.banned)],
            admin_room: room(&self.admin_room),
            second_admin_room: None,
            space: room(&self.space),
            room: room(&self.room),
            alias: alias("garden"),
            second_alias: alias("plants"),
            guarded: room(&self.guarded),
        }
    }

    fn config(&self, base_url: &str, password: &str) -> String {
        format!(
            "data_dir = \"data\"\n\n[account]\nhomeserver = \"{base_url}\"\nuser_id = \"{}\"\n\
             password = \"{password}\"\n\n[[admin_room]]\nroom = \"{}\"\n",
            self.bot, self.admin_room
        )
    }
}

/// Plays a conversation in the simulation.
async fn simulate(scene: &str, play: &Play) -> Transcript {
    let simulated = Simulated::new();
    let stage = Stage::new(&simulated, scene);
    let community = settle(&stage, play.entry).await;
    let (place, steps) = (community.place(&stage), (play.steps)(&community, &stage));
    let detached = stage.off();
    let world = simulated.into_world();
    // The simulation has a runtime of its own.
    let run = move || {
        let mut sim = Sim::around(world, place);
        assert_eq!(sim.run(), End::Quiet, "the first start");
        for step in steps {
            let act = move |world: &mut World, place: &Place| match step.act {
                Act::Say(text) => {
                    say(world, &place.moderator, &place.admin_room, &text);
                }
                Act::Upgrade(version) => {
                    let none = [].into();
                    let answer = world.upgrade(&place.moderator, &place.room, version, &none);
                    answer.expect("an upgrade");
                }
            };
            if step.heard.is_empty() {
                sim.after(Duration::from_secs(1), act);
            } else {
                sim.when_said(step.heard, move |world, place, _| act(world, place));
            }
        }
        assert_eq!(sim.run(), End::Quiet, "the conversation");
        let heard = sim.said(&sim.place.admin_room);
        let world = std::mem::replace(&mut *sim.world(), World::new(jiff::Timestamp::UNIX_EPOCH));
        (world, heard)
    };
    let (world, heard) = tokio::task::spawn_blocking(run).await.expect("a run");
    let simulated = Simulated::of(world);
    finish(detached.on(&simulated), &community, heard).await
}

/// Plays it beside Synapse.
async fn perform(scene: &str, play: &Play) -> Transcript {
    let synapse = Synapse::shared().await;
    let real = Real::new(synapse);
    let stage = Stage::new(&real, scene);
    let community = settle(&stage, play.entry).await;
    let moderator = real.user(&community.moderator);
    let mut chat = moderator
        .timeline(&community.admin_room)
        .await
        .within(SPEECH);
    let dir = tempfile::tempdir().expect("a folder for the bot");
    let password = real.user(&community.bot).password;
    let config = community.config(&synapse.base_url(), &password);
    std::fs::write(dir.path().join("config.toml"), config).expect("the configuration is written");
    let binary = Path::new(env!("CARGO_BIN_EXE_roomlift"));
    let bot = Bot::start(binary, ["run", "--config", "config.toml"], dir.path());
    bot.until_logged("ready for commands", SPEECH).await;
    for step in (play.steps)(&community, &stage) {
        if !step.heard.is_empty() {
            hear(&mut chat, &community.bot, step.heard).await;
        }
        match step.act {
            Act::Say(text) => drop(moderator.send_text(&community.admin_room, &text).await),
            Act::Upgrade(version) => drop(moderator.upgrade(&community.room, version).await),
        }
    }
    hear(&mut chat, &community.bot, DONE).await;
    bot.terminate();
    bot.wait_exit(SPEECH).await;
    let mut events = moderator.messages(&community.admin_room, 500).await;
    events.reverse();
    finish(stage, &community, said_in(&events, &community.bot)).await
}

/// What the bot says last.
const DONE: &str = "Upgrade #1 is done";

async fn hear(chat: &mut Timeline, bot: &str, part: &str) {
    let is_it = |event: &Value| {
        event["sender"] == bot
            && event["type"] == "m.room.message"
            && user::text(event).contains(part)
    };
    chat.until(part, is_it).await;
}

/// What somebody said, edits applied.
fn said_in(events: &[Value], by: &str) -> Vec<String> {
    let mut said: Vec<(String, String)> = Vec::new();
    let messages = events
        .iter()
        .filter(|event| event["sender"] == by && event["type"] == "m.room.message");
    for event in messages {
        let text = user::text(event).to_owned();
        let id = event["event_id"].as_str().unwrap_or_default();
        if user::is_edit(event) {
            let original = user::relates_to(event);
            if let Some(entry) = said.iter_mut().find(|(id, _)| Some(&**id) == original) {
                entry.1 = text;
            }
        } else {
            said.push((id.to_owned(), text));
        }
    }
    said.into_iter().map(|(_, text)| text).collect()
}

/// Writes down what was heard, and how everything is in the end.
async fn finish(stage: Stage<'_>, community: &Community, heard: Vec<String>) -> Transcript {
    let new = stage.successor(&community.room, &community.moderator).await;
    stage.know(&new, &community.bot);
    // What is edited there, and when, is a matter of effort.
    stage.leave_out(&community.admin_room);
    let said = heard.iter().filter(|text| !is_progress(text));
    let lines = said.flat_map(|text| text.lines());
    for line in lines.filter(|line| !OF_EFFORT.iter().any(|part| line.contains(part))) {
        stage.write(&format!("the bot: {line}"));
    }
    stage.end().await
}

async fn ends_alike(scene: &str, play: Play) {
    let simulated = simulate(scene, &play).await;
    let real = perform(scene, &play).await;
    assert_equal(scene, &simulated, &real);
}

/// A command, and its confirmation.
fn upgrade(stage: &Stage<'_>, options: &str) -> Vec<Step> {
    let command = format!("!upgrade {} {options}", stage.alias("garden"));
    vec![
        Step {
            heard: "",
            act: Act::Say(command),
        },
        Step {
            heard: "Plan #1",
            act: Act::Say("!upgrade confirm 1".to_owned()),
        },
    ]
}

#[tokio::test]
async fn staged_ends_alike() {
    let play = Play {
        entry: "public",
        steps: |_, stage| upgrade(stage, "12 --method staged"),
    };
    ends_alike("staged", play).await;
}

#[tokio::test]
async fn server_ends_alike() {
    let play = Play {
        entry: "public",
        steps: |_, stage| upgrade(stage, "12 --method server"),
    };
    ends_alike("server", play).await;
}

#[tokio::test]
async fn a_closed_room_ends_alike() {
    let play = Play {
        entry: "invite",
        steps: |_, stage| upgrade(stage, "11 --invite all"),
    };
    ends_alike("closed", play).await;
}

#[tokio::test]
async fn adopt_ends_alike() {
    let play = Play {
        entry: "public",
        steps: |community, _| {
            let command = format!("!upgrade adopt {} --yes", community.room);
            vec![
                Step {
                    heard: "",
                    act: Act::Upgrade("11"),
                },
                Step {
                    heard: "outside Roomlift",
                    act: Act::Say(command),
                },
            ]
        },
    };
    ends_alike("adopt", play).await;
}
