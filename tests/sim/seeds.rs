//! Random simulations: each seed is a community, a server, a command, faults, limits, kills and people who
//! change things meanwhile, all at once. Whatever comes of it, every promise must hold.
//!
//! `ROOMLIFT_SEEDS=5000 cargo test --test sim seeds` runs so many, `ROOMLIFT_SEED_FROM=n` from that one on;
//! `ROOMLIFT_SEED=n cargo test --test sim replay -- --nocapture` runs one and shows its log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use jiff::SignedDuration;
use serde_json::json;

use crate::fault::{Endpoint, Fault, Kill, Request, Rule};
use crate::known;
use crate::limits::{Kind, Limits};
use crate::oracle::Broken;
use crate::place::{Entry, Place, Setup};
use crate::sim::{Sim, react, say};
use crate::world::{Software, World, content};

/// How many seeds a usual run tries.
const SEEDS: u64 = 1000;

/// After so many failures the rest is not run.
const FAILURES_MAX: usize = 20;

/// Seeds that once failed, and are always run.
const KEPT: &str = include_str!("seeds.txt");

/// A simulation that a seed makes, and what is in it.
pub(crate) struct Seeded {
    pub(crate) sim: Sim,
    pub(crate) about: Vec<String>,
}

/// Puts together what a seed stands for.
pub(crate) fn seeded(seed: u64) -> Seeded {
    let mut rng = Rng::with_seed(seed);
    let mut about = Vec::new();
    let setup = setup(&mut rng);
    about.push(format!("{setup:?}"));
    let mut sim = Sim::with(&setup);
    // Whether anything happens at which an upgrade may fail.
    let mut calm = true;
    {
        let mut world = sim.world();
        world.software = match rng.u8(0..10) {
            0 => Software::Bare,
            1 => Software::Palpo,
            2 => Software::Construct,
            _ => Software::Synapse,
        };
        about.push(format!("{:?}", world.software));
        world.encrypts_new_rooms = rng.u8(0..20) == 0;
        // The bot refuses to make a room that would be encrypted.
        calm &= !world.encrypts_new_rooms;
        world.timeline_limit = if rng.u8(0..4) == 0 { 3 } else { 50 };
        if setup.pins == 3 {
            world.repeats = 4;
            about.push("sync repeats itself".to_owned());
        }
    }
    let unlimited = limits(&mut rng, &sim, &mut about);
    calm &= command(&mut rng, &setup, &mut sim, &mut about);
    let faults = rng.usize(0..4);
    for _ in 0..faults {
        calm &= fault(&mut rng, &sim, &mut about);
    }
    for _ in 0..rng.usize(0..4) {
        calm &= person(&mut rng, &sim, &mut about);
    }
    // Every fourth seed also has a rough time around it.
    if seed % 4 == 3 {
        let mut rng = Rng::with_seed(!seed);
        rough(&mut rng, &mut sim, &mut about);
        calm = false;
    }
    // And in every eighth, nobody knows whether the one request that must not be repeated was carried out.
    if seed % 8 == 5 {
        let mut rng = Rng::with_seed(!seed);
        doubtful(&mut rng, &sim, &mut about);
    }
    let kills = [0, 0, 1, 1, 2, 3][rng.usize(0..6)];
    for _ in 0..kills {
        let kill = match rng.u8(0..4) {
            0 => Kill::BeforeRequest(rng.u64(0..60)),
            1 => Kill::AfterRequest(rng.u64(0..60)),
            2 => Kill::BeforeCommit(rng.u64(0..90)),
            _ => Kill::AfterCommit(rng.u64(0..90)),
        };
        about.push(format!("{kill:?}"));
        sim.kill(kill);
    }
    sim.away = Duration::from_millis([500, 700, 5_000, 60_000, 900_000][rng.usize(0..5)]);
    sim.oracle.expect.none_fails = calm;
    sim.oracle.expect.prompt = calm && unlimited && faults == 0 && kills == 0;
    about.push(format!("away {:?}, calm {calm}", sim.away));
    Seeded { sim, about }
}

