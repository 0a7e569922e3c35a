//! Joining, knocking, inviting, kicking, banning.

use serde_json::{Value, json};

use super::{Stage, alike};

async fn entering(stage: &Stage<'_>) {
    let [host, friend, stranger] = [
        stage.person("host").await,
        stage.person("friend").await,
        stage.person("stranger").await,
    ];
    let club = host.create_room(json!({ "preset": "public_chat" })).await;
    friend.join(&club).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    let rules = [
        ("6", json!({ "join_rule": "public" })),
        ("6", json!({ "join_rule": "invite" })),
        ("6", json!({ "join_rule": "knock" })),
        ("6", json!({ "join_rule": "restricted", "allow": allow })),
        ("9", json!({ "join_rule": "knock" })),
        ("9", json!({ "join_rule": "restricted", "allow": allow })),
        (
            "9",
            json!({ "join_rule": "knock_restricted", "allow": allow }),
        ),
        (
            "10",
            json!({ "join_rule": "knock_restricted", "allow": allow }),
        ),
        ("11", json!({ "join_rule": "restricted", "allow": allow })),
        ("11", json!({ "join_rule": "restricted", "allow": [] })),
        ("11", json!({ "join_rule": "restricted" })),
        ("11", json!({ "join_rule": "private" })),
        ("11", json!({ "join_rule": "org.example" })),
        ("12", json!({ "join_rule": "restricted", "allow": allow })),
    ];
    for (version, rule) in rules {
        let body = json!({
            "room_version": version,
            "preset": "public_chat",
            "initial_state": [{ "type": "m.room.join_rules", "state_key": "", "content": rule }],
        });
        let room = host.create_room(body).await;
        if room.is_empty() {
            continue;
        }
        stranger.knock(&room).await;
        stranger.join(&room).await;
        friend.join(&room).await;
        friend.join(&room).await;
        friend.leave(&room).await;
        host.invite(&room, &stranger).await;
        stranger.join(&room).await;
    }
    friend.join("!nowhere:nowhere.invalid").await;
    friend.join(&stage.alias("nowhere")).await;
    friend.leave("!nowhere:nowhere.invalid").await;
    friend.knock("!nowhere:nowhere.invalid").await;
}

/// Every request about a membership, for everybody whatever they are at the time.
async fn memberships(stage: &Stage<'_>) {
    let host = stage.person("host").await;
    let body = json!({ "room_version": "11", "preset": "private_chat" });
    let room = host.create_room(body).await;
    let knock = json!({ "join_rule": "knock" });
    host.put(&room, "m.room.join_rules", "", knock).await;
    for becomes in [
        "nobody", "invited", "joined", "left", "kicked", "banned", "knocking",
    ] {
        for then in ["invite", "kick", "ban", "unban", "join", "leave", "knock"] {
            let guest = stage.person(&format!("{becomes}-{then}")).await;
            match becomes {
                "invited" => host.invite(&room, &guest).await,
                "joined" | "left" | "kicked" => {
                    host.invite(&room, &guest).await;
                    guest.join(&room).await;
                }
                "banned" => host.ban(&room, &guest).await,
                "knocking" => guest.knock(&room).await,
                _ => {}
            }
            match becomes {
                "left" => guest.leave(&room).await,
                "kicked" => host.kick(&room, &guest).await,
                _ => {}
            }
            match then {
                "invite" => host.invite(&room, &guest).await,
                "kick" => host.kick(&room, &guest).await,
                "ban" => host.ban(&room, &guest).await,
                "unban" => host.unban(&room, &guest).await,
                "join" => guest.join(&room).await,
                "leave" => guest.leave(&room).await,
                _ => guest.knock(&room).await,
            }
        }
    }
}

