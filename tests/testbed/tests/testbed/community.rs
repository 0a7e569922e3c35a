//! Communities with all there can be in them, and what Synapse's own upgrade makes of that.

use std::time::Duration;

use roomlift_testbed::community::settings;
use roomlift_testbed::{
    Community, Entry, Federation, Listing, Presence, Synapse, Wanted, eventually, seg,
};
use serde_json::{Value, json};

/// Enough for anything two processes of this machine do with each other at once.
const SOON: Duration = Duration::from_secs(20);

/// The room's state, as its moderator sees it.
async fn read(community: &Community, room: &str, kind: &str, key: &str) -> Value {
    let content = community.moderator.state_event(room, kind, key).await;
    content.unwrap_or_default()
}

#[tokio::test]
async fn nothing_is_there_unless_wanted() {
    let synapse = Synapse::shared().await;
    let community = Community::make(synapse, &Wanted::default()).await;
    let room = community.room.as_str();
    assert_eq!(community.bot.joined_rooms().await.len(), 3);
    assert!(community.pins.is_empty() && community.creators.is_empty());
    assert!(community.guarded.is_none() && community.nested.is_none());
    assert!(community.remote.is_none() && community.image.is_none());
    assert_eq!(
        read(&community, room, "m.room.pinned_events", "").await,
        json!(null)
    );
    let nothing = json!({ "actions": null, "tags": {} });
    assert_eq!(settings(&community.members[0], room).await, nothing);
}

#[tokio::test]
async fn people_get_in_as_wanted() {
    let synapse = Synapse::shared().await;
    for (entry, rule, code) in [
        (Entry::Public, "public", ""),
        (Entry::Invite, "invite", "M_FORBIDDEN"),
        (Entry::Knock, "knock", "M_FORBIDDEN"),
        (Entry::Restricted, "restricted", "M_FORBIDDEN"),
    ] {
        let wanted = Wanted {
            entry,
            members: 1,
            ..Wanted::default()
        };
        let community = Community::make(synapse, &wanted).await;
        let room = community.room.as_str();
        let rules = read(&community, room, "m.room.join_rules", "").await;
        assert_eq!(rules["join_rule"], rule);
        assert!(community.moderator.is_listed(room).await);
        for user in [&community.members[0], &community.bot] {
            assert!(user.joined_rooms().await.contains(&community.room));
        }
        let stranger = synapse.register("stranger").await;
        let join = format!("join/{}", seg(room));
        let joined = stranger.call("POST", &join, Some(json!({}))).await;
        let refusal = joined.map_err(|e| e.code().to_owned()).err();
        assert_eq!(refusal.unwrap_or_default(), code, "{rule}");
        if entry == Entry::Restricted {
            stranger.join(&community.space).await;
            stranger.join(room).await;
        }
    }
    let private = Wanted::private();
    assert_eq!(
        (private.entry, private.listing),
        (Entry::Invite, Listing::Unlisted)
    );
    let community = Community::make(synapse, &private).await;
    assert!(!community.moderator.is_listed(&community.room).await);
}

