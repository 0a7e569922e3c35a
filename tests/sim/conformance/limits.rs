//! Rate limits: what runs into which, and how long it has to wait.

use roomlift_testbed::{Synapse, SynapseOptions};
use serde_json::json;

use super::difference::assert_equal;
use super::server::{Real, Simulated};
use super::{Stage, play};
use crate::limits::{Kind, Limits};

/// Slow enough that nothing comes back while a scene is played, and that waits hardly shrink.
const PER_SECOND: f64 = 0.001;

async fn messages(stage: &Stage<'_>) {
    let host = stage.person("host").await;
    let room = host.create_room(json!({ "preset": "public_chat" })).await;
    let other = stage.person("other").await;
    other.join(&room).await;
    host.say(&room, "One").await;
    host.say(&room, "One").await;
    host.put(&room, "m.room.name", "", json!({ "name": "Beds" }))
        .await;
    host.put(&room, "m.room.create", "", json!({})).await;
    host.state(&room, "m.room.name", "").await;
    host.set_alias(&stage.alias("garden"), &room).await;
    host.set_listed(&room, true).await;
    for number in 0..8 {
        host.say(&room, &format!("Number {number}")).await;
    }
    host.put(&room, "m.room.name", "", json!({ "name": "Soil" }))
        .await;
    host.ban(&room, &other).await;
    host.upgrade(&room, "12", &[]).await;
    host.create_room(json!({})).await;
    host.say(&room, "One").await;
    host.set_alias(&stage.alias("plants"), &room).await;
    host.delete_alias(&stage.alias("garden")).await;
    host.leave(&room).await;
    other.say(&room, "I may still talk").await;
}

async fn rooms(stage: &Stage<'_>) {
    let host = stage.person("host").await;
    let room = host.create_room(json!({ "room_version": "10" })).await;
    host.create_room(json!({ "room_version": "nonsense" }))
        .await;
    host.upgrade(&room, "nonsense", &[]).await;
    host.upgrade(&room, "11", &[]).await;
    for _ in 0..4 {
        host.create_room(json!({})).await;
    }
    host.upgrade(&room, "12", &[]).await;
    let other = stage.person("other").await;
    other.create_room(json!({})).await;
}

async fn invitations(stage: &Stage<'_>) {
    let [host, second] = [stage.person("host").await, stage.person("second").await];
    let mut rooms = Vec::new();
    for _ in 0..4 {
        rooms.push(host.create_room(json!({})).await);
    }
    let popular = stage.person("popular").await;
    for room in &rooms {
        host.invite(room, &popular).await;
    }
    let popular = stage.person("known").await;
    let other = second.create_room(json!({})).await;
    for room in &rooms[..2] {
        host.invite(room, &popular).await;
    }
    second.invite(&other, &popular).await;
    for number in 0..6 {
        let guest = stage.person(&format!("guest{number}")).await;
        second.invite(&other, &guest).await;
    }
    host.invite(&other, &popular).await;
}

async fn joins(stage: &Stage<'_>) {
    let [host, guest] = [stage.person("host").await, stage.person("guest").await];
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(host.create_room(json!({ "preset": "public_chat" })).await);
    }
    for room in &rooms {
        guest.join(room).await;
    }
    guest.join(&rooms[0]).await;
    for number in 0..5 {
        stage
            .person(&format!("guest{number}"))
            .await
            .join(&rooms[0])
            .await;
    }
}

#[tokio::test]
async fn limits_are_alike() {
    let limit = |burst: u32| json!({ "per_second": PER_SECOND, "burst_count": burst });
    let options = SynapseOptions::default()
        .with_limit("rc_message", PER_SECOND, 12)
        .with_limit("rc_room_creation", PER_SECOND, 5)
        .with(
            "rc_invites",
            json!({ "per_room": limit(4), "per_user": limit(3), "per_issuer": limit(5) }),
        )
        .with("rc_joins", json!({ "local": limit(4), "remote": limit(4) }))
        .with_limit("rc_joins_per_room", PER_SECOND, 3);
    let synapse = Synapse::start(options).await;
    let limits = Limits::none()
        .with(Kind::Messages, PER_SECOND, 12.0)
        .with(Kind::RoomCreation, PER_SECOND, 5.0)
        .with(Kind::InvitesPerRoom, PER_SECOND, 4.0)
        .with(Kind::InvitesPerInvitee, PER_SECOND, 3.0)
        .with(Kind::InvitesPerIssuer, PER_SECOND, 5.0)
        .with(Kind::Joins, PER_SECOND, 4.0)
        .with(Kind::JoinsPerRoom, PER_SECOND, 3.0);
    let real = Real::new(&synapse);
    // Synapse lets people wait a while for each refusal.
    let (ours, theirs) = (Simulated::limited(limits), &real);
    tokio::join!(
        both("messages", &ours, theirs, messages),
        both("rooms", &ours, theirs, rooms),
        both("invitations", &ours, theirs, invitations),
        both("joins", &ours, theirs, joins),
    );
}

#[expect(
    clippy::future_not_send,
    reason = "a test waits for it where it is made"
)]
async fn both(scene: &str, simulated: &Simulated, real: &Real<'_>, act: impl AsyncFn(&Stage<'_>)) {
    let simulated = play(simulated, scene, &act).await;
    assert_equal(scene, &simulated, &play(real, scene, &act).await);
}
