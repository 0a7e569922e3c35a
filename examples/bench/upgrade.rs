//! One room: the bot against the script.

use std::time::Duration;

use roomlift_testbed::{Community, Synapse, Wanted};

use crate::script::{Extent, by_script};
use crate::village::Home;
use crate::{Result, Talk, Work, bound, median, peace, say, start};

/// Upgrades of each kind; the medians are compared.
const ROUNDS: usize = 11;

/// The bot may take so many times what the script takes.
const RATIO_MAX: f64 = 1.25;

/// Events of a room that are looked through for what the bot said last.
const LAST_EVENTS: usize = 20;

/// How long an upgrade by the bot took.
struct Took {
    /// Until the message in the old room, the last that the script does.
    moved: Duration,
    /// Until the report.
    reported: Duration,
}

/// One upgrade by the bot against one by the script, in turn.
pub(crate) async fn run(synapse: &Synapse) -> Result<bool> {
    let wanted = Wanted {
        members: 30,
        bans: 5,
        ..Wanted::default()
    };
    say(&format!(
        "An upgrade of a room with {} members, {} bans, 2 addresses, a listing and a space:",
        wanted.members, wanted.bans
    ));
    let (mut least, mut owed) = (Vec::new(), Vec::new());
    let (mut moved, mut staged, mut server) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let community = Community::make(synapse, &wanted).await;
        least.push(by_hand(&community, Extent::Least).await);
        let community = Community::make(synapse, &wanted).await;
        let told = Extent::OwedAndTold(&community.admin_room);
        owed.push(by_hand(&community, told).await);
        let community = Community::make(synapse, &wanted).await;
        let took = by_bot(synapse, &community, "staged").await?;
        moved.push(took.moved);
        staged.push(took.reported);
        let community = Community::make(synapse, &wanted).await;
        server.push(by_bot(synapse, &community, "server").await?.reported);
        say(&format!(
            "  round {round}: script {:.2} s, script with all that is owed {:.2} s, bot staged {:.2} s and \
             {:.2} s with pin, check and report, bot server {:.2} s",
            least[round - 1].as_secs_f64(),
            owed[round - 1].as_secs_f64(),
            moved[round - 1].as_secs_f64(),
            staged[round - 1].as_secs_f64(),
            server[round - 1].as_secs_f64(),
        ));
    }
    let (least, owed) = (median(least), median(owed));
    let (moved, staged, server) = (median(moved), median(staged), median(server));
    say(&format!(
        "  medians: script {least:.2} s, with all that is owed {owed:.2} s ({:.2} times), bot staged with pin, \
         check and report {staged:.2} s ({:.2} times, {:.2} times what is owed), bot server {server:.2} s \
         ({:.2} times)",
        owed / least,
        staged / least,
        staged / owed,
        server / least,
    ));
    say(&format!(
        "  all that the script does was done by the bot after {moved:.2} s ({:.2} times)",
        moved / least
    ));
    Ok(bound("bot staged / script", staged / least, RATIO_MAX))
}

/// By a script.
async fn by_hand(community: &Community, extent: Extent<'_>) -> Duration {
    peace().await;
    let home = Home {
        room: community.room.clone(),
        aliases: vec![community.alias.clone(), community.second_alias.clone()],
    };
    by_script(&community.bot, &community.space, &home, extent).await
}

/// From the yes, once it is in the room.
async fn by_bot(synapse: &Synapse, community: &Community, method: &str) -> Result<Took> {
    let dir = tempfile::tempdir()?;
    let bot = start(dir.path(), &community.config(&synapse.base_url())).await?;
    let mut talk = Talk::begin(synapse, community, &bot).await;
    talk.say(&format!(
        "!upgrade {} 12 --method {method}",
        community.alias
    ))
    .await;
    let plan = talk.see_plan("#1").await;
    let agreed = talk.agree(&plan).await;
    let reported = talk.until_reported(Work::Upgrade, agreed).await?;
    community.assert_moved("12").await;
    // Both are messages, and take the server as long to send.
    let notice = last_said(community, &community.room).await;
    let report = last_said(community, &community.admin_room).await;
    let since = Duration::from_millis(report.saturating_sub(notice));
    Ok(Took {
        moved: reported.saturating_sub(since),
        reported,
    })
}

/// When the bot last sent a message to a room, by the server's clock, in milliseconds.
async fn last_said(community: &Community, room: &str) -> u64 {
    let bot = &community.bot;
    let events = bot.messages(room, LAST_EVENTS).await;
    let said = events
        .iter()
        .find(|event| event["type"] == "m.room.message" && event["sender"] == bot.user_id.as_str());
    said.and_then(|event| event["origin_server_ts"].as_u64())
        .expect("a message of the bot")
}
