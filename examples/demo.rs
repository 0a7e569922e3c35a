//! One upgrade and one campaign, from nothing: a throwaway Synapse, a small community, the bot as a process of its
//! own and a moderator who types into the management room.
//!
//! `cargo run --example demo` prints the conversation as it happens and then what became of the
//! room; with `-- --stay` the server and the bot stay, to look around with any client.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use roomlift_testbed::{Bot, Check, Community, Outcome, Synapse, SynapseOptions, Wanted, user};
use serde_json::{Value, json};

/// The argument that makes this program the bot.
const AS_BOT: &str = "as-bot";

/// The room version to upgrade to.
const VERSION: &str = "12";

/// Longest wait for the bot to be ready.
const START: Duration = Duration::from_mins(1);

/// Longest wait for what the bot says next.
const SPEECH: Duration = Duration::from_secs(45);

/// When those who do not come are pinged.
const PING_AFTER: &str = "2s";

/// Longest wait for the last edit of the progress message.
const EDIT: Duration = Duration::from_secs(5);

/// Widest a column of the table gets.
const COLUMN: usize = 34;

/// How many lines of the bot's log a failure shows.
const LOG_TAIL_LINES: usize = 30;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut stay = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            AS_BOT => {
                let arguments = ["roomlift", "run", "--config", "config.toml"];
                return roomlift::cli::main(arguments.map(OsString::from));
            }
            "--stay" => stay = true,
            other => {
                eprintln!("demo: unknown argument {other}; there is only --stay");
                return ExitCode::from(2);
            }
        }
    }
    match demo(stay) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it all. The testbed fails by panicking, after saying why; that becomes an error here, so
/// that the bot's log is shown in either case.
fn demo(stay: bool) -> Result<bool> {
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let work = || {
        runtime.block_on(async {
            let played = tokio::select! {
                result = play(dir.path()) => result?,
                signal = tokio::signal::ctrl_c() => {
                    signal?;
                    return Err("stopped by Ctrl-C".into());
                }
            };
            if stay {
                show_logins(&played);
                tokio::signal::ctrl_c().await?;
                say("\nStopping; nothing of it is kept.");
            }
            Ok(played.all_hold)
        })
    };
    let result = std::panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("it did not work out, see above".into()));
    if !matches!(result, Ok(true)) {
        show_log(&dir.path().join(roomlift_testbed::bot::LOG_FILE));
    }
    result
}

/// What is there when the upgrade is over. Dropping it ends the bot, then the server.
struct Played {
    bot: Bot,
    community: Community,
    new: String,
    all_hold: bool,
    synapse: Synapse,
}

/// The demo itself.
async fn play(dir: &Path) -> Result<Played> {
    let began = Instant::now();
    say(
        "Starting a Synapse of its own (the first time it has to be installed, which takes a minute).",
    );
    let synapse = Synapse::start(SynapseOptions::default()).await;
    say("Making a community: a space, a room of version 10, members, bans, two addresses.");
    let community = Community::make(&synapse, &Wanted::default()).await;
    let neighbours = neighbours(&community).await;
    say("Starting the bot.");
    let config = community.config(&synapse.base_url());
    std::fs::write(dir.join("config.toml"), config)?;
    let bot = Bot::start(&std::env::current_exe()?, [AS_BOT], dir);
    bot.until_logged("ready for commands", START).await;

    say("\n--- The management room ---\n");
    let took = converse(&community).await;

    let new = community
        .replacement()
        .await
        .ok_or("the old room leads nowhere")?;
    let checks = community.checks(&new, VERSION).await;
    say("--- The rooms, as the server has them now ---\n");
    let all_hold = show_checks(&checks);
    say(&format!(
        "{} The upgrade took {:.1} s, the whole demo {:.1} s.",
        totals(&checks),
        took.as_secs_f64(),
        began.elapsed().as_secs_f64()
    ));
    say("\n--- Two come over, and the others are pinged ---\n");
    ping(&community, &new).await;
    say("\n--- And now the rest of the space ---\n");
    campaign(&community).await;
    let all_hold = show_moved(&community, &neighbours).await && all_hold;
    Ok(Played {
        bot,
        community,
        new,
        all_hold,
        synapse,
    })
}

/// The moderator and a member go to the new room, and the others are pinged in the old one.
async fn ping(community: &Community, new: &str) {
    let moderator = &community.moderator;
    let mut chat = moderator
        .timeline(&community.admin_room)
        .await
        .within(SPEECH);
    let mut old_room = moderator.timeline(&community.room).await.within(SPEECH);
    moderator.join(new).await;
    if let Some(member) = community.members.first() {
        member.join(new).await;
    }
    let mut heard = Vec::new();
    let command = format!("!upgrade ping 1 {PING_AFTER}");
    moderator.send_text(&community.admin_room, &command).await;
    let bot = community.bot.user_id.as_str();
    let is_speech = |event: &Value| event["sender"] == bot && event["type"] == "m.room.message";
    chat.until("the answer", |event| {
        show_event(community, &mut heard, event);
        is_speech(event)
    })
    .await;
    let ping = old_room.until("the ping", |event| is_speech(event)).await;
    say("in the old room:");
    show_event(community, &mut heard, &ping);
}

