//! What can be told without a homeserver: which events are for the bot, how failures are told
//! apart, what is read of state, what posts look like. The rest is tried on a real Synapse.

use jiff::Timestamp;
use matrix_sdk::HttpError;
use ruma::api::EndpointError as _;
use ruma::api::error::FromHttpResponseError;
use ruma::exports::http;
use ruma::{RoomId, UserId, room_id, user_id};
use serde_json::{Value, json};

use super::event::{ForUs, received, withdrawal};
use super::port::told::{as_last_edited, lenient};
use super::wire::{failed, found};
use crate::homeserver::{Bucket, HomeserverError};
use crate::model::TakenBack;
use crate::store::{Received, ReceivedKind, Withdrawal};

fn room() -> &'static RoomId {
    room_id!("!admin:example.org")
}

fn own() -> &'static UserId {
    user_id!("@roomlift:example.org")
}

fn read(event: &Value) -> Option<Received> {
    let for_us = ForUs {
        body: |body| body.starts_with("!upgrade"),
        addressed: |own, body, _, addressee| {
            let said = body.strip_prefix(own.as_str())?;
            Some(format!("!upgrade{said} {addressee:?}"))
        },
        reaction: |key| key == "✅",
    };
    received(event, room(), own(), for_us)
}

/// An event with some fields replaced; `null` removes one.
fn event(changes: &Value) -> Value {
    let mut event = json!({
        "event_id": "$event:example.org",
        "sender": "@alice:example.org",
        "type": "m.room.message",
        "origin_server_ts": 1_700_000_000_000_i64,
        "content": { "msgtype": "m.text", "body": "!upgrade help" },
    });
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            event.as_object_mut().unwrap().remove(key);
        } else {
            event[key] = value.clone();
        }
    }
    event
}

#[test]
fn a_command_is_received_as_it_is() {
    let html = json!({ "content": {
        "msgtype": "m.text", "body": "!upgrade a", "format": "org.matrix.custom.html",
        "formatted_body": "<b>!upgrade</b> a",
        "m.relates_to": { "m.in_reply_to": { "event_id": "$other" } },
    } });
    let received = read(&event(&html)).unwrap();
    assert_eq!(received.event_id, "$event:example.org");
    assert_eq!(received.room_id, room());
    assert_eq!(received.sender, "@alice:example.org");
    assert_eq!(received.sent_at.as_millisecond(), 1_700_000_000_000);
    let kind = ReceivedKind::Message {
        body: "!upgrade a".to_owned(),
        formatted_body: Some("<b>!upgrade</b> a".to_owned()),
        device: crate::model::Device::Unknown,
        thread: None,
    };
    assert_eq!(received.kind, kind);
}

#[test]
fn the_thread_and_whom_a_message_mentions_are_received() {
    let kind = |content: Value| {
        let mut content = content;
        content["msgtype"] = json!("m.text");
        let ReceivedKind::Message { body, thread, .. } =
            read(&event(&json!({ "content": content }))).unwrap().kind
        else {
            panic!("no message: {content}");
        };
        (body, thread.map(|root| root.to_string()))
    };
    let call = format!("{} help", own());
    let ours = json!({ "user_ids": [own()] });
    let in_thread = |falls_back: bool| {
        json!({
            "rel_type": "m.thread", "event_id": "$root", "is_falling_back": falls_back,
            "m.in_reply_to": { "event_id": "$other" },
        })
    };
    let command = json!({ "body": "!upgrade", "m.relates_to": in_thread(true) });
    assert_eq!(
        kind(command),
        ("!upgrade".to_owned(), Some("$root".to_owned()))
    );
    for (mentions, relation, expected) in [
        (ours.clone(), json!({}), "BotAlone"),
        (ours.clone(), in_thread(true), "BotAlone"),
        (ours.clone(), in_thread(false), "Other"),
        (
            ours,
            json!({ "m.in_reply_to": { "event_id": "$other" } }),
            "Other",
        ),
        (json!({ "user_ids": [own(), "@a:b"] }), json!({}), "Other"),
        (json!({ "user_ids": ["@a:b"] }), json!({}), "Other"),
        (json!({ "user_ids": own() }), json!({}), "Other"),
        (json!(null), json!(7), "Other"),
    ] {
        let content = json!({ "body": call, "m.mentions": mentions, "m.relates_to": relation });
        assert_eq!(
            kind(content.clone()).0,
            format!("!upgrade help {expected}"),
            "{content}"
        );
    }
}

