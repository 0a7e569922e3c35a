//! Campaigns when something comes in between, with a kill in the middle each time: every room ends
//! with one new room or with a reason, whatever happened (P2, P7, P8).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use roomlift_testbed::proxy::Fired;
use roomlift_testbed::{
    Community, Fault, Federation, Kind, Rule, Synapse, SynapseOptions, User, Wanted, eventually,
    user,
};
use serde_json::{Value, json};

use crate::campaign::{
    campaign_of, child, community, link, listed, replacement, replacing, room, scene, space,
    three_rooms,
};
use crate::scene::Scene;

/// Rooms of the large space.
const MANY: usize = 500;

/// Rooms made at the same time.
const AT_ONCE: usize = 8;

/// Longest wait for a plan of so many rooms, on a slow machine.
const LONG: Duration = Duration::from_mins(10);

/// How long a request is held that something is to happen beside.
const MEANWHILE: Duration = Duration::from_secs(5);

fn is_tombstone(kind: &Kind) -> bool {
    matches!(kind, Kind::PutState { event_type } if event_type == "m.room.tombstone")
}

/// Takes all power from the bot in a room.
async fn demote(community: &Community, room: &str) {
    let mut levels = community
        .moderator
        .state_event(room, "m.room.power_levels", "")
        .await
        .expect("levels");
    let id = community.bot.user_id.clone();
    levels["users"][&id] = json!(0);
    // With equal power only they themselves can.
    community
        .bot
        .put_state(room, "m.room.power_levels", "", levels)
        .await;
}

/// Waits until the bot was killed, which has to happen once, and starts it again.
async fn start_after_kill(scene: &Scene, killed: &Fired, deadline: Duration) {
    scene.bot.wait_exit(deadline).await;
    assert_eq!(killed.count(), 1);
    scene.bot.start_again();
}

/// A campaign whose first room is about to be switched, and takes its time.
struct AtWork {
    scene: Scene,
    /// The space, then its rooms in the order in which they go.
    rooms: Vec<String>,
}

impl AtWork {
    async fn begin() -> Self {
        let community = community().await;
        let rooms = three_rooms(&community).await;
        let scene = scene(community, "[upgrade]\nconcurrency = 1\n").await;
        let slow = Rule::new(|seen| is_tombstone(&seen.kind), Fault::Delay(MEANWHILE)).times(1);
        let slow = scene.proxy.add(slow);
        let space = &rooms[0];
        scene
            .say(&format!("!upgrade space {space} 12 --method staged --yes"))
            .await;
        eventually("the first switch", Duration::from_mins(1), async || {
            (slow.count() > 0).then_some(())
        })
        .await;
        Self { scene, rooms }
    }

    /// Kills the bot in the middle, starts it again and waits for the end.
    async fn end(&mut self, words: &str) -> String {
        self.scene.restart().await;
        let report = self.scene.hear(&format!("{words}, campaign C1")).await;
        user::text(&report).to_owned()
    }
}

