//! The testbed itself, tried on a real Synapse: what the other tests build on.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use roomlift_testbed::user::{NO_ANSWER, is_edit, relates_to, text};
use roomlift_testbed::{
    Bot, Fault, Kind, Proxy, Rule, Synapse, SynapseOptions, User, eventually, seg,
};
use serde_json::{Value, json};

/// Enough for anything a process of this machine does at once.
const SOON: Duration = Duration::from_secs(20);

/// Set in the process that is to be killed; without it, [`victim`] does nothing.
const VICTIM: &str = "ROOMLIFT_TESTBED_VICTIM";

/// A user, a room of theirs and a proxy in between.
async fn behind_proxy() -> (User, String, Proxy) {
    let synapse = Synapse::shared().await;
    let user = synapse.register("user").await;
    let room = user.create_room(json!({ "preset": "public_chat" })).await;
    let proxy = Proxy::start(&synapse.base_url());
    (user.via(&proxy.base_url()), room, proxy)
}

/// A message through the proxy.
async fn message(user: &User, room: &str) -> Result<Value, roomlift_testbed::ApiError> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let path = format!(
        "rooms/{}/send/m.room.message/m{}",
        seg(room),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    user.call(
        "PUT",
        &path,
        Some(json!({ "msgtype": "m.text", "body": "hello" })),
    )
    .await
}

/// How many messages the room has.
async fn messages(user: &User, room: &str) -> usize {
    let all = user.messages(room, 100).await;
    all.iter()
        .filter(|event| event["type"] == "m.room.message")
        .count()
}

fn sends() -> Kind {
    Kind::Send {
        event_type: "m.room.message".to_owned(),
    }
}

#[tokio::test]
async fn users_talk_in_a_room() {
    let synapse = Synapse::shared().await;
    let alice = synapse.register("alice").await;
    let bob = synapse.register("bob").await;
    assert_eq!(bob.whoami().await["user_id"], bob.user_id.as_str());
    let room = alice.create_room(json!({ "preset": "private_chat" })).await;

    let mut seen = bob.timeline(&room).await.within(SOON);
    alice.invite(&room, &bob.user_id).await;
    seen.until("the invitation", |e| e["content"]["membership"] == "invite")
        .await;
    bob.join(&room).await;
    seen.until("the join", |e| {
        e["content"]["membership"] == "join" && e["state_key"] == *bob.user_id
    })
    .await;

    let asked = alice.send_text(&room, "question").await;
    alice.edit_text(&room, &asked, "better question").await;
    alice.react(&room, &asked, "👍").await;
    let first = seen.until("the question", |e| text(e) == "question").await;
    assert_eq!(first["event_id"], asked.as_str());
    let edit = seen.until("the edit", is_edit).await;
    assert_eq!(
        (text(&edit), relates_to(&edit)),
        ("better question", Some(asked.as_str()))
    );
    seen.until("the reaction", |e| e["type"] == "m.reaction")
        .await;
    let mut later = bob.timeline(&room).await.within(SOON);
    alice.send_html(&room, "b", "<b>b</b>").await;
    let next = later.until("anything", |_| true).await;
    assert_eq!(text(&next), "b", "nothing from before");
    alice.redact(&room, &asked).await;
    seen.until("the redaction", |e| e["type"] == "m.room.redaction")
        .await;
    assert!(seen.seen().len() > 4);

    let alias = format!("#{}:{}", alice.localpart(), synapse.server_name());
    alice.set_alias(&alias, &room).await;
    assert_eq!(alice.aliases(&room).await, std::slice::from_ref(&alias));
    assert_eq!(alice.resolve_alias(&alias).await, Some(room.clone()));
    alice.remove_alias(&alias).await;
    assert_eq!(alice.resolve_alias(&alias).await, None);
    assert!(!alice.is_listed(&room).await);
    alice.set_listed(&room, true).await;
    assert!(alice.is_listed(&room).await);

    assert_eq!(alice.state_event(&room, "m.room.topic", "").await, None);
    alice
        .put_state(&room, "m.room.topic", "", json!({ "topic": "t" }))
        .await;
    assert_eq!(
        alice.state_event(&room, "m.room.topic", "").await.unwrap()["topic"],
        "t"
    );
    let carol = synapse.register("carol").await;
    alice.ban(&room, &carol.user_id, "spam").await;
    assert!(
        carol
            .call("POST", &format!("join/{}", seg(&room)), None)
            .await
            .is_err()
    );

    let upgraded = alice.upgrade(&room, "12").await;
    assert_ne!(upgraded, room);
    let tombstone = seen
        .until("the tombstone", |e| e["type"] == "m.room.tombstone")
        .await;
    assert_eq!(tombstone["content"]["replacement_room"], upgraded.as_str());
    assert!(
        alice
            .state(&upgraded)
            .await
            .iter()
            .any(|e| e["type"] == "m.room.topic")
    );
    assert!(bob.joined_rooms().await.contains(&room));
}