#[test]
fn a_reaction_is_received() {
    let relation = json!({ "rel_type": "m.annotation", "event_id": "$plan", "key": "✅" });
    let reaction = json!({ "type": "m.reaction", "content": { "m.relates_to": relation } });
    let kind = ReceivedKind::Reaction {
        to: "$plan".parse().unwrap(),
        key: "✅".to_owned(),
    };
    assert_eq!(read(&event(&reaction)).unwrap().kind, kind);
}

#[test]
fn everything_else_is_left_alone() {
    let cases = [
        ("own message", json!({ "sender": own() })),
        (
            "own reaction",
            json!({ "sender": own(), "type": "m.reaction" }),
        ),
        (
            "another reaction",
            json!({ "type": "m.reaction", "content": { "m.relates_to": {
                "rel_type": "m.annotation", "event_id": "$plan", "key": "🎉"
            } } }),
        ),
        (
            "not for us",
            json!({ "content": { "msgtype": "m.text", "body": "hello" } }),
        ),
        (
            "notice",
            json!({ "content": { "msgtype": "m.notice", "body": "!upgrade a" } }),
        ),
        (
            "emote",
            json!({ "content": { "msgtype": "m.emote", "body": "!upgrade a" } }),
        ),
        (
            "edit",
            json!({ "content": {
                "msgtype": "m.text", "body": "!upgrade a",
                "m.relates_to": { "rel_type": "m.replace", "event_id": "$x" },
            } }),
        ),
        (
            "edit without relation",
            json!({ "content": { "msgtype": "m.text", "body": "!upgrade a", "m.new_content": {} } }),
        ),
        ("redacted", json!({ "content": {} })),
        (
            "redacted, content left",
            json!({ "unsigned": { "redacted_because": {} } }),
        ),
        ("state", json!({ "state_key": "" })),
        ("other type", json!({ "type": "m.room.encrypted" })),
        (
            "reaction without key",
            json!({ "type": "m.reaction", "content": { "m.relates_to": {
            "rel_type": "m.annotation", "event_id": "$x" } } }),
        ),
        (
            "reaction with a long key",
            json!({ "type": "m.reaction", "content": { "m.relates_to": {
            "rel_type": "m.annotation", "event_id": "$x", "key": "x".repeat(1000) } } }),
        ),
        (
            "reaction to nothing",
            json!({ "type": "m.reaction", "content": { "m.relates_to": {
            "rel_type": "m.annotation", "event_id": "x", "key": "✅" } } }),
        ),
        (
            "thread, not annotation",
            json!({ "type": "m.reaction", "content": { "m.relates_to": {
            "rel_type": "m.thread", "event_id": "$x", "key": "✅" } } }),
        ),
        ("no id", json!({ "event_id": null })),
        ("odd id", json!({ "event_id": "event" })),
        ("no sender", json!({ "sender": null })),
        ("odd sender", json!({ "sender": "alice" })),
        ("sender is a number", json!({ "sender": 1 })),
        ("no time", json!({ "origin_server_ts": null })),
        ("odd time", json!({ "origin_server_ts": u64::MAX })),
        ("impossible time", json!({ "origin_server_ts": i64::MAX })),
        ("fractional time", json!({ "origin_server_ts": 0.5 })),
        ("no content", json!({ "content": null })),
        ("content is a list", json!({ "content": ["m.text"] })),
        (
            "body is a number",
            json!({ "content": { "msgtype": "m.text", "body": 1 } }),
        ),
    ];
    for (case, changes) in cases {
        assert_eq!(read(&event(&changes)), None, "{case}");
    }
    for odd in [json!(null), json!([]), json!("x"), json!(1.5), json!({})] {
        assert_eq!(read(&odd), None, "{odd}");
    }
}

