//! Rate limits: how close the bot comes to what the server allows.
//!
//! A server's limit is a bucket of so many requests that fills again with so many a second; nobody
//! can be faster than that.

use std::time::Duration;

use roomlift_testbed::{Community, Synapse, SynapseOptions, Wanted};
use serde_json::json;

use crate::village::{Furniture, Village};
use crate::{Result, Talk, Work, bound, say, start};

/// The bot may take so many times what the limit makes everybody wait.
const RATIO_MAX: f64 = 1.05;

/// Rooms that may be made at once, and how many a second after that.
const ROOMS_BURST: u32 = 3;
const ROOMS_PER_SECOND: f64 = 0.12;

/// Rooms that are moved.
const HOMES: usize = 12;

/// Invitations that may be sent at once, and how many a second after that.
const INVITES_BURST: u32 = 10;
const INVITES_PER_SECOND: f64 = 0.8;

/// Members who are invited.
const MEMBERS: usize = 90;

/// Longest wait for such an end.
const PATIENCE: Duration = Duration::from_mins(10);

pub(crate) async fn run() -> Result<bool> {
    Ok(rooms().await? & invitations().await?)
}

/// The least time for so many requests.
#[expect(clippy::cast_precision_loss, reason = "a few hundred requests")]
fn floor(requests: usize, burst: u32, per_second: f64) -> Duration {
    let waited_for = requests.saturating_sub(burst as usize);
    Duration::from_secs_f64(waited_for as f64 / per_second)
}

fn compare(what: &str, took: Duration, floor: Duration) -> bool {
    say(&format!(
        "  {:.1} s, of which the limit alone takes {:.1} s",
        took.as_secs_f64(),
        floor.as_secs_f64()
    ));
    bound(what, took.as_secs_f64() / floor.as_secs_f64(), RATIO_MAX)
}

async fn rooms() -> Result<bool> {
    say(&format!(
        "A campaign of {HOMES} rooms where {ROOMS_BURST} rooms may be made at once, and {ROOMS_PER_SECOND} a \
         second after that:"
    ));
    let limit = "rc_room_creation";
    let options = SynapseOptions::default().with_limit(limit, ROOMS_PER_SECOND, ROOMS_BURST);
    let synapse = Synapse::start(options).await;
    let wanted = Wanted {
        members: 1,
        bans: 0,
        ..Wanted::default()
    };
    let community = Community::make(&synapse, &wanted).await;
    let host = synapse.register("host").await;
    let mut village = Village::found(&community, &host).await;
    while village.homes.len() < HOMES {
        // The limit is one for each user.
        let host = synapse.register("host").await;
        let homes = village.homes.len() + 1;
        village
            .grow(&community, &host, homes, Furniture::Bare)
            .await;
    }
    let dir = tempfile::tempdir()?;
    let bot = start(dir.path(), &community.config(&synapse.base_url())).await?;
    let mut talk = Talk::begin(&synapse, &community, &bot)
        .await
        .within(PATIENCE);
    let space = &village.space;
    talk.say(&format!(
        "!upgrade space {space} 12 --skip {space} --method staged"
    ))
    .await;
    let plan = talk.see_plan("C1").await;
    let agreed = talk.agree(&plan).await;
    let took = talk.until_reported(Work::Campaign, agreed).await?;
    let floor = floor(HOMES, ROOMS_BURST, ROOMS_PER_SECOND);
    Ok(compare("campaign / limit", took, floor))
}

async fn invitations() -> Result<bool> {
    say(&format!(
        "{MEMBERS} invitations where {INVITES_BURST} may be sent at once, and {INVITES_PER_SECOND} a second after that:"
    ));
    let no_limit = json!({"per_second": 100_000, "burst_count": 100_000});
    let limits = json!({
        "per_room": no_limit,
        "per_user": no_limit,
        "per_issuer": {"per_second": INVITES_PER_SECOND, "burst_count": INVITES_BURST},
    });
    let options = SynapseOptions::default().with("rc_invites", limits);
    let synapse = Synapse::start(options).await;
    let wanted = Wanted {
        members: MEMBERS,
        bans: 0,
        ..Wanted::default()
    };
    let community = Community::make(&synapse, &wanted).await;
    let closed = json!({"join_rule": "invite"});
    community
        .moderator
        .put_state(&community.room, "m.room.join_rules", "", closed)
        .await;
    let dir = tempfile::tempdir()?;
    let bot = start(dir.path(), &community.config(&synapse.base_url())).await?;
    let mut talk = Talk::begin(&synapse, &community, &bot)
        .await
        .within(PATIENCE);
    talk.say(&format!(
        "!upgrade {} 12 --method staged --join-rule keep",
        community.room
    ))
    .await;
    let plan = talk.see_plan("#1").await;
    let agreed = talk.agree(&plan).await;
    let took = talk.until_reported(Work::Upgrade, agreed).await?;
    // The moderator is invited, too.
    let floor = floor(MEMBERS + 1, INVITES_BURST, INVITES_PER_SECOND);
    Ok(compare("upgrade / limit", took, floor))
}
