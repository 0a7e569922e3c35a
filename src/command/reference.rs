//! Names of rooms, users and jobs as people write them: ids, aliases, links, numbers.
//!
//! Links are read here and not by `ruma`, because its parser panics on some broken links and refuses
//! those with parameters it does not know, which clients add. Whether a thing exists is not asked.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, ServerName, UserId};

use super::{Expected, Found, Problem, Shown, grammar};
use crate::model::{CampaignId, JobId, JobRef, RoomName, RoomRef, WorkId};

/// Most servers taken from one link. Clients write three; each costs an attempt to join.
const MAX_VIA: usize = 10;

/// What comes before the thing that a matrix.to link names, after the scheme, which phones leave out
/// (<https://spec.matrix.org/v1.16/appendices/#matrixto-navigation>).
const MATRIX_TO: [&str; 2] = ["matrix.to/#/", "www.matrix.to/#/"];

/// The same in links of Element, wherever that is installed.
const ELEMENT: [&str; 2] = ["/#/room/", "/#/user/"];

const MATRIX_SCHEME: &str = "matrix:";

/// What a word names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Room(RoomRef),
    User(OwnedUserId),
    /// Nothing that can be used.
    Other(Found),
}

/// Reads a room.
///
/// # Errors
///
/// [`Problem::WrongKind`], also where the word is well formed but no room.
pub(super) fn room(word: &str) -> Result<RoomRef, Problem> {
    expect_room(word, Expected::Room)
}

/// Reads a user.
///
/// # Errors
///
/// [`Problem::WrongKind`].
pub(super) fn user(word: &str) -> Result<OwnedUserId, Problem> {
    match named(word) {
        Named::User(user) => Ok(user),
        Named::Room(_) => Err(wrong_kind(word, Found::Room, Expected::User)),
        Named::Other(found) => Err(wrong_kind(word, found, Expected::User)),
    }
}

/// Reads the number of a job: `7` or `#7`.
///
/// # Errors
///
/// [`Problem::WrongKind`].
pub(super) fn job(word: &str) -> Result<JobId, Problem> {
    number(word).ok_or_else(|| {
        let found = match named(word) {
            Named::Room(_) => Found::Room,
            Named::User(_) => Found::User,
            // `#7x` is no room that lacks its server.
            Named::Other(Found::AliasWithoutServer) => Found::Unknown,
            Named::Other(found) => found,
        };
        wrong_kind(word, found, Expected::Job)
    })
}

/// Reads the number of a job or campaign: `7`, `#7` or `C7`.
///
/// # Errors
///
/// [`Problem::WrongKind`].
pub(super) fn work(word: &str) -> Result<WorkId, Problem> {
    match campaign(word) {
        Some(id) => Ok(WorkId::Campaign(id)),
        None => job(word).map(WorkId::Job),
    }
}

/// Reads the number of a job or campaign, or a room.
///
/// # Errors
///
/// [`Problem::WrongKind`].
pub(super) fn job_or_room(word: &str) -> Result<JobRef, Problem> {
    match (number(word), campaign(word)) {
        (Some(id), _) => Ok(JobRef::Id(id)),
        (None, Some(id)) => Ok(JobRef::Campaign(id)),
        (None, None) => expect_room(word, Expected::JobOrRoom).map(JobRef::Room),
    }
}

/// Whether `word` looks like a room.
pub(super) fn is_room(word: &str) -> bool {
    word.starts_with(['#', '!']) || is_link(word)
}

/// Whether `word` is a link of Matrix, sound or not.
pub(super) fn is_link(word: &str) -> bool {
    path(word).is_some()
}

fn expect_room(word: &str, expected: Expected) -> Result<RoomRef, Problem> {
    match named(word) {
        Named::Room(room) => Ok(room),
        Named::User(_) => Err(wrong_kind(word, Found::User, expected)),
        Named::Other(found) => Err(wrong_kind(word, found, expected)),
    }
}

fn wrong_kind(word: &str, found: Found, expected: Expected) -> Problem {
    Problem::WrongKind {
        word: Shown::from(word),
        found,
        expected,
    }
}

/// Jobs count from 1; a sign is no part of a number.
fn number(word: &str) -> Option<JobId> {
    let digits = word.strip_prefix('#').unwrap_or(word);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0).map(JobId)
}

/// Campaigns count from 1 as well; phones write a small letter.
fn campaign(word: &str) -> Option<CampaignId> {
    let digits = word.strip_prefix(['C', 'c'])?;
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let number = digits.parse().ok().filter(|number| *number > 0);
    number.map(CampaignId)
}

fn named(word: &str) -> Named {
    match path(word) {
        Some(Path::MatrixTo(path)) => linked(path, |path| {
            path.trim_matches('/')
                .split('/')
                .map(percent_decoded)
                .collect()
        }),
        Some(Path::Uri(path)) => linked(path, typed_segments),
        None => identifier(word),
    }
}

