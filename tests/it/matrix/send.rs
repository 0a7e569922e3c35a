//! The outbox into rooms: once, in order, encrypted where the room is.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use roomlift::clock::{Clock as _, SystemClock};
use roomlift::homeserver::paced::Paced;
use roomlift::homeserver::{Homeserver as _, HomeserverError, MESSAGE};
use roomlift::matrix::{self, Session};
use roomlift::model::Text;
use roomlift::store::{Outgoing, Post, PostKey, Store, Target, Write};
use roomlift_testbed::{Fault, Kind, Proxy, Rule, Synapse, eventually};
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Running, bodies, drain, id, port, receive, signed_in, store_in};

/// A key, by any name.
fn key(name: &str) -> PostKey {
    PostKey::Reply(format!("${name}").try_into().unwrap())
}

fn say(key: &str, room: &str, plain: &str, reply_to: Option<&str>) -> Outgoing {
    Outgoing {
        key: self::key(key),
        room_id: room.parse().unwrap(),
        post: Post::Message {
            text: Text {
                plain: plain.to_owned(),
                html: format!("<b>{plain}</b>"),
            },
            reply_to: reply_to.map(|id| id.parse().unwrap()),
        },
    }
}

fn about(key: &str, room: &str, post: Post) -> Outgoing {
    Outgoing {
        key: self::key(key),
        room_id: room.parse().unwrap(),
        post,
    }
}

fn commit(store: &Store, writes: &[Write]) {
    store.commit(SystemClock.now(), writes).unwrap();
}

async fn sent(store: &Store) {
    eventually("an empty outbox", Duration::from_secs(40), async || {
        store.next_post_due().unwrap().is_none().then_some(())
    })
    .await;
}

