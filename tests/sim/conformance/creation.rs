//! `/createRoom`: what a new room has from its beginning, and what becomes of one that is refused.

use serde_json::{Value, json};

use super::{Person, Stage, alike};

const VERSIONS: [&str; 5] = ["6", "9", "10", "11", "12"];

async fn presets(stage: &Stage<'_>) {
    let [host, guest] = [stage.person("host").await, stage.person("guest").await];
    for version in VERSIONS {
        for preset in ["public_chat", "private_chat"] {
            let body = json!({ "room_version": version, "preset": preset, "name": "Beds", "topic": "Soil" });
            host.create_room(body).await;
        }
    }
    host.create_room(json!({})).await;
    host.create_room(json!({ "visibility": "public" })).await;
    host.create_room(json!({ "room_version": "nonsense" }))
        .await;
    host.create_room(json!({ "preset": "nonsense" })).await;
    let name = stage.alias_name("garden");
    let body = json!({ "preset": "public_chat", "room_alias_name": name, "invite": [guest.id] });
    host.create_room(body.clone()).await;
    host.create_room(body).await;
    let kind = json!({ "type": "m.space", "m.federate": false, "org.example": 1 });
    let body = json!({ "preset": "public_chat", "creation_content": kind, "name": "Community" });
    host.create_room(body).await;
    let before = json!({ "predecessor": { "room_id": "!nowhere:nowhere.invalid" } });
    host.create_room(json!({ "room_version": "11", "creation_content": before }))
        .await;
}

async fn overrides(stage: &Stage<'_>) {
    let [host, guest] = [stage.person("host").await, stage.person("guest").await];
    for version in ["9", "10", "12"] {
        for levels in [
            json!({ "users": { host.id.as_str(): 100, guest.id.as_str(): 50 } }),
            json!({ "users": { guest.id.as_str(): 50 } }),
            json!({ "users": {} }),
            json!({ "events": { "org.example": 5 }, "invite": 70, "org.example": 1 }),
            json!({ "users_default": 10, "ban": "40" }),
            json!({ "ban": 1.5 }),
        ] {
            let body = json!({ "room_version": version, "power_level_content_override": levels });
            host.create_room(body).await;
        }
    }
}

async fn creators(stage: &Stage<'_>) {
    let [host, owner] = [stage.person("host").await, stage.person("owner").await];
    for (version, additional) in [
        ("11", json!([owner.id])),
        ("11", json!("nobody")),
        ("12", json!([owner.id])),
        ("12", json!([owner.id, host.id])),
        ("12", json!([])),
        ("12", json!(["nobody"])),
        ("12", json!("nobody")),
        ("12", json!([7])),
    ] {
        for users in [json!({}), json!({ owner.id.as_str(): 50 })] {
            let mut users = users;
            if version == "11" {
                users[&host.id] = json!(100);
            }
            host.create_room(json!({
                "room_version": version,
                "creation_content": { "additional_creators": additional },
                "power_level_content_override": { "users": users },
            }))
            .await;
        }
    }
    let room = host
        .create_room(json!({
            "room_version": "12", "preset": "public_chat",
            "creation_content": { "additional_creators": [owner.id] },
        }))
        .await;
    owner.join(&room).await;
    owner
        .put(&room, "m.room.tombstone", "", json!({ "body": "b" }))
        .await;
    host.kick(&room, &owner).await;
}

async fn made(host: &Person<'_>, version: &str, state: Value) -> String {
    host.create_room(json!({
        "room_version": version, "preset": "public_chat", "initial_state": state,
    }))
    .await
}

async fn initial_state(stage: &Stage<'_>) {
    let [host, spammer] = [stage.person("host").await, stage.person("spammer").await];
    let event = |kind: &str, key: &str, content: Value| json!({ "type": kind, "state_key": key, "content": content });
    let name = || event("m.room.name", "", json!({ "name": "Beds" }));
    let ban = json!({ "membership": "ban", "reason": "spam", "org.example": [1] });
    for version in ["10", "12"] {
        let power = json!({ "users": { host.id.as_str(): 100 }, "events": { "m.room.name": 70 } });
        let power = if version == "12" {
            json!({ "events": { "m.room.name": 70 } })
        } else {
            power
        };
        for state in [
            json!([
                event(
                    "m.room.guest_access",
                    "",
                    json!({ "guest_access": "forbidden" })
                ),
                event("org.example", "key", json!({ "first": 1 })),
                name(),
                event("org.example", "key", json!({ "second": 2 })),
                event("m.room.member", &spammer.id, ban.clone()),
                event("m.room.join_rules", "", json!({ "join_rule": "knock" })),
            ]),
            json!([event("m.room.power_levels", "", power), name()]),
            json!([event(
                "m.room.power_levels",
                "",
                json!({ "users": { host.id.as_str(): 100 }, "ban": "5" })
            )]),
            json!([{ "type": "m.room.topic", "content": { "topic": "No state key" } }]),
            json!([event(
                "m.room.encryption",
                "",
                json!({ "algorithm": "m.megolm.v1.aes-sha2" })
            )]),
            json!([event(
                "m.room.tombstone",
                "",
                json!({ "body": "b", "replacement_room": "!a:b" })
            )]),
            // Refused half-way, from here on.
            json!([
                name(),
                event("org.example", "float", json!({ "number": 0.5 }))
            ]),
            json!([name(), event("org.example", &spammer.id, json!({}))]),
            json!([name(), event("m.room.create", "", json!({}))]),
            json!([
                name(),
                event(
                    "m.room.member",
                    &spammer.id,
                    json!({ "membership": "join" })
                )
            ]),
            json!([
                name(),
                event("m.room.member", &host.id, json!({ "membership": "ban" }))
            ]),
            json!([
                name(),
                event(
                    "m.room.canonical_alias",
                    "",
                    json!({ "alias": stage.alias("none") })
                )
            ]),
            json!([
                name(),
                event("org.example", "big", json!({ "text": "x".repeat(70_000) }))
            ]),
        ] {
            made(&host, version, state).await;
        }
    }
}

#[tokio::test]
async fn presets_are_alike() {
    alike("presets", presets).await;
}

#[tokio::test]
async fn overridden_levels_are_alike() {
    alike("overrides", overrides).await;
}

#[tokio::test]
async fn creators_are_alike() {
    alike("creators", creators).await;
}

#[tokio::test]
async fn initial_state_is_alike() {
    alike("initial-state", initial_state).await;
}
