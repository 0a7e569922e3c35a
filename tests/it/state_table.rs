//! What becomes of a room's state, row by row of the table in the design, looked up in the real
//! rooms, and by both methods: what the server does and what the bot does end the same.
//!
//! Rows that are tested elsewhere: power levels as text and with junk (`odd_rooms`), versions
//! (`upgrade`, `plan`), from version 12 down (`staged`, `servers`), a creator that does not exist
//! and the tombstone's power (`plan`), creators and members on other servers (`federated`), what is
//! in every room, such as bans with their reason (`Community::checks`, so in each test that calls
//! `assert_moved`).

use std::time::Duration;

use roomlift_testbed::{
    Community, Entry, Listing, Presence, Synapse, User, Wanted, eventually, seg, user,
};
use serde_json::{Value, json};

use crate::scene::Scene;

/// Both ways in which the bot upgrades a room.
const METHODS: [&str; 2] = ["server", "staged"];

/// How long the bot's own sync may take to hear of what the test did.
const NEWS: Duration = Duration::from_secs(20);

/// More than fits into a state event with what the server adds.
const OVERSIZED: usize = 61_000;

async fn read(scene: &Scene, room: &str, kind: &str, key: &str) -> Option<Value> {
    scene.community.bot.state_event(room, kind, key).await
}

async fn must_read(scene: &Scene, room: &str, kind: &str, key: &str) -> Value {
    let found = read(scene, room, kind, key).await;
    found.unwrap_or_else(|| panic!("{kind} {key} is missing"))
}

/// Upgrades a room, confirmed by command; returns the plan and the new room.
async fn upgrade(scene: &mut Scene, room: &str, options: &str) -> (String, String) {
    scene.say(&format!("!upgrade {room} {options}")).await;
    let plan = scene.hear("Plan #").await;
    let plan = user::text(&plan).to_owned();
    let id = plan["Plan #".len()..].split(':').next().expect("a number");
    scene.say(&format!("!upgrade confirm {id}")).await;
    scene.hear(&format!("Upgrade #{id} is done")).await;
    let tombstone = must_read(scene, room, "m.room.tombstone", "").await;
    let new = tombstone["replacement_room"].as_str().expect("a room");
    (plan, new.to_owned())
}

/// Changes the old room's power levels.
async fn change_levels(community: &Community, change: impl FnOnce(&mut Value)) -> Value {
    let (moderator, room) = (&community.moderator, &community.room);
    let levels = moderator.state_event(room, "m.room.power_levels", "").await;
    let mut levels = levels.expect("power levels");
    change(&mut levels);
    moderator
        .put_state(room, "m.room.power_levels", "", levels.clone())
        .await;
    levels
}

#[tokio::test]
async fn levels_stay_and_creators_leave_them() {
    for method in METHODS {
        let mut scene = Scene::new().await;
        let community = &scene.community;
        let [helper, creator, _] = &community.members[..] else {
            panic!("three members");
        };
        let (helper, creator) = (helper.user_id.clone(), creator.user_id.clone());
        let before = change_levels(community, |levels| {
            levels["users"][&helper] = 42.into();
            levels["users"][&creator] = 60.into();
            levels["events"]["org.example.settings"] = 77.into();
            levels["notifications"] = json!({"room": 60});
            levels["redact"] = 65.into();
        })
        .await;
        let options = format!("12 --method {method} --creator {creator}");
        let room = scene.community.room.clone();
        let (plan, new) = upgrade(&mut scene, &room, &options).await;
        assert!(plan.contains("Creators of the new room"), "{plan}");
        assert!(plan.contains(&creator), "{plan}");
        scene.community.assert_moved("12").await;

        let after = must_read(&scene, &new, "m.room.power_levels", "").await;
        let bot = scene.community.bot.user_id.clone();
        let mut wanted = before;
        let users = wanted["users"].as_object_mut().expect("users");
        assert!(users.remove(&bot).is_some() && users.remove(&creator).is_some());
        wanted["events"]["m.room.tombstone"] = 150.into();
        assert_eq!(after, wanted, "{method}");
    }
}

