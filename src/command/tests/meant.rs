//! What people and phones make of a command: read as it was meant, or refused with what to write.

use super::{RoomName, accepted, alias, answer, concerns_us, upgrade};
use crate::command::{Command, Confirmation, UpgradeCommand, when};
use crate::model::{Pings, UpgradeOptions};
use std::time::Duration;

fn options(body: &str) -> UpgradeOptions {
    match accepted(body) {
        Command::Upgrade(UpgradeCommand { options, .. }) => options,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn characters_that_nobody_sees_are_dropped_at_the_edges_of_words() {
    for body in [
        "\u{200b}!upgrade #a:b.org --yes",
        "\u{feff} \u{2060}!upgrade #a:b.org --yes",
        "!upgrade\u{200b} #a:b.org --yes",
        "!upgrade \u{200b}#a:b.org\u{200b} --yes",
        "!upgrade \u{2068}#a:b.org\u{2069} \u{200e}--yes\u{feff}",
        "!upgrade #a:b.org\u{ad} \u{feff}—yes",
        "!upgrade \u{200b}“#a:b.org”\u{200b} --yes \u{200b}",
        "\u{200b}!upgrade\u{200b}\n\u{200b}#a:b.org --yes",
    ] {
        assert!(concerns_us(body), "{body:?}");
        let expected = upgrade(UpgradeOptions::default(), Confirmation::Given);
        assert_eq!(accepted(body), expected, "{body:?}");
    }
    assert!(!concerns_us("!upgrade\u{200b}s"));
    let joined = options("!upgrade #a:b --reason \u{200b}two\u{200d}words\u{200b}");
    assert_eq!(joined.reason.unwrap(), "two\u{200d}words");
    // Inside of a word they may be meant, and are named.
    insta::assert_snapshot!(answer("!upgrade #a\u{200b}:b\u{2060}c.org"), @r##"`#a⟨U+200B⟩:b⟨U+2060⟩c.org` is not a valid room name. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used."##);
}

#[test]
fn dashes_of_all_kinds_begin_an_option() {
    for dashes in [
        "—", "–", "‑‑", "−−", "―", "–-", "-–", "‐‐", "‒‒", "－－", "---", "﹣﹣", "−",
    ] {
        let body = format!("!upgrade #a:b.org {dashes}yes");
        let expected = UpgradeOptions::default();
        assert_eq!(
            accepted(&body),
            upgrade(expected, Confirmation::Given),
            "{body}"
        );
    }
    let body = "!upgrade #a:b.org –join–rule keep —yes‑this−room –reason=a–b";
    let written = "!upgrade #a:b.org --join-rule keep --yes-this-room --reason=a–b";
    assert_eq!(accepted(body), accepted(written));
}

#[test]
fn links_of_clients_name_rooms() {
    for link in [
        "https://app.element.io/#/room/#a:b.org",
        "https://app.element.io/#/room/%23a:b.org?via=c.org",
        "app.element.io/#/room/#a:b.org",
        "http://localhost:8080/app/#/room/#a:b.org",
        "element://vector/webapp/#/room/#a:b.org",
        "matrix.to/#/#a:b.org",
        "Matrix.to/#/%23a:b.org",
        "www.matrix.to/#/#a:b.org",
    ] {
        let body = format!("!upgrade {link} --yes");
        let Command::Upgrade(read) = accepted(&body) else {
            panic!("{body}")
        };
        assert_eq!(read.room.name, alias().name, "{link}");
    }
    let link = "!upgrade https://app.element.io/#/room/!r:b.org?via=c.org&via=d.org";
    let Command::Upgrade(read) = accepted(link) else {
        panic!("{link}")
    };
    assert!(matches!(read.room.name, RoomName::Id(_)));
    assert_eq!(read.room.via.len(), 2);
    insta::assert_snapshot!(answer("!upgrade https://app.element.io/#/room/!r:b/$e"), @r##"`https://app.element.io/#/room/!r:b/$e` is a link to a message. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used."##);
    insta::assert_snapshot!(answer("!upgrade https://app.element.io/#/user/@a:b"), @r##"`https://app.element.io/#/user/@a:b` is a user. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used."##);
    insta::assert_snapshot!(answer("!upgrade https://app.element.io/#/home"), @r##"`https://app.element.io/#/home` does not fit here. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used."##);
}

#[test]
fn values_in_several_words_are_put_together_or_refused() {
    let reason = |text: &str| Some(text.to_owned());
    for (body, expected) in [
        ("!upgrade #a:b --reason moved", reason("moved")),
        ("!upgrade --reason moved #a:b 12", reason("moved")),
        (
            "!upgrade #a:b 12 --reason 'new rules' --yes",
            reason("new rules"),
        ),
        ("!upgrade #a:b --reason 'new rules' 12", reason("new rules")),
        ("!upgrade #a:b --reason=moved --yes", reason("moved")),
    ] {
        assert_eq!(options(body).reason, expected, "{body}");
    }
    let answers: Vec<_> = [
        "--reason new rules",
        "--reason=new rules",
        "12 --reason new rules about creators --yes",
        "--reason phase 2 --yes",
        "--reason moved 12",
        "12 --reason see #rules:b",
    ]
    .iter()
    .map(|words| format!("{words}\n    {}", answer(&format!("!upgrade #a:b {words}"))))
    .collect();
    insta::assert_snapshot!(answers.join("\n"), @r##"
    --reason new rules
        Text of several words needs quotation marks: `--reason "new rules"`. What is no part of the text goes in front of `--reason`. Type `!upgrade help upgrade` to see how it is used.
    --reason=new rules
        Text of several words needs quotation marks: `--reason "new rules"`. What is no part of the text goes in front of `--reason`. Type `!upgrade help upgrade` to see how it is used.
    12 --reason new rules about creators --yes
        Text of several words needs quotation marks: `--reason "new rules about creators"`. What is no part of the text goes in front of `--reason`. Type `!upgrade help upgrade` to see how it is used.
    --reason phase 2 --yes
        Text of several words needs quotation marks: `--reason "phase 2"`. What is no part of the text goes in front of `--reason`. Type `!upgrade help upgrade` to see how it is used.
    --reason moved 12
        Text of several words needs quotation marks: `--reason "moved 12"`. What is no part of the text goes in front of `--reason`. Type `!upgrade help upgrade` to see how it is used.
    12 --reason see #rules:b
        Text of several words needs quotation marks: `--reason "see #rules:b"`. What is no part of the text goes in front of `--reason`. Type `!upgrade help upgrade` to see how it is used.
    "##);

    let hours = |hours: &[u64]| {
        let hours = hours.iter().map(|hours| Duration::from_hours(*hours));
        Some(Pings::After(hours.collect()))
    };
    for (words, expected) in [
        ("--ping 1d, 3d", hours(&[24, 72])),
        ("--ping 1d 3d,7d 12", hours(&[24, 72, 168])),
        ("--ping=1d, 3d --yes", hours(&[24, 72])),
        ("--ping off 12", Some(Pings::Off)),
    ] {
        let options = options(&format!("!upgrade #a:b {words}"));
        assert_eq!(options.ping, expected, "{words}");
        assert_eq!(options.version.is_some(), words.ends_with("12"), "{words}");
    }
    for (words, wait) in [
        ("--in 2h 30m", "150m"),
        ("--in 2 hours 12", "2h"),
        ("--in=1d 2h", "26h"),
        ("--in 2h 12", "2h"),
    ] {
        let Command::Upgrade(read) = accepted(&format!("!upgrade #a:b {words}")) else {
            panic!("{words}")
        };
        assert_eq!(read.when, Some(when::within(wait).unwrap()), "{words}");
        assert_eq!(
            read.options.version.is_some(),
            words.ends_with("12"),
            "{words}"
        );
    }
}

#[test]
fn zones_in_a_word_of_their_own_belong_to_the_time() {
    for (words, time) in [
        ("--at 20:00 UTC+2 12", "20:00+02:00"),
        ("--at 20:00 +02:00 12", "20:00+02:00"),
        ("--at 20:00 -05:30 12", "20:00-05:30"),
        ("--at 2026-12-01 20:00 GMT-3", "2026-12-01T20:00-03:00"),
    ] {
        let Command::Upgrade(read) = accepted(&format!("!upgrade #a:b {words}")) else {
            panic!("{words}")
        };
        assert_eq!(read.when, Some(when::at(time).unwrap()), "{words}");
    }
    insta::assert_snapshot!(answer("!upgrade #a:b --at 20:00 CEST"), @r##"I do not know the time zone `CEST`. Write for example `Europe/Berlin`, `UTC` or `+02:00`. Type `!upgrade help upgrade` to see how it is used."##);
    insta::assert_snapshot!(answer("!upgrade #a:b --at 20:00 Berlin 12"), @r##"I do not know the time zone `Berlin`. Write for example `Europe/Berlin`, `UTC` or `+02:00`. Type `!upgrade help upgrade` to see how it is used."##);
    insta::assert_snapshot!(answer("!upgrade #a:b --at 20:00 CET-1CEST"), @r##"I do not know the time zone `CET-1CEST`. Write for example `Europe/Berlin`, `UTC` or `+02:00`. Type `!upgrade help upgrade` to see how it is used."##);
}
