//! Sync into the inbox: nothing lost between two runs, nothing twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use roomlift::clock::{Clock as _, SystemClock};
use roomlift::homeserver::Homeserver as _;
use roomlift::matrix::{self, Entered, MatrixError};
use roomlift::model::Text;
use roomlift::store::{Outgoing, Post, PostKey, Sent, Store, Write};
use roomlift_testbed::{Synapse, SynapseOptions, eventually};
use ruma::OwnedEventId;
use serde_json::json;

use super::{bodies, drain, port, receive, signed_in, store_in};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_between_two_runs() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let room = alice.create_room(json!({ "preset": "private_chat" })).await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let store = store_in(&dir);
    let admin: ruma::OwnedRoomOrAliasId = room.parse().unwrap();
    let unknown = format!("#nope:{}", synapse.server_name()).parse().unwrap();
    let entered = matrix::enter(&port(&session), &store, &[admin.clone(), unknown]).await;
    let [
        Entered::Lost {
            room: Some(known),
            error,
        },
        Entered::Lost { room: None, .. },
    ] = &entered.unwrap()[..]
    else {
        panic!("nobody has invited the bot");
    };
    assert_eq!(known, room.as_str());
    assert!(error.to_string().contains(&room) && error.to_string().contains(&bot.user_id));
    alice.invite(&room, &bot.user_id).await;
    let entered = matrix::enter(&port(&session), &store, &[admin]).await;
    assert!(matches!(&entered.unwrap()[..], [Entered::In(id)] if *id == room.as_str()));

    let before = alice
        .send_text(&room, "!upgrade before the first start")
        .await;
    let before = alice.event(&room, &before).await.unwrap();
    let before = before["origin_server_ts"].as_i64().unwrap();
    eventually("a later moment", Duration::from_secs(1), async || {
        (SystemClock.now().as_millisecond() > before).then_some(())
    })
    .await;
    let running = receive(&session, &store, &room).await;
    let asked = alice.send_text(&room, "!upgrade one").await;
    let chat = alice.send_text(&room, "not for us").await;
    alice.edit_text(&room, &chat, "!upgrade edited").await;
    alice
        .send_event(
            &room,
            "m.room.message",
            json!({ "msgtype": "m.notice", "body": "!upgrade n" }),
        )
        .await;
    bot.send_text(&room, "!upgrade myself").await;
    alice.react(&room, &asked, "✅").await;
    alice.send_text(&room, "!upgrade two").await;
    let got = Mutex::new(Vec::new());
    // Events come in their order: with the last one, all before it are there.
    eventually("the last event", Duration::from_secs(20), async || {
        let mut got = got.lock().unwrap();
        got.extend(drain(&store));
        let last = bodies(&got).pop();
        (last.as_deref() == Some("!upgrade two")).then_some(())
    })
    .await;
    // Whatever is edited may have been a command.
    let edited = format!("{chat} was taken back");
    assert_eq!(
        bodies(&got.lock().unwrap()),
        ["!upgrade one", &edited, "✅", "!upgrade two"]
    );
    running.end().await;
    drop(session);

    // While nobody listens: more than one page, one that is edited, and a redacted one.
    alice.send_text(&room, "!upgrade three").await;
    for n in 0..130 {
        alice.send_text(&room, &format!("noise {n}")).await;
    }
    let edited = alice.send_text(&room, "!upgrade wrongly").await;
    alice.edit_text(&room, &edited, "never mind").await;
    let taken_back = alice.send_text(&room, "!upgrade taken back").await;
    alice.redact(&room, &taken_back).await;
    alice.send_text(&room, "!upgrade four").await;
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let running = receive(&session, &store, &room).await;
    let gone = |event: &str| format!("{event} was taken back");
    assert_eq!(
        bodies(&drain(&store)),
        [
            "!upgrade three",
            &format!("{edited} was edited"),
            &gone(&edited),
            &gone(&taken_back),
            "!upgrade four"
        ]
    );
    running.end().await;

    // The SDK has taken the answer in, and we were killed before storing it.
    alice.send_text(&room, "!upgrade five").await;
    let aside = Arc::new(Store::open(&dir.path().join("other.db")).unwrap());
    receive(&session, &aside, &room).await.end().await;
    drop(session);
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let running = receive(&session, &store, &room).await;
    assert_eq!(bodies(&drain(&store)), ["!upgrade five"]);
    running.end().await;

    // Nothing new: nothing again. A quiet first start remembers its place as well.
    let running = receive(&session, &store, &room).await;
    assert_eq!(bodies(&drain(&store)), [""; 0]);
    running.end().await;
    let quiet = Arc::new(Store::open(&dir.path().join("quiet.db")).unwrap());
    receive(&session, &quiet, &room).await.end().await;
    alice.send_text(&room, "!upgrade six").await;
    receive(&session, &quiet, &room).await.end().await;
    assert_eq!(bodies(&drain(&quiet)), ["!upgrade six"]);
}

