//! What the bot tells those who watch over it: `/healthz`, `/readyz`, `/metrics`, `roomlift health`
//! and logs as JSON.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use roomlift_testbed::{
    Bot, Community, Fault, Kind, Proxy, Rule, Synapse, Wanted, eventually, user,
};
use serde_json::Value;

use crate::scene::{SPEECH, START, start_bot, write_config};

/// Longest time for a health check.
const CHECK: Duration = Duration::from_secs(20);

async fn get(base: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("{base}{path}")).await;
    let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("a body"))
}

async fn check(dir: &Path) -> (i32, String) {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let config = dir.join("config.toml");
    let config = config.to_str().expect("a path");
    let binary = Path::new(env!("CARGO_BIN_EXE_roomlift"));
    let process = Bot::start(binary, ["health", "--config", config], elsewhere.path());
    let status = process.wait_exit(CHECK).await;
    (status.code().unwrap_or(-1), process.log())
}

/// The value of a metric with its labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

#[tokio::test]
async fn a_bot_that_is_watched() {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let proxy = Proxy::start(&synapse.base_url());
    let dir = tempfile::tempdir().expect("a folder for the bot");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its number").to_string();
    let base = format!("http://{address}");
    let config = community.config(&proxy.base_url());
    write_config(
        dir.path(),
        &format!("log_format = \"json\"\nlisten = \"{address}\"\n{config}"),
    );

    // The address is taken.
    let bot = start_bot(dir.path());
    assert_eq!(bot.wait_exit(START).await.code(), Some(1));
    assert!(bot.log().contains("cannot listen on"), "{}", bot.log());
    drop(free);
    let (code, told) = check(dir.path()).await;
    assert_eq!(code, 1);
    assert!(told.contains("no bot answers on 127.0.0.1"), "{told}");

    // Well, but not ready, while there is no homeserver.
    let cut = proxy.add(Rule::new(|_| true, Fault::Reset).for_ever());
    let bot = start_bot(dir.path());
    eventually("a second try", START, async || {
        (cut.count() > 1).then_some(())
    })
    .await;
    assert_eq!(get(&base, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&base, "/readyz").await, (503, "starting\n".to_owned()));
    let (_, metrics) = get(&base, "/metrics").await;
    assert_eq!(
        value(&metrics, "roomlift_sync_age_seconds"),
        Some(f64::INFINITY)
    );
    let (code, told) = check(dir.path()).await;
    assert_eq!(code, 0, "{told}");
    proxy.clear_rules();
    eventually("ready", START, async || {
        (get(&base, "/readyz").await.0 == 200).then_some(())
    })
    .await;

    // One upgrade with a rate limit in it.
    proxy.add(Rule::on(
        Kind::Upgrade,
        Fault::too_many_requests(Duration::from_secs(1)),
    ));
    let (room, moderator) = (&community.admin_room, &community.moderator);
    let mut chat = moderator.timeline(room).await.within(SPEECH);
    let typed = format!("!upgrade {} 12 --yes", community.alias);
    moderator.send_text(room, &typed).await;
    chat.until("the report", |event| {
        user::text(event).contains("Upgrade #1 is done")
    })
    .await;
    let metrics = eventually("nothing left to send", SPEECH, async || {
        let (_, metrics) = get(&base, "/metrics").await;
        (value(&metrics, "roomlift_outbox_depth") == Some(0.0)).then_some(metrics)
    })
    .await;
    for (name, expected) in [
        (r#"roomlift_jobs{state="done"}"#, 1.0),
        (r#"roomlift_step_seconds_count{step="switch"}"#, 2.0),
        (r#"roomlift_step_seconds_count{step="verify"}"#, 1.0),
        (r#"roomlift_waits_total{reason="rate_limit"}"#, 1.0),
        (
            r#"roomlift_requests_total{kind="upgrade",outcome="ok"}"#,
            1.0,
        ),
        (
            r#"roomlift_requests_total{kind="upgrade",outcome="rate_limited"}"#,
            1.0,
        ),
    ] {
        assert_eq!(value(&metrics, name), Some(expected), "{name}: {metrics}");
    }
    let age = value(&metrics, "roomlift_sync_age_seconds");
    assert!(age.is_some_and(|age| age < 60.0), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    // Nobody and no room is named.
    assert!(!metrics.contains(['@', '!', '$']), "{metrics}");

    assert_eq!(get(&base, "/").await.0, 404);
    let post = reqwest::Client::new().post(format!("{base}/healthz"));
    let post = post.send().await.expect("an answer");
    assert_eq!(post.status().as_u16(), 405);

    bot.terminate();
    assert_eq!(bot.wait_exit(START).await.code(), Some(0));
    let log = bot.log();
    let mut seen = 0;
    for line in log.lines().filter(|line| !line.starts_with("roomlift: ")) {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        seen += usize::from(line["message"] == "step done" && line["spans"][0] == "job{job.id=1}");
    }
    assert!(seen > 5, "{log}");
}
