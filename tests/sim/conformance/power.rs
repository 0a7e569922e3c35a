//! Power levels: what changes they allow, and to whom.

use serde_json::{Value, json};

use super::{Person, Stage, alike};

/// A room with three people in it: its creator, one at level 60, one at level 0.
async fn three<'a>(stage: &'a Stage<'a>, version: &str) -> (String, [Person<'a>; 3]) {
    let [top, middle, low] = [
        stage.person(&format!("top{version}")).await,
        stage.person(&format!("middle{version}")).await,
        stage.person(&format!("low{version}")).await,
    ];
    let room = top
        .create_room(json!({ "room_version": version, "preset": "public_chat" }))
        .await;
    middle.join(&room).await;
    low.join(&room).await;
    let levels = json!({ "users": users(version, &[(&top, 100), (&middle, 60)]) });
    top.put(&room, "m.room.power_levels", "", levels).await;
    (room, [top, middle, low])
}

/// The map of users. Creators are in no list.
fn users(version: &str, levels: &[(&Person<'_>, i64)]) -> Value {
    let listed = levels
        .iter()
        .filter(|(_, level)| version != "12" || *level != 100);
    listed
        .map(|(person, level)| (person.id.clone(), json!(level)))
        .collect()
}

async fn changes(stage: &Stage<'_>) {
    for version in ["9", "11", "12"] {
        let (room, [top, middle, low]) = three(stage, version).await;
        let kind = "m.room.power_levels";
        let usual = users(version, &[(&top, 100), (&middle, 60)]);
        let with = |change: Value| {
            let mut levels = json!({ "users": usual, "events": { kind: 50 } });
            for (key, value) in change.as_object().into_iter().flatten() {
                levels[key] = value.clone();
            }
            levels
        };
        top.put(&room, kind, "", with(json!({}))).await;
        for (by, change) in [
            (&middle, json!({ "ban": 60 })),
            (&middle, json!({ "ban": 61 })),
            (
                &middle,
                json!({ "events": { kind: 50, "org.example": 70 } }),
            ),
            (&middle, json!({ "users_default": 61 })),
            (
                &middle,
                json!({ "users": users(version, &[(&top, 100), (&middle, 60), (&low, 60)]) }),
            ),
            (
                &middle,
                json!({ "users": users(version, &[(&top, 100), (&middle, 60), (&low, 50)]) }),
            ),
            (
                &middle,
                json!({ "users": users(version, &[(&top, 100), (&middle, 60)]) }),
            ),
            (
                &middle,
                json!({ "users": users(version, &[(&top, 100), (&middle, 61)]) }),
            ),
            (
                &middle,
                json!({ "users": users(version, &[(&top, 90), (&middle, 60)]) }),
            ),
            (&low, json!({})),
            (
                &top,
                json!({ "users": users(version, &[(&top, 100), (&middle, 100)]) }),
            ),
            (&top, json!({ "users": { top.id.as_str(): 100 } })),
            (&top, json!({ "users": { top.id.as_str(): 20 } })),
            (&top, json!({ "ban": 50 })),
        ] {
            by.put(&room, kind, "", with(change)).await;
        }
    }
}

async fn odd_levels(stage: &Stage<'_>) {
    let top = stage.person("top").await;
    for version in ["9", "10", "12"] {
        let room = top.create_room(json!({ "room_version": version })).await;
        let own = users(version, &[(&top, 100)]);
        for odd in [
            json!({ "users": own, "ban": "50" }),
            json!({ "users": own, "events": { "org.example": "50" } }),
            json!({ "users": own, "ban": 50.5 }),
            json!({ "users": own, "ban": null }),
            json!({ "users": own, "users_default": true }),
            json!({ "users": [] }),
            json!({ "users": { "no user": 50 } }),
            json!({ "users": own, "org.example": { "any": ["thing"] } }),
            json!({}),
            json!({ "users": own }),
        ] {
            top.put(&room, "m.room.power_levels", "", odd).await;
        }
    }
}

async fn sending(stage: &Stage<'_>) {
    let (room, [top, middle, low]) = three(stage, "11").await;
    for (by, kind, key) in [
        (&low, "m.room.topic", ""),
        (&middle, "m.room.topic", ""),
        (&middle, "org.example", "@"),
        (&middle, "org.example", middle.id.as_str()),
        (&middle, "org.example", low.id.as_str()),
        (&top, "org.example", low.id.as_str()),
        (&top, "m.room.create", ""),
        (&top, "m.room.create", "again"),
        (&top, "m.room.tombstone", "key"),
    ] {
        by.put(&room, kind, key, json!({ "topic": "Beds" })).await;
    }
    top.put(
        &room,
        "org.example",
        "float",
        json!({ "deep": [{ "number": 1.5 }] }),
    )
    .await;
    top.put(
        &room,
        "org.example",
        "big",
        json!({ "number": 1_u64 << 60 }),
    )
    .await;
    let levels = json!({ "users": { top.id.as_str(): 100 }, "events_default": 10 });
    top.put(&room, "m.room.power_levels", "", levels).await;
    low.say(&room, "I cannot be heard").await;
    let stranger = stage.person("stranger").await;
    stranger.say(&room, "I am not in").await;
    stranger
        .put(&room, "m.room.topic", "", json!({ "topic": "Mine" }))
        .await;
    stranger.state(&room, "m.room.topic", "").await;
    low.state(&room, "m.room.name", "").await;
    let nowhere = "!nowhere:nowhere.invalid";
    top.put(nowhere, "m.room.topic", "", json!({ "topic": "Mine" }))
        .await;
    top.state(nowhere, "m.room.topic", "").await;
}

/// What holds where there are no power levels, or hardly any.
async fn without_levels(stage: &Stage<'_>) {
    for version in ["10", "12"] {
        let (room, [top, middle, low]) = three(stage, version).await;
        top.put(
            &room,
            "m.room.power_levels",
            "",
            json!({ "users": users(version, &[(&top, 100)]) }),
        )
        .await;
        low.put(&room, "m.room.topic", "", json!({ "topic": "Low" }))
            .await;
        low.invite(&room, &stage.person(&format!("guest{version}")).await)
            .await;
        middle.kick(&room, &low).await;
        top.kick(&room, &low).await;
    }
}

#[tokio::test]
async fn levels_change_alike() {
    alike("levels", changes).await;
}

#[tokio::test]
async fn odd_levels_are_taken_or_refused_alike() {
    alike("odd-levels", odd_levels).await;
}

#[tokio::test]
async fn who_may_send_what_is_alike() {
    alike("sending", sending).await;
}

#[tokio::test]
async fn levels_that_are_not_there_are_alike() {
    alike("no-levels", without_levels).await;
}