#[tokio::test]
async fn a_room_has_pins_neighbours_and_settings() {
    let synapse = Synapse::shared().await;
    let wanted = Wanted {
        pins: 3,
        guarded: Presence::Present,
        nested: Presence::Present,
        settings: Presence::Present,
        ..Wanted::default()
    };
    let community = Community::make(synapse, &wanted).await;
    let (moderator, bot) = (&community.moderator, &community.bot);
    let room = community.room.as_str();
    let pinned = read(&community, room, "m.room.pinned_events", "").await;
    assert_eq!(pinned, json!({ "pinned": community.pins }));
    assert_eq!(community.pins.len(), 3);
    let image = bot.event(room, &community.pins[2]).await.unwrap();
    let address = image["content"]["url"].as_str().unwrap();
    assert_eq!(community.image.as_deref(), Some(address));
    let media = address.strip_prefix("mxc://").unwrap();
    let path = format!("/_matrix/client/v1/media/download/{media}");
    bot.call("GET", &path, None).await.unwrap();

    let joined = bot.joined_rooms().await;
    let guarded = community.guarded.as_deref().unwrap();
    let nested = community.nested.as_ref().unwrap();
    for around in [guarded, &nested.space, &nested.room] {
        assert!(joined.iter().any(|room| room == around));
    }
    community.members[0].join(guarded).await;
    let stranger = synapse.register("stranger").await;
    let path = format!("join/{}", seg(guarded));
    stranger
        .call("POST", &path, Some(json!({})))
        .await
        .unwrap_err();
    let path = format!(
        "/_matrix/client/v1/rooms/{}/hierarchy",
        seg(&community.space)
    );
    let tree = moderator.call("GET", &path, None).await.unwrap();
    let rooms: Vec<_> = tree["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["room_id"])
        .collect();
    for inside in [&community.room, &nested.space, &nested.room] {
        assert!(rooms.contains(&&json!(inside)), "{inside} in {rooms:?}");
    }

    let before = settings(&community.members[0], room).await;
    let favourite = json!({ "m.favourite": { "order": 0.25 } });
    assert_eq!(before, json!({ "actions": [], "tags": favourite }));
    let new = moderator.upgrade(room, "11").await;
    assert_eq!(settings(&community.members[0], &new).await, before);
    assert_ne!(settings(&community.members[1], &new).await, before);
}

#[tokio::test]
async fn a_room_has_creators() {
    let synapse = Synapse::shared().await;
    let wanted = Wanted {
        version: "12",
        creators: 2,
        bot_power: 150,
        ..Wanted::default()
    };
    let community = Community::make(synapse, &wanted).await;
    let room = community.room.as_str();
    let create = read(&community, room, "m.room.create", "").await;
    let ids: Vec<_> = community
        .creators
        .iter()
        .map(|user| &user.user_id)
        .collect();
    assert_eq!(
        (ids.len(), &create["additional_creators"]),
        (2, &json!(ids))
    );
    let levels = read(&community, room, "m.room.power_levels", "").await;
    assert_eq!(levels["users"], json!({ &community.bot.user_id: 150 }));
    community.creators[1].upgrade(room, "12").await;
}

#[tokio::test]
async fn a_room_has_members_on_two_servers() {
    let Federation { a, b } = Federation::pair().await;
    for entry in [
        Entry::Public,
        Entry::Invite,
        Entry::Knock,
        Entry::Restricted,
    ] {
        let wanted = Wanted {
            entry,
            members: 1,
            settings: Presence::Present,
            ..Wanted::default()
        };
        let community = Community::make_federated(a, b, &wanted).await;
        let (moderator, room) = (&community.moderator, community.room.as_str());
        let remote = community.remote.as_ref().unwrap();
        assert_eq!(remote.members.len(), 2);
        for member in &remote.members {
            assert!(member.user_id.ends_with(&b.server_name()));
            let seen = read(&community, room, "m.room.member", &member.user_id).await;
            assert_eq!(seen["membership"], "join");
        }
        assert!(remote.alias.ends_with(&b.server_name()));
        let leads_to = moderator.resolve_alias(&remote.alias).await;
        assert_eq!(leads_to.as_deref(), Some(room));
        let shown = read(&community, room, "m.room.canonical_alias", "").await;
        assert_eq!(shown["alt_aliases"][1], remote.alias.as_str());

        if entry == Entry::Public {
            let member = &remote.members[0];
            let before = settings(member, room).await;
            assert_eq!(before["actions"], json!([]));
            let new = moderator.upgrade(room, "11").await;
            let told = async || member.state_event(room, "m.room.tombstone", "").await;
            eventually("the tombstone on the other server", SOON, told).await;
            let path = format!("join/{}?server_name={}", seg(&new), seg(&a.server_name()));
            member.call("POST", &path, Some(json!({}))).await.unwrap();
            let moved = async || (settings(member, &new).await == before).then_some(());
            eventually("the settings to follow", SOON, moved).await;
        }
    }
}