fn start_sending(session: &Session, store: &Arc<Store>) -> Running {
    let stop = CancellationToken::new();
    let task = tokio::spawn(matrix::send(
        Paced::new(Arc::new(port(session)), Arc::default()),
        Arc::clone(store),
        Arc::new(SystemClock),
        stop.clone(),
    ));
    Running { stop, task }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_becomes_true() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let room = bot.create_room(json!({ "preset": "public_chat" })).await;
    // Where the bot is, and may not speak.
    let silent = json!({ "preset": "public_chat", "power_level_content_override": { "events_default": 50 } });
    let closed = synapse.register("alice").await.create_room(silent).await;
    bot.join(&closed).await;
    let proxy = Proxy::start(&synapse.base_url());
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&proxy.base_url(), &bot, &dir).await;
    let store = store_in(&dir);
    let command = bot.send_text(&room, "!upgrade x").await;
    let react = |key: &str, target| {
        about(
            key,
            &room,
            Post::Reaction {
                to: target,
                emoji: "⏳".to_owned(),
            },
        )
    };
    let take_back = |key: &str, of: &str| {
        about(
            key,
            &room,
            Post::Redaction {
                of: Target::Post(self::key(of)),
            },
        )
    };
    commit(
        &store,
        &[
            Write::Enqueue(say("forbidden", &closed, "never", None)),
            Write::Enqueue(about(
                "r0",
                &closed,
                Post::Reaction {
                    to: Target::Post(key("forbidden")),
                    emoji: "x".to_owned(),
                },
            )),
            Write::Enqueue(react("ack", Target::Event(command.parse().unwrap()))),
            Write::Enqueue(say("plan", &room, "the plan", Some(&command))),
            Write::Enqueue(react("seed", Target::Post(key("plan")))),
            Write::Enqueue(take_back("unack", "ack")),
        ],
    );
    let running = start_sending(&session, &store);
    sent(&store).await;
    // The first edit goes out at once; what follows within the interval goes out as one.
    let revised = |text: &str| Write::Revise(say("plan", &room, text, Some(&command)));
    commit(&store, &[revised("plan 1")]);
    sent(&store).await;
    commit(&store, &[revised("plan 2"), revised("plan 3")]);
    sent(&store).await;
    assert!(store.posted_event(&key("forbidden")).unwrap().is_none());
    let mut all = bot.messages(&room, 100).await;
    all.reverse();
    let plan = store.posted_event(&key("plan")).unwrap().unwrap();
    let event = bot.event(&room, plan.as_str()).await.unwrap();
    assert_eq!(
        event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"],
        command.as_str()
    );
    assert_eq!(event["content"]["msgtype"], "m.notice");
    assert_eq!(event["content"]["formatted_body"], "<b>the plan</b>");
    assert_eq!(event["content"]["m.mentions"], json!({}));
    let edits: Vec<_> = all
        .iter()
        .filter(|event| roomlift_testbed::user::is_edit(event))
        .collect();
    assert_eq!(edits.len(), 2, "{edits:#?}");
    assert_eq!(edits[1]["content"]["m.new_content"]["body"], "plan 3");
    let gap = edits[1]["origin_server_ts"].as_i64().unwrap()
        - edits[0]["origin_server_ts"].as_i64().unwrap();
    assert!(gap >= 1900, "{gap}");
    let seed = store.posted_event(&key("seed")).unwrap().unwrap();
    let seed = bot.event(&room, seed.as_str()).await.unwrap();
    assert_eq!(seed["content"]["m.relates_to"]["event_id"], plan.as_str());
    let ack = store.posted_event(&key("ack")).unwrap().unwrap();
    let ack = bot.event(&room, ack.as_str()).await.unwrap();
    assert_eq!(ack["content"], json!({}), "redacted");

    // The answer gets lost, the text changes meanwhile: one message, and an edit.
    let sends = Kind::Send {
        event_type: "m.room.message".to_owned(),
    };
    let _fired = proxy.add(Rule::on(sends, Fault::LoseAnswer));
    commit(&store, &[Write::Enqueue(say("late", &room, "old", None))]);
    eventually("a try", Duration::from_secs(10), async || {
        store
            .due_posts(Timestamp::MAX, 10, &HashSet::new())
            .unwrap()
            .iter()
            .any(|p| p.attempts > 0)
            .then_some(())
    })
    .await;
    commit(
        &store,
        &[
            Write::Revise(say("late", &room, "new", None)),
            Write::Enqueue(say("behind", &room, "behind", None)),
        ],
    );
    sent(&store).await;
    let all = bot.messages(&room, 100).await;
    let of = |body: &str| {
        all.iter()
            .filter(|event| event["content"]["body"] == body)
            .count()
    };
    assert_eq!(
        (of("old"), of("* new"), of("new"), of("behind")),
        (1, 1, 0, 1)
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn talk_in_an_encrypted_room() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let other = synapse.register("mod").await;
    let encryption = json!([{ "type": "m.room.encryption", "state_key": "",
        "content": { "algorithm": "m.megolm.v1.aes-sha2" } }]);
    let room = other
        .create_room(json!({ "preset": "public_chat", "initial_state": encryption }))
        .await;
    let (dir, their_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let theirs = signed_in(&synapse.base_url(), &other, &their_dir).await;
    let store = store_in(&dir);
    matrix::enter(&port(&session), &store, &[room.parse().unwrap()])
        .await
        .unwrap();
    let their_store = store_in(&their_dir);
    let mut message = serde_json::Map::new();
    message.insert("msgtype".into(), json!("m.text"));
    message.insert("body".into(), json!("!upgrade x"));
    // Not synced yet: not sent in the clear.
    let error = port(&theirs)
        .send_event(&id(&room), MESSAGE, "t", &message)
        .await
        .unwrap_err();
    assert!(
        matches!(error, HomeserverError::Uncertain { .. }),
        "{error}"
    );
    let receiving = receive(&session, &store, &room).await;
    let they_receive = receive(&theirs, &their_store, &room).await;
    port(&theirs)
        .send_event(&id(&room), MESSAGE, "t", &message)
        .await
        .unwrap();
    let got = Mutex::new(Vec::new());
    eventually("a decrypted command", Duration::from_secs(20), async || {
        got.lock().unwrap().extend(drain(&store));
        (!got.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    assert_eq!(bodies(&got.lock().unwrap()), ["!upgrade x"]);
    let sending = start_sending(&session, &store);
    commit(
        &store,
        &[Write::Enqueue(say("a", &room, "!upgrade answer", None))],
    );
    sent(&store).await;
    commit(&store, &[Write::Revise(say("a", &room, "edited", None))]);
    sent(&store).await;
    let all = bot.messages(&room, 10).await;
    assert_eq!(
        all.iter()
            .filter(|event| event["type"] == "m.room.encrypted")
            .count(),
        3
    );

    // A file goes up encrypted, and its keys with the message.
    let post = Post::File {
        name: "record.txt".to_owned(),
        content_type: "text/plain".to_owned(),
        body: "plain words".to_owned(),
        reply_to: None,
    };
    commit(&store, &[Write::Enqueue(about("file", &room, post))]);
    sent(&store).await;
    let posted = store.posted_event(&key("file")).unwrap().unwrap();
    let content = eventually("its key", Duration::from_secs(20), async || {
        let event = port(&theirs).event(&id(&room), &posted).await.unwrap();
        event
            .filter(|event| event.kind == "m.room.message")
            .map(|event| event.content)
    })
    .await;
    assert_eq!(content["msgtype"], "m.file");
    assert!(!content.contains_key("url"), "{content:?}");
    let media = content["file"]["url"].as_str().unwrap();
    let bytes = other.download(media).await;
    assert_eq!(bytes.len(), "plain words".len());
    assert_ne!(bytes, b"plain words");
    let hash = Base64::<Standard>::new(Sha256::digest(&bytes).to_vec());
    assert_eq!(content["file"]["hashes"]["sha256"], hash.encode());

    // Missed while away, decrypted when read back.
    receiving.end().await;
    message.insert("body".into(), json!("!upgrade y"));
    port(&theirs)
        .send_event(&id(&room), MESSAGE, "t2", &message)
        .await
        .unwrap();
    drop(session);
    sending.end().await;
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let receiving = receive(&session, &store, &room).await;
    assert_eq!(bodies(&drain(&store)), ["!upgrade y"]);
    receiving.end().await;
    they_receive.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_hangs_holds_up_nobody_else() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let (slow, quick) = (
        bot.create_room(json!({})).await,
        bot.create_room(json!({})).await,
    );
    let proxy = Proxy::start(&synapse.base_url());
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&proxy.base_url(), &bot, &dir).await;
    let store = store_in(&dir);
    let room = format!("{slow}/send");
    let (second, on_its_way) = (room.clone(), room.clone());
    let fault = Fault::Delay(Duration::from_secs(6));
    let _fired = proxy.add(Rule::new(move |seen| seen.path.contains(&room), fault));
    let _fired = proxy.add(
        Rule::new(
            move |seen| seen.path.contains(&second),
            Fault::error(500, "M_UNKNOWN"),
        )
        .skip(1),
    );
    let sending = start_sending(&session, &store);
    commit(
        &store,
        &[
            Write::Enqueue(say("s1", &slow, "first", None)),
            Write::Enqueue(say("s2", &slow, "second", None)),
        ],
    );
    eventually("the slow one leaves", Duration::from_secs(5), async || {
        let mut log = proxy.log().into_iter();
        log.any(|seen| seen.path.contains(&on_its_way))
            .then_some(())
    })
    .await;
    commit(&store, &[Write::Enqueue(say("q1", &quick, "quick", None))]);
    let started = std::time::Instant::now();
    eventually("the quick one", Duration::from_secs(3), async || {
        store.posted_event(&key("q1")).unwrap()
    })
    .await;
    assert!(
        store.posted_event(&key("s1")).unwrap().is_none(),
        "{:?}",
        started.elapsed()
    );
    sent(&store).await;
    let mut all = bot.messages(&slow, 20).await;
    all.reverse();
    let texts: Vec<_> = all
        .iter()
        .filter_map(|e| e["content"]["body"].as_str())
        .collect();
    assert_eq!(texts, ["first", "second"]);
    sending.end().await;
}

/// An edit that comes too soon after another waits, but not longer than what is said after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_next_comes_after_the_last_edit() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let room = bot.create_room(json!({})).await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let store = store_in(&dir);
    let sending = start_sending(&session, &store);
    let progress = |text: &str| say("progress", &room, text, None);
    for text in ["begun", "half"] {
        commit(&store, &[Write::Revise(progress(text))]);
        sent(&store).await;
    }
    commit(
        &store,
        &[
            Write::Revise(progress("done")),
            Write::Revise(say("report", &room, "the report", None)),
        ],
    );
    sent(&store).await;
    let mut all = bot.messages(&room, 20).await;
    all.reverse();
    let texts: Vec<_> = all
        .iter()
        .filter_map(|e| e["content"]["body"].as_str())
        .collect();
    assert_eq!(texts, ["begun", "* half", "* done", "the report"]);
    sending.end().await;
}
