//! Many rooms: a campaign against the script, and against bare upgrades, room after room.

use std::time::{Duration, Instant};

use roomlift_testbed::{Community, Fault, Kind, Proxy, Rule, Synapse, Wanted};

use crate::script::{Extent, by_script};
use crate::village::{Furniture, Village, replacement};
use crate::{Result, Talk, Work, bound, median, peace, say, start};

/// Rooms of each space.
const HOMES: usize = 12;

/// Spaces of each kind; the medians are compared.
const ROUNDS: usize = 3;

/// A campaign may take so many times what the script takes for the same rooms, where the server is not on
/// the same machine.
const RATIO_MAX: f64 = 1.0;

/// Rooms whose requests are counted.
const COUNTED: usize = 6;

/// Members of each room.
const MEMBERS: usize = 30;

/// How far away the server is, beside on the same machine: each request takes so much longer. A serial
/// script waits for every one of them.
const AWAY: Duration = Duration::from_millis(20);

fn wanted() -> Wanted {
    Wanted {
        members: MEMBERS,
        bans: 5,
        ..Wanted::default()
    }
}

/// The ways in turn, over spaces that are alike: with the server on the same machine, where its one
/// processor is all that counts and doing several things at once gains nothing, and with the server
/// somewhere else, as it usually is.
pub(crate) async fn run(synapse: &Synapse) -> Result<bool> {
    say(&format!(
        "A space with {HOMES} rooms like that, 4 at a time by the bot, one after the other otherwise:"
    ));
    let near = compare(synapse, &synapse.base_url()).await?;
    say(&format!(
        "  on the same machine: the script with all that is owed {:.2} times the script, bot staged {:.2} \
         times, bot server {:.2} times, and {:.2} times bare /upgrade",
        near.owed / near.script,
        near.staged / near.script,
        near.server / near.script,
        near.server / near.bare
    ));
    let proxy = Proxy::start(&synapse.base_url());
    proxy.add(Rule::new(|_| true, Fault::Delay(AWAY)).for_ever());
    let far = compare(synapse, &proxy.base_url()).await?;
    let away = format!("{} ms away", AWAY.as_millis());
    let holds = bound(
        &format!("{away}: bot staged / script"),
        far.staged / far.script,
        RATIO_MAX,
    ) & bound(
        &format!("{away}: bot server / script"),
        far.server / far.script,
        RATIO_MAX,
    );
    count(synapse).await?;
    Ok(holds)
}

/// Seconds for one space, in each of the ways.
struct Times {
    bare: f64,
    script: f64,
    owed: f64,
    staged: f64,
    server: f64,
}

async fn compare(synapse: &Synapse, homeserver: &str) -> Result<Times> {
    let (mut bare, mut script, mut owed) = (vec![], vec![], vec![]);
    let (mut staged, mut server) = (vec![], vec![]);
    for round in 1..=ROUNDS {
        bare.push(by_bare_upgrades(synapse, homeserver).await);
        script.push(by_scripts(synapse, homeserver, Extent::Least).await);
        owed.push(by_scripts(synapse, homeserver, Extent::Owed).await);
        staged.push(by_bot(synapse, homeserver, "staged").await?);
        server.push(by_bot(synapse, homeserver, "server").await?);
        let seconds = |times: &[Duration]| times[round - 1].as_secs_f64();
        say(&format!(
            "  round {round}: bare /upgrade {:.2} s, script {:.2} s, script with all that is owed {:.2} s, \
             bot staged {:.2} s, bot server {:.2} s",
            seconds(&bare),
            seconds(&script),
            seconds(&owed),
            seconds(&staged),
            seconds(&server),
        ));
    }
    Ok(Times {
        bare: median(bare),
        script: median(script),
        owed: median(owed),
        staged: median(staged),
        server: median(server),
    })
}

async fn village(synapse: &Synapse) -> (Community, Village) {
    let community = Community::make(synapse, &wanted()).await;
    let host = &community.moderator;
    let mut village = Village::found(&community, host).await;
    village.grow(&community, host, HOMES, Furniture::Full).await;
    (community, village)
}

/// What a server does by itself, without anything that has to be done after it.
async fn by_bare_upgrades(synapse: &Synapse, homeserver: &str) -> Duration {
    let (community, village) = village(synapse).await;
    let bot = community.bot.via(homeserver);
    peace().await;
    let begun = Instant::now();
    for home in &village.homes {
        bot.upgrade(&home.room, "12").await;
    }
    begun.elapsed()
}

async fn by_scripts(synapse: &Synapse, homeserver: &str, extent: Extent<'_>) -> Duration {
    let (community, village) = village(synapse).await;
    let bot = community.bot.via(homeserver);
    peace().await;
    let begun = Instant::now();
    for home in &village.homes {
        by_script(&bot, &village.space, home, extent).await;
    }
    begun.elapsed()
}

/// From the yes, once it is in the room, to the report. The space itself stays: the script leaves it, too.
async fn by_bot(synapse: &Synapse, homeserver: &str, method: &str) -> Result<Duration> {
    let (community, village) = village(synapse).await;
    campaign(synapse, &community, &village, homeserver, method).await
}

async fn campaign(
    synapse: &Synapse,
    community: &Community,
    village: &Village,
    homeserver: &str,
    method: &str,
) -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let config = format!(
        "{}\n[upgrade]\nconcurrency = 4\n",
        community.config(homeserver)
    );
    let bot = start(dir.path(), &config).await?;
    let mut talk = Talk::begin(synapse, community, &bot).await;
    let space = &village.space;
    talk.say(&format!(
        "!upgrade space {space} 12 --skip {space} --method {method}"
    ))
    .await;
    let plan = talk.see_plan("C1").await;
    let agreed = talk.agree(&plan).await;
    let took = talk.until_reported(Work::Campaign, agreed).await?;
    for home in &village.homes {
        let new = replacement(&community.bot, &home.room).await;
        for alias in &home.aliases {
            let leads_to = community.bot.resolve_alias(alias).await;
            assert!(
                new.is_some() && leads_to == new,
                "{alias} leads to the new room"
            );
        }
    }
    Ok(took)
}

/// Requests of a campaign, for each room.
async fn count(synapse: &Synapse) -> Result<()> {
    for method in ["staged", "server"] {
        let community = Community::make(synapse, &wanted()).await;
        let host = &community.moderator;
        let mut village = Village::found(&community, host).await;
        village
            .grow(&community, host, COUNTED, Furniture::Full)
            .await;
        let proxy = Proxy::start(&synapse.base_url());
        campaign(synapse, &community, &village, &proxy.base_url(), method).await?;
        let log = proxy.log();
        let of = |wanted: &dyn Fn(&Kind) -> bool| {
            let count = log.iter().filter(|seen| wanted(&seen.kind)).count();
            count.div_ceil(COUNTED)
        };
        let beside = |kind: &Kind| matches!(kind, Kind::Sync | Kind::Keys | Kind::AccountData);
        say(&format!(
            "  requests for each room, {method}: {} ({} whole states read, {} state events and {} \
             messages sent), beside sync and keys",
            of(&|kind| !beside(kind)),
            of(&|kind| *kind == Kind::ReadState),
            of(&|kind| matches!(kind, Kind::PutState { .. })),
            of(&|kind| matches!(kind, Kind::Send { .. })),
        ));
    }
    Ok(())
}
