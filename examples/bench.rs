//! What the bot costs, measured on a throwaway Synapse without rate limits, in one run.
//!
//! `cargo run --release --example bench` measures everything; `-- upgrade` or `-- memory` one part.
//! Times are compared within the run, as a machine's speed differs from day to day: the bot's
//! upgrade against a script that does the bare minimum, one request after the other.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use roomlift_testbed::{Bot, Community, Synapse, SynapseOptions, User, Wanted, eventually, user};
use serde_json::{Value, json};

/// The argument that makes this program the bot.
const AS_BOT: &str = "as-bot";

/// Upgrades of each kind; the medians are compared.
const ROUNDS: usize = 5;

/// The bot may take so many times what the script takes.
const RATIO_MAX: f64 = 1.25;

/// Rooms that the bot is in while its memory is measured.
const ROOMS: usize = 60;

/// Memory that an idle bot in [`ROOMS`] rooms may take, in megabytes (10^6 bytes).
const MEGABYTES_MAX: f64 = 60.0;

/// Longest wait for the bot to be ready, or to say something.
const SPEECH: Duration = Duration::from_secs(90);

/// How long the memory must stay the same to count as idle.
const STEADY: Duration = Duration::from_secs(3);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some(AS_BOT) {
        let arguments = ["roomlift", "run", "--config", "config.toml"];
        return roomlift::cli::main(arguments.map(OsString::from));
    }
    let parts = match argument.as_deref() {
        None => vec!["upgrade", "memory"],
        Some(part @ ("upgrade" | "memory")) => vec![part],
        Some(other) => {
            eprintln!("bench: unknown argument {other}; there are upgrade and memory");
            return ExitCode::from(2);
        }
    };
    match bench(&parts) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts; says whether every bound holds.
fn bench(parts: &[&str]) -> Result<bool> {
    if cfg!(debug_assertions) {
        say("This is a debug build: its figures mean little. Use --release.");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let synapse = Synapse::start(SynapseOptions::default()).await;
        let mut holds = true;
        for part in parts {
            holds &= match *part {
                "upgrade" => upgrades(&synapse).await?,
                _ => memory(&synapse).await?,
            };
        }
        Ok(holds)
    })
}

/// One upgrade by the bot against one by the script, in turn.
async fn upgrades(synapse: &Synapse) -> Result<bool> {
    let wanted = Wanted {
        members: 30,
        bans: 5,
        ..Wanted::default()
    };
    say(&format!(
        "An upgrade of a room with {} members, {} bans, 2 addresses, a listing and a space:",
        wanted.members, wanted.bans
    ));
    let (mut script, mut staged, mut server) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        script.push(by_script(&Community::make(synapse, &wanted).await).await);
        let community = Community::make(synapse, &wanted).await;
        staged.push(by_bot(synapse, &community, "staged").await?);
        let community = Community::make(synapse, &wanted).await;
        server.push(by_bot(synapse, &community, "server").await?);
        say(&format!(
            "  round {round}: script {:.2} s, bot staged {:.2} s, bot server {:.2} s",
            script[round - 1].as_secs_f64(),
            staged[round - 1].as_secs_f64(),
            server[round - 1].as_secs_f64(),
        ));
    }
    let (script, staged, server) = (median(script), median(staged), median(server));
    let ratio = staged / script;
    say(&format!(
        "  medians: script {script:.2} s, bot staged {staged:.2} s ({ratio:.2} times; at most \
         {RATIO_MAX}), bot server {server:.2} s ({:.2} times)",
        server / script
    ));
    Ok(ratio <= RATIO_MAX)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// From the yes to the report.
async fn by_bot(synapse: &Synapse, community: &Community, method: &str) -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let _bot = start(dir.path(), &community.config(&synapse.base_url())).await?;
    let (moderator, room) = (&community.moderator, community.admin_room.as_str());
    let mut chat = moderator.timeline(room).await.within(SPEECH);
    let said = |event: &Value, part: &str| {
        event["sender"] == community.bot.user_id.as_str() && user::text(event).contains(part)
    };
    let command = format!("!upgrade {} 12 --method {method}", community.alias);
    moderator.send_text(room, &command).await;
    chat.until("the plan", |event| said(event, "Plan #1")).await;
    let begun = Instant::now();
    moderator.send_text(room, "!upgrade confirm 1").await;
    chat.until("the report", |event| said(event, "Upgrade #1 is done"))
        .await;
    let took = begun.elapsed();
    community.assert_moved("12").await;
    Ok(took)
}

