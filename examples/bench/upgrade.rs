//! One room: the bot against the script.

use std::time::Duration;

use roomlift_testbed::{Community, Synapse, Wanted};

use crate::script::{Extent, by_script};
use crate::village::Home;
use crate::{Result, Talk, bound, median, peace, say, start};

/// Upgrades of each kind; the medians are compared.
const ROUNDS: usize = 11;

/// The bot may take so many times what the script takes.
const RATIO_MAX: f64 = 1.25;

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
    let (mut staged, mut server) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let community = Community::make(synapse, &wanted).await;
        least.push(by_hand(&community, Extent::Least).await);
        let community = Community::make(synapse, &wanted).await;
        let told = Extent::OwedAndTold(&community.admin_room);
        owed.push(by_hand(&community, told).await);
        let community = Community::make(synapse, &wanted).await;
        staged.push(by_bot(synapse, &community, "staged").await?);
        let community = Community::make(synapse, &wanted).await;
        server.push(by_bot(synapse, &community, "server").await?);
        say(&format!(
            "  round {round}: script {:.2} s, script with all that is owed {:.2} s, bot staged {:.2} s, \
             bot server {:.2} s",
            least[round - 1].as_secs_f64(),
            owed[round - 1].as_secs_f64(),
            staged[round - 1].as_secs_f64(),
            server[round - 1].as_secs_f64(),
        ));
    }
    let (least, owed) = (median(least), median(owed));
    let (staged, server) = (median(staged), median(server));
    say(&format!(
        "  medians: script {least:.2} s, with all that is owed {owed:.2} s ({:.2} times), bot staged \
         {staged:.2} s ({:.2} times, {:.2} times what is owed), bot server {server:.2} s ({:.2} times)",
        owed / least,
        staged / least,
        staged / owed,
        server / least,
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

/// From the yes, once it is in the room, to the report.
async fn by_bot(synapse: &Synapse, community: &Community, method: &str) -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let _bot = start(dir.path(), &community.config(&synapse.base_url())).await?;
    let mut talk = Talk::begin(synapse, community).await;
    talk.say(&format!(
        "!upgrade {} 12 --method {method}",
        community.alias
    ))
    .await;
    let plan = talk.see_plan("#1").await;
    let begun = talk.agree(&plan).await;
    talk.hear("Upgrade #1 is done").await;
    let took = begun.elapsed();
    community.assert_moved("12").await;
    Ok(took)
}