fn line<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines()
        .find(|line| line.contains(part))
        .unwrap_or_else(|| panic!("{part}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn rooms_that_come_go_or_move_meanwhile_are_told_apart() {
    let mut at_work = AtWork::begin().await;
    let (space, by_hand, gone) = (
        at_work.rooms[0].clone(),
        at_work.rooms[2].clone(),
        at_work.rooms[3].clone(),
    );
    let community = &at_work.scene.community;
    let moderator = community.moderator.clone();
    let late = child(community, &space, "Late", json!({})).await;
    moderator
        .put_state(&space, "m.space.child", &gone, json!({}))
        .await;
    let theirs = moderator.upgrade(&by_hand, "11").await;
    let report = at_work.end("Ended").await;
    assert!(report.contains("Upgraded 3 of 4 rooms."), "{report}");
    assert!(
        line(&report, &by_hand).contains("already upgraded by"),
        "{report}"
    );
    assert!(line(&report, &late).contains("Late"), "{report}");
    assert_eq!(
        replacement(&moderator, &by_hand).await,
        Some(theirs.clone())
    );
    assert_eq!(replacement(&moderator, &late).await, None);
    let bot = at_work.scene.community.bot.clone();
    assert_eq!(
        replacing(&bot, &at_work.rooms).await,
        3,
        "one for each that went"
    );
    // The new space lists what the old one did in the end, and not what was taken out of it.
    let new_space = replacement(&bot, &space).await.expect("a new space");
    let first = replacement(&bot, &at_work.rooms[1])
        .await
        .expect("a new room");
    let removed = replacement(&bot, &gone).await.expect("a new room");
    let there = listed(&bot, &new_space).await;
    assert!(there.contains(&first) && there.contains(&late), "{there:?}");
    assert!(
        !there.contains(&removed) && !there.contains(&gone),
        "{there:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_bot_that_is_demoted_in_the_middle_says_where_and_moves_the_rest() {
    let mut at_work = AtWork::begin().await;
    let weak = at_work.rooms[2].clone();
    demote(&at_work.scene.community, &weak).await;
    let report = at_work.end("Ended").await;
    assert!(report.contains("Upgraded 3 of 4 rooms."), "{report}");
    assert!(line(&report, &weak).contains("power"), "{report}");
    let bot = at_work.scene.community.bot.clone();
    assert_eq!(replacement(&bot, &weak).await, None);
    assert_eq!(replacing(&bot, &at_work.rooms).await, 3);

    // With its power back, the rest follows.
    let moderator = at_work.scene.community.moderator.clone();
    let mut levels = moderator
        .state_event(&weak, "m.room.power_levels", "")
        .await
        .expect("levels");
    levels["users"][&bot.user_id] = json!(100);
    moderator
        .put_state(&weak, "m.room.power_levels", "", levels)
        .await;
    at_work.scene.say("!upgrade retry C1").await;
    at_work.scene.hear("Done, campaign C1").await;
    let new = replacement(&bot, &weak).await.expect("a new room");
    let new_space = replacement(&bot, &at_work.rooms[0])
        .await
        .expect("a new space");
    assert!(listed(&bot, &new_space).await.contains(&new));
}

/// The clock is an hour behind what it was when the campaign was begun: nothing waits for that hour.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_clock_that_was_set_back_holds_nothing_up() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let mut scene = scene(community, "").await;
    let pause = Fault::too_many_requests(Duration::from_secs(5));
    let limit = Rule::on(Kind::CreateRoom, pause).skip(1).times(2);
    scene.proxy.add(limit);
    let space = &rooms[0];
    scene
        .say(&format!("!upgrade space {space} 12 --method staged --yes"))
        .await;
    scene.hear("the server limits creating rooms").await;
    scene.bot.kill();
    an_hour_later(&scene);
    scene.restart().await;
    scene.hear("Done, campaign C1").await;
    let bot = scene.community.bot.clone();
    assert_eq!(replacing(&bot, &rooms).await, 4);
}

/// Moves everything that the bot has stored an hour into the future.
fn an_hour_later(scene: &Scene) {
    let path = scene.dir.path().join("data/roomlift.db");
    let db = rusqlite::Connection::open(path).expect("the database");
    for sql in [
        "UPDATE job SET due_at = due_at + 3600000, created_at = created_at + 3600000,
                        touched_at = touched_at + 3600000",
        "UPDATE job_log SET at = at + 3600000",
        "UPDATE campaign SET due_at = due_at + 3600000, created_at = created_at + 3600000",
        "UPDATE campaign_log SET at = at + 3600000",
        "UPDATE outbox SET due_at = due_at + 3600000",
    ] {
        db.execute(sql, [])
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    // Moments inside the entries: until when something waits.
    let mut moved = 0;
    for (table, owner) in [("job_log", "job_id"), ("campaign_log", "campaign_id")] {
        let mut query = db
            .prepare(&format!("SELECT {owner}, seq, entry FROM {table}"))
            .expect("a query");
        let rows = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .expect("entries");
        let rows: Vec<(i64, i64, String)> = rows.map(|row| row.expect("an entry")).collect();
        for (id, seq, entry) in rows {
            let mut entry: Value = serde_json::from_str(&entry).expect("JSON");
            for pointer in ["/event/until", "/until", "/event/at"] {
                let Some(value) = entry.pointer_mut(pointer) else {
                    continue;
                };
                let at: jiff::Timestamp = value.as_str().expect("a time").parse().expect("a time");
                *value = json!((at + jiff::SignedDuration::from_hours(1)).to_string());
                moved += 1;
            }
            db.execute(
                &format!("UPDATE {table} SET entry = ?1 WHERE {owner} = ?2 AND seq = ?3"),
                rusqlite::params![entry.to_string(), id, seq],
            )
            .expect("an entry is changed");
        }
    }
    assert!(moved > 0, "something waited until a moment");
}

/// Two campaigns at the same rooms, and a kill between them: still one new room for each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn two_campaigns_at_the_same_rooms_survive_a_kill() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let other = space(&community, "District").await;
    for room in &rooms[1..] {
        link(&community.moderator, &other, room, json!({})).await;
    }
    let mut scene = scene(community, "").await;
    let rule = Rule::on(Kind::CreateRoom, Fault::after(scene.bot.killer())).skip(2);
    let killed = scene.proxy.add(rule);
    for space in [&rooms[0], &other] {
        scene
            .say(&format!("!upgrade space {space} 12 --method staged --yes"))
            .await;
    }
    start_after_kill(&scene, &killed, Duration::from_mins(2)).await;
    let mut ended = BTreeMap::new();
    while ended.len() < 2 {
        let end = scene.hear(", campaign C").await;
        let text = user::text(&end).to_owned();
        for id in ["C1", "C2"] {
            if text.contains(&format!("campaign {id}:")) && !text.contains("■") {
                ended.insert(id, text.clone());
            }
        }
    }
    let bot = scene.community.bot.clone();
    let all: Vec<_> = rooms.iter().cloned().chain([other.clone()]).collect();
    assert_eq!(replacing(&bot, &all).await, 5, "{ended:#?}");
}

/// What the bot may not touch stays as it is, is named, and holds nothing up.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn rooms_that_may_not_be_touched_are_left_alone_over_a_kill() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    demote(&community, &rooms[1]).await;
    let stranger = "!nobody:elsewhere.example";
    link(&community.moderator, &rooms[0], stranger, json!({})).await;
    let itself = rooms[0].clone();
    link(&community.moderator, &itself, &itself, json!({})).await;
    let mut scene = scene(community, "").await;
    let rule = Rule::new(
        |seen| is_tombstone(&seen.kind),
        Fault::after(scene.bot.killer()),
    );
    let killed = scene.proxy.add(rule);
    scene
        .say(&format!("!upgrade space {itself} 12 --method staged"))
        .await;
    let plan = scene.hear("It cannot be undone").await;
    let text = user::text(&plan);
    assert!(text.contains("upgrade 3 rooms of"), "{text}");
    assert!(line(text, stranger).contains("I am not in it"), "{text}");
    let id = campaign_of(&plan);
    scene.say(&format!("!upgrade confirm {id}")).await;
    start_after_kill(&scene, &killed, Duration::from_mins(2)).await;
    scene.hear(&format!("Ended, campaign {id}")).await;
    let bot = scene.community.bot.clone();
    assert_eq!(replacement(&bot, &rooms[1]).await, None);
    assert_eq!(replacing(&bot, &rooms).await, 3);
    let new_space = replacement(&bot, &itself).await.expect("a new space");
    let there = listed(&bot, &new_space).await;
    assert!(there.contains(&rooms[1]), "the room that stays: {there:?}");
}