/// Two more rooms in the space.
async fn neighbours(community: &Community) -> Vec<(&'static str, String)> {
    let (moderator, bot) = (&community.moderator, &community.bot);
    let server = bot.user_id.split_once(':').map_or("", |(_, server)| server);
    let mut rooms = Vec::new();
    for name in ["Kitchen", "Garden"] {
        let room = moderator
            .create_room(json!({
                "preset": "public_chat",
                "name": name,
                "room_version": "10",
                "power_level_content_override": {"users": {
                    (moderator.user_id.clone()): 100,
                    (bot.user_id.clone()): 100,
                }},
            }))
            .await;
        bot.join(&room).await;
        let link = json!({"via": [server]});
        moderator
            .put_state(&community.space, "m.space.child", &room, link)
            .await;
        rooms.push((name, room));
    }
    rooms
}

/// The moderator upgrades all rooms of the space that are left, and the space.
async fn campaign(community: &Community) {
    let (moderator, room) = (&community.moderator, community.admin_room.as_str());
    let mut chat = moderator.timeline(room).await.within(SPEECH);
    let mut heard = Vec::new();
    let bot = community.bot.user_id.as_str();
    let command = format!("!upgrade space {} {VERSION}", community.space);
    moderator.send_text(room, &command).await;
    let plan = chat
        .until("the plan", |event| {
            show_event(community, &mut heard, event);
            event["sender"] == bot && user::text(event).contains("Plan C1")
        })
        .await;
    let plan = plan["event_id"].as_str().unwrap_or_default();
    chat.until("✅ and ❌ to choose from", |event| {
        show_event(community, &mut heard, event);
        let relation = &event["content"]["m.relates_to"];
        event["sender"] == bot && relation["key"] == "❌" && relation["event_id"] == plan
    })
    .await;
    moderator.react(room, plan, "✅").await;
    chat.until("the report", |event| {
        show_event(community, &mut heard, event);
        event["sender"] == bot && user::text(event).contains("Done, campaign C1")
    })
    .await;
}

/// Looks where the rooms of the space lead, and what the new space lists.
async fn show_moved(community: &Community, neighbours: &[(&str, String)]) -> bool {
    let bot = &community.bot;
    let leads_to = async |room: &str| {
        let tombstone = bot.state_event(room, "m.room.tombstone", "").await;
        tombstone.unwrap_or_default()["replacement_room"]
            .as_str()
            .map(ToOwned::to_owned)
    };
    let mut all_hold = true;
    let new_space = leads_to(&community.space).await.unwrap_or_default();
    for (name, room) in neighbours {
        let new = leads_to(room).await.unwrap_or_default();
        let link = bot.state_event(&new_space, "m.space.child", &new).await;
        let holds = link.is_some_and(|link| link["via"].is_array());
        all_hold &= holds;
        let shown = if holds { "ok" } else { "NO" };
        say(&format!(
            "{shown}  {name} leads to a new room, which the new space lists"
        ));
    }
    all_hold
}

/// The moderator asks for the upgrade, reads the plan, confirms it and reads the report; returns
/// how long it took from the command to the report.
async fn converse(community: &Community) -> Duration {
    let (moderator, room) = (&community.moderator, community.admin_room.as_str());
    let mut chat = moderator.timeline(room).await.within(SPEECH);
    let mut heard = Vec::new();
    let bot = community.bot.user_id.as_str();
    let is_speech = |event: &Value, part: &str| {
        event["sender"] == bot
            && event["type"] == "m.room.message"
            && user::text(event).contains(part)
    };

    let typed = Instant::now();
    let command = format!("!upgrade {} {VERSION}", community.alias);
    let command = moderator.send_text(room, &command).await;
    let plan = chat
        .until("the plan", |event| {
            show_event(community, &mut heard, event);
            is_speech(event, "Plan #1")
        })
        .await;
    let plan = plan["event_id"].as_str().unwrap_or_default();
    // Nobody reads so fast that the second of the two reactions to choose from is not there yet.
    chat.until("✅ and ❌ to choose from", |event| {
        show_event(community, &mut heard, event);
        let relation = &event["content"]["m.relates_to"];
        event["sender"] == bot && relation["key"] == "❌" && relation["event_id"] == plan
    })
    .await;
    moderator.react(room, plan, "✅").await;

    let (mut reported, mut ticked) = (false, false);
    chat.until("the report, and ✅ on the command", |event| {
        show_event(community, &mut heard, event);
        let relation = &event["content"]["m.relates_to"];
        reported |= is_speech(event, "Upgrade #1 is done");
        ticked |= event["sender"] == bot
            && relation["key"] == "✅"
            && relation["event_id"] == command.as_str();
        reported && ticked
    })
    .await;
    let took = typed.elapsed();
    // The progress message may lag behind, and is only for the eye.
    let last_edit = chat.until("the last of the progress", |event| {
        show_event(community, &mut heard, event);
        user::is_edit(event) && is_speech(event, "Done.")
    });
    let _ = tokio::time::timeout(EDIT, last_edit).await;
    took
}

