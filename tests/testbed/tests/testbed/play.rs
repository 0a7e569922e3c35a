//! What the played servers do on `/upgrade`, and what they leave undone.

use roomlift_testbed::play::{self, Refusal};
use roomlift_testbed::user::NO_ANSWER;
use roomlift_testbed::{ApiError, Community, Fault, Kind, Proxy, Rule, Synapse, User, Wanted, seg};
use serde_json::{Value, json};

/// A community, and a proxy in front of its server.
async fn scene(version: &'static str) -> (Community, Proxy) {
    let synapse = Synapse::shared().await;
    let wanted = Wanted {
        version,
        members: 2,
        bans: 1,
        ..Wanted::default()
    };
    let community = Community::make(synapse, &wanted).await;
    (community, Proxy::start(&synapse.base_url()))
}

/// `/upgrade` through the proxy.
async fn upgrade(
    proxy: &Proxy,
    user: &User,
    room: &str,
    request: Value,
) -> Result<String, ApiError> {
    let path = format!("rooms/{}/upgrade", seg(room));
    let via = user.via(&proxy.base_url());
    let answer = via.call("POST", &path, Some(request)).await?;
    Ok(answer["replacement_room"]
        .as_str()
        .expect("the new room")
        .to_owned())
}

/// The rooms the user is in that name that one as their predecessor.
async fn successors(user: &User, old: &str) -> Vec<String> {
    let mut found = Vec::new();
    for room in user.joined_rooms().await {
        let create = user
            .state_event(&room, "m.room.create", "")
            .await
            .expect("a create event");
        if create["predecessor"]["room_id"] == old {
            found.push(room);
        }
    }
    found
}

/// What no played server does and Synapse does: addresses, the directory, bans.
async fn assert_left_behind(community: &Community, new: &str) {
    let moderator = &community.moderator;
    for alias in [&community.alias, &community.second_alias] {
        let leads_to = moderator.resolve_alias(alias).await;
        assert_eq!(leads_to.as_ref(), Some(&community.room));
    }
    let shown = moderator
        .state_event(new, "m.room.canonical_alias", "")
        .await;
    assert_eq!(shown, None);
    assert!(moderator.is_listed(&community.room).await);
    assert!(!moderator.is_listed(new).await);
    for user in &community.banned {
        let member = moderator
            .state_event(new, "m.room.member", &user.user_id)
            .await;
        assert_eq!(member, None);
    }
    let tombstone = moderator
        .state_event(&community.room, "m.room.tombstone", "")
        .await
        .expect("a tombstone");
    assert_eq!(tombstone["replacement_room"], new);
}

#[tokio::test]
async fn spec_only_makes_a_room_and_a_tombstone() {
    let (community, proxy) = scene("10").await;
    play::spec_only(&proxy);
    let (moderator, old) = (&community.moderator, community.room.as_str());
    let refused = upgrade(
        &proxy,
        &community.members[0],
        old,
        json!({ "new_version": "11" }),
    );
    assert_eq!(refused.await.unwrap_err().code(), "M_FORBIDDEN");
    assert_eq!(successors(&community.members[0], old).await.len(), 0);

    let new = upgrade(&proxy, moderator, old, json!({ "new_version": "11" }))
        .await
        .unwrap();
    assert_left_behind(&community, &new).await;
    let create = moderator
        .state_event(&new, "m.room.create", "")
        .await
        .unwrap();
    assert_eq!(
        (&create["room_version"], &create["type"]),
        (&json!("11"), &json!(null))
    );
    let predecessor = &create["predecessor"];
    assert_eq!(predecessor["room_id"], old);
    assert!(predecessor["event_id"].is_string());
    for kind in ["m.room.name", "m.room.topic", "m.room.server_acl"] {
        assert_eq!(moderator.state_event(&new, kind, "").await, None, "{kind}");
    }
    let join_rules = moderator
        .state_event(&new, "m.room.join_rules", "")
        .await
        .unwrap();
    assert_eq!(join_rules["join_rule"], "invite");
    let levels = moderator
        .state_event(&new, "m.room.power_levels", "")
        .await
        .unwrap();
    assert_eq!(levels["users"], json!({ &moderator.user_id: 100 }));
    // The old room stays open.
    community.members[0].send_text(old, "still here").await;
    // Only the call itself went through the proxy.
    assert_eq!(proxy.log_of(&Kind::CreateRoom).len(), 0);

    let again = upgrade(&proxy, moderator, old, json!({ "new_version": "11" }))
        .await
        .unwrap();
    assert_ne!(again, new);
}

#[tokio::test]
async fn spec_only_keeps_the_type_and_takes_creators() {
    let (community, proxy) = scene("10").await;
    play::spec_only(&proxy);
    let (moderator, space) = (&community.moderator, community.space.as_str());
    let request = json!({
        "new_version": "12",
        "additional_creators": [community.bot.user_id],
    });
    let new = upgrade(&proxy, moderator, space, request).await.unwrap();
    let create = moderator
        .state_event(&new, "m.room.create", "")
        .await
        .unwrap();
    assert_eq!(create["type"], "m.space");
    assert_eq!(
        create["additional_creators"],
        json!([community.bot.user_id])
    );
    assert_eq!(create["predecessor"], json!({ "room_id": space }));
    let child = moderator
        .state_event(&new, "m.space.child", &community.room)
        .await;
    assert_eq!(child, None);
    // A creator needs no listed level.
    let request = json!({ "new_version": "11" });
    upgrade(&proxy, moderator, &new, request).await.unwrap();
}

