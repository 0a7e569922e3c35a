//! The ways in which a room can be named in a command, as clients send them.

use roomlift_testbed::{seg, user};

use crate::scene::Scene;

#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_room_can_be_named_by_link_and_pill() {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    let (moderator, admin) = (community.moderator.clone(), community.admin_room.clone());
    let (room, alias) = (community.room.clone(), community.alias.clone());
    let creator = community.members[0].user_id.clone();
    let server = room.split_once(':').expect("a server").1.to_owned();
    let (bare_room, bare_alias) = (&room[1..], &alias[1..]);

    let links = [
        format!("https://matrix.to/#/{room}?via={server}"),
        format!(
            "https://matrix.to/#/{}?via={server}&via=gone.example",
            seg(&room)
        ),
        format!("https://matrix.to/#/{alias}"),
        format!("https://matrix.to/#/{}", seg(&alias)),
        format!("matrix:r/{bare_alias}"),
        format!("matrix:roomid/{bare_room}?via={server}"),
    ];
    let mut plans = 0;
    for link in &links {
        // Typed or pasted.
        scene.say(&format!("!upgrade plan {link} 12")).await;
        plans += 1;
        let plan = scene.hear(&format!("Plan #{plans}: ready")).await;
        assert!(user::text(&plan).contains(&room), "{link}");
        // A pill: the body has only the name.
        let html = format!(
            "!upgrade plan <a href=\"{}\">Gardening &amp; Tools</a> 12",
            link.replace('&', "&amp;")
        );
        moderator
            .send_html(&admin, "!upgrade plan Gardening & Tools 12", &html)
            .await;
        plans += 1;
        let plan = scene.hear(&format!("Plan #{plans}: ready")).await;
        assert!(user::text(&plan).contains(&room), "{html}");
    }

    // All the way, with a person as a pill as well.
    let html = format!(
        "<p>!upgrade <a href=\"https://matrix.to/#/{room}?via={server}\">Gardening</a> 12 \
         --creator <a href=\"https://matrix.to/#/{creator}\">Tom</a></p>"
    );
    moderator
        .send_html(&admin, "!upgrade Gardening 12 --creator Tom", &html)
        .await;
    plans += 1;
    let plan = scene.hear(&format!("Plan #{plans}: ready")).await;
    assert!(
        user::text(&plan).contains(&creator),
        "{}",
        user::text(&plan)
    );
    scene.say(&format!("!upgrade confirm {plans}")).await;
    scene.hear(&format!("Upgrade #{plans} is done")).await;
    let new = scene.community.assert_moved("12").await;
    // The address leads to the new room by now, and still means this upgrade, not the plans before it.
    for name in [&alias, &new, &room] {
        scene.say(&format!("!upgrade status {name}")).await;
        scene.hear(&format!("Upgrade #{plans} is done")).await;
    }
    let create = scene
        .community
        .bot
        .state_event(&new, "m.room.create", "")
        .await;
    let create = create.expect("a create event");
    assert_eq!(create["additional_creators"], serde_json::json!([creator]));
}