/// Somebody above the configured level for the tombstone must not get the power to upgrade.
#[tokio::test]
async fn the_tombstone_takes_more_than_anybody_has() {
    for method in METHODS {
        let wanted = Wanted {
            bot_power: 200,
            ..Wanted::default()
        };
        let community = Community::make(Synapse::shared().await, &wanted).await;
        let helper = community.members[0].user_id.clone();
        // Only the bot may give so much.
        let bot = &community.bot;
        let levels = bot.state_event(&community.room, "m.room.power_levels", "");
        let mut levels = levels.await.expect("power levels");
        levels["users"][&helper] = 199.into();
        bot.put_state(&community.room, "m.room.power_levels", "", levels)
            .await;
        let mut scene = Scene::around(community, Synapse::shared().await, "").await;
        let room = scene.community.room.clone();
        let (_, new) = upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        let after = must_read(&scene, &new, "m.room.power_levels", "").await;
        assert_eq!(after["users"][&helper], 199, "{method}");
        assert_eq!(after["events"]["m.room.tombstone"], 200, "{method}");
    }
}

/// Configured, asked for, and those of the old room; the bot is one anyway.
#[tokio::test]
async fn creators_are_those_configured_asked_for_and_before() {
    let synapse = Synapse::shared().await;
    for method in METHODS {
        let wanted = Wanted {
            version: "12",
            bot_power: 150,
            creators: 1,
            ..Wanted::default()
        };
        let community = Community::make(synapse, &wanted).await;
        let mut expected = vec![
            community.members[0].user_id.clone(),
            community.members[1].user_id.clone(),
            community.creators[0].user_id.clone(),
            community.moderator.user_id.clone(),
        ];
        let config = format!("[upgrade]\nadditional_creators = [\"{}\"]\n", expected[0]);
        let options = format!("12 --method {method} --creator {}", expected[1]);
        let mut scene = Scene::around(community, synapse, &config).await;
        let room = scene.community.room.clone();
        let (plan, new) = upgrade(&mut scene, &room, &options).await;
        let create = must_read(&scene, &new, "m.room.create", "").await;
        let mut creators: Vec<String> =
            serde_json::from_value(create["additional_creators"].clone()).expect("a list");
        creators.sort();
        expected.sort();
        assert_eq!(creators, expected, "{method}");
        for creator in &expected {
            assert!(plan.contains(creator), "{method}: {plan}");
        }
        scene.community.assert_moved("12").await;
    }
}

/// What becomes of each join rule is written down in `Community::checks`.
#[tokio::test]
async fn members_of_the_old_room_get_in_whatever_the_rule() {
    for method in METHODS {
        for entry in [Entry::Invite, Entry::Knock, Entry::Restricted] {
            let wanted = Wanted {
                entry,
                listing: Listing::Unlisted,
                ..Wanted::default()
            };
            let mut scene = Scene::with(&wanted, "").await;
            let room = scene.community.room.clone();
            upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
            let new = scene.community.assert_moved("12").await;
            scene.community.members[0].join(&new).await;
        }
    }
}

/// Version 8 has no `knock_restricted`: who could only knock gets no way in without being asked.
#[tokio::test]
async fn a_rule_that_the_version_lacks_lets_nobody_else_in() {
    for method in METHODS {
        let wanted = Wanted {
            entry: Entry::Knock,
            listing: Listing::Unlisted,
            ..Wanted::default()
        };
        let mut scene = Scene::with(&wanted, "").await;
        let room = scene.community.room.clone();
        let (_, new) = upgrade(&mut scene, &room, &format!("8 --method {method}")).await;
        let rules = must_read(&scene, &new, "m.room.join_rules", "").await;
        assert_eq!(rules, json!({"join_rule": "knock"}), "{method}");
        invited(&scene, &new, method).await;
    }
}

#[tokio::test]
async fn a_kept_rule_means_invitations() {
    for method in METHODS {
        let mut scene = Scene::with(&Wanted::private(), "").await;
        let room = scene.community.room.clone();
        let options = format!("12 --method {method} --join-rule keep");
        let (plan, new) = upgrade(&mut scene, &room, &options).await;
        assert!(plan.contains("I invite 4 others"), "{method}: {plan}");
        let rules = must_read(&scene, &new, "m.room.join_rules", "").await;
        assert_eq!(rules, json!({"join_rule": "invite"}), "{method}");
        invited(&scene, &new, method).await;
    }
}

/// All members are invited, and can come.
async fn invited(scene: &Scene, new: &str, method: &str) {
    let community = &scene.community;
    for user in community.members.iter().chain([&community.moderator]) {
        let member = must_read(scene, new, "m.room.member", &user.user_id).await;
        assert_eq!(member["membership"], "invite", "{method}: {}", user.user_id);
    }
    community.members[0].join(new).await;
}

