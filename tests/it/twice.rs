//! P1 and P2 where the world repeats itself: events that are delivered again, and a homeserver that
//! is killed in the middle of `/upgrade` and comes back.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use roomlift_testbed::{
    Bot, Community, Fault, Kind, Rule, Seen, Synapse, SynapseOptions, Wanted, eventually,
};
use serde_json::{Value, json};

use crate::scene::{READY, SPEECH, START, Scene, said, start_bot, write_config};

/// Bans of the room whose upgrade is interrupted: enough that the server is at it for seconds.
const MANY_BANS: usize = 120;

/// The bot answers in order: with this answer, it has handled all that came before.
async fn fence(scene: &mut Scene) {
    scene.say("!upgrade help confirm").await;
    scene.hear("`!upgrade confirm").await;
}

/// The plan still waits for its yes (the same command, handled anew, would take its place), and
/// there is one of everything.
async fn confirmed_once(mut scene: Scene) {
    scene.say("!upgrade confirm 1").await;
    scene.hear("Upgrade #1 is done").await;
    scene.say("!upgrade list --all").await;
    scene.hear("#1 done").await;
    let said = said(&scene.community, &scene.community.admin_room).await;
    // A quick upgrade has no message that follows it.
    for (begin, least) in [
        ("Plan #", 1),
        ("Upgrade #1: ", 0),
        ("✅ Upgrade #1 is done", 1),
    ] {
        let count = said.iter().filter(|text| text.starts_with(begin)).count();
        assert!((least..=1).contains(&count), "{begin}: {said:#?}");
    }
    assert!(!said.concat().contains("#2"), "{said:#?}");
    scene.community.assert_moved("12").await;
}

