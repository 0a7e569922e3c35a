//! The room in which the bot takes its commands is itself upgraded: it goes along, and only to
//! where it is safe.

use roomlift_testbed::{Timeline, User, user};
use serde_json::{Value, json};

use crate::scene::{SPEECH, Scene, said, write_config};

/// The first words in the new room.
const CAME_ALONG: &str = "I followed the upgrade";

/// Why the bot does not go along.
const STAYS: &str = "but I stay here for now";

/// The management room after its upgrade, as the moderator sees it.
struct NewRoom {
    id: String,
    chat: Timeline,
}

impl NewRoom {
    /// Goes there, as soon as the old room leads there.
    async fn enter(scene: &Scene) -> Self {
        let moderator = &scene.community.moderator;
        let old = scene.community.admin_room.clone();
        let id = roomlift_testbed::eventually("a tombstone", SPEECH, async || {
            let tombstone = moderator.state_event(&old, "m.room.tombstone", "").await?;
            Some(tombstone["replacement_room"].as_str()?.to_owned())
        })
        .await;
        // By invitation or by having been in the old room: one of them comes with the upgrade.
        let path = format!("join/{}", roomlift_testbed::seg(&id));
        roomlift_testbed::eventually("the door to open", SPEECH, async || {
            moderator.call("POST", &path, Some(json!({}))).await.ok()
        })
        .await;
        let chat = moderator.timeline(&id).await.within(SPEECH);
        Self { id, chat }
    }

    /// Says something and waits for an answer of the bot with this in it.
    async fn ask(&mut self, scene: &Scene, text: &str, part: &str) -> String {
        scene.community.moderator.send_text(&self.id, text).await;
        self.hear(scene, part).await
    }

    async fn hear(&mut self, scene: &Scene, part: &str) -> String {
        let bot = scene.community.bot.user_id.clone();
        let event = self
            .chat
            .until(part, |event| {
                is_by(event, &bot) && user::text(event).contains(part)
            })
            .await;
        user::text(&event).to_owned()
    }

    /// How often the bot said something here, once it has.
    async fn count(&self, scene: &Scene, part: &str) -> usize {
        counted(scene, &self.id, part).await
    }
}

fn is_by(event: &Value, who: &str) -> bool {
    event["sender"] == who && event["type"] == "m.room.message"
}

async fn counted(scene: &Scene, room: &str, part: &str) -> usize {
    roomlift_testbed::eventually(part, SPEECH, async || {
        let said = said(&scene.community, room).await;
        let count = said.iter().filter(|text| text.contains(part)).count();
        (count > 0).then_some(count)
    })
    .await
}

/// Commands are taken in the new room, and not in the old one.
async fn takes_commands_there_only(scene: &Scene, new: &mut NewRoom) {
    let old = scene.community.admin_room.clone();
    let before = said(&scene.community, &old).await.len();
    // Somebody with enough power can still write there.
    scene.say("!upgrade help").await;
    new.ask(scene, "!upgrade help", "!upgrade").await;
    assert_eq!(
        said(&scene.community, &old).await.len(),
        before,
        "silent in the old room"
    );
}

#[tokio::test]
async fn its_own_room_is_refused_unless_it_is_meant() {
    let mut scene = Scene::new().await;
    let room = scene.community.admin_room.clone();
    scene.say(&format!("!upgrade {room} 12 --yes")).await;
    let plan = scene.hear("What blocks it").await;
    let text = user::text(&plan);
    assert!(text.contains("--yes-this-room"), "{text}");
    let moderator = &scene.community.moderator;
    let tombstone = moderator.state_event(&room, "m.room.tombstone", "").await;
    assert_eq!(tombstone, None);
}

