//! Addresses, those that rooms show, and the directory.

use serde_json::json;

use super::{Stage, alike};

const SHOWN: &str = "m.room.canonical_alias";

async fn addresses(stage: &Stage<'_>) {
    let [host, member, stranger] = [
        stage.person("host").await,
        stage.person("member").await,
        stage.person("stranger").await,
    ];
    let public = json!({ "preset": "public_chat", "room_version": "10" });
    let room = host.create_room(public.clone()).await;
    let other = host.create_room(public).await;
    member.join(&room).await;
    let [one, two, three] = [stage.alias("one"), stage.alias("two"), stage.alias("three")];
    host.set_alias(&one, &room).await;
    host.set_alias(&one, &room).await;
    host.set_alias(&one, &other).await;
    member.set_alias(&two, &room).await;
    stranger.set_alias(&three, &room).await;
    stranger
        .set_alias(&stage.alias("nowhere"), "!nowhere:nowhere.invalid")
        .await;
    host.set_alias("#elsewhere:nowhere.invalid", &room).await;
    host.put(
        &room,
        SHOWN,
        "",
        json!({ "alias": one, "alt_aliases": [two] }),
    )
    .await;
    host.put(&other, SHOWN, "", json!({ "alias": one })).await;
    host.put(&other, SHOWN, "", json!({ "alt_aliases": [one] }))
        .await;
    host.put(&room, SHOWN, "", json!({ "alias": stage.alias("unmade") }))
        .await;
    host.put(&room, SHOWN, "", json!({ "alias": "no address" }))
        .await;
    member.put(&room, SHOWN, "", json!({ "alias": two })).await;
    stranger.delete_alias(&one).await;
    member.delete_alias(&one).await;
    host.delete_alias(&two).await;
    host.put(
        &room,
        SHOWN,
        "",
        json!({ "alias": one, "alt_aliases": [], "org.example": 1 }),
    )
    .await;
    host.delete_alias(&one).await;
    host.delete_alias(&one).await;
    host.set_alias(&one, &other).await;
    member.set_alias(&two, &room).await;
    host.put(&room, SHOWN, "", json!({ "alias": two })).await;
    // By its maker, who may not change what the room shows.
    member.delete_alias(&two).await;
    stranger.resolve(&one).await;
    stranger.resolve(&two).await;
    stranger.join(&one).await;
}

async fn directory(stage: &Stage<'_>) {
    let [host, member, stranger] = [
        stage.person("host").await,
        stage.person("member").await,
        stage.person("stranger").await,
    ];
    for body in [
        json!({ "preset": "public_chat", "visibility": "public" }),
        json!({ "preset": "private_chat", "visibility": "private" }),
        json!({ "visibility": "public" }),
    ] {
        let room = host.create_room(body).await;
        member.join(&room).await;
        member.set_listed(&room, true).await;
        stranger.set_listed(&room, true).await;
        host.set_listed(&room, true).await;
        host.set_listed(&room, false).await;
        host.set_listed(&room, false).await;
    }
    host.set_listed("!nowhere:nowhere.invalid", true).await;
    host.ask(
        "GET",
        &["directory", "list", "room", "!nowhere:nowhere.invalid"],
        json!({}),
    )
    .await
    .ok();
}

#[tokio::test]
async fn addresses_are_alike() {
    alike("addresses", addresses).await;
}

#[tokio::test]
async fn listings_are_alike() {
    alike("directory", directory).await;
}