#[tokio::test]
async fn a_room_that_was_upgraded_is_named_by_its_new_id() {
    for method in METHODS {
        let wanted = Wanted {
            entry: Entry::Restricted,
            listing: Listing::Unlisted,
            ..Wanted::default()
        };
        let mut scene = Scene::with(&wanted, "").await;
        let (moderator, room) = (&scene.community.moderator, scene.community.room.clone());
        let old_space = scene.community.space.clone();
        let space = moderator.upgrade(&old_space, "11").await;
        // The bot offers to finish that one, which means that it has heard of it.
        scene.hear(&old_space).await;
        let (_, new) = upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        let member_of = |room: &str| json!({"type": "m.room_membership", "room_id": room});
        let rules = must_read(&scene, &new, "m.room.join_rules", "").await;
        let allow = json!([member_of(&space), member_of(&room)]);
        assert_eq!(rules["allow"], allow, "{method}: {rules}");
    }
}

/// State that has no place in the new room, with the words of the plan; empty: not worth a word.
fn of_the_old_room(member: &str) -> Vec<(&'static str, String, Value, &'static str)> {
    let some = || json!({"since": 1});
    let bridge = "a bridge's own record";
    let call = "a call or shared location";
    vec![
        ("m.bridge", "irc://x".into(), some(), bridge),
        ("uk.half-shot.bridge", "irc://x".into(), some(), bridge),
        ("m.call.member", "device".into(), some(), call),
        ("org.matrix.msc3401.call", "id".into(), some(), call),
        (
            "m.room.third_party_invite",
            "token".into(),
            json!({"display_name": "a@example.org", "key_validity_url": "https://x", "public_key": "x"}),
            "an invitation by e-mail",
        ),
        (
            "org.example.large",
            String::new(),
            json!({"text": "x".repeat(OVERSIZED)}),
            "it is too large",
        ),
        (
            "org.example.seat",
            format!("_{member}_DEVICE"),
            some(),
            "only that person can set",
        ),
        (
            "m.room.aliases",
            "x.example".into(),
            json!({"aliases": []}),
            "",
        ),
    ]
}

#[tokio::test]
async fn what_belongs_to_the_old_room_stays_and_is_named() {
    for method in METHODS {
        let mut scene = Scene::new().await;
        let community = &scene.community;
        let (moderator, room) = (community.moderator.clone(), community.room.clone());
        let member = community.members[0].clone();
        change_levels(community, |levels| {
            levels["events"]["org.example.mine"] = 0.into()
        })
        .await;
        let own = json!({"colour": "green"});
        member
            .put_state(&room, "org.example.mine", &member.user_id, own)
            .await;
        let left = of_the_old_room(&member.user_id);
        for (kind, key, content, _) in &left {
            moderator.put_state(&room, kind, key, content.clone()).await;
        }
        moderator
            .put_state(
                &room,
                "m.policy.rule.server",
                "rule-2",
                json!({"entity": "*.example.net", "recommendation": "m.ban", "reason": "spam"}),
            )
            .await;

        let (plan, new) = upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        scene.community.assert_moved("12").await;
        for (kind, key, _, why) in &left {
            assert_eq!(
                read(&scene, &new, kind, key).await,
                None,
                "{method}: {kind}"
            );
            if !why.is_empty() {
                let line = plan
                    .lines()
                    .find(|line| line.contains(&format!("`{kind}`")));
                assert!(
                    line.is_some_and(|line| line.contains(why)),
                    "{kind}: {plan}"
                );
            }
        }
        for (kind, key) in [
            ("org.example.mine", member.user_id.as_str()),
            ("m.room.member", member.user_id.as_str()),
            ("m.room.tombstone", ""),
        ] {
            assert_eq!(
                read(&scene, &new, kind, key).await,
                None,
                "{method}: {kind}"
            );
        }
        // Who made a rule, when and by which event (MSC4321).
        for (kind, key) in [
            ("m.policy.rule.user", "rule-1"),
            ("m.policy.rule.server", "rule-2"),
        ] {
            let events = scene.community.bot.state(&room).await;
            let original = events
                .iter()
                .find(|event| event["type"] == kind && event["state_key"] == key)
                .expect("the rule");
            let mut wanted = original["content"].clone();
            for (field, of) in [
                ("sender", "sender"),
                ("timestamp", "origin_server_ts"),
                ("event_id", "event_id"),
            ] {
                wanted[format!("org.matrix.msc4321.original_{field}")] = original[of].clone();
            }
            let rule = must_read(&scene, &new, kind, key).await;
            assert_eq!(rule, wanted, "{method}");
        }
    }
}

