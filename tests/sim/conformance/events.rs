//! Sending things twice, reactions, redactions, tombstones.

use serde_json::{Value, json};

use super::{Stage, alike};

async fn twice(stage: &Stage<'_>) {
    let [host, member] = [stage.person("host").await, stage.person("member").await];
    let room = host.create_room(json!({ "preset": "public_chat" })).await;
    member.join(&room).await;
    let levels = json!({ "users": { member.id.as_str(): 50 } });
    host.put(&room, "m.room.power_levels", "", levels).await;
    for by in [&host, &host, &member, &host] {
        by.put(
            &room,
            "org.example",
            "",
            json!({ "same": [1, { "thing": true }] }),
        )
        .await;
    }
    let said = host.say(&room, "Good morning").await;
    host.say(&room, "Good morning").await;
    member.say(&room, "Good morning").await;
    let react = async |by: &super::Person<'_>, transaction: &str, key: &str| {
        let relation = json!({ "rel_type": "m.annotation", "event_id": said, "key": key });
        let content = json!({ "m.relates_to": relation });
        by.send(&room, "m.reaction", transaction, content).await
    };
    let reaction = react(&host, "1", "+").await;
    react(&host, "2", "+").await;
    react(&host, "1", "+").await;
    react(&host, "3", "-").await;
    react(&member, "1", "+").await;
    host.redact(&room, &reaction).await;
    react(&host, "4", "+").await;
    // An id counts for one request only, whatever it is about.
    host.send(&room, "org.example", "Good morning", json!({ "other": 1 }))
        .await;
    let other = host.create_room(json!({ "preset": "public_chat" })).await;
    host.say(&other, "Good morning").await;
}

async fn redactions(stage: &Stage<'_>) {
    for version in ["10", "11"] {
        let [host, member, other] = [
            stage.person(&format!("host{version}")).await,
            stage.person(&format!("member{version}")).await,
            stage.person(&format!("other{version}")).await,
        ];
        let body = json!({ "preset": "public_chat", "room_version": version });
        let room = host.create_room(body).await;
        member.join(&room).await;
        other.join(&room).await;
        let mine = member.say(&room, "Mine").await;
        let hosts = host.say(&room, "The host's").await;
        member.redact(&room, &hosts).await;
        other.redact(&room, &mine).await;
        member.redact(&room, &mine).await;
        member.redact(&room, &mine).await;
        host.redact(&room, &mine).await;
        host.redact(&room, "$nothing").await;
        stage
            .person(&format!("stranger{version}"))
            .await
            .redact(&room, &hosts)
            .await;
        let next = host.create_room(json!({ "preset": "public_chat" })).await;
        let tombstone = json!({ "body": "Moved", "replacement_room": next });
        for (kind, key, content) in [
            ("m.room.topic", "", json!({ "topic": "Beds" })),
            (
                "m.room.history_visibility",
                "",
                json!({ "history_visibility": "joined", "more": 1 }),
            ),
            (
                "m.room.join_rules",
                "",
                json!({ "join_rule": "public", "allow": [], "more": 1 }),
            ),
            ("org.example", "", json!({ "anything": 1 })),
            ("m.room.tombstone", "", tombstone),
            (
                "m.room.member",
                other.id.as_str(),
                json!({ "membership": "ban", "reason": "r" }),
            ),
            (
                "m.room.power_levels",
                "",
                json!({
                    "users": { host.id.as_str(): 100 }, "invite": 10, "notifications": { "room": 50 },
                }),
            ),
        ] {
            let sent = host.put(&room, kind, key, content.clone()).await;
            let path = ["rooms", &room, "redact", &sent, kind];
            host.ask("PUT", &path, json!({})).await.ok();
            host.state(&room, kind, key).await;
            if kind == "org.example" {
                // What was there before it was redacted is no longer the same.
                host.put(&room, kind, key, content).await;
            }
        }
    }
}

async fn tombstones(stage: &Stage<'_>) {
    let host = stage.person("host").await;
    let room = host.create_room(json!({ "preset": "public_chat" })).await;
    let next = host.create_room(json!({ "preset": "public_chat" })).await;
    let to = |room: Value| json!({ "body": "Moved", "replacement_room": room });
    for content in [
        to(json!(room)),
        to(json!(next)),
        to(json!("!nowhere:nowhere.invalid")),
        to(json!("no room")),
        to(json!(5)),
        json!({}),
    ] {
        host.put(&room, "m.room.tombstone", "", content).await;
    }
    host.say(&room, "It is still open").await;
}

#[tokio::test]
async fn what_is_sent_twice_is_alike() {
    alike("twice", twice).await;
}

#[tokio::test]
async fn redactions_are_alike() {
    alike("redactions", redactions).await;
}

#[tokio::test]
async fn tombstones_are_alike() {
    alike("tombstones", tombstones).await;
}