/// The answer to `/sync` that brings the command comes again in place of a later one, and each event
/// in it stands there twice. The client goes on from the place it names, so that the server
/// itself then tells everything after the command once more.
#[tokio::test]
async fn an_answer_that_comes_again_is_read_once() {
    let mut scene = Scene::new().await;
    let kept: Mutex<Option<Value>> = Mutex::default();
    let (wanted, repeated) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (is_wanted, was_repeated) = (Arc::clone(&wanted), Arc::clone(&repeated));
    let admin = scene.community.admin_room.clone();
    let replay = move |status: u16, mut body: Value| {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if is_wanted.swap(false, Ordering::SeqCst)
            && let Some(earlier) = kept.take()
        {
            was_repeated.store(true, Ordering::SeqCst);
            return (status, earlier);
        }
        let room = body
            .pointer_mut("/rooms/join")
            .and_then(|rooms| rooms.get_mut(&admin))
            .and_then(|room| room.pointer_mut("/timeline/events"));
        if let Some(events) = room.and_then(Value::as_array_mut)
            && events.iter().any(|event| {
                let said = event["content"]["body"].as_str();
                said.is_some_and(|said| said.starts_with("!upgrade #"))
            })
        {
            let again = events.clone();
            events.extend(again);
            *kept = Some(body.clone());
        }
        (status, body)
    };
    let fired = scene
        .proxy
        .add(Rule::on(Kind::Sync, Fault::custom(replay)).for_ever());
    // Ends the sync that is under way, which the rule does not see.
    scene.say("good morning").await;
    eventually("a sync that the rule sees", SPEECH, async || {
        (fired.count() > 0).then_some(())
    })
    .await;
    scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    scene.hear("Plan #1").await;
    wanted.store(true, Ordering::SeqCst);
    scene.say("good afternoon").await;
    eventually("the answer that comes again", SPEECH, async || {
        repeated.load(Ordering::SeqCst).then_some(())
    })
    .await;
    fence(&mut scene).await;
    confirmed_once(scene).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

/// The bot's place in the sync goes back to before the command, as when it is killed after the
/// event is in the inbox and before that place is stored.
#[tokio::test]
#[ignore = "outer ring: a variant of `an_answer_that_comes_again_is_read_once`"]
async fn a_place_in_the_sync_from_before_the_command() {
    let mut scene = Scene::new().await;
    let data = scene.dir.path().join("data");
    scene.bot.kill();
    copy(&data.join("matrix"), &data.join("earlier"));
    scene.bot.start_again();
    scene
        .say(&format!("!upgrade {} 12", scene.community.alias))
        .await;
    scene.hear("Plan #1").await;
    scene.bot.kill();
    std::fs::remove_dir_all(data.join("matrix")).expect("the folder is removed");
    copy(&data.join("earlier"), &data.join("matrix"));
    scene.bot.start_again();
    fence(&mut scene).await;
    confirmed_once(scene).await;
}

async fn scene_on(synapse: &Synapse, bans: usize) -> Scene {
    let wanted = Wanted {
        bans,
        ..Wanted::default()
    };
    let community = Community::make(synapse, &wanted).await;
    Scene::around(community, synapse, "").await
}

/// The upgrade ends well with one room, made by one call that the server carried out, in this
/// number of calls.
async fn ends_with_one_room(mut scene: Scene, calls: usize) {
    scene.hear("Upgrade #1 is done").await;
    assert_eq!(scene.proxy.log_of(&Kind::Upgrade).len(), calls);
    scene.community.assert_moved("12").await;
}

/// Waits until the server is down, and the bot has noticed, in the middle of the switch, that nobody answers.
async fn until_missed(scene: &Scene, synapse: &Synapse) {
    eventually("the end of the server", SPEECH, async || {
        synapse.is_down().then_some(())
    })
    .await;
    eventually("a request that nobody answers", SPEECH, async || {
        let log = scene.proxy.log();
        let mut later = log.iter().skip_while(|seen| seen.kind != Kind::Upgrade);
        later.next()?;
        later
            .any(|seen| seen.kind != Kind::Sync && seen.status.is_none())
            .then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_server_killed_with_the_answer_on_its_lips`"]
async fn a_server_killed_before_it_hears_of_the_upgrade() {
    let synapse = Arc::new(Synapse::start(SynapseOptions::default()).await);
    let mut scene = scene_on(&synapse, 2).await;
    let victim = Arc::clone(&synapse);
    let kill = Fault::before(move || victim.kill());
    let fired = scene.proxy.add(Rule::on(Kind::Upgrade, kill));
    scene.upgrade("12").await;
    until_missed(&scene, &synapse).await;
    synapse.start_again().await;
    assert_eq!(fired.count(), 1);
    ends_with_one_room(scene, 2).await;
}

#[tokio::test]
async fn a_server_killed_with_the_answer_on_its_lips() {
    let synapse = Arc::new(Synapse::start(SynapseOptions::default()).await);
    let mut scene = scene_on(&synapse, 2).await;
    let victim = Arc::clone(&synapse);
    let kill = Fault::after(move || victim.kill());
    let fired = scene.proxy.add(Rule::on(Kind::Upgrade, kill));
    scene.upgrade("12").await;
    until_missed(&scene, &synapse).await;
    synapse.start_again().await;
    assert_eq!(fired.count(), 1);
    ends_with_one_room(scene, 1).await;
}

/// The new room is there and not all of its bans: it is completed and used.
#[tokio::test]
#[ignore = "outer ring: a variant of `a_server_killed_with_the_answer_on_its_lips`"]
async fn a_server_killed_in_the_middle_of_the_upgrade() {
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let mut scene = scene_on(&synapse, MANY_BANS).await;
    let before = scene.community.bot.joined_rooms().await.len();
    scene.upgrade("12").await;
    eventually("the new room", SPEECH, async || {
        (scene.community.bot.joined_rooms().await.len() > before).then_some(())
    })
    .await;
    synapse.kill();
    assert_eq!(scene.proxy.log_of(&Kind::Upgrade)[0].status, None);
    until_missed(&scene, &synapse).await;
    synapse.start_again().await;
    assert_eq!(scene.community.replacement().await, None, "half made");
    ends_with_one_room(scene, 1).await;
}

/// A room that the server does not let the bot read back holds up no other.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_room_that_cannot_be_read_back_holds_up_no_other() {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let other = community
        .moderator
        .create_room(json!({"preset": "private_chat", "invite": [community.bot.user_id]}))
        .await;
    community.bot.join(&other).await;
    let scope = format!("scope = [\"{}\"]\n", community.space);
    let more = format!("{scope}[[admin_room]]\nroom = \"{other}\"\n{scope}");
    let mut scene = Scene::around(community, synapse, &more).await;
    scene.bot.kill();
    let reads = move |seen: &Seen| seen.kind == Kind::Messages && seen.path.contains(&other);
    let failing = scene
        .proxy
        .add(Rule::new(reads, Fault::error(502, "M_UNKNOWN")).for_ever());
    scene.restart().await;
    scene.say("!upgrade list").await;
    scene.hear("No upgrade").await;
    assert!(failing.count() > 0, "the other one failed");
}

/// Two bots with one account, each with a database of its own: the second one refuses to start; told to take
/// over, it does, and the first one stands back.
#[tokio::test]
async fn a_second_database_with_the_same_account_does_not_start() {
    let mut scene = Scene::new().await;
    let elsewhere = tempfile::tempdir().expect("a folder for the second bot");
    let config = std::fs::read_to_string(scene.dir.path().join("config.toml"));
    write_config(elsewhere.path(), &config.expect("the configuration"));
    let second = start_bot(elsewhere.path());
    let status = second.wait_exit(START).await;
    assert!(!status.success(), "{status}");
    let log = second.log();
    assert!(log.contains("roomlift run --take-over"), "{log}");
    let binary = Path::new(env!("CARGO_BIN_EXE_roomlift"));
    let third = Bot::start(binary, ["run", "--take-over"], elsewhere.path());
    third.until_logged(READY, START).await;
    scene
        .hear("Another Roomlift works with my account now")
        .await;
    scene.say("!upgrade list").await;
    scene.hear("No upgrade was asked for").await;
}