#[tokio::test]
#[should_panic(expected = "did not see in")]
async fn a_timeline_gives_up() {
    let (user, room, _proxy) = behind_proxy().await;
    let mut seen = user
        .timeline(&room)
        .await
        .within(Duration::from_millis(300));
    user.send_text(&room, "there").await;
    seen.until("what never comes", |e| text(e) == "not there")
        .await;
}

#[tokio::test]
async fn administrators_may_administrate() {
    let admin = Synapse::shared().await.register_admin("admin").await;
    let path = format!("/_synapse/admin/v2/users/{}", seg(&admin.user_id));
    assert_eq!(admin.call("GET", &path, None).await.unwrap()["admin"], true);
}

#[tokio::test]
async fn a_server_comes_back_with_its_data() {
    let synapse = Synapse::start(SynapseOptions::default().with_limit("rc_message", 0.01, 2)).await;
    let user = synapse.register_exact("alone").await;
    let room = user.create_room(json!({})).await;
    let mut refused = false;
    for _ in 0..4 {
        refused |= message(&user, &room)
            .await
            .is_err_and(|e| e.code() == "M_LIMIT_EXCEEDED");
    }
    assert!(refused, "an override takes effect");
    synapse.kill();
    assert_eq!(message(&user, &room).await.unwrap_err().status, NO_ANSWER);
    synapse.start_again().await;
    assert_eq!(user.joined_rooms().await, [room]);
    synapse.restart().await;
    assert_eq!(user.user_id, format!("@alone:{}", synapse.server_name()));
    user.whoami().await;
}

#[tokio::test]
async fn the_proxy_is_transparent() {
    let (user, room, proxy) = behind_proxy().await;
    proxy.clear_log();
    let id = message(&user, &room).await.unwrap();
    let log = proxy.log();
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].kind.clone(), log[0].status), (sends(), Some(200)));
    assert!(log[0].is_write() && log[0].path.contains(&room));
    assert_eq!(log[0].body.as_ref().unwrap()["body"], "hello");
    assert!(
        user.event(&room, id["event_id"].as_str().unwrap())
            .await
            .is_some()
    );
    let none = user
        .call("GET", "rooms/x/state?at=y", None)
        .await
        .unwrap_err();
    assert_eq!((none.status, proxy.log()[2].query.as_str()), (403, "at=y"));
}

#[tokio::test]
async fn a_long_poll_blocks_nobody_else() {
    let (user, room, _proxy) = behind_proxy().await;
    let mut seen = user.timeline(&room).await.within(SOON);
    let say = async {
        message(&user, &room).await.unwrap();
    };
    let (event, ()) = tokio::join!(seen.until("the message", |e| text(e) == "hello"), say);
    assert_eq!(event["sender"], user.user_id.as_str());
}

#[tokio::test]
async fn answers_are_made_up() {
    let (user, room, proxy) = behind_proxy().await;
    let slow = Fault::too_many_requests(Duration::from_millis(1500));
    let fired = proxy.add(Rule::on(sends(), slow).skip(1).times(2));
    assert!(message(&user, &room).await.is_ok());
    for _ in 0..2 {
        let error = message(&user, &room).await.unwrap_err();
        assert_eq!((error.status, error.code()), (429, "M_LIMIT_EXCEEDED"));
        assert_eq!(error.body["retry_after_ms"], 1500);
    }
    assert!(message(&user, &room).await.is_ok());
    assert_eq!((fired.count(), messages(&user, &room).await), (2, 2));

    proxy.add(Rule::on(sends(), Fault::error(403, "M_FORBIDDEN")).for_ever());
    for _ in 0..3 {
        assert_eq!(
            message(&user, &room).await.unwrap_err().code(),
            "M_FORBIDDEN"
        );
    }
    proxy.clear_rules();
    assert!(message(&user, &room).await.is_ok());
}

#[tokio::test]
async fn answers_are_lost_and_replaced() {
    let (user, room, proxy) = behind_proxy().await;
    proxy.add(Rule::on(sends(), Fault::LoseAnswer));
    assert_eq!(message(&user, &room).await.unwrap_err().status, NO_ANSWER);
    assert_eq!(messages(&user, &room).await, 1);
    assert_eq!(proxy.log_of(&sends())[0].status, Some(200));

    proxy.add(Rule::on(
        sends(),
        Fault::AnswerInstead {
            status: 504,
            body: json!({}),
        },
    ));
    assert_eq!(message(&user, &room).await.unwrap_err().status, 504);
    assert_eq!(messages(&user, &room).await, 2);

    proxy.add(Rule::on(
        sends(),
        Fault::custom(|status, body| (status, json!({ "was": body["event_id"].is_string() }))),
    ));
    assert_eq!(message(&user, &room).await.unwrap()["was"], true);
}

