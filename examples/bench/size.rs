//! How memory and plans grow with the number of rooms.

use std::time::{Duration, Instant};

use roomlift_testbed::{Community, Kind, Proxy, Synapse, SynapseOptions, Wanted, eventually};

use crate::village::{Furniture, Village};
use crate::{Result, SPEECH, Talk, bound, say, start};

/// Rooms of the space, one size after the other.
const SIZES: [usize; 4] = [50, 60, 200, 500];

/// Rooms at which idle memory is bounded.
const ROOMS: usize = 60;

/// Memory that an idle bot in [`ROOMS`] rooms may take, in megabytes (10^6 bytes).
const MEGABYTES_MAX: f64 = 60.0;

/// What each further room may add to it, in kilobytes.
const KILOBYTES_PER_ROOM_MAX: f64 = 50.0;

/// A plan for the most rooms may take so many times longer for each room than one for the fewest.
const SLOWER_PER_ROOM_MAX: f64 = 1.25;

/// How long the memory must stay the same to count as idle.
const STEADY: Duration = Duration::from_secs(3);

/// Longest wait for a plan.
const PATIENCE: Duration = Duration::from_mins(10);

/// What was measured at one size.
struct Measured {
    rooms: usize,
    megabytes: f64,
    plan: Duration,
    requests: usize,
}

/// Memory of an idle bot, and the time and requests of a plan, over a growing space.
pub(crate) async fn run() -> Result<bool> {
    say("An idle bot and a plan for all its rooms:");
    // Of its own: what else is on a server makes it slower.
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let wanted = Wanted {
        members: 1,
        bans: 0,
        ..Wanted::default()
    };
    let community = Community::make(&synapse, &wanted).await;
    let host = &community.moderator;
    let mut village = Village::found(&community, host).await;
    let around = community.bot.joined_rooms().await.len();
    let mut measured = Vec::new();
    for rooms in SIZES {
        let homes = rooms.saturating_sub(around);
        village.grow(&community, host, homes, Furniture::Bare).await;
        let one = measure(&synapse, &community, &village, rooms).await?;
        say(&format!(
            "  {rooms} rooms: {:.1} MB idle; a plan for {homes} of them in {:.2} s, with {} requests",
            one.megabytes,
            one.plan.as_secs_f64(),
            one.requests
        ));
        measured.push(one);
    }
    let (few, many) = (&measured[0], &measured[measured.len() - 1]);
    let bounded = measured.iter().find(|one| one.rooms == ROOMS);
    let idle = bounded.map_or(f64::INFINITY, |one| one.megabytes);
    let count = |one: &Measured| f64::from(u32::try_from(one.rooms).unwrap_or(u32::MAX));
    let growth = (many.megabytes - few.megabytes) * 1000.0 / (count(many) - count(few));
    let pace = |one: &Measured| one.plan.as_secs_f64() / count(one);
    Ok(bound("megabytes with 60 rooms", idle, MEGABYTES_MAX)
        & bound(
            "kilobytes for each further room",
            growth,
            KILOBYTES_PER_ROOM_MAX,
        )
        & bound(
            "time for each room, most rooms / fewest",
            pace(many) / pace(few),
            SLOWER_PER_ROOM_MAX,
        ))
}

async fn measure(
    synapse: &Synapse,
    community: &Community,
    village: &Village,
    rooms: usize,
) -> Result<Measured> {
    let dir = tempfile::tempdir()?;
    let proxy = Proxy::start(&synapse.base_url());
    let running = start(dir.path(), &community.config(&proxy.base_url())).await?;
    let fresh = steady(running.id()).await;
    // A second start restores what the first one stored.
    running.start_again();
    eventually("the bot to be ready again", SPEECH, async || {
        let ready = running.log().matches("ready for commands").count();
        (ready >= 2).then_some(())
    })
    .await;
    let restored = steady(running.id()).await;
    let mut talk = Talk::begin(synapse, community, &running)
        .await
        .within(PATIENCE);
    proxy.clear_log();
    let begun = Instant::now();
    talk.say(&format!("!upgrade plan {} 12", village.space))
        .await;
    talk.hear("This is only a preview").await;
    let plan = begun.elapsed();
    let requests = proxy.log();
    let requests = requests.iter().filter(|seen| seen.kind != Kind::Sync);
    Ok(Measured {
        rooms,
        megabytes: fresh.max(restored),
        plan,
        requests: requests.count(),
    })
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
