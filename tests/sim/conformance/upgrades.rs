//! `/upgrade` in all directions.

use serde_json::{Value, json};

use super::{Person, Stage, alike};

/// A room with a bit of everything, made by `host`.
async fn full_room(stage: &Stage<'_>, host: &Person<'_>, tag: &str, version: &str) -> String {
    let [deputy, member, spammer] = [
        stage.person(&format!("deputy{tag}")).await,
        stage.person(&format!("member{tag}")).await,
        stage.person(&format!("spammer{tag}")).await,
    ];
    let mut users = json!({ deputy.id.as_str(): 50 });
    if version != "12" {
        users[&host.id] = json!(100);
    }
    let room = host
        .create_room(json!({
            "room_version": version, "preset": "public_chat", "name": "Beds", "topic": "Soil",
            "room_alias_name": stage.alias_name(&format!("garden{tag}")),
            "power_level_content_override": { "users": users, "notifications": { "room": 60 } },
            "initial_state": [
                { "type": "m.room.pinned_events", "state_key": "", "content": { "pinned": [] } },
                { "type": "m.room.avatar", "state_key": "", "content": { "url": "mxc://a/b" } },
                { "type": "m.room.server_acl", "state_key": "", "content": { "allow": ["*"] } },
                { "type": "org.example", "state_key": "k", "content": { "kept": false } },
            ],
        }))
        .await;
    let second = stage.alias(&format!("plants{tag}"));
    deputy.join(&room).await;
    member.join(&room).await;
    member.set_alias(&second, &room).await;
    let shown = json!({ "alias": stage.alias(&format!("garden{tag}")), "alt_aliases": [second] });
    host.put(&room, "m.room.canonical_alias", "", shown).await;
    host.set_listed(&room, true).await;
    host.ban(&room, &spammer).await;
    host.kick(&room, &member).await;
    room
}

async fn versions(stage: &Stage<'_>) {
    for (number, (from, to)) in [
        ("9", "10"),
        ("10", "11"),
        ("11", "12"),
        ("12", "12"),
        ("12", "11"),
        ("10", "10"),
    ]
    .into_iter()
    .enumerate()
    {
        let host = stage.person(&format!("host{number}")).await;
        let room = full_room(stage, &host, &number.to_string(), from).await;
        let new = host.upgrade(&room, to, &[]).await;
        // In the old room it is quiet, in the new one it is not.
        let late = stage.person(&format!("late{number}")).await;
        late.join(&room).await;
        late.say(&room, "Hello?").await;
        late.join(&new).await;
        late.say(&new, "Hello!").await;
        host.put(&new, "m.room.topic", "", json!({ "topic": "Better soil" }))
            .await;
    }
}

async fn creators(stage: &Stage<'_>) {
    let [host, owner, deputy] = [
        stage.person("host").await,
        stage.person("owner").await,
        stage.person("deputy").await,
    ];
    for (from, to) in [("11", "12"), ("12", "12"), ("12", "11")] {
        for creators in [vec![], vec![&owner], vec![&owner, &host]] {
            let creation = json!({ "additional_creators": [owner.id] });
            let mut users = json!({ deputy.id.as_str(): 100 });
            if from == "11" {
                users[&host.id] = json!(100);
                users[&owner.id] = json!(90);
            }
            let room = host
                .create_room(json!({
                    "room_version": from, "preset": "public_chat",
                    "creation_content": if from == "12" { creation } else { json!({}) },
                    "power_level_content_override": { "users": users },
                }))
                .await;
            let new = host.upgrade(&room, to, &creators).await;
            deputy.join(&new).await;
            deputy.kick(&new, &host).await;
            owner.join(&new).await;
            owner
                .put(&new, "m.room.name", "", json!({ "name": "Mine" }))
                .await;
        }
    }
    let room = host.create_room(json!({ "room_version": "11" })).await;
    for (version, creators) in [
        ("11", json!(["nobody"])),
        ("12", json!(["nobody"])),
        ("12", json!("x")),
    ] {
        let body = json!({ "new_version": version, "additional_creators": creators });
        host.ask("POST", &["rooms", &room, "upgrade"], body)
            .await
            .ok();
    }
}

async fn again(stage: &Stage<'_>) {
    let [host, owner, member] = [
        stage.person("host").await,
        stage.person("owner").await,
        stage.person("member").await,
    ];
    let room = host
        .create_room(json!({
            "room_version": "10", "preset": "public_chat",
            "power_level_content_override": {
                "users": { host.id.as_str(): 100, owner.id.as_str(): 100 },
            },
        }))
        .await;
    owner.join(&room).await;
    member.join(&room).await;
    let stranger = stage.person("stranger").await;
    member.upgrade(&room, "11", &[]).await;
    stranger.upgrade(&room, "11", &[]).await;
    host.upgrade(&room, "nonsense", &[]).await;
    host.upgrade("!nowhere:nowhere.invalid", "11", &[]).await;
    let new = host.upgrade(&room, "11", &[]).await;
    host.upgrade(&room, "11", &[]).await;
    host.upgrade(&room, "12", &[]).await;
    owner.upgrade(&room, "11", &[]).await;
    member.upgrade(&room, "11", &[]).await;
    stranger.upgrade(&room, "11", &[]).await;
    host.upgrade(&new, "12", &[]).await;
}

