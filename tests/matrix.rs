//! The module `matrix` on a real Synapse: session, port, receiving and sending.
#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::items_after_statements,
    reason = "in a test, an unwrap is an assertion, and a scene is told from beginning to end"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use roomlift::clock::{Clock, SystemClock};
use roomlift::config::{Account, Credentials, Secret};
use roomlift::homeserver::gate::Gate;
use roomlift::homeserver::{Bucket, Existence, Homeserver, HomeserverError};
use roomlift::matrix::{self, MatrixError, Port, Readiness, Receiver, Session};
use roomlift::model::{RoomName, RoomRef, Text};
use roomlift::room::state::Listing;
use roomlift::store::{Outgoing, Post, Received, ReceivedKind, Store, Target, Write};
use roomlift_testbed::{Fault, Kind, Proxy, Rule, Synapse, SynapseOptions, User, eventually};
use ruma::{OwnedRoomId, RoomAliasId, RoomVersionId, UserId};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "correct horse battery staple";

fn account(base: &str, user: &User) -> Account {
    Account {
        homeserver: base.to_owned(),
        user_id: user.user_id.parse().unwrap(),
        credentials: Credentials::Password(Secret::new(PASSWORD.to_owned())),
    }
}

async fn connect(account: &Account, dir: &tempfile::TempDir) -> Result<Session, MatrixError> {
    matrix::connect(account, &dir.path().join("data"), &CancellationToken::new()).await
}

fn port(session: &Session) -> Port {
    Port::new(session, Arc::new(Gate::default()), Arc::new(SystemClock))
}

fn id(room: &str) -> OwnedRoomId {
    room.parse().unwrap()
}

fn concerns(body: &str) -> bool {
    body.starts_with("!upgrade")
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), MatrixError>>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn receive(session: &Session, store: &Arc<Store>, room: &str) -> Running {
    let (ready, mut is_ready) = watch::channel(Readiness::Starting);
    let stop = CancellationToken::new();
    let receiver = Receiver {
        session: session.clone(),
        store: Arc::clone(store),
        admin_rooms: Arc::new(vec![room.parse().unwrap()]),
        clock: Arc::new(SystemClock),
        max_age: Duration::from_hours(1),
        concerns_us: concerns,
        ready,
    };
    let task = tokio::spawn(receiver.run(stop.clone()));
    is_ready
        .wait_for(|ready| *ready == Readiness::Ready)
        .await
        .unwrap();
    Running { stop, task }
}

fn drain(store: &Store) -> Vec<Received> {
    let mut all = Vec::new();
    while let Some(next) = store.next_received().unwrap() {
        store
            .commit(SystemClock.now(), &[Write::Handled(next.event_id.clone())])
            .unwrap();
        all.push(next);
    }
    all
}

