//! Campaigns: every room of a space, as one plan and one yes.

use std::time::Duration;

use roomlift_testbed::{Community, Fault, Kind, Rule, Synapse, User, Wanted, eventually, user};
use serde_json::{Value, json};

use crate::scene::{Scene, said};

/// A room that a space lists, in which the bot may do everything.
pub(crate) async fn child(community: &Community, space: &str, name: &str, more: Value) -> String {
    let room = room(community, name, more).await;
    link(&community.moderator, space, &room, json!({})).await;
    room
}

/// A room of version 10 with the bot in it, as powerful as it needs to be.
pub(crate) async fn room(community: &Community, name: &str, more: Value) -> String {
    let (moderator, bot) = (&community.moderator, &community.bot);
    let mut body = json!({
        "preset": "public_chat",
        "room_version": "10",
        "name": name,
        "power_level_content_override": {"users": {
            (moderator.user_id.clone()): 100,
            (bot.user_id.clone()): 100,
        }},
    });
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    let room = moderator.create_room(body).await;
    moderator.invite(&room, &bot.user_id).await;
    bot.join(&room).await;
    room
}

/// A space.
pub(crate) async fn space(community: &Community, name: &str) -> String {
    room(
        community,
        name,
        json!({"creation_content": {"type": "m.space"}}),
    )
    .await
}

/// Lists a room in a space.
pub(crate) async fn link(user: &User, space: &str, room: &str, more: Value) {
    let server = user.user_id.split_once(':').expect("a server").1;
    let mut content = json!({"via": [server]});
    for (key, value) in more.as_object().expect("an object") {
        content[key] = value.clone();
    }
    user.put_state(space, "m.space.child", room, content).await;
}

/// Where a room leads.
pub(crate) async fn replacement(user: &User, room: &str) -> Option<String> {
    let tombstone = user.state_event(room, "m.room.tombstone", "").await?;
    Some(tombstone["replacement_room"].as_str()?.to_owned())
}

/// Rooms that a space lists.
pub(crate) async fn listed(user: &User, space: &str) -> Vec<String> {
    let mut rooms: Vec<String> = user
        .state(space)
        .await
        .iter()
        .filter(|event| event["type"] == "m.space.child" && event["content"]["via"].is_array())
        .map(|event| event["state_key"].as_str().unwrap_or_default().to_owned())
        .collect();
    rooms.sort();
    rooms
}

/// A community to which a test adds spaces before the bot starts, so that sync tells of them at once.
pub(crate) async fn community() -> Community {
    Community::make(Synapse::shared().await, &Wanted::default()).await
}

pub(crate) async fn scene(community: Community, config: &str) -> Scene {
    Scene::around(community, Synapse::shared().await, config).await
}