fn setup(rng: &mut Rng) -> Setup {
    let version = ["6", "9", "10", "10", "11", "12"][rng.usize(0..6)];
    let entry = match (rng.u8(0..6), version) {
        (0, _) => Entry::Invite,
        (1, "9" | "10" | "11" | "12") => Entry::Knock,
        (2, "9" | "10" | "11" | "12") => Entry::Restricted,
        _ => Entry::Public,
    };
    Setup {
        version,
        entry,
        bot_level: [100, 100, 100, 100, 100, 100, 50, 0][rng.usize(0..8)],
        bot_level_around: [100, 100, 100, 50, 0][rng.usize(0..5)],
        members: rng.usize(1..5),
        members_elsewhere: rng.usize(0..3),
        members_gone: [0, 0, 0, 0, 0, 1][rng.usize(0..6)],
        bans: rng.usize(0..4),
        pins: rng.usize(0..4),
        is_listed: entry == Entry::Public && rng.bool(),
        siblings: [0, 0, 0, 1, 2][rng.usize(0..5)],
        has_second_admin_room: false,
    }
}

/// Whether there are none.
fn limits(rng: &mut Rng, sim: &Sim, about: &mut Vec<String>) -> bool {
    let (name, limits) = match rng.u8(0..10) {
        0..=4 => ("no limits", Limits::none()),
        5..=6 => ("Synapse's limits", Limits::synapse()),
        7 => (
            "few messages",
            Limits::none().with(Kind::Messages, 1.0, 3.0),
        ),
        8 => (
            "few rooms",
            Limits::none().with(Kind::RoomCreation, 0.02, 1.0),
        ),
        _ => (
            "few for each invitee",
            Limits::none().with(Kind::InvitesPerInvitee, 0.01, 1.0),
        ),
    };
    about.push(name.to_owned());
    sim.world().limits = limits;
    name == "no limits"
}

/// The command, and how it is confirmed. Whether nothing in it may keep the upgrade from being done.
fn command(rng: &mut Rng, setup: &Setup, sim: &mut Sim, about: &mut Vec<String>) -> bool {
    let mut options = String::new();
    options += ["12", "12", "11", "10"][rng.usize(0..4)];
    let method = [
        "",
        " --method server",
        " --method staged",
        " --method staged",
    ][rng.usize(0..4)];
    options += method;
    options += ["", "", " --invite all", " --invite none"][rng.usize(0..4)];
    options += ["", "", " --join-rule keep"][rng.usize(0..3)];
    let is_review = method.ends_with("staged") && rng.u8(0..6) == 0;
    if is_review {
        options += " --review";
    }
    let mut hours = 8;
    if rng.u8(0..8) == 0 {
        options += " --in 20m";
        options += ["", " --announce"][rng.usize(0..2)];
    }
    if rng.u8(0..8) == 0 {
        options += " --ping 1d,3d";
        hours = 24 * 8;
    }
    sim.lasts(SignedDuration::from_hours(hours));
    let is_campaign = setup.siblings > 0;
    let what = if is_campaign {
        format!("space {}", sim.place.space)
    } else {
        sim.place.alias.to_string()
    };
    let confirm = rng.u8(0..4);
    if confirm == 0 {
        options += " --yes";
    }
    let text = format!("!upgrade {what} {options}");
    about.push(text.clone());
    sim.say(&text);
    let asked = if is_campaign { "Plan C1" } else { "Plan #1" };
    let id = if is_campaign { "C1" } else { "1" };
    match confirm {
        0 => {}
        1 => {
            let typed = format!("!upgrade confirm {id}");
            sim.when_said(asked, move |world, place, _| {
                say(world, &place.moderator, &place.admin_room, &typed);
            });
        }
        _ => {
            sim.when_said(asked, |world, place, plan| {
                react(world, &place.moderator, &plan.room, &plan.id, "✅");
            });
        }
    }
    let looks = [true, true, true, false][rng.usize(0..4)];
    // Somebody loses power while the others look, and that takes a while.
    let lingers = setup.members.is_multiple_of(2);
    if is_review && lingers {
        about.push("the deputy is demoted during the review".to_owned());
    }
    sim.when_said("please look at the new room", move |world, place, event| {
        let key = if looks { "✅" } else { "❌" };
        if !lingers {
            react(world, &place.moderator, &event.room, &event.id, key);
            return;
        }
        set_level(world, place, &place.room.clone(), place.deputy.as_str(), 0);
        let (place, event) = (place.clone(), event.clone());
        world.schedule(Duration::from_secs(30), move |world| {
            react(world, &place.moderator, &event.room, &event.id, key);
        });
    });
    let software = sim.world().software;
    // Others have no upgrade of their own, or one that leaves much to be done.
    software == Software::Synapse || method.ends_with("staged")
}

