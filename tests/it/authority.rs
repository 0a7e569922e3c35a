//! P5 where it takes more than a level in the admin room: the scope, and power in the room itself.

use roomlift_testbed::{Community, Fault, Kind, Rule, Synapse, Wanted};
use serde_json::json;

use crate::scene::Scene;

/// An address on a server that is gone: nothing listens on that port.
const GONE: &str = "#gone:localhost:1";

/// A scene whose scope is an address that leads nowhere, and the space.
async fn scene_with_a_dead_scope() -> Scene {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let scope = format!("scope = [\"{GONE}\", \"{}\"]\n", community.space);
    Scene::around(community, synapse, &scope).await
}

/// What is in the rest of the scope can be upgraded, and what is not is refused, not left hanging.
async fn the_rest_of_the_scope_holds(mut scene: Scene) {
    let other = scene
        .community
        .moderator
        .create_room(json!({"room_version": "10"}))
        .await;
    scene.say(&format!("!upgrade {other} --yes")).await;
    scene
        .hear("not among those that can be upgraded from here")
        .await;
    scene.upgrade("12").await;
    scene.hear("Upgrade #1 is done").await;
    scene.community.assert_moved("12").await;
}

#[tokio::test]
async fn a_dead_server_in_the_scope_holds_up_nothing() {
    the_rest_of_the_scope_holds(scene_with_a_dead_scope().await).await;
}

/// The homeserver waits for the other one longer than we wait for it.
#[tokio::test]
async fn a_silent_server_in_the_scope_holds_up_nothing() {
    let scene = scene_with_a_dead_scope().await;
    let asked =
        |seen: &roomlift_testbed::Seen| seen.kind == Kind::ReadAlias && seen.path.contains("#gone");
    let fired = scene.proxy.add(Rule::new(asked, Fault::Reset).for_ever());
    the_rest_of_the_scope_holds(scene).await;
    assert!(fired.count() > 0, "the address was asked for");
}