/// Levels of whoever upgrades, of whoever is banned, and of the old room.
async fn powers(stage: &Stage<'_>) {
    let [host, deputy, heavy, light] = [
        stage.person("host").await,
        stage.person("deputy").await,
        stage.person("heavy").await,
        stage.person("light").await,
    ];
    let levels = |more: Value| {
        let mut levels = json!({
            "users": { host.id.as_str(): 100, deputy.id.as_str(): 60, heavy.id.as_str(): 80 },
            "events": { "m.room.tombstone": 50, "m.room.power_levels": 60 },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            levels[key] = value.clone();
        }
        levels
    };
    let low_tombstone = json!({ "events": { "m.room.tombstone": 50, "m.room.power_levels": 90 } });
    let high = json!({ "events_default": 70, "invite": 80, "users_default": 55 });
    let default = json!({ "users_default": 55 });
    for (to, more, banned) in [
        ("11", json!({}), None),
        ("11", json!({}), Some(&light)),
        ("11", json!({}), Some(&heavy)),
        ("12", json!({}), Some(&heavy)),
        ("11", low_tombstone.clone(), None),
        ("12", low_tombstone, None),
        ("11", high, None),
        ("11", default, None),
        (
            "11",
            json!({ "state_default": 55, "ban": 80 }),
            Some(&light),
        ),
        (
            "11",
            json!({ "events": { "m.room.name": 90, "m.room.tombstone": 50 } }),
            None,
        ),
    ] {
        let room = host
            .create_room(json!({
                "room_version": "10", "preset": "public_chat", "name": "Beds",
                "power_level_content_override": levels(more),
            }))
            .await;
        deputy.join(&room).await;
        if let Some(banned) = banned {
            host.put(
                &room,
                "m.room.member",
                &banned.id,
                json!({ "membership": "ban" }),
            )
            .await;
        }
        deputy.upgrade(&room, to, &[]).await;
    }
    // Without any levels, and with odd ones.
    for odd in [
        json!({}),
        json!({ "users": { host.id.as_str(): 100 }, "events_default": "60" }),
    ] {
        let room = host.create_room(json!({ "room_version": "9" })).await;
        host.put(&room, "m.room.power_levels", "", odd).await;
        host.upgrade(&room, "11", &[]).await;
    }
}

async fn spaces(stage: &Stage<'_>) {
    let host = stage.person("host").await;
    let room = host.create_room(json!({ "preset": "public_chat" })).await;
    let gone = host.create_room(json!({ "preset": "public_chat" })).await;
    for (kind, preset) in [
        ("m.space", "public_chat"),
        ("m.space", "private_chat"),
        ("org.example", "public_chat"),
    ] {
        let space = host
            .create_room(json!({
                "room_version": "10", "preset": preset, "name": "Community",
                "creation_content": { "type": kind, "m.federate": false, "org.example": 1 },
            }))
            .await;
        let child = json!({ "via": ["server.example"], "order": "a", "suggested": true });
        host.put(&space, "m.space.child", &room, child.clone())
            .await;
        host.put(&space, "m.space.child", &gone, child).await;
        host.put(&space, "m.space.child", &gone, json!({})).await;
        host.put(
            &space,
            "m.space.parent",
            &room,
            json!({ "via": ["server.example"] }),
        )
        .await;
        host.upgrade(&space, "12", &[]).await;
    }
}

/// What is missing in the old room, and what it shows that does not lead to it.
async fn odd_rooms(stage: &Stage<'_>) {
    let host = stage.person("host").await;
    let room = host
        .create_room(json!({ "room_version": "10", "preset": "private_chat" }))
        .await;
    let alias = stage.alias("unshown");
    host.set_alias(&alias, &room).await;
    host.put(
        &room,
        "m.room.join_rules",
        "",
        json!({ "join_rule": "knock", "more": 1 }),
    )
    .await;
    host.put(
        &room,
        "m.room.encryption",
        "",
        json!({ "algorithm": "m.megolm.v1.aes-sha2" }),
    )
    .await;
    host.put(&room, "m.room.guest_access", "", json!({})).await;
    let new = host.upgrade(&room, "11", &[]).await;
    host.put(
        &new,
        "m.room.canonical_alias",
        "",
        json!({ "alias": alias }),
    )
    .await;
    let last = host.upgrade(&new, "12", &[]).await;
    host.delete_alias(&alias).await;
    host.say(&last, "Arrived").await;
}

#[tokio::test]
async fn upgrades_between_versions_are_alike() {
    alike("versions", versions).await;
}

#[tokio::test]
async fn creators_of_upgraded_rooms_are_alike() {
    alike("upgrade-creators", creators).await;
}

#[tokio::test]
async fn upgrades_that_come_again_are_alike() {
    alike("again", again).await;
}

#[tokio::test]
async fn powers_at_upgrades_are_alike() {
    alike("upgrade-powers", powers).await;
}

#[tokio::test]
async fn upgraded_spaces_are_alike() {
    alike("upgrade-spaces", spaces).await;
}

#[tokio::test]
async fn odd_rooms_are_upgraded_alike() {
    alike("odd-rooms", odd_rooms).await;
}