/// One thing that goes wrong on the way. Whether it can only be waited out.
fn fault(rng: &mut Rng, sim: &Sim, about: &mut Vec<String>) -> bool {
    let endpoints = [
        Endpoint::PutState,
        Endpoint::PutState,
        Endpoint::Send,
        Endpoint::CreateRoom,
        Endpoint::Upgrade,
        Endpoint::State,
        Endpoint::StateEvent,
        Endpoint::CreateAlias,
        Endpoint::DeleteAlias,
        Endpoint::Invite,
        Endpoint::Ban,
        Endpoint::JoinedRooms,
        Endpoint::Members,
        Endpoint::Sync,
        Endpoint::Messages,
        Endpoint::Redact,
        Endpoint::Leave,
        Endpoint::SetListing,
    ];
    let endpoint = endpoints[rng.usize(0..endpoints.len())];
    let anything = rng.u8(0..4) == 0;
    let seconds = |rng: &mut Rng, most| Duration::from_secs(rng.u64(1..most));
    let fault = match rng.u8(0..12) {
        0 | 1 => Fault::Reset,
        2..=4 => Fault::LoseAnswer,
        5 => Fault::Page(502),
        6 => Fault::PageAfter(504),
        7 => Fault::TooMany(Some(seconds(rng, 90))),
        8 => Fault::TooMany(None),
        9 => Fault::Delay(seconds(rng, 40)),
        10 => Fault::Late(seconds(rng, 10), seconds(rng, 15)),
        _ => Fault::Refuse(403, "M_FORBIDDEN"),
    };
    // While an address is being moved it leads nowhere for as long as a server asks to wait.
    let fault = match fault {
        Fault::TooMany(_) if endpoint == Endpoint::CreateAlias => Fault::TooMany(None),
        fault => fault,
    };
    let is_refusal = matches!(fault, Fault::Refuse(..));
    // What never happens.
    let is_read = matches!(
        endpoint,
        Endpoint::Sync | Endpoint::Messages | Endpoint::JoinedRooms
    );
    if is_refusal && (is_read || anything) {
        return true;
    }
    let (skip, times) = (rng.usize(0..12), rng.usize(1..3));
    let place = if anything { "anything" } else { "" };
    about.push(format!(
        "{endpoint:?} {place} {fault:?} skip {skip} times {times}"
    ));
    let matches = move |request: &Request| anything || request.endpoint == endpoint;
    let skip = match endpoint {
        _ if anything => skip * 6,
        // Asked once in an upgrade.
        Endpoint::CreateRoom | Endpoint::Upgrade => 0,
        _ => skip,
    };
    sim.fault(Rule::when(matches, fault).skip(skip).times(times));
    !is_refusal
}

/// The first request for a new room has no certain answer.
fn doubtful(rng: &mut Rng, sim: &Sim, about: &mut Vec<String>) {
    let seconds = Duration::from_secs;
    let fault = match rng.u8(0..6) {
        0 => Fault::LoseAnswer,
        1 => Fault::PageAfter(504),
        2 => Fault::Reset,
        3 => Fault::Page(502),
        4 => Fault::Late(seconds(60), seconds(rng.u64(1..60))),
        _ => Fault::Late(seconds(0), seconds(rng.u64(20..90))),
    };
    about.push(format!("the first request for a room: {fault:?}"));
    let makes =
        |request: &Request| matches!(request.endpoint, Endpoint::CreateRoom | Endpoint::Upgrade);
    sim.fault(Rule::when(makes, fault));
}