/// Upgrades its own room by a method, restarts in the middle of it and later.
async fn follows(method: &str) {
    let scene = Scene::new().await;
    let room = scene.community.admin_room.clone();
    let moderator = scene.community.moderator.clone();
    // The bot has power 50 there, and it takes 100.
    let levels = moderator
        .state_event(&room, "m.room.power_levels", "")
        .await;
    let mut levels = levels.expect("power levels");
    levels["users"][&scene.community.bot.user_id] = 100.into();
    moderator
        .put_state(&room, "m.room.power_levels", "", levels)
        .await;
    scene
        .say(&format!(
            "!upgrade {room} 12 --method {method} --yes-this-room --yes"
        ))
        .await;
    let mut new = NewRoom::enter(&scene).await;
    assert_eq!(new.count(&scene, "Upgrade #1 is done").await, 1, "{method}");
    takes_commands_there_only(&scene, &mut new).await;
    scene.restart().await;
    takes_commands_there_only(&scene, &mut new).await;
    // What it does next is asked for and reported in the new room.
    let alias = scene.community.alias.clone();
    new.ask(&scene, &format!("!upgrade {alias} 12"), "Plan #2")
        .await;
    new.ask(&scene, "!upgrade confirm 2", "Upgrade #2 is done")
        .await;
    scene.community.assert_moved("12").await;
    // The address by which the room may be configured leads there as well.
    scene.bot.kill();
    let tag = moderator.localpart();
    let server = alias.split_once(':').expect("a server").1;
    let alias = format!("#management-{tag}:{server}");
    moderator.set_alias(&alias, &new.id).await;
    let config = scene.community.config(&scene.proxy.base_url());
    write_config(scene.dir.path(), &config.replace(&room, &alias));
    scene.restart().await;
    takes_commands_there_only(&scene, &mut new).await;
}

#[tokio::test]
async fn it_follows_an_upgrade_by_the_server() {
    follows("server").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `it_follows_an_upgrade_by_the_server`"]
async fn it_follows_an_upgrade_of_its_own_making() {
    follows("staged").await;
}

/// A moderator's client upgrades the room; the configuration names the room by an address, which
/// moves, or by its id, which does not.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn it_follows_a_moderator() {
    for by_alias in [Some("#office"), None] {
        let mut scene = Scene::new().await;
        let (moderator, room) = (
            scene.community.moderator.clone(),
            scene.community.admin_room.clone(),
        );
        if let Some(name) = by_alias {
            let server = scene.community.alias.split_once(':').expect("a server").1;
            let alias = format!("{name}-{}:{server}", moderator.localpart());
            moderator.set_alias(&alias, &room).await;
            let config = scene.community.config(&scene.proxy.base_url());
            write_config(scene.dir.path(), &config.replace(&room, &alias));
            scene.restart().await;
        }
        scene
            .say(&format!("!upgrade {} 12", scene.community.alias))
            .await;
        scene.hear("Plan #1").await;
        let id = moderator.upgrade(&room, "11").await;
        moderator.invite(&id, &scene.community.bot.user_id).await;
        let mut new = NewRoom::enter(&scene).await;
        new.count(&scene, CAME_ALONG).await;
        takes_commands_there_only(&scene, &mut new).await;
        // A plan from before can be agreed to there, and is reported there.
        new.ask(&scene, "!upgrade confirm 1", "Upgrade #1 is done")
            .await;
        scene.restart().await;
        takes_commands_there_only(&scene, &mut new).await;
        assert_eq!(new.count(&scene, CAME_ALONG).await, 1);
        scene.community.assert_moved("12").await;
    }
}

/// The usual order of things: the room is closed, the bot finds the new one locked, and is invited
/// later; perhaps while it is down.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn it_follows_when_it_is_invited() {
    for down in [false, true] {
        let mut scene = Scene::new().await;
        let moderator = scene.community.moderator.clone();
        let room = scene.community.admin_room.clone();
        let bot = scene.community.bot.user_id.clone();
        let id = moderator.upgrade(&room, "11").await;
        let said = scene.hear(STAYS).await;
        let text = user::text(&said);
        assert!(text.contains(&format!("/invite {bot}")), "{text}");
        if down {
            scene.bot.kill();
        }
        moderator.invite(&id, &bot).await;
        if down {
            scene.bot.start_again();
        }
        let mut new = NewRoom::enter(&scene).await;
        new.count(&scene, CAME_ALONG).await;
        takes_commands_there_only(&scene, &mut new).await;
        scene.restart().await;
        takes_commands_there_only(&scene, &mut new).await;
        assert_eq!(new.count(&scene, CAME_ALONG).await, 1);
        assert_eq!(counted(&scene, &room, STAYS).await, 1);
    }
}