/// The least that somebody who knows the room by heart would type into a script.
async fn by_script(community: &Community) -> Duration {
    let (bot, old) = (&community.bot, community.room.as_str());
    let server = bot.user_id.split_once(':').map_or("", |(_, server)| server);
    let begun = Instant::now();
    let state = bot.state(old).await;
    let is = |event: &Value, kind: &str| event["type"] == kind;
    let left = [
        "m.room.create",
        "m.room.power_levels",
        "m.room.canonical_alias",
        "m.room.tombstone",
    ];
    let initial: Vec<Value> = state
        .iter()
        .filter(|event| !left.iter().any(|kind| is(event, kind)))
        .filter(|event| !is(event, "m.room.member") || event["content"]["membership"] == "ban")
        .map(|event| {
            json!({
                "type": event["type"],
                "state_key": event["state_key"],
                "content": event["content"],
            })
        })
        .collect();
    let content = |kind: &str| {
        let event = state.iter().find(|event| is(event, kind));
        event
            .map(|event| event["content"].clone())
            .unwrap_or_default()
    };
    let old_levels = content("m.room.power_levels");
    let mut levels = old_levels.clone();
    if let Some(users) = levels["users"].as_object_mut() {
        users.remove(&bot.user_id);
    }
    levels["events"]["m.room.tombstone"] = json!(150);
    let new = bot
        .create_room(json!({
            "room_version": "12",
            "preset": "private_chat",
            "creation_content": {"predecessor": {"room_id": old}},
            "power_level_content_override": levels,
            "initial_state": initial,
        }))
        .await;
    let tombstone = json!({"body": "This room has been replaced", "replacement_room": new});
    bot.put_state(old, "m.room.tombstone", "", tombstone).await;
    let shown = content("m.room.canonical_alias");
    bot.put_state(old, "m.room.canonical_alias", "", json!({}))
        .await;
    for alias in [&community.alias, &community.second_alias] {
        bot.remove_alias(alias).await;
        bot.set_alias(alias, &new).await;
    }
    bot.put_state(&new, "m.room.canonical_alias", "", shown)
        .await;
    bot.set_listed(old, false).await;
    bot.set_listed(&new, true).await;
    let link = json!({"via": [server], "order": "a1", "suggested": true});
    let space = &community.space;
    bot.put_state(space, "m.space.child", &new, link).await;
    bot.put_state(space, "m.space.child", old, json!({})).await;
    let mut locked = old_levels;
    locked["events_default"] = json!(50);
    locked["invite"] = json!(50);
    bot.put_state(old, "m.room.power_levels", "", locked).await;
    bot.send_text(old, &format!("https://matrix.to/#/{new}?via={server}"))
        .await;
    begun.elapsed()
}

/// Memory of an idle bot.
async fn memory(synapse: &Synapse) -> Result<bool> {
    say(&format!("Memory of an idle bot in {ROOMS} rooms:"));
    let community = Community::make(synapse, &Wanted::default()).await;
    let (moderator, bot) = (&community.moderator, &community.bot);
    let there = bot.joined_rooms().await.len();
    for number in there..ROOMS {
        fill(moderator, bot, number).await;
    }
    let dir = tempfile::tempdir()?;
    let running = start(dir.path(), &community.config(&synapse.base_url())).await?;
    let idle = steady(running.id()).await;
    // A second start restores what the first one stored.
    running.start_again();
    eventually("the bot to be ready again", SPEECH, async || {
        let ready = running.log().matches("ready for commands").count();
        (ready >= 2).then_some(())
    })
    .await;
    let restored = steady(running.id()).await;
    let most = idle.max(restored);
    say(&format!(
        "  {idle:.0} MB after the first start, {restored:.0} MB after the next (at most \
         {MEGABYTES_MAX:.0})"
    ));
    Ok(most <= MEGABYTES_MAX)
}

async fn fill(moderator: &User, bot: &User, number: usize) {
    let room = moderator
        .create_room(json!({"preset": "public_chat", "name": format!("Room {number}")}))
        .await;
    bot.join(&room).await;
}

/// Resident memory of a process once it no longer changes, in megabytes.
async fn steady(process: u32) -> f64 {
    let mut last = (0.0, Instant::now());
    eventually("the memory to stay the same", SPEECH, async || {
        let now = resident(process);
        if (now - last.0).abs() > 0.5 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() >= STEADY).then_some(now)
    })
    .await
}

/// Resident memory of a process, in megabytes.
#[expect(
    clippy::cast_precision_loss,
    reason = "kilobytes of a process fit a float"
)]
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    kibibytes as f64 * 1024.0 / 1_000_000.0
}

async fn start(dir: &Path, config: &str) -> Result<Bot> {
    std::fs::write(dir.join("config.toml"), config)?;
    let bot = Bot::start(&std::env::current_exe()?, [AS_BOT], dir);
    bot.until_logged("ready for commands", SPEECH).await;
    Ok(bot)
}

/// Prints a line. Where nobody reads it any more, that is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