/// The number of a campaign in its plan.
pub(crate) fn campaign_of(plan: &Value) -> String {
    let rest = user::text(plan).split_once("Plan ").expect("a plan").1;
    rest.split_once(':').expect("a number").0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_moves_with_all_that_is_in_it() {
    let community = community().await;
    let moderator = community.moderator.clone();
    let outer = space(&community, "Outer").await;
    let inner = space(&community, "Inner").await;
    link(
        &moderator,
        &outer,
        &inner,
        json!({"order": "b", "suggested": true}),
    )
    .await;
    let hall = child(&community, &outer, "Hall", json!({})).await;
    let cellar = child(&community, &inner, "Cellar", json!({})).await;
    // Both let in members of the other and of both spaces.
    for (room, others) in [(&hall, [&cellar, &outer]), (&cellar, [&hall, &inner])] {
        let allow: Vec<_> = others
            .iter()
            .map(|other| json!({"type": "m.room_membership", "room_id": other}))
            .collect();
        let rules = json!({"join_rule": "restricted", "allow": allow});
        moderator
            .put_state(room, "m.room.join_rules", "", rules)
            .await;
    }
    // Spaces that contain each other.
    link(&moderator, &inner, &outer, json!({})).await;
    let mut scene = scene(community, "").await;

    scene.say(&format!("!upgrade space {outer} 12")).await;
    let plan = scene.hear("It cannot be undone").await;
    let text = user::text(&plan);
    assert!(text.contains("upgrade 4 rooms"), "{text}");
    let id = campaign_of(&plan);
    scene.say(&format!("!upgrade confirm {id}")).await;
    scene.hear(&format!("Done, campaign {id}")).await;

    let mut new = Vec::new();
    for room in [&outer, &inner, &hall, &cellar] {
        new.push(replacement(&moderator, room).await.expect("a replacement"));
    }
    // The bot is in all of them.
    let reader = scene.community.bot.clone();
    let (new_outer, new_inner, new_hall, new_cellar) = (&new[0], &new[1], &new[2], &new[3]);
    let mut wanted = vec![new_inner.clone(), new_hall.clone()];
    wanted.sort();
    assert_eq!(listed(&reader, new_outer).await, wanted);
    let mut wanted = vec![new_outer.clone(), new_cellar.clone()];
    wanted.sort();
    assert_eq!(listed(&reader, new_inner).await, wanted);
    let link = reader
        .state_event(new_outer, "m.space.child", new_inner)
        .await
        .expect("a link");
    assert_eq!(link["order"], "b");
    assert_eq!(link["suggested"], true);
    for (room, own, others) in [
        (new_hall, &hall, [new_cellar, new_outer]),
        (new_cellar, &cellar, [new_hall, new_inner]),
    ] {
        let rules = reader
            .state_event(room, "m.room.join_rules", "")
            .await
            .expect("join rules");
        let allowed: Vec<_> = rules["allow"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry["room_id"].as_str())
            .collect();
        for other in others {
            assert!(allowed.contains(&other.as_str()), "{rules}");
        }
        for old in [&outer, &inner, &hall, &cellar] {
            // Its own old room may stay: members of that may enter.
            assert!(old == own || !allowed.contains(&old.as_str()), "{rules}");
        }
    }
    // One message that was edited, and one report: nothing for each room.
    let messages = said(&scene.community, &scene.community.admin_room.clone()).await;
    assert!(
        !messages.iter().any(|message| message.contains("Upgrade #")),
        "{messages:#?}"
    );
}

/// A space with three rooms, as ids: the space first.
pub(crate) async fn three_rooms(community: &Community) -> Vec<String> {
    let space = space(community, "Village").await;
    let mut rooms = vec![space.clone()];
    for name in ["Mill", "Inn", "Forge"] {
        rooms.push(child(community, &space, name, json!({})).await);
    }
    rooms
}

/// Rooms in which somebody is the creator and that replace one of these.
pub(crate) async fn replacing(user: &User, rooms: &[String]) -> usize {
    let mut count = 0;
    for room in user.joined_rooms().await {
        let create = user.state_event(&room, "m.room.create", "").await;
        let before = create.unwrap_or_default()["predecessor"]["room_id"].clone();
        count += usize::from(rooms.iter().any(|room| before == room.as_str()));
    }
    count
}

enum Instant {
    BeforeRequest,
    AfterEffect,
}

/// The bot is killed around a request, started again, and the campaign ends as if nothing had been.
async fn killed_around(
    method: &str,
    is_it: impl Fn(&Kind) -> bool + Send + Sync + 'static,
    nth: usize,
    instant: Instant,
) {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let mut scene = scene(community, "").await;
    let killer = scene.bot.killer();
    let fault = match instant {
        Instant::BeforeRequest => Fault::before(killer),
        Instant::AfterEffect => Fault::after(killer),
    };
    let rule = Rule::new(move |seen| is_it(&seen.kind), fault).skip(nth);
    let fired = scene.proxy.add(rule);
    let space = &rooms[0];
    scene
        .say(&format!(
            "!upgrade space {space} 12 --method {method} --yes"
        ))
        .await;
    scene.bot.wait_exit(Duration::from_mins(2)).await;
    assert_eq!(fired.count(), 1, "killed");
    scene.bot.start_again();
    scene.hear("Done, campaign C1").await;
    let bot = scene.community.bot.clone();
    assert_eq!(replacing(&bot, &rooms).await, 4, "one new room for each");
    let mut new = Vec::new();
    for room in &rooms {
        new.push(replacement(&bot, room).await.expect("a replacement"));
    }
    let new_space = new.remove(0);
    new.sort();
    assert_eq!(listed(&bot, &new_space).await, new);
    let reports: Vec<_> = said(&scene.community, &scene.community.admin_room)
        .await
        .into_iter()
        .filter(|text| text.contains("campaign C1") || text.contains("Campaign C1"))
        .collect();
    // What was looked at, the plan has another beginning, what was done, and the report.
    assert_eq!(reports.len(), 3, "{reports:#?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: a variant of `a_kill_after_an_upgrade_changes_nothing`"]
async fn a_kill_before_a_room_is_made_changes_nothing() {
    killed_around(
        "staged",
        |kind| *kind == Kind::CreateRoom,
        1,
        Instant::BeforeRequest,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: a variant of `a_kill_after_an_upgrade_changes_nothing`"]
async fn a_kill_after_a_room_was_made_changes_nothing() {
    killed_around(
        "staged",
        |kind| *kind == Kind::CreateRoom,
        2,
        Instant::AfterEffect,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_after_an_upgrade_changes_nothing() {
    killed_around(
        "server",
        |kind| *kind == Kind::Upgrade,
        1,
        Instant::AfterEffect,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: a variant of `a_kill_after_an_upgrade_changes_nothing`"]
async fn a_kill_between_states_changes_nothing() {
    let is_state = |kind: &Kind| matches!(kind, Kind::PutState { .. });
    killed_around("staged", is_state, 7, Instant::AfterEffect).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn what_does_not_go_is_named_with_the_reason() {
    let community = community().await;
    let (moderator, bot) = (community.moderator.clone(), community.bot.clone());
    let space = space(&community, "Village").await;
    link(&moderator, &space, &space, json!({})).await;
    let old = child(&community, &space, "Old", json!({"room_version": "9"})).await;
    let other = child(&community, &space, "Other", json!({"room_version": "10"})).await;
    let new = child(&community, &space, "New", json!({"room_version": "11"})).await;
    let gone = child(&community, &space, "Gone", json!({})).await;
    moderator.upgrade(&gone, "11").await;
    let weak = child(&community, &space, "Weak", json!({})).await;
    let mut levels = moderator
        .state_event(&weak, "m.room.power_levels", "")
        .await
        .expect("levels");
    levels["users"][&bot.user_id] = json!(0);
    bot.put_state(&weak, "m.room.power_levels", "", levels)
        .await;
    let closed = moderator
        .create_room(json!({"preset": "private_chat", "name": "Closed"}))
        .await;
    link(&moderator, &space, &closed, json!({})).await;
    let open = moderator
        .create_room(json!({"preset": "public_chat", "name": "Open", "room_version": "10"}))
        .await;
    link(&moderator, &space, &open, json!({})).await;
    let admin_room = community.admin_room.clone();
    link(&moderator, &space, &admin_room, json!({})).await;
    let stranger = "!nobody:elsewhere.example";
    link(&moderator, &space, stranger, json!({})).await;

    let mut scene = scene(community, "").await;
    scene.say(&format!("!upgrade plan {space} 11")).await;
    let plan = scene.hear("This is only a preview").await;
    let text = user::text(&plan);
    assert!(text.contains("ready to upgrade 3 rooms"), "{text}");
    assert!(
        text.contains("1 on that version already, 1 replaced already"),
        "{text}"
    );
    assert!(
        text.contains("Cannot be upgraded now: 1 room\n- Weak"),
        "{text}"
    );
    for (room, why) in [
        (&closed, "I am not in it"),
        (&open, "I am not in it"),
        (&admin_room, "admin room; upgrade it separately"),
    ] {
        assert!(
            text.lines()
                .any(|line| line.contains(room.as_str()) && line.contains(why)),
            "{room} {why}: {text}"
        );
    }
    // Nothing was joined for a plan that is only looked at.
    assert!(!bot.joined_rooms().await.contains(&open));
    assert_eq!(replacement(&moderator, &old).await, None);

    scene
        .say(&format!(
            "!upgrade space {space} 11 --skip {other} --from 9"
        ))
        .await;
    let plan = scene.hear("It cannot be undone").await;
    let text = user::text(&plan);
    assert!(text.contains("upgrade 1 room of"), "{text}");
    assert!(
        bot.joined_rooms().await.contains(&open),
        "joined, to look at it"
    );
    let id = campaign_of(&plan);
    scene.say(&format!("!upgrade confirm {id}")).await;
    let report = scene.hear(&format!("Done, campaign {id}")).await;
    assert!(
        user::text(&report).contains("Upgraded 1 of 1 room."),
        "{report}"
    );
    assert!(replacement(&moderator, &old).await.is_some());
    for room in [&other, &new, &weak, &space] {
        assert_eq!(replacement(&moderator, room).await, None, "{room}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_can_be_held_and_stopped() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let moderator = community.moderator.clone();
    let mut scene = scene(community, "[upgrade]\nconcurrency = 1\n").await;
    // The first room is about to be switched, and takes its time.
    let first = rooms[1].clone();
    let slow = scene.proxy.add(Rule::new(
        |seen| matches!(&seen.kind, Kind::PutState { event_type } if event_type == "m.room.tombstone"),
        Fault::Delay(Duration::from_secs(5)),
    ));
    scene
        .say(&format!(
            "!upgrade space {} 12 --method staged --yes",
            rooms[0]
        ))
        .await;
    eventually("the first switch", Duration::from_mins(1), async || {
        (slow.count() > 0).then_some(())
    })
    .await;
    scene.say("!upgrade pause C1").await;
    scene.hear("Paused: rooms already switched").await;
    eventually("the first room", Duration::from_mins(1), async || {
        replacement(&moderator, &first).await
    })
    .await;
    scene.say("!upgrade pause").await;
    scene.hear("Nothing is running").await;
    scene.restart().await;
    scene.say("!upgrade status C1").await;
    scene.hear("!upgrade resume C1").await;
    let asked = scene.say("!upgrade list").await;
    scene.reacted(&asked, "✅").await;
    assert_eq!(replacement(&moderator, &rooms[2]).await, None, "held");
    let made = scene.proxy.log_of(&Kind::CreateRoom).len();
    assert_eq!(made, 1, "no other room is begun");
    scene.say("!upgrade resume C1").await;
    eventually("the second room", Duration::from_mins(1), async || {
        replacement(&moderator, &rooms[2]).await
    })
    .await;
    scene.say("!upgrade cancel C1").await;
    let report = scene.hear("Stopped, campaign C1").await;
    let text = user::text(&report);
    assert!(text.contains("Not done"), "{text}");
    assert_eq!(
        replacement(&moderator, &rooms[0]).await,
        None,
        "the space waits"
    );
    // Those that were dropped go on where they were, without another yes.
    scene.say("!upgrade retry C1").await;
    scene.hear("Done, campaign C1").await;
    for room in &rooms {
        assert!(replacement(&moderator, room).await.is_some(), "{room}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn what_changes_between_plan_and_work_is_seen_room_by_room() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let (moderator, bot) = (community.moderator.clone(), community.bot.clone());
    let (space, by_hand, weak, fine) = (&rooms[0], &rooms[1], &rooms[2], &rooms[3]);
    let late = room(&community, "Late", json!({})).await;
    let mut scene = scene(community, "").await;
    scene.say(&format!("!upgrade space {space} 12")).await;
    let plan = scene.hear("It cannot be undone").await;
    let id = campaign_of(&plan);
    link(&moderator, space, &late, json!({})).await;
    let theirs = moderator.upgrade(by_hand, "11").await;
    let mut levels = moderator
        .state_event(weak, "m.room.power_levels", "")
        .await
        .expect("levels");
    levels["users"][&bot.user_id] = json!(0);
    bot.put_state(weak, "m.room.power_levels", "", levels).await;
    moderator
        .put_state(fine, "m.room.topic", "", json!({"topic": "Fire"}))
        .await;
    scene.say(&format!("!upgrade confirm {id}")).await;
    let report = scene.hear(&format!("Ended, campaign {id}")).await;
    let text = user::text(&report);
    assert!(text.contains("Upgraded 2 of 4 rooms."), "{text}");
    let line = |room: &str| {
        let found = text.lines().find(|line| line.contains(room));
        found.unwrap_or_else(|| panic!("{room}: {text}")).to_owned()
    };
    assert!(line(by_hand).contains("already upgraded by"), "{text}");
    assert!(line(weak).contains("power"), "{text}");
    assert!(line(&late).contains("Late"), "{text}");
    assert_eq!(replacement(&moderator, by_hand).await, Some(theirs));
    let new = replacement(&moderator, fine).await.expect("a new room");
    let topic = bot.state_event(&new, "m.room.topic", "").await;
    assert_eq!(topic.expect("a topic")["topic"], "Fire");
    assert_eq!(replacement(&moderator, &late).await, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn two_campaigns_that_share_rooms_make_one_new_room_each() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let other = space(&community, "District").await;
    for room in &rooms[1..] {
        link(&community.moderator, &other, room, json!({})).await;
    }
    let mut scene = scene(community, "").await;
    for space in [&rooms[0], &other] {
        scene
            .say(&format!("!upgrade space {space} 12 --method staged --yes"))
            .await;
    }
    // Either may end first.
    let mut at_work = vec!["C1", "C2"];
    scene
        .chat
        .until("the ends of both", |event| {
            let text = user::text(event);
            at_work.retain(|id| {
                !text.contains(&format!("Done, campaign {id}"))
                    && !text.contains(&format!("Ended, campaign {id}"))
            });
            at_work.is_empty()
        })
        .await;
    let bot = scene.community.bot.clone();
    let all: Vec<_> = rooms.iter().cloned().chain([other.clone()]).collect();
    assert_eq!(replacing(&bot, &all).await, 5, "one for each");
    let new_other = replacement(&bot, &other).await.expect("a new space");
    let mut new = Vec::new();
    for room in &rooms[1..] {
        new.push(replacement(&bot, room).await.expect("a new room"));
    }
    new.sort();
    assert_eq!(listed(&bot, &new_other).await, new);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_limit_on_new_rooms_is_waited_for_through_a_restart() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let mut scene = scene(community, "").await;
    let pause = Fault::too_many_requests(Duration::from_secs(6));
    let limit = Rule::on(Kind::CreateRoom, pause).skip(1).times(4);
    let limited = scene.proxy.add(limit);
    scene
        .say(&format!(
            "!upgrade space {} 12 --method staged --yes",
            rooms[0]
        ))
        .await;
    scene.hear("the server limits creating rooms").await;
    scene.restart().await;
    scene.hear("Done, campaign C1").await;
    assert!(limited.count() > 1, "asked again, and again in vain");
    let bot = scene.community.bot.clone();
    assert_eq!(replacing(&bot, &rooms).await, 4);
}

/// Waits until the bot has said something in a room.
async fn heard(scene: &Scene, room: &str, part: &str) {
    eventually(part, Duration::from_mins(1), async || {
        let said = said(&scene.community, room).await;
        said.iter().any(|text| text.contains(part)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn members_are_told_of_a_campaign_to_come_and_of_its_end() {
    let community = community().await;
    let rooms = three_rooms(&community).await;
    let moderator = community.moderator.clone();
    let mut scene = scene(community, "").await;
    scene
        .say(&format!(
            "!upgrade space {} 12 --in 30m --announce",
            rooms[0]
        ))
        .await;
    let plan = scene.hear("It cannot be undone").await;
    assert!(user::text(&plan).contains("It starts on"), "{plan}");
    scene.say("!upgrade confirm C1").await;
    for room in &rooms {
        heard(&scene, room, "30 minutes").await;
    }
    scene.say("!upgrade cancel C1").await;
    scene.hear("Cancelled, campaign C1").await;
    for room in &rooms {
        heard(&scene, room, "will not be upgraded").await;
        assert_eq!(replacement(&moderator, room).await, None);
        assert_eq!(said(&scene.community, room).await.len(), 2, "each once");
    }
}