/// Sync rests longer while there is work; as soon as that is done, answers to it are heard.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_heard_when_the_work_is_done() {
    const ROUNDS: i64 = 5;
    // At work it rests two seconds: some ten for all rounds.
    const MOST: Duration = Duration::from_millis(7_500);
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let room = bot.create_room(json!({ "preset": "public_chat" })).await;
    alice.join(&room).await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let store = store_in(&dir);
    let running = receive(&session, &store, &room).await;
    let within = Duration::from_secs(20);
    let mut took = Duration::ZERO;
    for round in 1..=ROUNDS {
        // The plan is to be posted; nobody does in this test.
        let plan = Write::Enqueue(Outgoing {
            key: PostKey::Reply(format!("$plan{round}").try_into().unwrap()),
            room_id: super::id(&room),
            post: Post::Message {
                text: Text {
                    plain: "Plan".to_owned(),
                    html: "Plan".to_owned(),
                },
                reply_to: None,
            },
        });
        store.commit(SystemClock.now(), &[plan]).unwrap();
        alice.send_text(&room, "!upgrade this").await;
        eventually("the command", within, async || {
            (bodies(&drain(&store)) == ["!upgrade this"]).then_some(())
        })
        .await;
        let begun = Instant::now();
        let due = store
            .due_posts(SystemClock.now(), 1, &HashSet::new())
            .unwrap()
            .remove(0);
        let event = OwnedEventId::try_from("$posted:example.org").unwrap();
        let posted = Sent::Posted(event);
        store
            .post_sent(SystemClock.now(), due.id, due.revision, &posted)
            .unwrap();
        alice.send_text(&room, "!upgrade confirm 1").await;
        eventually("the answer", within, async || {
            (bodies(&drain(&store)) == ["!upgrade confirm 1"]).then_some(())
        })
        .await;
        took += begun.elapsed();
    }
    assert!(took < MOST, "{took:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_survives_a_restart_of_the_homeserver() {
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let bot = synapse.register("bot").await;
    let room = bot.create_room(json!({ "preset": "public_chat" })).await;
    let alice = synapse.register("alice").await;
    alice.join(&room).await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let store = store_in(&dir);
    let running = receive(&session, &store, &room).await;
    synapse.restart().await;
    alice.send_text(&room, "!upgrade after").await;
    eventually("the command", Duration::from_secs(30), async || {
        (bodies(&drain(&store)) == ["!upgrade after"]).then_some(())
    })
    .await;
    // Logged out from elsewhere.
    let file = dir.path().join("data/session.json");
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    reqwest::Client::new()
        .post(format!("{}/_matrix/client/v3/logout", synapse.base_url()))
        .bearer_auth(saved["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(40), running.task)
        .await
        .unwrap();
    assert!(matches!(ended.unwrap(), Err(MatrixError::SignedOut { .. })));
}

/// Whoever waits for what sync tells of a room hears of it, and commands come in meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_sync_tells_can_be_waited_for() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let room = bot.create_room(json!({ "preset": "public_chat" })).await;
    alice.join(&room).await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let store = store_in(&dir);
    let running = receive(&session, &store, &room).await;
    let port = port(&session);
    let new = bot.create_room(json!({})).await;
    let new = super::id(&new);
    port.until_told(&[&new], Duration::from_secs(20)).await;
    assert!(port.known_state(&new).await.unwrap().is_some());
    alice.send_text(&room, "!upgrade now").await;
    eventually("the command", Duration::from_secs(20), async || {
        (bodies(&drain(&store)) == ["!upgrade now"]).then_some(())
    })
    .await;
    running.end().await;
}