/// A space whose rooms are on another server: those where the bot has power are moved, to its own.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_of_other_servers_move_where_the_bot_may_over_a_kill() {
    let pair = Federation::pair().await;
    let community = Community::make(&pair.a, &Wanted::default()).await;
    let space = space(&community, "Village").await;
    let there = pair.b.register("keeper").await;
    let bot = community.bot.clone();
    let server = pair.b.server_name();
    let mut rooms = vec![space.clone()];
    for (name, preset) in [("Far", "public_chat"), ("Closed", "private_chat")] {
        let room = there
            .create_room(json!({
                "preset": preset,
                "name": name,
                "room_version": "10",
                "power_level_content_override": {"users": {
                    (there.user_id.clone()): 100,
                    (bot.user_id.clone()): 100,
                }},
            }))
            .await;
        let link = json!({"via": [server]});
        community
            .moderator
            .put_state(&space, "m.space.child", &room, link)
            .await;
        rooms.push(room);
    }
    let mut scene = Scene::around(community, &pair.a, "").await;
    let rule = Rule::new(
        |seen| is_tombstone(&seen.kind),
        Fault::after(scene.bot.killer()),
    );
    let killed = scene.proxy.add(rule);
    scene
        .say(&format!("!upgrade space {space} 12 --method staged --yes"))
        .await;
    start_after_kill(&scene, &killed, Duration::from_mins(2)).await;
    scene.hear("Done, campaign C1").await;
    assert_eq!(replacing(&bot, &rooms).await, 2);
    let new = replacement(&bot, &rooms[1]).await.expect("a new room");
    let told = eventually(
        "the tombstone over there",
        Duration::from_mins(1),
        async || replacement(&there, &rooms[1]).await,
    );
    assert_eq!(told.await, new);
    let via = format!("join/{new}?server_name={}", pair.a.server_name());
    let joined = there.call("POST", &via, Some(json!({}))).await;
    assert!(joined.is_ok(), "{joined:?}");
    assert_eq!(replacement(&there, &rooms[2]).await, None);
    let new_space = replacement(&bot, &space).await.expect("a new space");
    let listed = listed(&bot, &new_space).await;
    assert!(
        listed.contains(&new) && listed.contains(&rooms[2]),
        "{listed:?}"
    );
}

