use serde_json::json;

use super::*;

/// A room for tests: id, then (type, state key, sender, content).
pub(crate) fn room(id: &str, events: &[(&str, &str, &str, Value)]) -> RoomState {
    RoomState::new(
        id.parse().unwrap(),
        events.iter().map(|(kind, key, sender, value)| StateEvent {
            kind: (*kind).to_owned(),
            state_key: (*key).to_owned(),
            sender: sender.parse().unwrap(),
            content: content(value.clone()),
            event_id: None,
            origin_server_ts: 0,
            replaces: None,
        }),
    )
}

#[test]
fn a_name_is_text_that_is_not_blank() {
    for (content, expected) in [
        (json!({"name": "Garden"}), Some("Garden")),
        (json!({"name": "  "}), None),
        (json!({"name": 7}), None),
        (json!({}), None),
    ] {
        let room = room("!r:x", &[("m.room.name", "", "@a:x", content.clone())]);
        assert_eq!(room.name().as_deref(), expected, "{content}");
    }
    assert_eq!(room("!r:x", &[]).name(), None);
}

#[test]
fn pins_come_in_their_order_without_junk() {
    let pinned = json!({"pinned": ["$b", 7, "$a", "no event id"]});
    let room = room("!r:x", &[("m.room.pinned_events", "", "@a:x", pinned)]);
    assert_eq!(room.pins(), ["$b", "$a"]);
}

#[test]
fn links_name_exactly_what_they_should() {
    let via: [OwnedServerName; 2] = ["a.org".try_into().unwrap(), "b:80".try_into().unwrap()];
    for (ids, via, link) in [
        (vec!["!r:x"], &via[..0], "!r:x"),
        (vec!["!r:x"], &via[..], "!r:x?via=a.org&via=b:80"),
        (
            vec!["!r:x", "$a/b+c"],
            &via[..1],
            "!r:x/$a%2Fb%2Bc?via=a.org",
        ),
        (vec!["@a%41\\b:x"], &via[..0], "@a%2541%5Cb:x"),
    ] {
        let expected = format!("https://matrix.to/#/{link}");
        assert_eq!(link_to(&ids, via), expected);
    }
}

#[test]
fn additional_creators_count_from_version_12_on() {
    for (version, expected) in [("11", vec!["@a:x"]), ("12", vec!["@a:x", "@b:y"])] {
        let room = room(
            "!r:x",
            &[(
                "m.room.create",
                "",
                "@a:x",
                json!({"room_version": version, "additional_creators": ["@b:y", 7, "nobody"]}),
            )],
        );
        let creators: Vec<_> = room
            .create()
            .creators
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(creators, expected, "version {version}");
    }
}

#[test]
fn via_is_own_server_then_the_largest() {
    let joined = json!({"membership": "join"});
    let members = [
        "@a:small", "@b:big", "@c:big", "@d:mid", "@e:mid", "@f:own", "@g:big",
    ];
    let events: Vec<_> = members
        .iter()
        .map(|m| ("m.room.member", *m, *m, joined.clone()))
        .collect();
    let via = room("!r:x", &events).via(<&ServerName>::try_from("own").unwrap());
    assert_eq!(via, ["own", "big", "mid"]);
}

#[test]
fn a_tombstone_taken_back_is_none_and_one_without_target_names_no_room() {
    let of = |value| room("!r:x", &[("m.room.tombstone", "", "@a:x", value)]).tombstone();
    assert_eq!(of(json!({})), None);
    assert_eq!(
        of(json!({"replacement_room": ""})).unwrap().replacement,
        None
    );
    assert_eq!(
        of(json!({"replacement_room": "!n:x"}))
            .unwrap()
            .replacement
            .unwrap(),
        "!n:x"
    );
}

#[test]
fn stored_state_keeps_its_form() {
    let room = room("!r:x", &[("m.room.name", "", "@a:x", json!({"name": "R"}))]);
    let stored = serde_json::to_string(&room).unwrap();
    insta::assert_snapshot!(stored, @r#"{"room_id":"!r:x","events":[{"type":"m.room.name","state_key":"","sender":"@a:x","content":{"name":"R"},"origin_server_ts":0}]}"#);
    assert_eq!(serde_json::from_str::<RoomState>(&stored).unwrap(), room);
}

#[test]
fn closing_ends_with_the_levels_of_whoever_began_it() {
    for (sender, levels_at, closed_at) in [
        ("@a:x", 900, 1_000),
        ("@a:x", 28_000, 28_000),
        ("@a:x", 61_001, 1_000),
        ("@b:x", 28_000, 1_000),
    ] {
        let mut room = room(
            "!r:x",
            &[
                ("m.room.power_levels", "", sender, json!({})),
                ("m.room.tombstone", "", "@a:x", json!({})),
            ],
        );
        for event in room.events.values_mut() {
            event.origin_server_ts = match event.kind.as_str() {
                "m.room.tombstone" => 1_000,
                _ => levels_at,
            };
        }
        assert_eq!(room.closed_at(), closed_at, "{sender} {levels_at}");
    }
}
