//! What the bot costs, measured on throwaway Synapses, in one run.
//!
//! `cargo run --release --example bench` measures everything; `-- upgrade`, `space`, `limits` or
//! `size` one part. Times are compared within the run, as a machine's speed differs from day to day:
//! with a script that does the bare minimum one request after the other, or with what the server's
//! limits make everybody wait.

mod limits;
mod script;
mod size;
mod space;
mod upgrade;
mod village;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use roomlift::clock::{Clock as _, SystemClock};
use roomlift_testbed::Timeline;
use roomlift_testbed::{Bot, Community, Synapse, SynapseOptions, user};

/// The argument that makes this program the bot.
const AS_BOT: &str = "as-bot";

/// The parts, in their order.
const PARTS: [&str; 4] = ["upgrade", "space", "limits", "size"];

/// Longest wait for the bot to be ready, or to say something.
const SPEECH: Duration = Duration::from_secs(90);

/// How long the server is left in peace before a yes, as a moderator reads the plan, and before a script.
/// By then the bot has heard of its own plan by sync, as it has whenever a person answers.
const PEACE: Duration = Duration::from_secs(4);

/// How long after the work somebody listens for what the bot says of it: what listening takes from the server
/// is not to be measured. When it was said stands in the bot's log.
const LISTENING_AFTER: Duration = Duration::from_millis(500);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some(AS_BOT) {
        let arguments = ["roomlift", "run", "--config", "config.toml"];
        return roomlift::cli::main(arguments.map(OsString::from));
    }
    let unknown = |argument: &&String| !PARTS.contains(&argument.as_str());
    if let Some(other) = arguments.iter().find(unknown) {
        eprintln!(
            "bench: unknown argument {other}; there are {}",
            PARTS.join(", ")
        );
        return ExitCode::from(2);
    }
    let asked = |part: &&str| arguments.is_empty() || arguments.iter().any(|it| it == part);
    match bench(PARTS.into_iter().filter(asked)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts; says whether every bound holds.
fn bench(parts: impl Iterator<Item = &'static str>) -> Result<bool> {
    if cfg!(debug_assertions) {
        say("This is a debug build: its figures mean little. Use --release.");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let synapse = Synapse::start(SynapseOptions::default()).await;
        let mut holds = true;
        for part in parts {
            holds &= match part {
                "upgrade" => upgrade::run(&synapse).await?,
                "space" => space::run(&synapse).await?,
                "limits" => limits::run().await?,
                _ => size::run().await?,
            };
        }
        Ok(holds)
    })
}

/// The moderator speaks in the management room, and somebody listens who is in no other room, so that
/// listening takes the server little time that is measured.
struct Talk<'a> {
    community: &'a Community,
    bot: &'a Bot,
    timeline: Timeline,
    patience: Duration,
}

/// What was said yes to.
#[derive(Debug, Clone, Copy)]
enum Work {
    Upgrade,
    Campaign,
}

impl Work {
    /// What the bot logs when it is done.
    fn logged(self) -> &'static str {
        match self {
            Self::Upgrade => "step done step=\"verify\"",
            Self::Campaign => "campaign done",
        }
    }

    /// How its report begins.
    fn reported(self) -> &'static str {
        match self {
            Self::Upgrade => "Upgrade #1 is done",
            Self::Campaign => "Done, campaign C1",
        }
    }
}

impl<'a> Talk<'a> {
    async fn begin(synapse: &Synapse, community: &'a Community, bot: &'a Bot) -> Self {
        let listener = synapse.register("listener").await;
        let (moderator, room) = (&community.moderator, &community.admin_room);
        moderator.invite(room, &listener.user_id).await;
        listener.join(room).await;
        let timeline = listener.timeline(room).await;
        Self {
            community,
            bot,
            timeline: timeline.within(SPEECH),
            patience: SPEECH,
        }
    }

    fn within(self, deadline: Duration) -> Self {
        Self {
            timeline: self.timeline.within(deadline),
            patience: deadline,
            ..self
        }
    }

    async fn say(&self, text: &str) {
        let community = self.community;
        community
            .moderator
            .send_text(&community.admin_room, text)
            .await;
    }

    /// Waits until the bot says something with that in it; returns the id of that message.
    async fn hear(&mut self, part: &str) -> String {
        let bot = self.community.bot.user_id.as_str();
        let said =
            |event: &serde_json::Value| event["sender"] == bot && user::text(event).contains(part);
        let heard = self.timeline.until(part, said).await;
        heard["event_id"].as_str().unwrap_or_default().to_owned()
    }

    /// Says yes to a plan as the plan asks for it, with the answer below it; returns the moment when that
    /// was in the room.
    async fn agree(&self, plan: &str) -> Timestamp {
        let community = self.community;
        community
            .moderator
            .react(&community.admin_room, plan, "✅")
            .await;
        SystemClock.now()
    }

    /// Waits for the report; returns how long after the yes the server had taken it.
    async fn until_reported(&mut self, work: Work, agreed: Timestamp) -> Result<Duration> {
        self.bot.until_logged(work.logged(), self.patience).await;
        tokio::time::sleep(LISTENING_AFTER).await;
        let report = self.hear(work.reported()).await;
        let log = self.bot.log();
        let said = log.lines().find(|line| line.contains(&report));
        let said = said.and_then(|line| line.split_whitespace().next());
        let said: Timestamp = said.ok_or("the report is not in the bot's log")?.parse()?;
        Ok(Duration::try_from(said.duration_since(agreed))?)
    }

    /// Waits for a plan and the answers below it, which come with it, and as long as a moderator reads it;
    /// returns the id of its message.
    async fn see_plan(&mut self, id: &str) -> String {
        let plan = self.hear(&format!("Plan {id}")).await;
        let bot = self.community.bot.user_id.as_str();
        let answer = |event: &serde_json::Value| {
            let relation = &event["content"]["m.relates_to"];
            event["sender"] == bot && relation["key"] == "❌"
        };
        self.timeline.until("the last answer", answer).await;
        peace().await;
        plan
    }
}

/// Says whether a figure is within its bound.
fn bound(what: &str, figure: f64, most: f64) -> bool {
    let holds = figure <= most;
    let verdict = if holds { "holds" } else { "DOES NOT HOLD" };
    say(&format!("  {what}: {figure:.2}, at most {most}: {verdict}"));
    holds
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

async fn start(dir: &Path, config: &str) -> Result<Bot> {
    std::fs::write(dir.join("config.toml"), config)?;
    let bot = Bot::start(&std::env::current_exe()?, [AS_BOT], dir);
    bot.until_logged("ready for commands", SPEECH).await;
    Ok(bot)
}

async fn peace() {
    tokio::time::sleep(PEACE).await;
}

/// Prints a line. Where nobody reads it any more, that is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