#[test]
fn edits_and_removals_are_told_apart_from_all_else() {
    let edited = |event: &str| {
        Some(Withdrawal {
            event: event.parse().unwrap(),
            by: "@alice:example.org".parse().unwrap(),
            how: TakenBack::Edited,
        })
    };
    let removed = |event: &str| {
        Some(Withdrawal {
            event: event.parse().unwrap(),
            by: "@alice:example.org".parse().unwrap(),
            how: TakenBack::Removed,
        })
    };
    let replaces = json!({ "rel_type": "m.replace", "event_id": "$x" });
    let redaction = "m.room.redaction";
    for (event_json, expected) in [
        (
            json!({ "content": { "body": "* no", "m.relates_to": replaces } }),
            edited("$x"),
        ),
        // Encrypted: what it is about can be read all the same.
        (
            json!({ "type": "m.room.encrypted", "content": { "m.relates_to": replaces } }),
            edited("$x"),
        ),
        (
            json!({ "type": redaction, "content": { "redacts": "$x" } }),
            removed("$x"),
        ),
        // Up to room version 10.
        (
            json!({ "type": redaction, "redacts": "$x", "content": {} }),
            removed("$x"),
        ),
        (json!({ "type": redaction, "content": {} }), None),
        (
            json!({ "type": redaction, "content": { "redacts": 7 } }),
            None,
        ),
        (
            json!({ "content": { "m.relates_to": { "rel_type": "m.replace" } } }),
            None,
        ),
        (
            json!({ "content": { "m.relates_to": { "rel_type": "m.thread", "event_id": "$x" } } }),
            None,
        ),
        (
            json!({ "type": "m.reaction", "content": { "m.relates_to": replaces } }),
            None,
        ),
        (json!({}), None),
    ] {
        assert_eq!(withdrawal(&event(&event_json)), expected, "{event_json}");
    }
}

/// Servers add the newest edit to an event that they tell.
#[test]
fn a_command_with_an_edit_beside_it_is_edited() {
    let edit = json!({ "event_id": "$edit" });
    let bundled = event(&json!({ "unsigned": { "m.relations": { "m.replace": edit } } }));
    assert_eq!(read(&bundled).unwrap().kind, ReceivedKind::Edited);
    let other = event(&json!({
        "content": { "msgtype": "m.text", "body": "hello" },
        "unsigned": { "m.relations": { "m.replace": edit } },
    }));
    assert_eq!(read(&other), None);
    let thread = event(&json!({ "unsigned": { "m.relations": { "m.thread": {} } } }));
    let kind = read(&thread).unwrap().kind;
    assert!(matches!(kind, ReceivedKind::Message { .. }));
}

#[test]
fn a_giant_body_is_cut_between_characters() {
    let body = format!("!upgrade {}", "ä".repeat(40_000));
    let content = json!({ "msgtype": "m.text", "body": body, "formatted_body": "x" });
    let ReceivedKind::Message {
        body: cut,
        formatted_body: None,
        ..
    } = read(&event(&json!({ "content": content }))).unwrap().kind
    else {
        panic!("not a plain message");
    };
    assert!(
        body.starts_with(&cut) && (16_000..=16_384).contains(&cut.len()),
        "{}",
        cut.len()
    );
}

fn answer(status: u16, retry_after: Option<&str>, body: &str) -> HomeserverError {
    let mut response = http::Response::builder().status(status);
    if let Some(retry_after) = retry_after {
        response = response.header("Retry-After", retry_after);
    }
    let response = response.body(body.as_bytes().to_vec()).unwrap();
    let error = ruma::api::client::uiaa::UiaaResponse::from_http_response(response);
    let error = HttpError::Api(Box::new(FromHttpResponseError::Server(error)));
    failed(
        "try".to_owned(),
        Bucket::Joins,
        Timestamp::UNIX_EPOCH,
        error,
    )
}