/// A room with little in it, made by hand; the bot is in it.
async fn bare(scene: &Scene, creation: Value, state: Value) -> String {
    let community = &scene.community;
    let room = community
        .moderator
        .create_room(json!({
            "preset": "public_chat",
            "name": "Bare",
            "room_version": "10",
            "creation_content": creation,
            "initial_state": state,
            "power_level_content_override": {
                "users": { &community.moderator.user_id: 100, &community.bot.user_id: 100 },
            },
        }))
        .await;
    community.bot.join(&room).await;
    room
}

#[tokio::test]
async fn guests_stay_out_where_nothing_let_them_in() {
    for method in METHODS {
        let mut scene = Scene::new().await;
        let room = bare(&scene, json!({}), json!([])).await;
        assert_eq!(read(&scene, &room, "m.room.guest_access", "").await, None);
        let (_, new) = upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        let guests = must_read(&scene, &new, "m.room.guest_access", "").await;
        assert_eq!(guests, json!({"guest_access": "forbidden"}), "{method}");
    }
}

/// What a room was created with cannot be added later.
#[tokio::test]
async fn what_a_room_was_created_with_is_kept_or_named() {
    for method in METHODS {
        let mut scene = Scene::new().await;
        let creation = json!({
            "m.federate": false,
            "type": "org.example.garden",
            "org.example.origin": {"by": "hand"},
        });
        let room = bare(&scene, creation, json!([])).await;
        let (plan, new) = upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        let create = must_read(&scene, &new, "m.room.create", "").await;
        assert_eq!(create["m.federate"], false, "{method}");
        assert_eq!(create["type"], "org.example.garden", "{method}");
        let origin = &create["org.example.origin"];
        let is_named = plan.contains("`org.example.origin`");
        match method {
            "server" => assert!(origin.is_null() && is_named, "{create} {plan}"),
            _ => assert!(
                *origin == json!({"by": "hand"}) && !is_named,
                "{create} {plan}"
            ),
        }
    }
}

/// Posted again in the old order, with who wrote it and where; a picture is the same file.
#[tokio::test]
async fn pins_are_said_again() {
    for method in METHODS {
        let wanted = Wanted {
            pins: 4,
            ..Wanted::default()
        };
        let mut scene = Scene::with(&wanted, "").await;
        let room = scene.community.room.clone();
        let (_, new) = upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        scene.community.assert_moved("12").await;
        let community = &scene.community;
        let pinned = must_read(&scene, &new, "m.room.pinned_events", "").await;
        let pinned = pinned["pinned"].as_array().expect("pins");
        assert_eq!(pinned.len(), community.pins.len(), "{method}");
        for (number, (copy, original)) in pinned.iter().zip(&community.pins).enumerate() {
            let copy = copy.as_str().expect("an id");
            let copy = community.bot.event(&new, copy).await.expect("a message");
            let text = user::text(&copy);
            assert!(
                text.contains(&community.moderator.user_id),
                "{method}: {text}"
            );
            let link = format!("https://matrix.to/#/{room}/{original}");
            let plain = percent_decoded(text);
            assert!(plain.contains(&link), "{method}: {link} in {plain}");
            if number + 1 < community.pins.len() {
                let words = format!("Rule {}: water your plants", number + 1);
                assert!(text.contains(&words), "{method}: {text}");
            } else {
                let content = &copy["content"];
                assert_eq!(content["msgtype"], "m.image", "{method}");
                assert_eq!(content["url"].as_str(), community.image.as_deref());
            }
        }
    }
}

fn percent_decoded(text: &str) -> String {
    text.replace("%21", "!")
        .replace("%3A", ":")
        .replace("%24", "$")
}

