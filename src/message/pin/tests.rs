//! One case per kind of message, then what people could do to us with a pinned message.

use ruma::{event_id, owned_server_name, room_id};
use serde_json::{Value, json};

use super::*;

fn event(kind: &str, content: Value) -> RoomEvent {
    RoomEvent {
        sender: "@alice:example.org".parse().unwrap(),
        kind: kind.to_owned(),
        // A second before midnight in UTC: another day east of Greenwich.
        origin_server_ts: 1_714_607_999_000,
        content: crate::room::state::content(content),
        replaces: None,
    }
}

fn copy_of(event: &RoomEvent) -> Content {
    let original = Original {
        room: room_id!("!old:example.org"),
        event: event_id!("$pinned"),
        via: &[owned_server_name!("example.org")],
    };
    copy(event, &original)
}

fn message(content: Value) -> Content {
    copy_of(&event("m.room.message", content))
}

fn shown(content: &Content) -> String {
    serde_json::to_string_pretty(content).unwrap()
}

#[test]
fn text_is_quoted_with_author_day_and_link() {
    let text = message(json!({
        "msgtype": "m.text",
        "body": "Be **kind**.\nNo spam.",
        "format": "org.matrix.custom.html",
        "formatted_body": "<p>Be <b>kind</b>.</p><ul><li>No spam.</li></ul>",
        "m.mentions": { "room": true },
        "m.relates_to": { "rel_type": "m.thread", "event_id": "$root" },
    }));
    insta::assert_snapshot!(shown(&text), @r#"
    {
      "body": "Pinned in the old room, by @alice:example.org on 2024-05-01: https://matrix.to/#/!old:example.org/$pinned?via=example.org\n> Be **kind**.\n> No spam.",
      "format": "org.matrix.custom.html",
      "formatted_body": "<p>Pinned in the old room, by <code>@alice:example.org</code> on 2024-05-01 (<a href=\"https://matrix.to/#/!old:example.org/$pinned?via=example.org\">original</a>)</p><blockquote><p>Be <b>kind</b>.</p><ul><li>No spam.</li></ul></blockquote>",
      "io.roomlift.pin_of": "$pinned",
      "m.mentions": {},
      "msgtype": "m.text"
    }
    "#);
    let plain = message(json!({ "msgtype": "m.notice", "body": "a < b\nc" }));
    insta::assert_snapshot!(shown(&plain), @r#"
    {
      "body": "Pinned in the old room, by @alice:example.org on 2024-05-01: https://matrix.to/#/!old:example.org/$pinned?via=example.org\n> a < b\n> c",
      "format": "org.matrix.custom.html",
      "formatted_body": "<p>Pinned in the old room, by <code>@alice:example.org</code> on 2024-05-01 (<a href=\"https://matrix.to/#/!old:example.org/$pinned?via=example.org\">original</a>)</p><blockquote>a &lt; b<br>c</blockquote>",
      "io.roomlift.pin_of": "$pinned",
      "m.mentions": {},
      "msgtype": "m.text"
    }
    "#);
    let emote = message(json!({ "msgtype": "m.emote", "body": "waves" }));
    insta::assert_snapshot!(emote["body"].as_str().unwrap(), @r"
    Pinned in the old room, by @alice:example.org on 2024-05-01: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    > * waves
    ");
}

#[test]
fn a_reply_is_quoted_without_what_it_answers() {
    let reply = message(json!({
        "msgtype": "m.text",
        "body": "> <@bob:x> old words\n\nYes.",
        "format": "org.matrix.custom.html",
        "formatted_body": "<mx-reply><blockquote>old words</blockquote></mx-reply>Yes.",
        "m.relates_to": { "m.in_reply_to": { "event_id": "$other" } },
    }));
    insta::assert_snapshot!(shown(&reply), @r#"
    {
      "body": "Pinned in the old room, by @alice:example.org on 2024-05-01: https://matrix.to/#/!old:example.org/$pinned?via=example.org\n> Yes.",
      "format": "org.matrix.custom.html",
      "formatted_body": "<p>Pinned in the old room, by <code>@alice:example.org</code> on 2024-05-01 (<a href=\"https://matrix.to/#/!old:example.org/$pinned?via=example.org\">original</a>)</p><blockquote>Yes.</blockquote>",
      "io.roomlift.pin_of": "$pinned",
      "m.mentions": {},
      "msgtype": "m.text"
    }
    "#);
    let quoting = message(json!({ "msgtype": "m.text", "body": "> a quotation\n\nYes." }));
    let body = quoting["body"].as_str().unwrap();
    assert!(body.ends_with("> > a quotation\n> \n> Yes."), "{body}");
}

#[test]
fn media_keep_their_file() {
    let image = message(json!({
        "msgtype": "m.image", "body": "map.png", "url": "mxc://x/map",
        "info": { "w": 5, "h": 5, "mimetype": "image/png" }, "org.example.odd": 1,
    }));
    insta::assert_snapshot!(shown(&image), @r#"
    {
      "body": "Pinned in the old room, by @alice:example.org on 2024-05-01: https://matrix.to/#/!old:example.org/$pinned?via=example.org",
      "filename": "map.png",
      "format": "org.matrix.custom.html",
      "formatted_body": "<p>Pinned in the old room, by <code>@alice:example.org</code> on 2024-05-01 (<a href=\"https://matrix.to/#/!old:example.org/$pinned?via=example.org\">original</a>)</p>",
      "info": {
        "h": 5,
        "mimetype": "image/png",
        "w": 5
      },
      "io.roomlift.pin_of": "$pinned",
      "m.mentions": {},
      "msgtype": "m.image",
      "url": "mxc://x/map"
    }
    "#);
    let encrypted = message(json!({
        "msgtype": "m.file", "filename": "rules.pdf", "body": "Our **rules**",
        "format": "org.matrix.custom.html", "formatted_body": "Our <b>rules</b>",
        "file": { "url": "mxc://x/rules", "v": "v2", "iv": "i", "hashes": { "sha256": "h" },
            "key": { "k": "secret" } },
    }));
    insta::assert_snapshot!(shown(&encrypted), @r#"
    {
      "body": "Pinned in the old room, by @alice:example.org on 2024-05-01: https://matrix.to/#/!old:example.org/$pinned?via=example.org\n> Our **rules**",
      "file": {
        "hashes": {
          "sha256": "h"
        },
        "iv": "i",
        "key": {
          "k": "secret"
        },
        "url": "mxc://x/rules",
        "v": "v2"
      },
      "filename": "rules.pdf",
      "format": "org.matrix.custom.html",
      "formatted_body": "<p>Pinned in the old room, by <code>@alice:example.org</code> on 2024-05-01 (<a href=\"https://matrix.to/#/!old:example.org/$pinned?via=example.org\">original</a>)</p><blockquote>Our <b>rules</b></blockquote>",
      "io.roomlift.pin_of": "$pinned",
      "m.mentions": {},
      "msgtype": "m.file"
    }
    "#);
    for kind in ["m.video", "m.audio"] {
        let copy = message(json!({ "msgtype": kind, "body": "f", "url": "mxc://x/f" }));
        assert_eq!(
            (&copy["msgtype"], &copy["filename"]),
            (&json!(kind), &json!("f"))
        );
    }
}

#[test]
fn what_cannot_be_copied_is_named() {
    let media = |url: &str, note: usize| json!({ "msgtype": "m.image", "body": "f", "url": url, "info": { "n": "x".repeat(note) } });
    let cases = [
        ("m.room.message", json!({})),
        ("m.room.encrypted", json!({ "ciphertext": "x" })),
        ("m.sticker", json!({ "body": "s", "url": "mxc://x/s" })),
        ("m.poll.start", json!({ "m.poll": {} })),
        ("org.matrix.msc3381.poll.start", json!({ "x": {} })),
        (
            "m.room.message",
            json!({ "msgtype": "m.location", "body": "l", "geo_uri": "geo:1,1" }),
        ),
        (
            "m.room.message",
            json!({ "msgtype": "org.example.x", "body": "b" }),
        ),
        ("m.room.message", json!({ "msgtype": "m.text", "body": 5 })),
        ("m.room.name", json!({ "name": "n" })),
        ("m.room.message", media("https://x/f", 0)),
        ("m.room.message", media("mxc://x/f", MEDIA_BYTES_MAX)),
    ];
    let lines: Vec<String> = cases
        .into_iter()
        .map(|(kind, content)| {
            let copy = copy_of(&event(kind, content));
            assert_eq!(copy["msgtype"], "m.text");
            assert_eq!(copy["io.roomlift.pin_of"], "$pinned");
            copy["body"].as_str().unwrap().to_owned()
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it was deleted: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it is encrypted, and I do not have its key: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it is a sticker: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it is a poll: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it is a poll: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it is a location: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it is not a message that I know: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it has no text: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since it is not a message that I know: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since its file has no address: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    Pinned in the old room, by @alice:example.org on 2024-05-01. I could not copy it, since the description of its file is too long: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    ");
    let html = copy_of(&event("m.sticker", json!({ "body": "s" })))["formatted_body"].clone();
    insta::assert_snapshot!(html.as_str().unwrap(), @r#"<p>Pinned in the old room, by <code>@alice:example.org</code> on 2024-05-01. I could not copy it, since it is a sticker (<a href="https://matrix.to/#/!old:example.org/$pinned?via=example.org">original</a>)</p>"#);
}

#[test]
fn nothing_harmful_is_repeated() {
    let text = message(json!({
        "msgtype": "m.text",
        "body": "Hi @room\u{0}\u{1b}[31m",
        "format": "org.matrix.custom.html",
        "formatted_body": "<script>x()</script><a href='javascript:x()' onclick='x()'>l</a>\
            <a href='https://x/@room'>Hi @room</a></blockquote><img src='https://track/x.png'>",
    }));
    let seen = |key: &str| text[key].as_str().unwrap().replace('\u{2060}', "¦");
    insta::assert_snapshot!(seen("body"), @r"
    Pinned in the old room, by @alice:example.org on 2024-05-01: https://matrix.to/#/!old:example.org/$pinned?via=example.org
    > Hi @¦room[31m
    ");
    insta::assert_snapshot!(seen("formatted_body"), @r#"<p>Pinned in the old room, by <code>@alice:example.org</code> on 2024-05-01 (<a href="https://matrix.to/#/!old:example.org/$pinned?via=example.org">original</a>)</p><blockquote>x()l<a href="https://x/@room">Hi @¦room</a></blockquote>"#);
    let strange = event(
        "m.room.message",
        json!({ "msgtype": "m.text", "body": "x" }),
    );
    let strange = copy_of(&RoomEvent {
        origin_server_ts: u64::MAX,
        ..strange
    });
    assert!(strange["body"].as_str().unwrap().contains("an unknown day"));
}

#[test]
fn every_copy_fits_into_an_event() {
    let long = |c: &str| c.repeat(60_000 / c.len());
    for text in [
        long("ä"),
        long("&"),
        long("\""),
        long("\u{1}"),
        long("\n"),
        long("<b>"),
    ] {
        for kind in ["m.text", "m.image"] {
            let copy = message(json!({
                "msgtype": kind, "body": text, "filename": "f", "url": "mxc://x/f",
                "format": "org.matrix.custom.html", "formatted_body": text,
            }));
            assert!(shown(&copy).len() < 45_000, "{}", shown(&copy).len());
        }
    }
    let body = message(json!({ "msgtype": "m.text", "body": long("ä") }))["body"].clone();
    let quoted = body.as_str().unwrap().lines().nth(1).unwrap();
    assert!(quoted.ends_with("ä…"));
    assert!((QUOTE_BYTES_MAX - 8..=QUOTE_BYTES_MAX + 8).contains(&quoted.len()));
}

/// A worker's stack has 2 MiB; less is used here.
#[test]
fn deep_html_does_not_overflow_the_stack() {
    let deep = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
        for tag in ["<i>", "<div>", "<ul>"] {
            let html = tag.repeat(QUOTE_TAGS_MAX);
            message(json!({ "msgtype": "m.text", "body": "x",
                "format": "org.matrix.custom.html", "formatted_body": html }));
        }
    });
    deep.unwrap().join().unwrap();
}
