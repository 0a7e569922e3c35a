//! Holds the simulated homeserver against a real Synapse: the same people do the same things on both, and
//! every answer, and in the end every event, address and listing must be equal, field by field.
//!
//! A scenario is an `async fn(&Stage)`, and a test that hands it to [`alike`]; see `power` for short
//! ones. Where the two differ, the model (`world`) is wrong. Left out: the wording of refusals, display
//! names, times, and what goes beyond one server.

mod addresses;
mod bot;
mod creation;
mod difference;
mod events;
mod limits;
mod people;
mod power;
mod server;
mod stage;
mod upgrades;

use roomlift_testbed::Synapse;

use self::difference::assert_equal;
use self::server::{Real, Server, Simulated};
use self::stage::{Person, Stage, Transcript};

/// Plays a scenario on both servers, and insists that it goes alike. The scene's name is part of all
/// names in it, as all scenes share the real server.
#[expect(
    clippy::future_not_send,
    reason = "a test waits for it where it is made"
)]
async fn alike(scene: &str, act: impl AsyncFn(&Stage<'_>)) {
    let simulated = play(&Simulated::new(), scene, &act).await;
    let real = play(&Real::new(Synapse::shared().await), scene, &act).await;
    assert_equal(scene, &simulated, &real);
}

#[expect(
    clippy::future_not_send,
    reason = "a test waits for it where it is made"
)]
async fn play(server: &dyn Server, scene: &str, act: &impl AsyncFn(&Stage<'_>)) -> Transcript {
    let stage = Stage::new(server, scene);
    act(&stage).await;
    stage.end().await
}