#[tokio::test]
async fn a_played_answer_is_broken_like_any() {
    let (community, proxy) = scene("10").await;
    play::spec_only(&proxy);
    let (moderator, old) = (&community.moderator, community.room.as_str());
    let fired = proxy.add(Rule::on(Kind::Upgrade, Fault::LoseAnswer));
    let lost = upgrade(&proxy, moderator, old, json!({ "new_version": "11" })).await;
    assert_eq!(lost.unwrap_err().status, NO_ANSWER);
    assert_eq!(fired.count(), 1);
    let [new] = &successors(moderator, old).await[..] else {
        panic!("not one new room");
    };
    assert_left_behind(&community, new).await;
    assert_eq!(proxy.log_of(&Kind::Upgrade)[0].status, Some(200));

    let unknown = upgrade(&proxy, moderator, old, json!({ "new_version": "no such" })).await;
    assert_eq!(unknown.unwrap_err().code(), "M_UNSUPPORTED_ROOM_VERSION");
}

#[tokio::test]
async fn palpo_silences_the_new_room() {
    let (community, proxy) = scene("11").await;
    play::palpo(&proxy);
    let (moderator, old) = (&community.moderator, community.room.as_str());
    let new = upgrade(&proxy, moderator, old, json!({ "new_version": "12" }))
        .await
        .unwrap();
    assert_left_behind(&community, &new).await;
    for kind in [
        "m.room.name",
        "m.room.topic",
        "m.room.server_acl",
        "m.room.join_rules",
    ] {
        let (before, after) = (
            moderator.state_event(old, kind, "").await,
            moderator.state_event(&new, kind, "").await,
        );
        assert!(before.is_some() && before == after, "{kind}: {after:?}");
    }
    let custom = moderator
        .state_event(&new, "org.example.settings", "")
        .await;
    assert_eq!(custom, None);
    let create = moderator
        .state_event(&new, "m.room.create", "")
        .await
        .unwrap();
    assert_eq!(create["predecessor"], json!({ "room_id": old }));

    for room in [old, &new] {
        let levels = moderator
            .state_event(room, "m.room.power_levels", "")
            .await
            .unwrap();
        assert_eq!(
            (&levels["events_default"], &levels["invite"]),
            (&json!(50), &json!(50))
        );
        let creator = levels["users"].get(&moderator.user_id);
        assert_eq!(creator.is_none(), room == new, "{levels}");
        assert_eq!(levels["users"][&community.bot.user_id], 100);
    }
    let member = &community.members[0];
    member.join(&new).await;
    let path = format!("rooms/{}/send/m.room.message/t", seg(&new));
    let message = json!({ "msgtype": "m.text", "body": "hello" });
    let silenced = member.call("PUT", &path, Some(message)).await.unwrap_err();
    assert_eq!(silenced.code(), "M_FORBIDDEN");
}

#[tokio::test]
async fn palpo_leaves_a_room_where_it_refuses() {
    let (community, proxy) = scene("10").await;
    play::palpo(&proxy);
    let (member, old) = (&community.members[0], community.room.as_str());
    let refused = upgrade(&proxy, member, old, json!({ "new_version": "11" })).await;
    assert_eq!(refused.unwrap_err().code(), "M_FORBIDDEN");
    assert_eq!(successors(member, old).await.len(), 1);
    assert_eq!(community.replacement().await, None);
}

#[tokio::test]
async fn a_server_without_upgrade_does_nothing() {
    for (refusal, status, code) in [
        (Refusal::NotImplemented, 501, "M_UNSUPPORTED"),
        (Refusal::Unrecognized, 404, "M_UNRECOGNIZED"),
    ] {
        let (community, proxy) = scene("10").await;
        play::without_upgrade(&proxy, refusal);
        let (moderator, old) = (&community.moderator, community.room.as_str());
        let error = upgrade(&proxy, moderator, old, json!({ "new_version": "11" }))
            .await
            .unwrap_err();
        assert_eq!((error.status, error.code()), (status, code));
        assert_eq!(community.replacement().await, None);
        assert_eq!(successors(moderator, old).await.len(), 0);
    }
}

#[tokio::test]
async fn other_software_hides_synapse() {
    let (community, proxy) = scene("10").await;
    let user = community.moderator.via(&proxy.base_url());
    let version = async || {
        let path = "/_matrix/federation/v1/version";
        user.call("GET", path, None).await.unwrap()["server"]["name"].clone()
    };
    let header = async || {
        let url = format!("{}/_matrix/client/versions", proxy.base_url());
        let response = reqwest::get(url).await.unwrap();
        response.headers().contains_key("server")
    };
    let admin = "/_synapse/admin/v1/server_version";
    assert_eq!((version().await, header().await), (json!("Synapse"), true));
    let ours = user.call("GET", admin, None).await;
    assert_ne!(ours.map_err(|e| e.status).err(), Some(404));

    play::other_software(&proxy, "Dendrite");
    assert_eq!(
        (version().await, header().await),
        (json!("Dendrite"), false)
    );
    let error = user.call("GET", admin, None).await.unwrap_err();
    assert_eq!((error.status, error.code()), (404, "M_UNRECOGNIZED"));
}