async fn ranks(stage: &Stage<'_>) {
    for version in ["10", "12"] {
        let [host, left, right, low] = [
            stage.person(&format!("host{version}")).await,
            stage.person(&format!("left{version}")).await,
            stage.person(&format!("right{version}")).await,
            stage.person(&format!("low{version}")).await,
        ];
        let outside = stage.person(&format!("outside{version}")).await;
        let mut users =
            json!({ left.id.as_str(): 50, right.id.as_str(): 50, outside.id.as_str(): 70 });
        if version != "12" {
            users[&host.id] = json!(100);
        }
        let room = host
            .create_room(json!({
                "room_version": version, "preset": "public_chat",
                "power_level_content_override": { "users": users, "invite": 10, "kick": 20 },
            }))
            .await;
        for person in [&left, &right, &low] {
            person.join(&room).await;
        }
        left.ban(&room, &right).await;
        left.kick(&room, &right).await;
        left.ban(&room, &host).await;
        left.ban(&room, &outside).await;
        low.invite(&room, &outside).await;
        low.kick(&room, &left).await;
        low.ban(&room, &left).await;
        left.ban(&room, &left).await;
        left.kick(&room, &left).await;
        left.invite(&room, &low).await;
        left.ban(&room, &low).await;
        left.ban(&room, &low).await;
        left.invite(&room, &low).await;
        left.kick(&room, &low).await;
        left.unban(&room, &low).await;
        left.unban(&room, &low).await;
        outside.ban(&room, &low).await;
        host.ban(&room, &right).await;
        right.say(&room, "I was thrown out").await;
        right.leave(&room).await;
    }
}

/// Memberships as state events.
async fn as_state(stage: &Stage<'_>) {
    let [host, guest, other] = [
        stage.person("host").await,
        stage.person("guest").await,
        stage.person("other").await,
    ];
    let body = json!({ "room_version": "10", "preset": "public_chat" });
    let room = host.create_room(body).await;
    let put = async |by: &super::Person<'_>, who: &str, content: Value| {
        by.put(&room, "m.room.member", who, content).await;
    };
    put(&guest, &guest.id, json!({ "membership": "join" })).await;
    put(
        &host,
        &other.id,
        json!({ "membership": "invite", "reason": "come" }),
    )
    .await;
    put(&host, &other.id, json!({ "membership": "join" })).await;
    put(
        &host,
        &guest.id,
        json!({ "membership": "ban", "reason": "go", "org.example": 1 }),
    )
    .await;
    put(&guest, &guest.id, json!({ "membership": "join" })).await;
    put(&host, &guest.id, json!({ "membership": "leave" })).await;
    put(&host, &guest.id, json!({ "membership": "leave" })).await;
    put(&other, &other.id, json!({ "membership": "leave" })).await;
    put(&host, &other.id, json!({ "membership": "knock" })).await;
    put(&host, &other.id, json!({ "membership": "sleep" })).await;
    put(&host, &other.id, json!({})).await;
    put(&host, "nobody", json!({ "membership": "ban" })).await;
    put(&host, &host.id, json!({ "membership": "join" })).await;
}

/// Bans of what is no user id by the specification, by request, with a new room, and by `/upgrade`.
async fn odd_bans(stage: &Stage<'_>) {
    let host = stage.person("host").await;
    let odd = [
        "@x:evil.example:",
        "@x:evil_example.org",
        "@x:http://evil.example",
        "@with space:evil%41.example",
        "@:x",
        "@x",
        "x:y",
    ];
    let public = json!({ "preset": "public_chat", "room_version": "10" });
    let room = host.create_room(public.clone()).await;
    let banned = json!({ "membership": "ban" });
    for who in odd {
        let body = json!({ "user_id": who, "reason": "spam" });
        let path = ["rooms", &room, "ban"];
        host.ask("POST", &path, body).await.ok();
        host.state(&room, "m.room.member", who).await;
        let mut with_ban = public.clone();
        with_ban["initial_state"] =
            json!([{ "type": "m.room.member", "state_key": who, "content": banned }]);
        host.create_room(with_ban).await;
    }
    host.upgrade(&room, "11", &[]).await;
}

#[tokio::test]
async fn odd_bans_are_alike() {
    alike("odd-bans", odd_bans).await;
}

#[tokio::test]
async fn people_enter_alike() {
    alike("entering", entering).await;
}

#[tokio::test]
async fn memberships_change_alike() {
    alike("memberships", memberships).await;
}

#[tokio::test]
async fn ranks_count_alike() {
    alike("ranks", ranks).await;
}

#[tokio::test]
async fn memberships_as_state_are_alike() {
    alike("member-state", as_state).await;
}