/// Leads the room to another, as somebody; the bot says once why it stays, and stays.
async fn stays(scene: &mut Scene, by: &User, leads_to: &str, words: &str) {
    let room = scene.community.admin_room.clone();
    let tombstone = json!({"body": "", "replacement_room": leads_to});
    by.put_state(&room, "m.room.tombstone", "", tombstone).await;
    let said = scene.hear(STAYS).await;
    let text = user::text(&said);
    assert!(text.contains(words), "{text}");
    scene.restart().await;
    let asked = scene.say("!upgrade list").await;
    scene.reacted(&asked, "✅").await;
    assert_eq!(counted(scene, &room, words).await, 1);
}

/// Somebody who can close the room and not command the bot, and a room of theirs that does say that
/// it replaces this one.
async fn trapper(scene: &Scene) -> (User, String) {
    let (moderator, room) = (&scene.community.moderator, &scene.community.admin_room);
    let weak = scene.community.members[0].clone();
    moderator.invite(room, &weak.user_id).await;
    weak.join(room).await;
    let levels = moderator.state_event(room, "m.room.power_levels", "").await;
    let mut levels = levels.expect("power levels");
    levels["users"][&weak.user_id] = 40.into();
    levels["events"]["m.room.tombstone"] = 40.into();
    moderator
        .put_state(room, "m.room.power_levels", "", levels)
        .await;
    let trap = weak
        .create_room(json!({
            "preset": "public_chat",
            "creation_content": {"predecessor": {"room_id": room}},
        }))
        .await;
    (weak, trap)
}

#[tokio::test]
async fn it_does_not_follow_just_anybody() {
    let mut scene = Scene::new().await;
    let moderator = scene.community.moderator.clone();
    let (weak, trap) = trapper(&scene).await;
    stays(
        &mut scene,
        &weak,
        &trap,
        "too little power to give me commands",
    )
    .await;
    assert!(!scene.community.bot.joined_rooms().await.contains(&trap));

    let unrelated = moderator
        .create_room(json!({"preset": "public_chat"}))
        .await;
    stays(
        &mut scene,
        &moderator,
        &unrelated,
        "does not name this one as its predecessor",
    )
    .await;
    assert!(
        !scene
            .community
            .bot
            .joined_rooms()
            .await
            .contains(&unrelated)
    );
    stays(
        &mut scene,
        &moderator,
        "!nowhere:localhost:1",
        "cannot join it",
    )
    .await;
}

/// The word of a moderator does not count for what somebody else put in its place.
#[tokio::test]
#[ignore = "outer ring: a variant of `it_does_not_follow_just_anybody`"]
async fn a_tombstone_that_was_exchanged_is_not_followed() {
    let mut scene = Scene::new().await;
    let (moderator, room) = (
        scene.community.moderator.clone(),
        scene.community.admin_room.clone(),
    );
    let (weak, trap) = trapper(&scene).await;
    scene.bot.kill();
    for (by, leads_to) in [(&moderator, "!nowhere:localhost:1"), (&weak, &*trap)] {
        let tombstone = json!({"body": "", "replacement_room": leads_to});
        by.put_state(&room, "m.room.tombstone", "", tombstone).await;
    }
    scene.restart().await;
    scene.hear("too little power to give me commands").await;
    let asked = scene.say("!upgrade list").await;
    scene.reacted(&asked, "✅").await;
    assert!(!scene.community.bot.joined_rooms().await.contains(&trap));
    assert_eq!(counted(&scene, &room, STAYS).await, 1);
}

/// What was asked for in the old room before it was closed is answered, also where the bot reads both only
/// afterwards; and so is what was said in the new room before it came.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn commands_on_both_sides_of_a_move_are_heard() {
    let scene = Scene::new().await;
    let moderator = scene.community.moderator.clone();
    let (bot, admin) = (
        scene.community.bot.user_id.clone(),
        scene.community.admin_room.clone(),
    );
    scene.bot.kill();
    scene.say("!upgrade list").await;
    let new = moderator.upgrade(&admin, "11").await;
    moderator.invite(&new, &bot).await;
    moderator.send_text(&new, "!upgrade list").await;
    scene.bot.start_again();
    assert_eq!(counted(&scene, &admin, "No upgrade").await, 1);
    assert_eq!(counted(&scene, &new, CAME_ALONG).await, 1);
    assert_eq!(counted(&scene, &new, "No upgrade").await, 1);
}