/// Five hundred rooms: one plan, with one whole reading of each room, through a kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: takes minutes"]
async fn a_space_of_five_hundred_rooms_is_planned_over_a_kill() {
    // Of its own: so many rooms would slow down whatever shares it.
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let community = Community::make(&synapse, &Wanted::default()).await;
    let space = space(&community, "Continent").await;
    let numbers = stream::iter(1..MANY);
    let made =
        numbers.map(async |number| room(&community, &format!("Room {number}"), json!({})).await);
    let rooms: Vec<_> = made.buffer_unordered(AT_ONCE).collect().await;
    let links = stream::iter(&rooms);
    let links = links.map(async |room| link(&community.moderator, &space, room, json!({})).await);
    links.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;

    let mut scene = Scene::around(community, &synapse, "").await;
    scene.chat = listen(&scene.community.moderator, &scene.community.admin_room).await;
    let rule = Rule::on(Kind::ReadState, Fault::after(scene.bot.killer())).skip(MANY / 2);
    let killed = scene.proxy.add(rule.times(1));
    scene.say(&format!("!upgrade plan {space} 12")).await;
    start_after_kill(&scene, &killed, LONG).await;
    let plan = scene.hear("This is only a preview").await;
    let text = user::text(&plan);
    assert!(text.contains(&format!("upgrade {MANY} rooms of")), "{text}");
    // A few were being read when it was killed.
    let states = scene.proxy.log_of(&Kind::ReadState).len();
    assert!(
        (MANY..MANY + 2 * AT_ONCE).contains(&states),
        "{states} whole states read"
    );
    assert_eq!(replacement(&scene.community.moderator, &space).await, None);
}

async fn listen(user: &User, room: &str) -> roomlift_testbed::Timeline {
    user.timeline(room).await.within(LONG)
}
