//! `roomlift backup` while the bot runs, and `roomlift restore` of an old copy: what the rooms show
//! already is not done again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use roomlift_testbed::{Bot, Kind};

use crate::scene::{START, Scene, said};

/// Longest time for a copy.
const COPY: Duration = Duration::from_secs(30);

/// Runs a command beside the bot; returns its exit code and what it said.
async fn command(scene: &Scene, words: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let config = scene.dir.path().join("config.toml");
    let config = config.to_str().expect("a path");
    let words: Vec<&str> = words.iter().copied().chain(["--config", config]).collect();
    let binary = Path::new(env!("CARGO_BIN_EXE_roomlift"));
    let process = Bot::start(binary, words, dir.path());
    let status = process.wait_exit(COPY).await;
    (status.code().unwrap_or(-1), process.log())
}

#[tokio::test]
async fn an_old_backup_repeats_nothing() {
    let mut scene = Scene::new().await;
    scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    let plan = scene.hear("Plan #1").await;
    let plan = plan["event_id"].as_str().expect("an id").to_owned();
    scene.reacted(&plan, "❌").await;

    let copy = scene.dir.path().join("copy.db");
    let copy_name = copy.to_str().expect("a path").to_owned();
    let (code, told) = command(&scene, &["backup", &copy_name]).await;
    assert_eq!(code, 0, "{told}");
    let mode = copy.metadata().expect("a copy").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bytes = std::fs::read(&copy).expect("a copy");
    let (code, told) = command(&scene, &["backup", &copy_name]).await;
    assert_eq!(code, 1, "a file that is there stays: {told}");
    assert!(std::fs::read(&copy).expect("a copy") == bytes);

    // What the copy does not know.
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    let (code, told) = command(&scene, &["restore", &copy_name]).await;
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("Roomlift is already running (process"),
        "{told}"
    );
    scene.bot.terminate();
    scene.bot.wait_exit(START).await;
    let (code, told) = command(&scene, &["restore", &copy_name]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("roomlift.db.before-restore"), "{told}");

    // The yes is read again, and the job looks at the rooms first.
    scene.bot.start_again();
    scene.hear("The room was already upgraded by").await;
    assert_eq!(scene.proxy.log_of(&Kind::Upgrade).len(), 1);
    assert!(scene.proxy.log_of(&Kind::CreateRoom).is_empty());
    assert_eq!(scene.community.successors().await.len(), 1);
    scene.community.assert_moved("12").await;
    let said = said(&scene.community, &scene.community.admin_room).await;
    let plans = said.iter().filter(|text| text.starts_with("Plan #1"));
    assert_eq!(plans.count(), 1, "{said:#?}");
}

/// What is no copy is refused, and the database stays.
#[tokio::test]
async fn what_cannot_be_put_back() {
    let scene = Scene::new().await;
    scene.bot.terminate();
    scene.bot.wait_exit(START).await;
    let database = scene.dir.path().join("data/roomlift.db");
    let before = std::fs::read(&database).expect("a database");
    let file = scene.dir.path().join("copy.db");
    let name = file.to_str().expect("a path").to_owned();
    let (code, told) = command(&scene, &["restore", &name]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("cannot open the database"), "{told}");
    assert!(!file.exists(), "nothing was made in its place");
    std::fs::write(&file, "no database at all, but long enough to be looked at").expect("a file");
    let (code, told) = command(&scene, &["restore", &name]).await;
    assert_eq!(code, 1, "{told}");
    std::fs::write(&file, "").expect("a file");
    let (code, told) = command(&scene, &["restore", &name]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("is not a database of roomlift"), "{told}");
    assert!(std::fs::read(&database).expect("a database") == before);
}
