//! SIGTERM ends the bot within seconds, whatever it is at, and nothing is lost by it; and a homeserver
//! that is away is waited for.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roomlift_testbed::{Community, Fault, Kind, Rule, Synapse, SynapseOptions, Wanted, eventually};

use crate::scene::{SPEECH, START, Scene};

/// Longest time for a stop: below the ten seconds after which container engines kill.
const STOP: Duration = Duration::from_secs(8);

/// A wait that is longer than a stop may take, and that the same test waits for afterwards.
const PAUSE: Duration = Duration::from_secs(20);

/// Asks the bot to end; it does so in time, and as if all were well.
async fn stops(scene: &Scene) {
    scene.bot.terminate();
    let status = scene.bot.wait_exit(STOP).await;
    assert_eq!(status.code(), Some(0), "{}", scene.bot.tail());
}

/// Started again, it ends the upgrade with one room.
async fn goes_on(mut scene: Scene) {
    scene.bot.start_again();
    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `while_the_server_upgrades`"]
async fn while_it_listens() {
    let mut scene = Scene::new().await;
    stops(&scene).await;
    scene
        .say(&format!("!upgrade {} 12 --yes", scene.community.alias))
        .await;
    scene.bot.start_again();
    scene.hear("Upgrade #1 is done").await;
}

/// The server is at `/upgrade` and does not answer.
#[tokio::test]
async fn while_the_server_upgrades() {
    let mut scene = Scene::new().await;
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    // Ends with the test, whichever way.
    let stall = move || {
        let held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = held.recv();
    };
    scene
        .proxy
        .add(Rule::on(Kind::Upgrade, Fault::after(stall)));
    scene.upgrade("12").await;
    eventually("the call", SPEECH, async || {
        (!scene.proxy.log_of(&Kind::Upgrade).is_empty()).then_some(())
    })
    .await;
    stops(&scene).await;
    drop(release);
    assert_eq!(scene.proxy.log_of(&Kind::Upgrade).len(), 1);
    goes_on(scene).await;
}

/// Everything waits for a rate limit: the job, and messages.
#[tokio::test]
#[ignore = "outer ring: a variant of `while_the_server_upgrades`"]
async fn while_it_waits_for_a_rate_limit() {
    let mut scene = Scene::new().await;
    scene
        .proxy
        .add(Rule::on(Kind::Upgrade, Fault::too_many_requests(PAUSE)).for_ever());
    scene.upgrade("12").await;
    scene.hear("The server asked for a pause").await;
    let writes = |seen: &roomlift_testbed::Seen| seen.is_write();
    scene
        .proxy
        .add(Rule::new(writes, Fault::too_many_requests(PAUSE)).for_ever());
    scene.say("!upgrade status").await;
    eventually("an answer that is refused", SPEECH, async || {
        let refused = scene.proxy.writes();
        refused
            .iter()
            .any(|seen| seen.kind != Kind::Upgrade && seen.status == Some(429))
            .then_some(())
    })
    .await;
    stops(&scene).await;
    scene.proxy.clear_rules();
    goes_on(scene).await;
}

/// Nobody answers, from the start on.
#[tokio::test]
async fn while_it_looks_for_the_homeserver() {
    let scene = Scene::new().await;
    scene.bot.kill();
    let cut = scene
        .proxy
        .add(Rule::new(|_| true, Fault::Reset).for_ever());
    scene.bot.start_again();
    eventually("a second try", START, async || {
        (cut.count() > 1).then_some(())
    })
    .await;
    stops(&scene).await;
    // And in the middle of a first answer that does not come.
    scene.proxy.clear_rules();
    scene.proxy.clear_log();
    scene
        .proxy
        .add(Rule::new(|_| true, Fault::Delay(PAUSE)).for_ever());
    scene.bot.start_again();
    eventually("a request", START, async || {
        (!scene.proxy.log().is_empty()).then_some(())
    })
    .await;
    stops(&scene).await;
}

/// The homeserver goes away and comes back: one line says so, the tries get rarer, and what was said
/// meanwhile is answered.
#[tokio::test]
#[ignore = "outer ring: a variant of `sync_survives_a_restart_of_the_homeserver`"]
async fn a_homeserver_that_was_away() {
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let community = Community::make(&synapse, &Wanted::default()).await;
    let mut scene = Scene::around(community, &synapse, "").await;
    let is_sync = |seen: &roomlift_testbed::Seen| seen.kind == Kind::Sync;
    scene.proxy.clear_log();
    let away = scene
        .proxy
        .add(Rule::new(|_| true, Fault::Reset).for_ever());
    synapse.kill();
    eventually("a first try", SPEECH, async || {
        (away.count() > 0).then_some(())
    })
    .await;
    // 1, 2 and 4 seconds apart: whoever tries without a pause has made many more.
    let begun = std::time::Instant::now();
    eventually("a fourth try", SPEECH, async || {
        (scene
            .proxy
            .log()
            .iter()
            .filter(|seen| is_sync(seen))
            .count()
            >= 4)
            .then_some(())
    })
    .await;
    assert!(begun.elapsed() > Duration::from_secs(3), "too fast");
    assert!(away.count() < 12, "{}", away.count());
    // Whoever looks after the bot is told once, not with each try.
    let log = scene.bot.log();
    assert_eq!(log.matches("failing; trying on").count(), 1, "{log}");
    assert!(scene.bot.is_running());

    synapse.start_again().await;
    scene.proxy.clear_rules();
    scene
        .say(&format!("!upgrade {} 12 --yes", scene.community.alias))
        .await;
    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
}