#[test]
fn refusals_limits_and_doubt_are_told_apart() {
    let limited = |error: &HomeserverError| match error {
        HomeserverError::RateLimited { limit, .. } if limit.bucket == Bucket::Joins => {
            Some(limit.retry_after.as_millis())
        }
        _ => None,
    };
    let limit = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too many","retry_after_ms":1234}"#;
    assert_eq!(limited(&answer(429, None, limit)), Some(1234));
    assert_eq!(limited(&answer(429, Some("7"), limit)), Some(7000));
    assert_eq!(
        limited(&answer(429, Some("Thu, 01 Jan 1970 00:00:09 GMT"), limit)),
        Some(9000)
    );
    assert_eq!(
        limited(&answer(429, Some("99999999"), limit)),
        Some(3_600_000)
    );
    let bare = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too many"}"#;
    assert_eq!(limited(&answer(429, None, bare)), Some(5000));
    assert_eq!(limited(&answer(429, None, "<html>")), Some(5000));

    let refused = |error: &HomeserverError| match error {
        HomeserverError::Refused { status, code, .. } => Some((*status, code.clone())),
        _ => None,
    };
    let unknown = r#"{"errcode":"M_UNKNOWN","error":"This room has been tombstoned"}"#;
    assert_eq!(
        refused(&answer(400, None, unknown)),
        Some((400, "M_UNKNOWN".to_owned()))
    );
    let unsupported = r#"{"errcode":"M_UNSUPPORTED","error":"No such request"}"#;
    assert_eq!(
        refused(&answer(501, None, unsupported)),
        Some((501, "M_UNSUPPORTED".to_owned()))
    );
    for (status, code, is_about_account) in [
        (401, "M_UNKNOWN_TOKEN", true),
        (401, "M_USER_LOCKED", true),
        (403, "M_USER_SUSPENDED", true),
        (403, "M_CONSENT_NOT_GIVEN", true),
        (403, "M_RESOURCE_LIMIT_EXCEEDED", true),
        // The room is too large to be joined.
        (400, "M_RESOURCE_LIMIT_EXCEEDED", false),
        (403, "M_FORBIDDEN", false),
    ] {
        let body = format!(r#"{{"errcode":"{code}","error":"No","soft_logout":false}}"#);
        let error = answer(status, None, &body);
        let blocked = matches!(error, HomeserverError::AccountBlocked { .. });
        assert_eq!(blocked, is_about_account, "{error}");
    }
    let uia = r#"{"flows":[{"stages":["m.login.password"]}],"params":{},"session":"x"}"#;
    assert_eq!(refused(&answer(401, None, uia)), Some((401, String::new())));

    for (status, body) in [
        (500, unknown),
        (502, "<html>"),
        (504, ""),
        (408, ""),
        (520, "{}"),
        (403, "<html>"),
        (404, ""),
        (404, "{}"),
        (400, r#"{"errcode":"","error":"?"}"#),
    ] {
        let error = answer(status, None, body);
        let doubt =
            matches!(error, HomeserverError::Uncertain { status: Some(of), .. } if of == status);
        assert!(doubt, "{status}: {error}");
    }
}

#[test]
fn only_a_homeserver_can_say_that_something_is_not_there() {
    let missing = r#"{"errcode":"M_NOT_FOUND","error":"Room alias not found"}"#;
    assert!(
        found::<()>(Err(answer(404, None, missing)))
            .unwrap()
            .is_none()
    );
    for body in [
        "<html>",
        "{}",
        r#"{"errcode":"M_UNRECOGNIZED","error":"?"}"#,
    ] {
        assert!(found::<()>(Err(answer(404, None, body))).is_err(), "{body}");
    }
    assert!(found::<()>(Err(answer(403, None, missing))).is_err());
}

#[test]
fn state_keeps_what_no_type_knows() {
    let json = r#"{"type":"org.example.x","state_key":"k","sender":"@a:example.org",
        "content":{"float":1.5,"deep":[{"a":null}],"big":9007199254740993},
        "event_id":"$e","origin_server_ts":5,"unsigned":{"age":1}}"#;
    let event = lenient(json).unwrap();
    assert_eq!(event.content["float"], json!(1.5));
    assert_eq!(event.content["big"], json!(9_007_199_254_740_993_u64));
    assert_eq!(
        (event.kind.as_str(), event.state_key.as_str()),
        ("org.example.x", "k")
    );
    assert_eq!(event.origin_server_ts, 5);

    let odd = [
        r#"{"type":"x","state_key":"","sender":"@a:b","content":[]}"#,
        r#"{"type":"x","state_key":"","sender":7,"content":{}}"#,
        r#"{"type":"x","sender":"@a:b","content":{}}"#,
        "[]",
        "",
    ];
    for json in odd {
        assert_eq!(lenient(json), None, "{json}");
    }
    // What they set stands, whatever they are called.
    for sender in ["a", "@a:evil_example.org", "@a:b:"] {
        let json = json!({"type": "x", "state_key": "", "sender": sender, "content": {"a": 1}});
        let event = lenient(&json.to_string()).unwrap();
        assert_eq!(event.content["a"], 1, "{sender}");
        let json = json!({"type": "x", "sender": sender, "origin_server_ts": 1, "content": {}});
        let event = as_last_edited(&json.to_string()).unwrap();
        assert_eq!(event.sender, sender);
    }
}

#[test]
fn only_its_sender_edits_an_event() {
    let edited = |sender: &str, content: Value| {
        let replacement = json!({
            "sender": sender, "content": { "body": "* b", "m.new_content": { "body": "b" } },
        });
        let event = json!({
            "type": "m.room.message", "sender": "@a:x", "origin_server_ts": 1, "content": content,
            "unsigned": { "m.relations": { "m.replace": replacement } },
        });
        Value::Object(as_last_edited(&event.to_string()).unwrap().content)
    };
    let original = json!({ "body": "a" });
    assert_eq!(edited("@a:x", original.clone()), json!({ "body": "b" }));
    assert_eq!(edited("@b:x", original.clone()), original);
    assert_eq!(edited("@a:x", json!({})), json!({}), "redacted since");
}