/// Prints what happened in the management room; `heard` has, by id, what there was so far.
fn show_event(community: &Community, heard: &mut Vec<(String, String)>, event: &Value) {
    let sender = event["sender"].as_str().unwrap_or_default();
    let who = if sender == community.moderator.user_id {
        "maria"
    } else if sender == community.bot.user_id {
        "roomlift"
    } else {
        sender
    };
    let id = event["event_id"].as_str().unwrap_or_default().to_owned();
    if event["type"] == "m.room.message" {
        let text = user::text(event);
        let edited = if user::is_edit(event) {
            " (edited)"
        } else {
            ""
        };
        let indented: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
        say(&format!("{who}{edited}\n{}\n", indented.join("\n")));
        let first = text.lines().next().unwrap_or_default();
        heard.push((id, cut(first, 60)));
    } else if event["type"] == "m.reaction" {
        let relation = &event["content"]["m.relates_to"];
        let emoji = relation["key"].as_str().unwrap_or_default();
        let about = find(heard, &relation["event_id"]).to_owned();
        say(&format!("{who} reacts {emoji} to: {about}\n"));
        heard.push((id, format!("{emoji} on {about}")));
    } else if event["type"] == "m.room.redaction" {
        // Room version 11 moved the id into the content.
        let about = find(heard, &event["content"]["redacts"]);
        say(&format!("{who} takes back: {about}\n"));
    }
}

/// What an event said, in a few words.
fn find<'a>(heard: &'a [(String, String)], event: &Value) -> &'a str {
    let found = heard.iter().find(|(id, _)| event == id.as_str());
    found.map_or("something earlier", |(_, words)| words)
}

/// Prints the checks as a table; says whether all hold.
fn show_checks(checks: &[Check]) -> bool {
    let widest = |column: fn(&Check) -> &String| {
        let lengths = checks.iter().map(|check| column(check).chars().count());
        lengths.max().unwrap_or_default().min(COLUMN)
    };
    let (what, old) = (widest(|check| &check.what), widest(|check| &check.old));
    let row = |outcome: &str, cells: [&str; 3]| {
        let [first, second, third] = cells.map(|cell| cut(cell, COLUMN));
        let line = format!("  {outcome:<6}  {first:<what$}  {second:<old$}  {third}");
        say(line.trim_end());
    };
    row("", ["", "old room", "new room"]);
    for check in checks {
        let outcome = match check.holds {
            Outcome::Holds => "ok",
            Outcome::Fails => "FAILED",
        };
        row(outcome, [&check.what, &check.old, &check.new]);
    }
    say("");
    failures(checks) == 0
}

/// How many checks do not hold.
fn failures(checks: &[Check]) -> usize {
    let fails = |check: &&Check| check.holds == Outcome::Fails;
    checks.iter().filter(fails).count()
}

/// The table in one sentence.
fn totals(checks: &[Check]) -> String {
    match (failures(checks), checks.len()) {
        (0, all) => format!("All {all} checks hold."),
        (failed, all) => format!("{failed} of {all} checks FAILED."),
    }
}

/// Prints how to look at it with a client.
fn show_logins(played: &Played) {
    let community = &played.community;
    let (moderator, bot) = (&community.moderator, &community.bot);
    say(&format!(
        "\nThe server and the bot keep running until Ctrl-C. To look around with any client:\n\n  \
         homeserver  {}\n  moderator   {}  password: {}\n  bot         {}  password: {}\n  \
         room        {}\n  its id      {}\n  commands    in the room named Management\n  \
         bot's pid   {}",
        played.synapse.base_url(),
        moderator.user_id,
        moderator.password,
        bot.user_id,
        bot.password,
        community.alias,
        played.new,
        played.bot.id(),
    ));
}

/// Prints the end of the bot's log, where there is one.
fn show_log(log: &Path) {
    let Ok(text) = std::fs::read_to_string(log) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
    eprintln!("\nThe bot's log ends:\n{}\n", end.join("\n"));
}

/// The text, or as much of it as fits.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let start: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{start}…")
}

/// Prints lines. Where nobody reads them any more, that is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
