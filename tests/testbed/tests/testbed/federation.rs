//! Two Synapses that federate, tried as the other tests use them.

use std::time::{Duration, Instant};

use roomlift_testbed::user::text;
use roomlift_testbed::{Federation, SynapseOptions, eventually, seg};
use serde_json::json;

/// Enough for anything two processes of this machine do with each other at once.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn users_of_two_servers_talk() {
    let pair = Federation::pair().await;
    let began = Instant::now();
    let alice = pair.a.register("alice").await;
    let bob = pair.b.register("bob").await;
    assert_ne!(pair.a.server_name(), pair.b.server_name());
    assert!(pair.a.base_url().starts_with("http://127.0.0.1:"));
    let room = alice.create_room(json!({ "preset": "public_chat" })).await;
    let alias = format!("#{}:{}", alice.localpart(), pair.a.server_name());
    alice.set_alias(&alias, &room).await;
    let mut seen = alice.timeline(&room).await.within(SOON);

    assert_eq!(bob.join(&alias).await, room);
    bob.send_text(&room, "from afar").await;
    let event = seen
        .until("the other server's message", |e| text(e) == "from afar")
        .await;
    assert_eq!(event["sender"], bob.user_id.as_str());
    assert!(bob.user_id.ends_with(&pair.b.server_name()));

    let mut seen = bob.timeline(&room).await.within(SOON);
    alice.send_text(&room, "from near").await;
    seen.until("the first server's message", |e| text(e) == "from near")
        .await;
    // What Synapse waits by default where something is wrong is longer.
    assert!(began.elapsed() < SOON, "took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_was_away_catches_up() {
    let plain = SynapseOptions::default;
    let pair = Federation::start(plain(), plain()).await;
    let alice = pair.a.register("alice").await;
    let bob = pair.b.register("bob").await;
    let other = bob.create_room(json!({ "preset": "public_chat" })).await;
    let room = alice.create_room(json!({ "preset": "public_chat" })).await;
    let alias = format!("#{}:{}", alice.localpart(), pair.a.server_name());
    alice.set_alias(&alias, &room).await;
    bob.join(&alias).await;
    let mut seen = bob.timeline(&room).await.within(SOON);

    pair.b.kill();
    let path = format!(
        "join/{}?server_name={}",
        seg(&other),
        seg(&pair.b.server_name())
    );
    let join = async || alice.call("POST", &path, Some(json!({}))).await;
    // An answer, and not after minutes.
    let refused = tokio::time::timeout(SOON, join()).await.unwrap();
    refused.unwrap_err();
    alice.send_text(&room, "you are away").await;
    pair.b.start_again().await;
    // Nor does it take minutes until the server is asked again.
    let joined = async || join().await.ok();
    eventually("the other server's room", SOON, joined).await;
    pair.meet().await;
    seen.until("what was said meanwhile", |e| text(e) == "you are away")
        .await;
    bob.send_text(&room, "I am back").await;
    let arrived = async || {
        let messages = alice.messages(&room, 10).await;
        messages
            .iter()
            .any(|e| text(e) == "I am back")
            .then_some(())
    };
    eventually("the answer to arrive", SOON, arrived).await;
}