/// A space that is in a space: above it, below it, and beside it everything names the new one.
#[tokio::test]
async fn a_space_is_moved_among_its_neighbours() {
    for method in METHODS {
        let wanted = Wanted {
            nested: Presence::Present,
            ..Wanted::default()
        };
        let mut scene = Scene::with(&wanted, "").await;
        let nested = scene
            .community
            .nested
            .clone()
            .expect("a space in the space");
        let child = must_read(&scene, &nested.space, "m.space.child", &nested.room).await;
        let parent = must_read(&scene, &nested.room, "m.space.parent", &nested.space).await;
        let (_, new) = upgrade(&mut scene, &nested.space, &format!("12 --method {method}")).await;
        let top = scene.community.space.clone();

        let create = must_read(&scene, &new, "m.room.create", "").await;
        assert_eq!(create["type"], "m.space", "{method}");
        let kept = must_read(&scene, &new, "m.space.child", &nested.room).await;
        assert_eq!(kept, child, "{method}");
        let named = must_read(&scene, &new, "m.space.parent", &top).await;
        assert_eq!(named["canonical"], true, "{method}");

        let above = must_read(&scene, &top, "m.space.child", &new).await;
        assert_eq!(above["order"], "b1", "{method}");
        assert_eq!(above["suggested"], true, "{method}");
        assert_eq!(above["via"], child["via"], "{method}");
        let gone = must_read(&scene, &top, "m.space.child", &nested.space).await;
        assert_eq!(gone, json!({}), "{method}");

        let below = must_read(&scene, &nested.room, "m.space.parent", &new).await;
        assert_eq!(below, parent, "{method}");
        let gone = must_read(&scene, &nested.room, "m.space.parent", &nested.space).await;
        assert_eq!(gone, json!({}), "{method}");
        let rules = must_read(&scene, &nested.room, "m.room.join_rules", "").await;
        let allow = json!([{"type": "m.room_membership", "room_id": new}]);
        assert_eq!(rules["allow"], allow, "{method}");
    }
}

/// A room that only lets in members of the old one, found without being asked for.
#[tokio::test]
async fn a_door_to_another_room_stays_open() {
    for method in METHODS {
        let wanted = Wanted {
            guarded: Presence::Present,
            ..Wanted::default()
        };
        let mut scene = Scene::with(&wanted, "").await;
        let room = scene.community.room.clone();
        upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        let new = scene.community.assert_moved("12").await;
        let synapse = Synapse::shared().await;
        let newcomer = synapse.register("newcomer").await;
        let guarded = scene.community.guarded.clone().expect("a guarded room");
        assert!(join(&newcomer, &guarded).await.is_err(), "{method}");
        newcomer.join(&new).await;
        assert!(join(&newcomer, &guarded).await.is_ok(), "{method}");
    }
}

async fn join(user: &User, room: &str) -> Result<Value, roomlift_testbed::ApiError> {
    user.call("POST", &format!("join/{}", seg(room)), Some(json!({})))
        .await
}

/// Encrypted before, encrypted after; and what the bot says there is not said in the clear.
#[tokio::test]
async fn an_encrypted_room_stays_so() {
    for method in METHODS {
        let wanted = Wanted {
            pins: 2,
            ..Wanted::default()
        };
        let community = Community::make(Synapse::shared().await, &wanted).await;
        let (moderator, room) = (&community.moderator, community.room.clone());
        let encryption = json!({"algorithm": "m.megolm.v1.aes-sha2", "rotation_period_msgs": 50});
        moderator
            .put_state(&room, "m.room.encryption", "", encryption.clone())
            .await;
        let mut scene = Scene::around(community, Synapse::shared().await, "").await;
        let (_, new) = upgrade(&mut scene, &room, &format!("12 --method {method}")).await;
        let after = must_read(&scene, &new, "m.room.encryption", "").await;
        assert_eq!(after, encryption, "{method}");

        let bot = scene.community.bot.user_id.clone();
        for (room, said) in [(&room, 1), (&new, 2)] {
            let mut kinds: Vec<String> = Vec::new();
            eventually("what the bot says", NEWS, async || {
                let events = scene.community.bot.messages(room, 100).await;
                let by_bot = events.iter().filter(|event| {
                    event["sender"] == bot.as_str() && event.get("state_key").is_none()
                });
                kinds = by_bot.map(|event| event["type"].to_string()).collect();
                (kinds.len() >= said).then_some(())
            })
            .await;
            assert_eq!(kinds, vec!["\"m.room.encrypted\""; said], "{method}");
        }
        // The newest pin of the old room is the link, which only members can read.
        let pins = must_read(&scene, &room, "m.room.pinned_events", "").await;
        let first = pins["pinned"][0].as_str().expect("a pin");
        let notice = scene.community.bot.event(&room, first).await;
        assert_eq!(
            notice.expect("the notice")["sender"],
            bot.as_str(),
            "{method}"
        );
    }
}