/// What happens around the bot: a server that restarts, a clock that jumps, people who leave, change
/// their minds, or whose messages arrive late.
fn rough(rng: &mut Rng, sim: &mut Sim, about: &mut Vec<String>) {
    let from = Duration::from_millis(rng.u64(1_500..20_000));
    match rng.u8(0..6) {
        0 | 1 => {
            let begin = sim.shared.clock.true_now() + from;
            let end = begin + Duration::from_secs(rng.u64(2..50));
            about.push(format!("the server is away from {begin} to {end}"));
            // The pauses between two tries grow to about as long as that.
            sim.world().turned_away += end.duration_since(begin) * 2;
            let shared = Arc::clone(&sim.shared);
            let is_away = move |_: &Request| {
                let now = shared.clock.true_now();
                begin <= now && now < end
            };
            sim.fault(Rule::when(is_away, Fault::Reset).always());
        }
        2 => {
            let seconds = [-7_200, -90, 90, 1_800][rng.usize(0..4)];
            about.push(format!(
                "the bot's clock jumps by {seconds} s after {from:?}"
            ));
            sim.oracle.expect.clock_jumps = true;
            let shared = Arc::clone(&sim.shared);
            sim.after(from, move |_, _| {
                shared.clock.set_off(SignedDuration::from_secs(seconds));
            });
        }
        3 => {
            about.push(format!(
                "the moderator leaves the admin room after {from:?}"
            ));
            sim.after(from, |world, place| {
                let _answer = world.leave(&place.moderator, &place.admin_room);
            });
        }
        4 => {
            about.push(format!("the yes is taken back after {from:?}"));
            sim.after(from, |world, place| {
                let room = &world.rooms[&place.admin_room];
                let yes = room
                    .events
                    .iter()
                    .find(|event| event.sender == place.moderator && event.kind == "m.reaction");
                if let Some(yes) = yes.map(|yes| yes.id.clone()) {
                    let (by, room) = (place.moderator.clone(), place.admin_room.clone());
                    let _answer = world.redact(&by, &room, yes.as_str(), "taken back");
                }
            });
        }
        _ => {
            about.push(format!(
                "a message of half an hour ago arrives after {from:?}"
            ));
            sim.after(from, |world, place| {
                let at = world.now.as_millisecond() - 1_800_000;
                let text = json!({ "msgtype": "m.text", "body": "!upgrade list" });
                let (by, room) = (place.deputy.clone(), place.admin_room.clone());
                world.append_at(&room, &by, "m.room.message", None, content(text), at);
            });
        }
    }
}

/// Something that somebody does meanwhile. Whether it keeps no upgrade from being done.
#[expect(clippy::too_many_lines, reason = "a list of what people do")]
fn person(rng: &mut Rng, sim: &Sim, about: &mut Vec<String>) -> bool {
    type Act = fn(&mut World, &Place);
    let acts: [(&str, bool, Act); 16] = [
        ("demotes the deputy in the room", true, |world, place| {
            set_level(world, place, &place.room.clone(), place.deputy.as_str(), 0);
        }),
        ("demotes the bot in the room", false, |world, place| {
            set_level(world, place, &place.room.clone(), place.bot.as_str(), 10);
        }),
        ("kicks a member", true, |world, place| {
            let (by, who) = (place.moderator.clone(), place.members[0].clone());
            let _answer = world.kick(&by, &place.room, &who, None);
        }),
        ("bans a member", true, |world, place| {
            let (by, who) = (place.moderator.clone(), place.members[0].clone());
            let _answer = world.ban(&by, &place.room, &who, Some("spam"));
        }),
        ("renames the room", true, |world, place| {
            let name = content(json!({ "name": "Gardens" }));
            let _answer = world.put_state(&place.moderator, &place.room, "m.room.name", "", &name);
        }),
        ("pins a message", true, |world, place| {
            let Some(pin) = say(world, &place.moderator, &place.room, "pin me") else {
                return;
            };
            let pins = content(json!({ "pinned": [pin] }));
            let kind = "m.room.pinned_events";
            let _answer = world.put_state(&place.moderator, &place.room, kind, "", &pins);
        }),
        (
            "closes the room by another upgrade",
            false,
            |world, place| {
                let _answer = world.upgrade(&place.moderator, &place.room, "11", &[].into());
            },
        ),
        ("cancels", false, |world, place| {
            say(
                world,
                &place.moderator,
                &place.admin_room,
                "!upgrade cancel 1",
            );
        }),
        ("pauses for a while", false, |world, place| {
            say(world, &place.moderator, &place.admin_room, "!upgrade pause");
            let place = place.clone();
            world.schedule(Duration::from_mins(1), move |world| {
                say(
                    world,
                    &place.moderator,
                    &place.admin_room,
                    "!upgrade resume",
                );
            });
        }),
        ("retries", true, |world, place| {
            say(
                world,
                &place.moderator,
                &place.admin_room,
                "!upgrade retry 1",
            );
        }),
        ("reads help", true, |world, place| {
            say(world, &place.reader, &place.admin_room, "!upgrade help");
        }),
        ("asks for the status", true, |world, place| {
            say(world, &place.deputy, &place.admin_room, "!upgrade status");
        }),
        (
            "demotes the moderator in the admin room",
            false,
            |world, place| {
                set_level(
                    world,
                    place,
                    &place.admin_room.clone(),
                    place.moderator.as_str(),
                    0,
                );
            },
        ),
        ("chats in the admin room", true, |world, place| {
            for number in 0..8 {
                say(
                    world,
                    &place.deputy,
                    &place.admin_room,
                    &format!("word {number}"),
                );
            }
        }),
        ("joins the room", true, |world, place| {
            let late = world.register("late");
            let _answer = world.join(&late, &place.room);
        }),
        ("upgrades again", false, |world, place| {
            let text = format!("!upgrade {} 12 --yes", place.alias);
            say(world, &place.deputy, &place.admin_room, &text);
        }),
    ];
    let (name, harmless, act) = acts[rng.usize(0..acts.len())];
    let at = Duration::from_millis(rng.u64(1_500..25_000));
    about.push(format!("somebody {name} after {at:?}"));
    sim.after(at, act);
    harmless
}