fn bodies(events: &[Received]) -> Vec<String> {
    events
        .iter()
        .map(|event| match &event.kind {
            ReceivedKind::Message { body, .. } => body.clone(),
            ReceivedKind::Reaction { key, .. } => key.clone(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_the_same_device() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let dir = tempfile::tempdir().unwrap();
    let account = account(&synapse.base_url(), &bot);
    let first = connect(&account, &dir).await.unwrap();
    let device = first.device().to_owned();
    drop(first);
    let again = connect(&account, &dir).await.unwrap();
    assert_eq!(again.device(), device);
    drop(again);

    // Logged out from elsewhere: same device, new token.
    let file = dir.path().join("data/session.json");
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let http = reqwest::Client::new();
    let out = http
        .post(format!("{}/_matrix/client/v3/logout", synapse.base_url()))
        .bearer_auth(saved["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert!(out.status().is_success());
    let by_token = Account {
        credentials: Credentials::AccessToken(Secret::new(
            saved["access_token"].as_str().unwrap().to_owned(),
        )),
        ..account.clone()
    };
    let error = connect(&by_token, &dir).await.unwrap_err();
    assert!(matches!(error, MatrixError::TokenRevoked { .. }), "{error}");
    let again = connect(&account, &dir).await.unwrap();
    assert_eq!(again.device(), device);
    port(&again).joined_rooms().await.unwrap();
    drop(again);
    let again = connect(&account, &dir).await.unwrap();
    port(&again).joined_rooms().await.unwrap();
    drop(again);

    // Wrong password, foreign and damaged files.
    let wrong = Account {
        credentials: Credentials::Password(Secret::new("nonsense".to_owned())),
        ..account.clone()
    };
    let empty = tempfile::tempdir().unwrap();
    let error = connect(&wrong, &empty).await.unwrap_err();
    assert!(error.to_string().contains("account.password"), "{error}");
    let other = synapse.register("other").await;
    let foreign = Account {
        user_id: other.user_id.parse().unwrap(),
        ..account.clone()
    };
    let error = connect(&foreign, &dir).await.unwrap_err();
    assert!(
        matches!(error, MatrixError::ForeignSession { .. }),
        "{error}"
    );
    let before = std::fs::read(&file).unwrap();
    std::fs::write(&file, "{").unwrap();
    let error = connect(&account, &dir).await.unwrap_err();
    assert!(
        matches!(error, MatrixError::SessionDamaged { .. }),
        "{error}"
    );
    std::fs::write(&file, before).unwrap();

    // A token whose owner is somebody else; a fresh token of its own.
    let token = Account {
        credentials: Credentials::AccessToken(Secret::new(other.access_token.clone())),
        ..account.clone()
    };
    let error = connect(&token, &tempfile::tempdir().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, MatrixError::WrongAccount { .. }), "{error}");
    let token = Account {
        user_id: other.user_id.parse().unwrap(),
        ..token
    };
    let by_token = connect(&token, &tempfile::tempdir().unwrap())
        .await
        .unwrap();
    assert_eq!(by_token.device(), other.device_id);

    // The session file is lost, the store is not.
    std::fs::remove_file(&file).unwrap();
    let error = connect(&account, &dir).await.unwrap_err();
    assert!(matches!(error, MatrixError::SdkStore { .. }), "{error}");
    std::fs::remove_dir_all(dir.path().join("data/matrix")).unwrap();
    connect(&account, &dir).await.unwrap();
    // A damaged store.
    for entry in std::fs::read_dir(dir.path().join("data/matrix")).unwrap() {
        std::fs::write(entry.unwrap().path(), "garbage garbage garbage").unwrap();
    }
    let error = connect(&account, &dir).await.unwrap_err();
    assert!(matches!(error, MatrixError::SdkStore { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_waits_for_the_homeserver() {
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let bot = synapse.register("bot").await;
    let proxy = Proxy::start(&synapse.base_url());
    let account = account(&proxy.base_url(), &bot);
    synapse.kill();
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (answer, ()) = tokio::join!(matrix::connect(&account, dir.path(), &stop), async {
        eventually("a second try", Duration::from_secs(20), async || {
            (proxy.log().len() >= 2).then_some(())
        })
        .await;
        stop.cancel();
    });
    assert!(matches!(answer, Err(MatrixError::Stopped)));
    let stop = CancellationToken::new();
    let (answer, ()) = tokio::join!(
        matrix::connect(&account, dir.path(), &stop),
        synapse.start_again()
    );
    answer.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_does_what_it_says() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let server = synapse.server_name();
    let dir = tempfile::tempdir().unwrap();
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
    let port = port(&session);

    let versions = port.room_versions().await.unwrap();
    assert!(versions.available.contains(&RoomVersionId::V12));
    let user: &UserId = alice.user_id.as_str().try_into().unwrap();
    assert_eq!(
        port.user_exists(user).await.unwrap(),
        Some(Existence::Known)
    );
    let nobody = UserId::parse(format!("@nobody:{server}")).unwrap();
    assert_eq!(
        port.user_exists(&nobody).await.unwrap(),
        Some(Existence::Unknown)
    );
    let far = UserId::parse("@nobody:nowhere.invalid").unwrap();
    assert_eq!(port.user_exists(&far).await.unwrap(), None);

    let room: OwnedRoomId = bot
        .create_room(json!({ "preset": "public_chat", "room_version": "11", "name": "Old" }))
        .await
        .parse()
        .unwrap();
    let mut content = serde_json::Map::new();
    content.insert("n".into(), json!(5));
    for kind in [
        "m.call.member",
        "org.matrix.msc3401.call.member",
        "m.beacon_info",
        "m.image_pack",
    ] {
        port.put_state(&room, kind, "", &content).await.unwrap();
    }
    port.put_state(&room, "org.example/odd type", "ke/y ä", &content)
        .await
        .unwrap();
    let state = port.state(&room).await.unwrap();
    for kind in [
        "m.call.member",
        "org.matrix.msc3401.call.member",
        "m.beacon_info",
        "m.image_pack",
    ] {
        assert_eq!(state.content(kind, ""), Some(&content), "{kind}");
        assert_eq!(
            port.state_event(&room, kind, "").await.unwrap().as_ref(),
            Some(&content)
        );
    }
    assert_eq!(
        state.content("org.example/odd type", "ke/y ä"),
        Some(&content)
    );
    assert_eq!(
        port.state_event(&room, "org.example/odd type", "ke/y ä")
            .await
            .unwrap(),
        Some(content.clone())
    );
    assert_eq!(
        port.state_event(&room, "org.example.none", "")
            .await
            .unwrap(),
        None
    );
    assert_eq!(state.name().as_deref(), Some("Old"));
    content.insert("f".into(), json!(1.5));
    let error = port
        .put_state(&room, "org.example.float", "", &content)
        .await
        .unwrap_err();
    assert!(
        matches!(error, HomeserverError::Refused { status: 400, .. }),
        "{error}"
    );

    let alias = RoomAliasId::parse(format!("#a{}:{server}", std::process::id())).unwrap();
    assert_eq!(port.resolve(&alias).await.unwrap(), None);
    port.create_alias(&alias, &room).await.unwrap();
    let error = port.create_alias(&alias, &room).await.unwrap_err();
    assert!(
        matches!(error, HomeserverError::Refused { status: 409, .. }),
        "{error}"
    );
    assert_eq!(port.resolve(&alias).await.unwrap().unwrap().room_id, room);
    assert_eq!(
        port.local_aliases(&room).await.unwrap(),
        BTreeSet::from([alias.clone()])
    );
    port.delete_alias(&alias).await.unwrap();
    assert!(port.delete_alias(&alias).await.unwrap_err().is_not_found());
    assert!(port.local_aliases(&room).await.unwrap().is_empty());

    assert_eq!(port.listing(&room).await.unwrap(), Listing::Private);
    port.set_listing(&room, Listing::Public).await.unwrap();
    assert_eq!(port.listing(&room).await.unwrap(), Listing::Public);
    port.ban(&room, &far, Some("why")).await.unwrap();
    assert_eq!(
        port.state(&room).await.unwrap().bans()[&far].as_deref(),
        Some("why")
    );

    let theirs = alice.create_room(json!({ "preset": "public_chat" })).await;
    let named = RoomRef {
        name: RoomName::Id(theirs.parse().unwrap()),
        via: vec![],
    };
    assert_eq!(port.join(&named).await.unwrap(), theirs);
    assert!(port.joined_rooms().await.unwrap().contains(&room));

    // Sync has not told of the room yet; sent all the same, once.
    let mut message = serde_json::Map::new();
    message.insert("msgtype".into(), json!("m.notice"));
    message.insert("body".into(), json!("hello"));
    let one = port.send_message(&room, "txn1", &message).await.unwrap();
    assert_eq!(
        port.send_message(&room, "txn1", &message).await.unwrap(),
        one
    );

    let new = port
        .upgrade(
            &room,
            &RoomVersionId::V12,
            &BTreeSet::from([user.to_owned()]),
        )
        .await
        .unwrap();
    let create = port.state(&new).await.unwrap().create();
    assert_eq!(create.version, RoomVersionId::V12);
    assert!(create.creators.contains(user), "{create:?}");
    assert_eq!(create.predecessor, Some(room.clone()));
    let error = port
        .upgrade(
            &room,
            &RoomVersionId::try_from("x").unwrap(),
            &BTreeSet::new(),
        )
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HomeserverError::Refused { status: 400, .. }),
        "{error}"
    );

    // What sync told.
    let space: OwnedRoomId = bot
        .create_room(json!({ "creation_content": { "type": "m.space" }, "name": "Space" }))
        .await
        .parse()
        .unwrap();
    let via = json!({ "via": [server] });
    bot.put_state(space.as_str(), "m.space.child", new.as_str(), via)
        .await;
    bot.put_state(space.as_str(), "m.space.child", room.as_str(), json!({}))
        .await;
    let rules = json!({ "join_rule": "restricted", "allow": [
        { "type": "m.room_membership", "room_id": new.as_str() }] });
    let inner = bot.create_room(json!({ "room_version": "11" })).await;
    bot.put_state(&inner, "m.room.join_rules", "", rules).await;
    let store = Arc::new(Store::open(&dir.path().join("s.db")).unwrap());
    let running = receive(&session, &store, room.as_str()).await;
    let referrers = port.referrers(&new).await.unwrap();
    let ids: BTreeSet<_> = referrers
        .iter()
        .map(|room| room.room_id.to_string())
        .collect();
    assert_eq!(ids, BTreeSet::from([space.to_string(), inner.clone()]));
    let found = referrers
        .iter()
        .find(|found| found.room_id == space)
        .unwrap();
    assert!(found.is_space() && found.name().as_deref() == Some("Space"));
    assert!(found.content("m.room.power_levels", "").is_some());
    assert!(found.content("m.space.child", new.as_str()).is_some());
    assert!(found.content("m.room.member", &bot.user_id).is_some());
    assert!(port.referrers(&room).await.unwrap().is_empty());
    assert_eq!(
        port.children(&space).await.unwrap(),
        BTreeSet::from([new.clone()])
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_doubt_reach_the_caller() {
    let synapse = Synapse::start(SynapseOptions::default().with_limit("rc_message", 0.2, 2)).await;
    let bot = synapse.register("bot").await;
    let room: OwnedRoomId = bot.create_room(json!({})).await.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
    let gate = Arc::new(Gate::default());
    let port = Port::new(&session, Arc::clone(&gate), Arc::new(SystemClock));
    let mut limited = None;
    for n in 0..6 {
        let mut content = serde_json::Map::new();
        content.insert("n".into(), json!(n));
        if let Err(error) = port.put_state(&room, "org.example.n", "", &content).await {
            limited = Some(error);
            break;
        }
    }
    let HomeserverError::RateLimited {
        retry_after,
        bucket,
        ..
    } = limited.unwrap()
    else {
        panic!("not limited");
    };
    assert!(
        retry_after > Duration::ZERO && bucket == Bucket::Everything,
        "{retry_after:?}"
    );
    let started = std::time::Instant::now();
    let error = port.joined_rooms().await.unwrap_err();
    assert!(matches!(error, HomeserverError::RateLimited { .. }));
    assert!(started.elapsed() < Duration::from_millis(50));
    synapse.kill();
    let fresh = Port::new(&session, Arc::default(), Arc::new(SystemClock));
    let error = fresh.joined_rooms().await.unwrap_err();
    assert!(
        matches!(error, HomeserverError::Uncertain { status: None, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_between_two_runs() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let room = alice.create_room(json!({ "preset": "private_chat" })).await;
    let dir = tempfile::tempdir().unwrap();
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
    let admin: ruma::OwnedRoomOrAliasId = room.parse().unwrap();
    let error = matrix::enter(&session, &port(&session), std::slice::from_ref(&admin))
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&room) && error.to_string().contains(&bot.user_id));
    let unknown = format!("#nope:{}", synapse.server_name()).parse().unwrap();
    assert!(
        matrix::enter(&session, &port(&session), &[unknown])
            .await
            .is_err()
    );
    alice.invite(&room, &bot.user_id).await;
    let rooms = matrix::enter(&session, &port(&session), &[admin.clone(), admin])
        .await
        .unwrap();
    assert_eq!(rooms.len(), 1);

    let store = Arc::new(Store::open(&dir.path().join("s.db")).unwrap());
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
    alice.send_text(&room, "not for us").await;
    alice.edit_text(&room, &asked, "!upgrade edited").await;
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
    assert_eq!(
        bodies(&got.lock().unwrap()),
        ["!upgrade one", "✅", "!upgrade two"]
    );
    running.end().await;
    drop(session);

    // While nobody listens: more than one page, and a redacted one.
    alice.send_text(&room, "!upgrade three").await;
    for n in 0..130 {
        alice.send_text(&room, &format!("noise {n}")).await;
    }
    let taken_back = alice.send_text(&room, "!upgrade taken back").await;
    alice.redact(&room, &taken_back).await;
    alice.send_text(&room, "!upgrade four").await;
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
    let running = receive(&session, &store, &room).await;
    assert_eq!(bodies(&drain(&store)), ["!upgrade three", "!upgrade four"]);
    running.end().await;

    // The SDK has taken the answer in, and we were killed before storing it.
    alice.send_text(&room, "!upgrade five").await;
    let aside = Arc::new(Store::open(&dir.path().join("other.db")).unwrap());
    receive(&session, &aside, &room).await.end().await;
    drop(session);
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn sync_survives_a_restart_of_the_homeserver() {
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let bot = synapse.register("bot").await;
    let room = bot.create_room(json!({ "preset": "public_chat" })).await;
    let alice = synapse.register("alice").await;
    alice.join(&room).await;
    let dir = tempfile::tempdir().unwrap();
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
    let store = Arc::new(Store::open(&dir.path().join("s.db")).unwrap());
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

fn say(key: &str, room: &str, plain: &str, reply_to: Option<&str>) -> Outgoing {
    Outgoing {
        key: key.to_owned(),
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
        key: key.to_owned(),
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
        session.clone(),
        Arc::clone(store),
        Arc::default(),
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
    let closed = synapse.register("alice").await.create_room(json!({})).await;
    let proxy = Proxy::start(&synapse.base_url());
    let dir = tempfile::tempdir().unwrap();
    let session = connect(&account(&proxy.base_url(), &bot), &dir)
        .await
        .unwrap();
    let store = Arc::new(Store::open(&dir.path().join("s.db")).unwrap());
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
                of: Target::Post(of.to_owned()),
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
                    to: Target::Post("forbidden".to_owned()),
                    emoji: "x".to_owned(),
                },
            )),
            Write::Enqueue(react("ack", Target::Event(command.parse().unwrap()))),
            Write::Enqueue(say("plan", &room, "the plan", Some(&command))),
            Write::Enqueue(react("seed", Target::Post("plan".to_owned()))),
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
    assert!(store.posted_event("forbidden").unwrap().is_none());
    let mut all = bot.messages(&room, 100).await;
    all.reverse();
    let plan = store.posted_event("plan").unwrap().unwrap();
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
    let seed = store.posted_event("seed").unwrap().unwrap();
    let seed = bot.event(&room, seed.as_str()).await.unwrap();
    assert_eq!(seed["content"]["m.relates_to"]["event_id"], plan.as_str());
    let ack = store.posted_event("ack").unwrap().unwrap();
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
            .due_posts(Timestamp::MAX, 10)
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
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
    let theirs = connect(&account(&synapse.base_url(), &other), &their_dir)
        .await
        .unwrap();
    matrix::enter(&session, &port(&session), &[room.parse().unwrap()])
        .await
        .unwrap();
    let store = Arc::new(Store::open(&dir.path().join("s.db")).unwrap());
    let their_store = Arc::new(Store::open(&their_dir.path().join("s.db")).unwrap());
    let mut message = serde_json::Map::new();
    message.insert("msgtype".into(), json!("m.text"));
    message.insert("body".into(), json!("!upgrade x"));
    // Not synced yet: not sent in the clear.
    let error = port(&theirs)
        .send_message(&id(&room), "t", &message)
        .await
        .unwrap_err();
    assert!(
        matches!(error, HomeserverError::Uncertain { .. }),
        "{error}"
    );
    let receiving = receive(&session, &store, &room).await;
    let they_receive = receive(&theirs, &their_store, &room).await;
    port(&theirs)
        .send_message(&id(&room), "t", &message)
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

    // Missed while away, decrypted when read back.
    receiving.end().await;
    message.insert("body".into(), json!("!upgrade y"));
    port(&theirs)
        .send_message(&id(&room), "t2", &message)
        .await
        .unwrap();
    drop(session);
    sending.end().await;
    let session = connect(&account(&synapse.base_url(), &bot), &dir)
        .await
        .unwrap();
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
    let session = connect(&account(&proxy.base_url(), &bot), &dir)
        .await
        .unwrap();
    let store = Arc::new(Store::open(&dir.path().join("s.db")).unwrap());
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
        store.posted_event("q1").unwrap()
    })
    .await;
    assert!(
        store.posted_event("s1").unwrap().is_none(),
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