/// The part of a link that names something, with its parameters.
enum Path<'a> {
    MatrixTo(&'a str),
    Uri(&'a str),
}

fn path(word: &str) -> Option<Path<'_>> {
    if word.starts_with(['#', '!', '@']) {
        return None;
    }
    let mut schemes = ["https://", "http://"].iter();
    let address = schemes.find_map(|scheme| after_prefix(word, scheme));
    let address = address.unwrap_or(word);
    let mut matrix_to = MATRIX_TO
        .iter()
        .filter_map(|prefix| after_prefix(address, prefix));
    let of_element = |start: &&str| word.split_once(*start).map(|(_, path)| path);
    if let Some(path) = matrix_to
        .next()
        .or_else(|| ELEMENT.iter().find_map(of_element))
    {
        return Some(Path::MatrixTo(path));
    }
    after_prefix(word, MATRIX_SCHEME).map(Path::Uri)
}

/// Schemes and hosts are the same in any case.
fn after_prefix<'a>(word: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = word.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// What a link names: one identifier, or a room and an event.
fn linked(path: &str, segments: impl Fn(&str) -> Option<Vec<String>>) -> Named {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let identifiers = segments(path).unwrap_or_default();
    match identifiers.as_slice() {
        [one] => match identifier(one) {
            Named::Room(room) => Named::Room(RoomRef {
                via: via(query),
                ..room
            }),
            Named::Other(Found::Unknown) => Named::Other(Found::BadLink),
            other => other,
        },
        [first, second] if first.starts_with('$') || second.starts_with('$') => {
            Named::Other(Found::Event)
        }
        _ => Named::Other(Found::BadLink),
    }
}

/// `r/name:server` and the like as identifiers with their sigils.
fn typed_segments(path: &str) -> Option<Vec<String>> {
    let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    segments
        .chunks(2)
        .map(|chunk| {
            let [kind, name] = chunk else { return None };
            // The long forms are from drafts of the scheme and still about.
            let sigil = match *kind {
                "r" | "room" => '#',
                "roomid" => '!',
                "u" | "user" => '@',
                "e" | "event" => '$',
                _ => return None,
            };
            Some(format!("{sigil}{}", percent_decoded(name)?))
        })
        .collect()
}

/// The servers of a link. Those that are not valid are dropped: they are hints only.
fn via(query: &str) -> Vec<OwnedServerName> {
    let mut servers = Vec::new();
    for pair in query.split('&') {
        let server = pair
            .strip_prefix("via=")
            .and_then(percent_decoded)
            .and_then(|server| ServerName::parse(server).ok());
        if let Some(server) = server
            && servers.len() < MAX_VIA
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers
}

/// `None` if the result is not UTF-8. A `%` that encodes nothing stands for itself.
fn percent_decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.ok().map(Cow::into_owned)
}

fn identifier(word: &str) -> Named {
    let found = match word.chars().next() {
        Some('!') => match room_id(word) {
            Some(id) => return in_no_servers(RoomName::Id(id)),
            None => Found::BadRoom,
        },
        Some('#') => match OwnedRoomAliasId::try_from(word) {
            Ok(alias) if is_one_word(word) && !alias.alias().is_empty() => {
                return in_no_servers(RoomName::Alias(alias));
            }
            _ if word.contains(':') => Found::BadRoom,
            _ => Found::AliasWithoutServer,
        },
        Some('@') => match UserId::parse(word) {
            Ok(user) if user.validate_historical().is_ok() => return Named::User(user),
            _ => Found::Unknown,
        },
        Some('$') => Found::Event,
        _ if grammar::is_verb(word) => Found::Command,
        _ => Found::Unknown,
    };
    Named::Other(found)
}

fn in_no_servers(name: RoomName) -> Named {
    Named::Room(RoomRef {
        name,
        via: Vec::new(),
    })
}

/// Room ids are opaque, so only what cannot be one is refused. From version 12 on they have no
/// server part (MSC4291).
fn room_id(word: &str) -> Option<OwnedRoomId> {
    let (local, server) = match word.strip_prefix('!')?.split_once(':') {
        Some((local, server)) => (local, Some(server)),
        None => (word.strip_prefix('!')?, None),
    };
    let sound = !local.is_empty()
        && is_one_word(word)
        && server.is_none_or(|server| <&ServerName>::try_from(server).is_ok());
    if sound {
        OwnedRoomId::try_from(word).ok()
    } else {
        None
    }
}