#[tokio::test]
async fn requests_are_cut_and_delayed() {
    let (user, room, proxy) = behind_proxy().await;
    proxy.add(Rule::on(sends(), Fault::Reset));
    assert_eq!(message(&user, &room).await.unwrap_err().status, NO_ANSWER);
    assert_eq!(messages(&user, &room).await, 0);
    assert_eq!(proxy.log_of(&sends())[0].status, None);

    let delay = Duration::from_millis(300);
    proxy.add(Rule::on(sends(), Fault::Delay(delay)));
    let start = Instant::now();
    assert!(message(&user, &room).await.is_ok());
    assert!(start.elapsed() >= delay);

    let acted = Arc::new(AtomicUsize::new(0));
    let act = || {
        let acted = Arc::clone(&acted);
        move || {
            acted.fetch_add(1, Ordering::SeqCst);
        }
    };
    proxy.add(Rule::on(sends(), Fault::before(act())));
    proxy.add(Rule::on(sends(), Fault::after(act())));
    assert!(message(&user, &room).await.is_err());
    assert_eq!(
        (acted.load(Ordering::SeqCst), messages(&user, &room).await),
        (1, 1)
    );
    assert!(message(&user, &room).await.is_err());
    assert_eq!(
        (acted.load(Ordering::SeqCst), messages(&user, &room).await),
        (2, 2)
    );
}

#[tokio::test]
async fn a_request_outlives_its_client() {
    let (user, room, proxy) = behind_proxy().await;
    proxy.add(Rule::on(sends(), Fault::Delay(Duration::from_millis(200))));
    let impatient = message(&user, &room);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), impatient)
            .await
            .is_err()
    );
    let arrived = async || (messages(&user, &room).await == 1).then_some(());
    eventually("the message to arrive all the same", SOON, arrived).await;
}

#[tokio::test]
async fn a_bot_is_started_killed_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let sh = Path::new("/bin/sh");
    let script = "trap 'echo bye; exit 3' TERM; echo up $ROOMLIFT_X; while :; do sleep 0.05; done";
    let bot = Bot::start_with_env(sh, ["-c", script], dir.path(), &[("ROOMLIFT_X", "given")]);
    bot.until_logged("up given", SOON).await;
    bot.terminate();
    assert_eq!(bot.wait_exit(SOON).await.code(), Some(3));
    assert!(!bot.is_running() && bot.log().ends_with("bye"));

    bot.start_again();
    assert!(bot.is_running());
    let (user, room, proxy) = behind_proxy().await;
    proxy.add(Rule::on(sends(), Fault::after(bot.killer())));
    assert!(message(&user, &room).await.is_err());
    assert!(!bot.is_running());
    assert_eq!(bot.wait_exit(SOON).await.code(), None);
}

#[tokio::test]
#[should_panic(expected = "the bot ended without logging")]
async fn a_bot_that_ends_early_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let bot = Bot::start(Path::new("/bin/sh"), ["-c", "echo oh no"], dir.path());
    bot.until_logged("up", SOON).await;
}

#[tokio::test]
async fn nothing_outlives_the_test_process() {
    // The test process to be killed, with a server and a bot, is this test run by itself.
    if std::env::var_os(VICTIM).is_some() {
        let dir = tempfile::tempdir().unwrap();
        let synapse = Synapse::shared().await;
        let bot = Bot::start(
            Path::new("/bin/sh"),
            ["-c", "while :; do sleep 1; done"],
            dir.path(),
        );
        println!("\nserver {} bot {}", synapse.base_url(), bot.id());
        return std::future::pending().await;
    }
    let temp = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "works::nothing_outlives_the_test_process"])
        .arg("--nocapture")
        .env("TMPDIR", temp.path())
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(victim.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with("server "))
        .unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let (server, bot) = (
        words[1].trim_start_matches("http://").to_owned(),
        words[3].to_owned(),
    );
    assert!(std::net::TcpStream::connect(&server).is_ok());
    victim.kill().unwrap();
    victim.wait().unwrap();

    let gone = async || std::net::TcpStream::connect(&server).is_err().then_some(());
    eventually("the server to be gone", SOON, gone).await;
    let gone = async || {
        let left = std::fs::read_dir(temp.path()).unwrap().flatten();
        let mut names = left.map(|entry| entry.file_name().to_string_lossy().into_owned());
        (!names.any(|name| name.starts_with("roomlift-synapse-"))).then_some(())
    };
    eventually("the server's directory to be gone", SOON, gone).await;
    // A process that nobody has reaped yet answers to signals, but runs no command.
    let gone = async || {
        let ps = Command::new("ps")
            .args(["-o", "stat=", "-p", &bot])
            .output()
            .unwrap();
        let state = String::from_utf8_lossy(&ps.stdout).trim().to_owned();
        (state.is_empty() || state.starts_with('Z')).then_some(())
    };
    eventually("the bot to be gone", SOON, gone).await;
}
