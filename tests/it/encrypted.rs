//! Encrypted rooms: the bot reads commands and answers there, is who it says it is, and says so when
//! it cannot read.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use roomlift_testbed::{Bot, Community, Synapse, User, Wanted, eventually, seg};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::scene::{READY, SPEECH, START, Scene, start_bot, write_config};
use super::sdk::{Form, SdkUser, Signing};

/// Turns encryption on in a room.
async fn encrypt(by: &User, room: &str) {
    let content = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    by.put_state(room, "m.room.encryption", "", content).await;
}

/// A community with an encrypted management room.
async fn community(synapse: &Synapse) -> Community {
    let community = Community::make(synapse, &Wanted::default()).await;
    encrypt(&community.moderator, &community.admin_room).await;
    community
}

fn device(scene: &Scene) -> String {
    device_in(scene.dir.path())
}

fn device_in(dir: &Path) -> String {
    saved_device(dir).expect("a session")
}

/// The device of the session that the bot has saved; `None` while there is none.
fn saved_device(dir: &Path) -> Option<String> {
    let session = fs::read(dir.join("data/session.json")).ok()?;
    let session: Value = serde_json::from_slice(&session).expect("JSON");
    Some(session["device_id"].as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_room_is_upgraded_from_an_encrypted_admin_room() {
    let synapse = Synapse::shared().await;
    let community = community(synapse).await;
    encrypt(&community.moderator, &community.room).await;
    let base = synapse.base_url();
    let maria = SdkUser::log_in(&base, &community.moderator, Signing::Signed).await;
    let member = SdkUser::log_in(&base, &community.members[0], Signing::Unsigned).await;
    let scene = Scene::around(community, synapse, "require_verified_device = true\n").await;
    let (admin, room) = (
        scene.community.admin_room.clone(),
        scene.community.room.clone(),
    );
    let bot = scene.community.bot.clone();
    assert!(
        maria.trusts(&bot, &device(&scene)).await,
        "the bot's device is signed"
    );

    // In the clear, and from a device that nobody signed: not in this room.
    let alias = scene.community.alias.clone();
    scene.say(&format!("!upgrade {alias}")).await;
    let refused = maria.hear(&admin, &bot, "have verified").await;
    assert_eq!(refused.form, Form::Encrypted);
    let other = SdkUser::log_in(&base, &scene.community.moderator, Signing::Unsigned).await;
    other.say(&admin, &format!("!upgrade {alias} 11")).await;
    eventually("a second refusal", SPEECH, async || {
        (maria.heard(&admin, &bot, "have verified").len() == 2).then_some(())
    })
    .await;

    // Encrypted, from a device that is signed.
    maria.say(&admin, &format!("!upgrade {alias}")).await;
    let plan = maria.hear(&admin, &bot, "Plan #1").await;
    assert_eq!(plan.form, Form::Encrypted);
    scene.bot.kill();
    maria.say(&admin, "!upgrade confirm 1").await;
    scene.restart().await;
    let report = maria.hear(&admin, &bot, "Upgrade #1 is done").await;
    assert_eq!(report.form, Form::Encrypted);
    let new = scene.community.replacement().await.expect("a new room");
    let encryption = bot.state_event(&new, "m.room.encryption", "").await;
    assert!(encryption.is_some(), "the new room is encrypted");
    let notice = member.hear(&room, &bot, "This room has moved").await;
    assert_eq!(notice.form, Form::Encrypted);
    maria.say(&admin, "!upgrade status 1").await;
    let (form, picture) = maria.see(&admin, &bot).await;
    assert_eq!(form, Form::Encrypted);
    assert!(picture.starts_with(b"\x89PNG"), "{:?}", picture.get(..8));
    assert!(
        maria.trusts(&bot, &device(&scene)).await,
        "the bot's device is still signed"
    );
}

/// A bot that is to get its secrets by a key in a file.
struct Recovering {
    dir: TempDir,
    bot: Bot,
}

impl Recovering {
    fn start(community: &Community, base: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        put_key(dir.path(), key);
        let config = community
            .config(base)
            .replace("password =", "recovery_key_file = \"recovery\"\npassword =");
        write_config(dir.path(), &config);
        let bot = start_bot(dir.path());
        Self { dir, bot }
    }

    /// Loses the device and all its keys, but not the database.
    fn lose_device(&self) {
        self.bot.kill();
        let data = self.dir.path().join("data");
        fs::remove_file(data.join("session.json")).expect("it was there");
        fs::remove_dir_all(data.join("matrix")).expect("it was there");
    }
}

fn put_key(dir: &Path, key: &str) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(dir.join("recovery")).expect("a file");
    writeln!(file, "{key}").expect("it is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_gets_identity_and_keys_back() {
    let synapse = Synapse::shared().await;
    let community = community(synapse).await;
    let base = synapse.base_url();
    let maria = SdkUser::log_in(&base, &community.moderator, Signing::Unsigned).await;
    // Whoever runs the bot has set up its account with a client of their own.
    let operator = SdkUser::log_in(&base, &community.bot, Signing::Signed).await;
    let recovery = operator.client.encryption().recovery();
    let key = recovery.enable().await.expect("a recovery key");
    drop(operator);
    let running = Recovering::start(&community, &base, &key);
    let bot = &running.bot;
    bot.until_logged(READY, START).await;
    let device = device_in(running.dir.path());
    assert!(
        maria.trusts(&community.bot, &device).await,
        "the device is signed by the identity that was there"
    );
    let admin = &community.admin_room;
    maria.say(admin, "!upgrade list").await;
    maria.hear(admin, &community.bot, "No upgrade").await;
    let version = "/_matrix/client/v3/room_keys/version";
    eventually("a backup with a key in it", SPEECH, async || {
        let version = community.bot.call("GET", version, None).await;
        version
            .is_ok_and(|version| version["count"].as_i64() > Some(0))
            .then_some(())
    })
    .await;

    // The message is meant for a device that is gone by the time the bot starts.
    bot.kill();
    maria.say(admin, "!upgrade help status").await;
    running.lose_device();
    bot.start_again();
    maria.hear(admin, &community.bot, "Show one upgrade").await;
    let device = device_in(running.dir.path());
    assert!(
        maria.trusts(&community.bot, &device).await,
        "the new device is signed"
    );

    // A wrong key is a mistake that somebody has to correct.
    running.lose_device();
    put_key(running.dir.path(), "wrong horse");
    bot.start_again();
    let status = bot.wait_exit(START).await;
    assert!(!status.success());
    assert!(bot.log().contains("account.recovery_key_file"));
    assert!(!bot.log().contains("wrong horse"), "no secret in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_logged_out_is_replaced_in_the_middle_of_a_job() {
    let synapse = Synapse::shared().await;
    let community = community(synapse).await;
    let base = synapse.base_url();
    let maria = SdkUser::log_in(&base, &community.moderator, Signing::Unsigned).await;
    let scene = Scene::around(community, synapse, "").await;
    let (admin, bot) = (&scene.community.admin_room, &scene.community.bot);
    maria
        .say(admin, &format!("!upgrade {}", scene.community.alias))
        .await;
    maria.hear(admin, bot, "Plan #1").await;
    let first = device(&scene);
    let session = fs::read(scene.dir.path().join("data/session.json")).expect("a session");
    let session: Value = serde_json::from_slice(&session).expect("JSON");
    let out = reqwest::Client::new()
        .post(format!("{base}/_matrix/client/v3/logout"))
        .bearer_auth(session["access_token"].as_str().expect("a token"))
        .send()
        .await
        .expect("an answer");
    assert!(out.status().is_success());
    assert!(!scene.bot.wait_exit(START).await.success());
    scene.start_again().await;
    // It has no keys of the first one: its account is that of a device nobody vouches for.
    assert_ne!(device(&scene), first);
    maria.trusts(bot, &device(&scene)).await;
    maria.say(admin, "!upgrade confirm 1").await;
    maria.hear(admin, bot, "Upgrade #1 is done").await;
}

/// Making a key of a passphrase takes half a million rounds, which are slow without optimisation.
const PASSPHRASE: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_kept_under_a_passphrase_where_none_were() {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let running = Recovering::start(&community, &synapse.base_url(), "one more staple");
    let (bot, base) = (&community.bot, synapse.base_url());
    let storage = format!(
        "user/{}/account_data/m.secret_storage.default_key",
        seg(&bot.user_id)
    );
    let backup = "/_matrix/client/v3/room_keys/version";
    for path in [storage.as_str(), backup] {
        eventually(path, PASSPHRASE, async || {
            bot.call("GET", path, None).await.ok().map(drop)
        })
        .await;
    }
    let maria = SdkUser::log_in(&base, &community.moderator, Signing::Unsigned).await;
    running.bot.until_logged(READY, PASSPHRASE).await;
    let first = device_in(running.dir.path());
    running.lose_device();
    running.bot.start_again();
    eventually("another device that is signed", PASSPHRASE, async || {
        let device = saved_device(running.dir.path()).filter(|device| *device != first)?;
        maria.trusts(bot, &device).await.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decrypted_is_told_once_for_each_key_and_not_without_end() {
    let synapse = Synapse::shared().await;
    let community = community(synapse).await;
    let maria = SdkUser::log_in(&synapse.base_url(), &community.moderator, Signing::Unsigned).await;
    let scene = Scene::around(community, synapse, "").await;
    let community = &scene.community;
    let (admin, bot) = (&community.admin_room, &community.bot);
    for session in ["one", "one", "two", "three", "four", "five"] {
        let content = json!({
            "algorithm": "m.megolm.v1.aes-sha2",
            "ciphertext": "AwgAEnACgAkLmt6qF84IK++J7UDH2Za1YVchHyprqTqsg2yyOwAtHaZTwyNg37afzg8f3r9",
            "device_id": "GONE", "sender_key": "IlRMeOPX2e0MurIyfWEucYBRVOEEUMrOHqn/8mLqMjA",
            "session_id": session,
        });
        community
            .moderator
            .send_event(admin, "m.room.encrypted", content)
            .await;
    }
    let told = || maria.heard(admin, bot, "cannot decrypt this message").len();
    eventually("three notices", SPEECH, async || {
        (told() == 3).then_some(())
    })
    .await;
    // All six have been dealt with once an answer comes to what was said afterwards.
    maria.say(admin, "!upgrade list").await;
    maria.hear(admin, bot, "No upgrade").await;
    assert_eq!(told(), 3);
}
