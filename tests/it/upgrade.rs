//! The main thread: a typed command becomes an upgraded room, for each pair of versions.

use roomlift_testbed::{Kind, Wanted, user};

use crate::scene::Scene;

async fn upgrades(from: &'static str, to: &'static str) {
    let mut scene = Scene::with(
        &Wanted {
            version: from,
            ..Wanted::default()
        },
        "",
    )
    .await;
    scene.upgrade(to).await;
    let report = scene.hear("Upgrade #1 is done").await;
    assert!(
        user::text(&report).contains("Nothing is left to do."),
        "{}",
        user::text(&report)
    );
    scene.community.assert_moved(to).await;
}

#[tokio::test]
async fn v1_to_v12() {
    upgrades("1", "12").await;
}

#[tokio::test]
async fn v5_to_v12() {
    upgrades("5", "12").await;
}

#[tokio::test]
async fn v9_to_v12() {
    upgrades("9", "12").await;
}

#[tokio::test]
async fn v10_to_v12() {
    upgrades("10", "12").await;
}

#[tokio::test]
async fn v11_to_v12() {
    upgrades("11", "12").await;
}

#[tokio::test]
async fn v10_to_v11() {
    upgrades("10", "11").await;
}

/// What one upgrade costs, confirmation included. Measured: 1 upgrade, 6 whole states, 9 state
/// events, 57 requests beside sync and chat (2 for the follow-up); the last has room for three that a
/// slow machine asks; a change that makes it dearer has to say so here.
#[tokio::test]
async fn an_upgrade_costs_few_requests() {
    let mut scene = Scene::new().await;
    let command = scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    scene.hear("Plan #1").await;
    scene.proxy.clear_log();
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    scene.reacted(&command, "✅").await;
    let log = scene.proxy.log();
    let count =
        |wanted: &dyn Fn(&Kind) -> bool| log.iter().filter(|seen| wanted(&seen.kind)).count();
    let upgrades = count(&|kind| *kind == Kind::Upgrade);
    let states = count(&|kind| *kind == Kind::ReadState);
    let puts = count(&|kind| matches!(kind, Kind::PutState { .. }));
    let others = count(&|kind| !matches!(kind, Kind::Sync | Kind::Send { .. } | Kind::Redact));
    assert_eq!(upgrades, 1);
    assert!(states <= 6, "whole states read: {states}");
    assert!(puts <= 9, "state events sent: {puts}");
    assert!(others <= 60, "requests without sync and chat: {others}");
}
