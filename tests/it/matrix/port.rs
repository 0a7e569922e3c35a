//! The port: each method on a real server, and how refusals reach the caller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roomlift::clock::SystemClock;
use roomlift::homeserver::pace::Priority;
use roomlift::homeserver::paced::Paced;
use roomlift::homeserver::{Bucket, Existence, Homeserver as _, HomeserverError, MESSAGE, Upload};
use roomlift::matrix::Port;
use roomlift::model::{RoomName, RoomRef};
use roomlift::room::state::{Content, Listing, RoomEvent};
use roomlift::survey::Surroundings;
use roomlift_testbed::{Fault, Proxy, Rule, Synapse, SynapseOptions, User, eventually};
use ruma::{OwnedEventId, OwnedRoomId, RoomAliasId, RoomVersionId, ServerName, UserId, event_id};
use serde_json::{Value, json};

use super::{id, port, receive, signed_in, store_in};

fn object(value: Value) -> Content {
    let Value::Object(content) = value else {
        panic!("no object: {value}");
    };
    content
}

fn user_id(user: &User) -> &UserId {
    user.user_id.as_str().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_does_what_it_says() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let server = synapse.server_name();
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
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
    assert!(matches!(
        port.delete_alias(&alias).await,
        Err(HomeserverError::Refused { status: 404, .. })
    ));
    assert!(port.local_aliases(&room).await.unwrap().is_empty());

    assert_eq!(port.listing(&room).await.unwrap(), Listing::Private);
    port.set_listing(&room, Listing::Public).await.unwrap();
    assert_eq!(port.listing(&room).await.unwrap(), Listing::Public);
    port.ban(&room, far.as_str(), Some("why")).await.unwrap();
    assert_eq!(
        port.state(&room).await.unwrap().bans()[far.as_str()].as_deref(),
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
    let one = port
        .send_event(&room, MESSAGE, "txn1", &message)
        .await
        .unwrap();
    assert_eq!(
        port.send_event(&room, MESSAGE, "txn1", &message)
            .await
            .unwrap(),
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
    bot.put_state(space.as_str(), "m.space.child", new.as_str(), via.clone())
        .await;
    bot.put_state(space.as_str(), "m.space.child", room.as_str(), json!({}))
        .await;
    let rules = json!({ "join_rule": "restricted", "allow": [
        { "type": "m.room_membership", "room_id": new.as_str() }] });
    let inner = bot.create_room(json!({ "room_version": "11" })).await;
    bot.put_state(&inner, "m.room.join_rules", "", rules).await;
    // Of two rooms that name the new one as their parent, one has taken it back.
    let below = bot.create_room(json!({ "name": "Below" })).await;
    bot.put_state(&below, "m.space.parent", new.as_str(), via.clone())
        .await;
    let apart = bot.create_room(json!({})).await;
    bot.put_state(&apart, "m.space.parent", new.as_str(), json!({}))
        .await;
    let store = store_in(&dir);
    let running = receive(&session, &store, room.as_str()).await;
    let around = Surroundings::read(&port).await.unwrap();
    let referrers = around.referrers(&new);
    let ids: BTreeSet<_> = referrers
        .iter()
        .map(|room| room.room_id.to_string())
        .collect();
    let expected = [space.to_string(), inner.clone(), below.clone()];
    assert_eq!(ids, BTreeSet::from(expected));
    let found = referrers
        .iter()
        .find(|found| found.room_id == space)
        .unwrap();
    assert!(found.is_space() && found.name().as_deref() == Some("Space"));
    assert!(found.content("m.room.power_levels", "").is_some());
    assert!(found.content("m.space.child", new.as_str()).is_some());
    assert!(found.content("m.room.member", &bot.user_id).is_some());
    let found = referrers.iter().find(|found| found.room_id == below);
    let parent = found.unwrap().content("m.space.parent", new.as_str());
    assert_eq!(parent.unwrap().get("via"), via.get("via"));
    assert!(around.referrers(&room).is_empty());
    assert_eq!(
        port.children(&space).await.unwrap(),
        BTreeSet::from([new.clone()])
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_path_arrives_byte_for_byte() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let server = synapse.server_name();
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let port = port(&session);
    let room = id(&bot.create_room(json!({})).await);
    // Such a key has every widget that is added by Element's `/addwidget`.
    let widget = "https%3A%2F%2Fexample.org%2F%C3%A4_%40a%3Ab_17";
    for key in [
        widget,
        "%",
        "100%",
        "%2525",
        "%zz",
        "a\\b",
        "a/b",
        "?x#y",
        "ä ^|[]{}`\"<>+",
        "\t",
        "...",
    ] {
        let content = object(json!({ "key": key }));
        let kind = format!("org.example.{key}");
        port.put_state(&room, &kind, key, &content).await.unwrap();
        let state = port.state(&room).await.unwrap();
        assert_eq!(state.content(&kind, key), Some(&content), "{key:?}");
        let read = port.state_event(&room, &kind, key).await.unwrap();
        assert_eq!(read, Some(content), "{key:?}");
    }

    for user in ["@x:evil.example:", "@x:evil_example.org", "@x:http://y"] {
        port.ban(&room, user, Some("why")).await.unwrap();
        let bans = port.state(&room).await.unwrap().bans();
        assert_eq!(bans[user].as_deref(), Some("why"));
    }

    let alias = RoomAliasId::parse(format!("#%41{}\\%25:{server}", std::process::id())).unwrap();
    port.create_alias(&alias, &room).await.unwrap();
    let aliases = port.local_aliases(&room).await.unwrap();
    assert!(aliases.iter().eq([&alias]), "{aliases:?}");
    assert_eq!(port.resolve(&alias).await.unwrap().unwrap().room_id, room);
    let by_alias = RoomRef {
        name: RoomName::Alias(alias.clone()),
        via: vec![],
    };
    assert_eq!(port.join(&by_alias).await.unwrap(), room);
    port.delete_alias(&alias).await.unwrap();
    assert_eq!(port.resolve(&alias).await.unwrap(), None);

    // Two transaction ids are two messages, and one that is sent again is the same message.
    let content = object(json!({ "msgtype": "m.text", "body": "x" }));
    let mut sent = Vec::new();
    for transaction in ["t.$%41:x", "t.$A:x", "t.$%41:x", "t.$a\\b:x"] {
        sent.push(
            port.send_event(&room, MESSAGE, transaction, &content)
                .await
                .unwrap(),
        );
    }
    assert_ne!(sent[0], sent[1]);
    assert_eq!(sent[0], sent[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_doubt_reach_the_caller() {
    let synapse = Synapse::start(SynapseOptions::default().with_limit("rc_message", 0.2, 2)).await;
    let bot = synapse.register("bot").await;
    let room: OwnedRoomId = bot.create_room(json!({})).await.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let port = Port::new(&session, Arc::new(SystemClock));
    let port = Paced::new(Arc::new(port), Arc::default()).at(Priority::Progress);
    let mut limited = None;
    for n in 0..6 {
        let mut content = serde_json::Map::new();
        content.insert("n".into(), json!(n));
        if let Err(error) = port.put_state(&room, "org.example.n", "", &content).await {
            limited = Some(error);
            break;
        }
    }
    let HomeserverError::RateLimited { limit, .. } = limited.unwrap() else {
        panic!("not limited");
    };
    assert!(
        limit.retry_after > Duration::ZERO && limit.bucket == Bucket::Everything,
        "{limit:?}"
    );
    // Nothing is sent before the limit opens, and reading goes on.
    let started = std::time::Instant::now();
    let content = object(json!({}));
    let error = port.put_state(&room, "org.example.n", "", &content).await;
    assert!(matches!(error, Err(HomeserverError::RateLimited { .. })));
    assert!(started.elapsed() < Duration::from_millis(50));
    assert!(port.joined_rooms().await.unwrap().contains(&room));
    synapse.kill();
    let fresh = Port::new(&session, Arc::new(SystemClock));
    let error = fresh.joined_rooms().await.unwrap_err();
    assert!(
        matches!(error, HomeserverError::Uncertain { status: None, .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_made_from_json_as_it_is() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let port = port(&session);
    let body = object(json!({
        "room_version": "11",
        "creation_content": { "type": "org.example.odd", "org.example.job": 7, "m.federate": false },
        "initial_state": [
            { "type": "org.matrix.msc3401.call.member", "state_key": "k", "content": { "n": [null] } },
        ],
    }));
    let room = port.create_room(&body).await.unwrap();
    let state = port.state(&room).await.unwrap();
    let create = state.content("m.room.create", "").unwrap();
    assert_eq!(create["org.example.job"], 7);
    assert_eq!(create["type"], "org.example.odd");
    assert_eq!(create["m.federate"], false);
    let call = state.content("org.matrix.msc3401.call.member", "k");
    assert_eq!(call, Some(&object(json!({ "n": [null] }))));

    let unknown = object(json!({ "room_version": "org.example.none" }));
    let error = port.create_room(&unknown).await.unwrap_err();
    let refused = matches!(&error, HomeserverError::Refused { status: 400, code, .. }
        if code == "M_UNSUPPORTED_ROOM_VERSION");
    assert!(refused, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_and_go() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let port = port(&session);
    let room = id(&bot.create_room(json!({ "preset": "private_chat" })).await);
    let membership = async || {
        let state = port.state(&room).await.unwrap();
        let member = state.content("m.room.member", &alice.user_id).unwrap();
        (
            member["membership"].as_str().unwrap().to_owned(),
            member.get("reason").cloned(),
        )
    };
    let said =
        |membership: &str, reason: Option<&str>| (membership.to_owned(), reason.map(Value::from));

    port.invite(&room, user_id(&alice), Some("come"))
        .await
        .unwrap();
    assert_eq!(membership().await, said("invite", Some("come")));
    alice.join(room.as_str()).await;
    let error = port.invite(&room, user_id(&alice), None).await.unwrap_err();
    assert!(
        matches!(error, HomeserverError::Refused { status: 403, .. }),
        "{error}"
    );
    port.kick(&room, user_id(&alice), Some("go")).await.unwrap();
    assert_eq!(membership().await, said("leave", Some("go")));

    port.leave(&room).await.unwrap();
    assert!(!port.joined_rooms().await.unwrap().contains(&room));
    port.leave(&room).await.unwrap();
    let never = id(&alice.create_room(json!({ "preset": "private_chat" })).await);
    port.leave(&never).await.unwrap();
    let error = port
        .invite(&never, user_id(&alice), None)
        .await
        .unwrap_err();
    assert!(matches!(error, HomeserverError::Refused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations_have_a_limit_of_their_own() {
    let limits = json!({ "per_issuer": { "per_second": 0.01, "burst_count": 1 } });
    let synapse = Synapse::start(SynapseOptions::default().with("rc_invites", limits)).await;
    let bot = synapse.register("bot").await;
    let (alice, other) = (synapse.register("alice").await, synapse.register("o").await);
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let port = port(&session);
    let room = id(&bot.create_room(json!({})).await);
    port.invite(&room, user_id(&alice), None).await.unwrap();
    let error = port.invite(&room, user_id(&other), None).await.unwrap_err();
    let limited = matches!(
        error,
        HomeserverError::RateLimited { limit, .. } if limit.bucket == Bucket::Invitations
    );
    assert!(limited, "{error}");
    port.state(&room).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn single_events_are_read_and_decrypted() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let (dir, their_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let bots = port(&session);
    let hello = object(json!({ "msgtype": "m.text", "body": "hello", "org.example.f": [1] }));

    // Sync has not told of the room; hidden from the bot is what is from before it came.
    let room = id(&alice.create_room(json!({ "preset": "public_chat" })).await);
    let hidden = json!({ "history_visibility": "joined" });
    alice
        .put_state(room.as_str(), "m.room.history_visibility", "", hidden)
        .await;
    let before = alice.send_text(room.as_str(), "before").await;
    bot.join(room.as_str()).await;
    let sent = alice
        .send_event(room.as_str(), "m.room.message", hello.clone().into())
        .await;
    let in_clear = sent.parse::<OwnedEventId>().unwrap();
    let event = bots.event(&room, &in_clear).await.unwrap().unwrap();
    let seen = bot.event(room.as_str(), &sent).await.unwrap();
    let expected = RoomEvent {
        sender: alice.user_id.parse().unwrap(),
        kind: "m.room.message".to_owned(),
        origin_server_ts: seen["origin_server_ts"].as_u64().unwrap(),
        content: hello.clone(),
        replaces: None,
    };
    assert_eq!(event, expected);
    alice.edit_text(room.as_str(), &sent, "edited").await;
    let event = bots.event(&room, &in_clear).await.unwrap().unwrap();
    assert_eq!(event.content["body"], "edited");
    let before = before.parse::<OwnedEventId>().unwrap();
    assert_eq!(bots.event(&room, &before).await.unwrap(), None);
    let nothing = event_id!("$nothing");
    assert_eq!(bots.event(&room, nothing).await.unwrap(), None);
    let elsewhere = id(&alice.create_room(json!({})).await);
    assert_eq!(bots.event(&elsewhere, nothing).await.unwrap(), None);

    // Encrypted: in the clear for who has the key, and told as it is otherwise.
    let encryption = json!([{ "type": "m.room.encryption", "state_key": "",
        "content": { "algorithm": "m.megolm.v1.aes-sha2" } }]);
    let secret = id(&alice
        .create_room(json!({ "preset": "public_chat", "initial_state": encryption }))
        .await);
    bot.join(secret.as_str()).await;
    let theirs = signed_in(&synapse.base_url(), &alice, &their_dir).await;
    let store = store_in(&dir);
    let their_store = store_in(&their_dir);
    let receiving = receive(&session, &store, secret.as_str()).await;
    let they_receive = receive(&theirs, &their_store, secret.as_str()).await;
    let sent = port(&theirs)
        .send_event(&secret, MESSAGE, "t", &hello)
        .await
        .unwrap();
    let event = eventually("the key", Duration::from_secs(20), async || {
        let event = bots.event(&secret, &sent).await.unwrap().unwrap();
        (event.kind != "m.room.encrypted").then_some(event)
    })
    .await;
    assert_eq!(
        (event.kind.as_str(), &event.content),
        ("m.room.message", &hello)
    );
    assert_eq!(event.sender, alice.user_id);

    let edit = object(json!({
        "msgtype": "m.text", "body": "* edited", "m.new_content": { "msgtype": "m.text", "body": "edited" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": sent },
    }));
    let edit = port(&theirs)
        .send_event(&secret, MESSAGE, "t2", &edit)
        .await;
    edit.unwrap();
    let event = bots.event(&secret, &sent).await.unwrap().unwrap();
    assert_eq!(event.content["body"], "edited");

    let late = synapse.register("late").await;
    late.join(secret.as_str()).await;
    let late_dir = tempfile::tempdir().unwrap();
    let without_key = signed_in(&synapse.base_url(), &late, &late_dir).await;
    let late_store = store_in(&late_dir);
    let late_receives = receive(&without_key, &late_store, secret.as_str()).await;
    let event = port(&without_key).event(&secret, &sent).await.unwrap();
    let event = event.unwrap();
    assert_eq!(event.kind, "m.room.encrypted");
    assert!(event.content.contains_key("ciphertext"));
    for running in [receiving, they_receive, late_receives] {
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_up_whole() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let room = bot.create_room(json!({ "preset": "public_chat" })).await;
    let file = Upload {
        name: "a record.bin".to_owned(),
        content_type: "application/octet-stream".to_owned(),
        bytes: bytes.clone(),
    };
    let uploaded = port(&session).upload(&id(&room), &file).await.unwrap();
    assert_eq!(uploaded.key, "url");
    let uri = uploaded.source.as_str().unwrap();
    assert_eq!(bot.download(uri).await, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_software_of_the_server_has_a_name() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let proxy = Proxy::start(&synapse.base_url());
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&proxy.base_url(), &bot, &dir).await;
    let port = port(&session);
    let name = port.server_software().await.unwrap();
    assert_eq!(name.as_deref(), Some("Synapse"));
    let asked = |fault| {
        proxy.add(Rule::new(
            |seen| seen.path.ends_with("/federation/v1/version"),
            fault,
        ))
    };
    for status in [404, 403] {
        let _fired = asked(Fault::error(status, "M_UNRECOGNIZED"));
        assert_eq!(port.server_software().await.unwrap(), None);
    }
    // Nothing depends on it: a server that fails here is not known, and serves.
    let _fired = asked(Fault::error(502, "M_UNKNOWN"));
    assert_eq!(port.server_software().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_is_what_both_rooms_say() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let old = bot.create_room(json!({ "room_version": "11" })).await;
    let new = bot.upgrade(&old, "12").await;
    let (lies, living) = (
        bot.create_room(json!({})).await,
        bot.create_room(json!({})).await,
    );
    let away = bot.create_room(json!({})).await;
    let unseen = alice.create_room(json!({})).await;
    for (room, replacement) in [(&lies, &new), (&away, &unseen)] {
        let tombstone = json!({ "body": "moved", "replacement_room": replacement });
        bot.put_state(room, "m.room.tombstone", "", tombstone).await;
    }
    let store = store_in(&dir);
    let running = receive(&session, &store, &living).await;
    let port = port(&session);
    let around = Surroundings::read(&port).await.unwrap();
    let cases = [
        ("upgraded", &old, Some(&new)),
        ("the new room", &new, None),
        ("alive", &living, None),
        ("another predecessor", &lies, None),
        ("not in the new one", &away, Some(&unseen)),
        ("not in the old one", &unseen, None),
    ];
    for (case, room, expected) in cases {
        let found = around.replacement(&id(room));
        assert_eq!(found, expected.map(|room| id(room)), "{case}");
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_of_other_servers_are_searched() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&synapse.base_url(), &bot, &dir).await;
    let port = port(&session);
    let name = format!("Attic {}", bot.localpart());
    let room = id(&bot
        .create_room(json!({ "preset": "public_chat", "name": name }))
        .await);
    let server = ServerName::parse(synapse.server_name()).unwrap();
    let listed = async |term: &str| port.listed_elsewhere(&server, &room, term).await.unwrap();
    assert_eq!(listed(&name).await, Listing::Private);
    port.set_listing(&room, Listing::Public).await.unwrap();
    assert_eq!(listed(&name).await, Listing::Public);
    assert_eq!(listed("no such word").await, Listing::Private);
    let nowhere = ServerName::parse("nowhere.invalid").unwrap();
    let answer = port.listed_elsewhere(&nowhere, &room, &name).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_rooms_are_told_in_one_pass() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let alice = synapse.register("alice").await;
    let proxy = Proxy::start(&synapse.base_url());
    let dir = tempfile::tempdir().unwrap();
    let session = signed_in(&proxy.base_url(), &bot, &dir).await;
    let via = json!({ "via": [synapse.server_name()] });
    let room = bot
        .create_room(
            json!({ "preset": "public_chat", "room_version": "11", "name": "Room",
            "room_alias_name": bot.localpart(), "topic": "is not told" }),
        )
        .await;
    alice.join(&room).await;
    let space = bot
        .create_room(json!({ "creation_content": { "type": "m.space" } }))
        .await;
    bot.put_state(&space, "m.space.child", &room, via.clone())
        .await;
    bot.put_state(&space, "m.space.child", "!gone:x", json!({}))
        .await;
    bot.put_state(&room, "m.space.parent", &space, via).await;
    let closed = bot.create_room(json!({ "room_version": "11" })).await;
    let new = bot.upgrade(&closed, "12").await;
    let left = bot.create_room(json!({})).await;
    let store = store_in(&dir);
    let running = receive(&session, &store, &room).await;
    let port = port(&session);
    port.leave(&id(&left)).await.unwrap();
    // Sync tells of the leave after the answer does.
    let rooms = eventually("the leave", Duration::from_secs(20), async || {
        let rooms = port.told_rooms().await.unwrap();
        let is_left = rooms.iter().all(|told| told.state.room_id != left);
        is_left.then_some(rooms)
    })
    .await;
    let before = proxy.log().len();
    assert_eq!(port.told_rooms().await.unwrap(), rooms);
    // The SDK asks for these by itself, beside sync and after it, whenever it gets there.
    let by_itself = ["/sync", "/keys/query", "/m.secret_storage.default_key"];
    let asked: Vec<_> = proxy.log().split_off(before);
    assert!(
        asked
            .iter()
            .all(|seen| by_itself.iter().any(|end| seen.path.ends_with(end))),
        "{asked:?}"
    );

    let ids: Vec<_> = rooms
        .iter()
        .map(|told| told.state.room_id.clone())
        .collect();
    let mut expected: Vec<_> = [&room, &space, &closed, &new].map(|room| id(room)).into();
    expected.sort();
    assert_eq!(ids, expected);
    let told = |room: &str| {
        let found = rooms.iter().find(|told| told.state.room_id == room);
        found.unwrap()
    };
    let slots = |room: &str| -> BTreeSet<(String, String)> {
        told(room).state.events.keys().cloned().collect()
    };
    let slot = |kind: &str, key: &str| (kind.to_owned(), key.to_owned());
    let common = [
        slot("m.room.create", ""),
        slot("m.room.power_levels", ""),
        slot("m.room.join_rules", ""),
        slot("m.room.member", &bot.user_id),
    ];
    let with = |more: &[(String, String)]| common.iter().chain(more).cloned().collect();
    let named = [
        slot("m.room.name", ""),
        slot("m.room.canonical_alias", ""),
        slot("m.space.parent", &space),
    ];
    assert_eq!(slots(&room), with(&named));
    assert_eq!(slots(&space), with(&[slot("m.space.child", &room)]));
    assert_eq!(slots(&closed), with(&[slot("m.room.tombstone", "")]));
    assert_eq!((told(&room).members, told(&space).members), (2, 1));
    assert_eq!(told(&room).state.name().as_deref(), Some("Room"));
    assert!(told(&space).state.is_space());
    assert_eq!(told(&new).state.create().version, RoomVersionId::V12);
    let replacement = told(&closed).state.tombstone().unwrap().replacement;
    assert_eq!(replacement, Some(id(&new)));
    running.end().await;
}