fn set_level(world: &mut World, place: &Place, room: &ruma::OwnedRoomId, user: &str, level: i64) {
    let levels = world.rooms[room].content("m.room.power_levels", "");
    let Some(mut levels) = levels.cloned() else {
        return;
    };
    levels["users"][user] = level.into();
    let _answer = world.put_state(&place.moderator, room, "m.room.power_levels", "", &levels);
}

/// Runs a seed; what was broken.
fn run(seed: u64) -> (Vec<Broken>, Vec<String>) {
    let Seeded { mut sim, about } = seeded(seed);
    sim.run();
    (sim.oracle.broken().into_iter().collect(), about)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The seeds to be run: those that are kept, and a range.
fn all() -> Vec<u64> {
    let kept = KEPT
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok());
    let from = number("ROOMLIFT_SEED_FROM").unwrap_or(0);
    let count = number("ROOMLIFT_SEEDS").unwrap_or(SEEDS);
    kept.chain(from..from + count).collect()
}

#[test]
fn seeds_keep_every_promise() {
    let seeds = all();
    let next = AtomicU64::new(0);
    let failures: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    if failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = usize::try_from(at).ok().and_then(|at| seeds.get(at)) else {
                        return;
                    };
                    let ran = std::panic::catch_unwind(|| run(*seed));
                    let failure = match ran {
                        Ok((broken, about)) => {
                            let new = known::new(&broken);
                            (!new.is_empty()).then(|| format!("{new:?}\n    {}", about.join("\n    ")))
                        }
                        Err(_) => Some("panicked, see above".to_owned()),
                    };
                    if let Some(failure) = failure {
                        println!(
                            "ROOMLIFT_SEED={seed} cargo test --test sim replay -- --nocapture: {failure}"
                        );
                        failures.lock().unwrap().insert(*seed, failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} seeds fail: {:?}",
        failures.len(),
        seeds.len(),
        failures.keys().take(40).collect::<Vec<_>>()
    );
}

/// Shows one seed, with its log. Without `ROOMLIFT_SEED` it runs the first.
#[test]
fn replay() {
    let seed = number("ROOMLIFT_SEED");
    if seed.is_some() {
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("roomlift=debug,sim=trace")
            .with_ansi(false)
            .with_writer(std::io::stdout)
            .without_time()
            .try_init();
        assert!(subscriber.is_ok(), "the log is shown");
    }
    let Seeded { mut sim, about } = seeded(seed.unwrap_or(0));
    println!("{}", about.join("\n"));
    sim.run();
    println!("{}", sim.said(&sim.place.admin_room).join("\n---\n"));
    let broken: Vec<_> = sim.oracle.broken().into_iter().collect();
    assert!(known::new(&broken).is_empty(), "{broken:#?}");
}

/// Transaction ids begin with the id of the database, which is another one each time.
fn without_database(request: &str) -> String {
    let words = request.split(' ').map(|word| match word.split_once('.') {
        Some((id, key)) if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => key,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [1, 7, 11] {
        let tell = || {
            let Seeded { mut sim, .. } = seeded(seed);
            sim.run();
            let log: Vec<_> = sim
                .shared
                .log()
                .iter()
                .map(|logged| without_database(&format!("{} {}", logged.at, logged.request)))
                .collect();
            log.join("\n")
        };
        assert_eq!(tell(), tell(), "seed {seed}");
    }
}
