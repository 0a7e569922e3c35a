//! Who gets in: join rules, other rooms that let members in, and spaces.

use roomlift_testbed::{ApiError, Entry, Listing, Presence, Synapse, User, Wanted, seg};
use serde_json::{Value, json};

use super::{METHODS, must_read, upgrade};
use crate::scene::Scene;

/// What becomes of each join rule is written down in `Community::checks`.
#[tokio::test]
#[ignore = "outer ring: takes minutes"]
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
#[ignore = "outer ring: logic that needs no real server"]
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
#[ignore = "outer ring: logic that needs no real server"]
async fn a_kept_rule_means_invitations() {
    for method in METHODS {
        let mut scene = Scene::with(&Wanted::private(), "").await;
        let room = scene.community.room.clone();
        let options = format!("12 --method {method} --join-rule keep");
        let (plan, new) = upgrade(&mut scene, &room, &options).await;
        assert!(plan.contains("I will invite 4 others"), "{method}: {plan}");
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
#[ignore = "outer ring: logic that needs no real server"]
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

/// A space that is in a space: above it, below it, and beside it everything names the new one.
async fn space_is_moved(method: &str) {
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

#[tokio::test]
async fn a_space_is_moved_among_its_neighbours() {
    space_is_moved("staged").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_space_is_moved_among_its_neighbours`"]
async fn a_space_is_moved_among_its_neighbours_by_the_other_method() {
    space_is_moved("server").await;
}

/// A room that only lets in members of the old one, found without being asked for.
async fn door_stays_open(method: &str) {
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

#[tokio::test]
async fn a_door_to_another_room_stays_open() {
    door_stays_open("server").await;
}

#[tokio::test]
#[ignore = "outer ring: a variant of `a_door_to_another_room_stays_open`"]
async fn a_door_to_another_room_stays_open_by_the_other_method() {
    door_stays_open("staged").await;
}

async fn join(user: &User, room: &str) -> Result<Value, ApiError> {
    user.call("POST", &format!("join/{}", seg(room)), Some(json!({})))
        .await
}