fn is_one_word(word: &str) -> bool {
    !word.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V12: &str = "!Io3L9QvVLrVWpHC9GgLDSQp4xlK-XSkjMXPhFnHDh_k";

    #[test]
    fn rooms() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("#a:b.org", "#a:b.org", &[]),
            ("#ä:b.org:8448", "#ä:b.org:8448", &[]),
            ("!abc:b.org", "!abc:b.org", &[]),
            (V12, V12, &[]),
            ("https://matrix.to/#/#a:b.org", "#a:b.org", &[]),
            ("https://matrix.to/#/%23a%3Ab.org", "#a:b.org", &[]),
            ("HTTPS://Matrix.To/#/%23a:b.org/", "#a:b.org", &[]),
            (
                "https://matrix.to/#/!a:b?via=c.org&via=d.org",
                "!a:b",
                &["c.org", "d.org"],
            ),
            (
                "https://matrix.to/#/!a:b?via=c%3A80&x=y&via=%20&via=c:80",
                "!a:b",
                &["c:80"],
            ),
            ("matrix:r/a:b.org", "#a:b.org", &[]),
            (
                "matrix:roomid/abc:b.org?via=c.org&action=join",
                "!abc:b.org",
                &["c.org"],
            ),
            ("matrix:room/%C3%A4:b", "#ä:b", &[]),
        ];
        for (word, name, via) in cases {
            let room = room(word).unwrap();
            assert_eq!(room.name.to_string(), *name, "{word}");
            assert_eq!(room.via, *via, "{word}");
        }
        let link = format!("https://matrix.to/#/{V12}?via=b.org");
        assert_eq!(room(&link).unwrap().name.to_string(), V12);
    }

    #[test]
    fn what_is_no_room_is_named() {
        let cases = [
            ("#a", Found::AliasWithoutServer),
            ("#", Found::AliasWithoutServer),
            ("#a:", Found::BadRoom),
            ("#a:b c", Found::BadRoom),
            ("!", Found::BadRoom),
            ("!:b", Found::BadRoom),
            ("!a:b_c", Found::BadRoom),
            ("!a b:c", Found::BadRoom),
            ("@a:b", Found::User),
            ("@a", Found::Unknown),
            ("$abc", Found::Event),
            ("a:b.org", Found::Unknown),
            ("", Found::Unknown),
            ("plan", Found::Command),
            ("https://matrix.to/#/@a:b", Found::User),
            ("https://matrix.to/#/!a:b/$c", Found::Event),
            ("https://matrix.to/#/$c/!a:b", Found::Event),
            ("https://matrix.to/#/", Found::BadLink),
            ("https://matrix.to/#/a", Found::BadLink),
            ("https://matrix.to/#///a", Found::BadLink),
            ("https://matrix.to/#/%/%", Found::BadLink),
            ("https://matrix.to/#/!a:b/x", Found::BadLink),
            ("https://matrix.to/#/%23%ff:b", Found::BadLink),
            ("https://example.org/#/!a:b", Found::Unknown),
            ("matrix:", Found::BadLink),
            ("matrix:r", Found::BadLink),
            ("matrix:x/a:b", Found::BadLink),
            ("matrix:u/a:b", Found::User),
            ("matrix:roomid/a:b/e/c", Found::Event),
        ];
        for (word, found) in cases {
            assert_eq!(
                room(word),
                Err(wrong_kind(word, found, Expected::Room)),
                "{word}"
            );
        }
    }

    #[test]
    fn users() {
        for word in [
            "@a:b",
            "https://matrix.to/#/@a:b",
            "https://matrix.to/#/%40a%3Ab",
            "matrix:u/a:b",
        ] {
            assert_eq!(user(word).unwrap(), "@a:b");
        }
        for word in ["@a", "a:b", "@a b:c", "@ä:b", "#a:b", "@a:b_c", "@:"] {
            assert!(user(word).is_err(), "{word}");
        }
    }

    #[test]
    fn jobs() {
        let cases = [
            ("7", Some(7)),
            ("#7", Some(7)),
            ("007", Some(7)),
            ("0", None),
            ("-7", None),
            ("+7", None),
            ("", None),
            ("#", None),
            ("7x", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("٧", None),
        ];
        for (word, expected) in cases {
            assert_eq!(job(word).ok(), expected.map(JobId), "{word}");
        }
        assert_eq!(job_or_room("#7").unwrap(), JobRef::Id(JobId(7)));
        assert!(matches!(job_or_room("#7:b").unwrap(), JobRef::Room(_)));
    }

    proptest! {
        #[test]
        fn no_word_panics(word in ".*", link in "(https://matrix.to/#/|matrix:)[ru!#@$%/?&=a:0-9 é]*") {
            for word in [word, link] {
                let _ = (room(&word), user(&word), job_or_room(&word));
            }
        }

        #[test]
        // Without `%`, which ruma does not encode.
        fn links_of_ruma_are_read(name in "[a-z0-9äß/?#+ .]{1,20}") {
            let alias = format!("#{name}:b.org");
            if let Ok(alias) = OwnedRoomAliasId::try_from(alias.as_str())
                && is_one_word(&name)
            {
                let expected = RoomName::Alias(alias.clone());
                prop_assert_eq!(&room(&alias.matrix_to_uri().to_string()).unwrap().name, &expected);
                prop_assert_eq!(&room(&alias.matrix_uri(false).to_string()).unwrap().name, &expected);
            }
        }
    }
}
