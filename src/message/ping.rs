//! The ping in the old room: a link to the new one, for those who have not come.
//!
//! It is a text and not a notice, since clients do not alert anybody to notices. Whom it alerts is said
//! by `m.mentions`, exactly; names in the text are for the eye. Left out: who that is, and when.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ruma::{OwnedUserId, UserId};
use serde_json::json;

use super::doc::{escape, shortened};
use super::member::{TemplateError, Variables, linked};
use crate::model::Mention;
use crate::room::state::{Content, content, link_to};

/// People in one message. An event holds 65 kB, a third less where it is encrypted, and a user id of up
/// to 255 bytes stands in it four times.
pub(crate) const PEOPLE_PER_MESSAGE: usize = 40;

/// Messages of one ping; who does not fit is mentioned by the next. Synapse lets an account send ten
/// messages at once before it asks for a pause.
pub(crate) const MESSAGES_MAX: usize = 10;

/// Other rooms that are named for one person; who lags in more sees those when they come.
pub(crate) const OTHER_ROOMS_MAX: usize = 5;

/// People in one message where other rooms are named for them: as many of the longest ids and names fit.
pub(crate) const PEOPLE_WITH_ROOMS: usize = 6;

/// Another room that somebody has not come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherRoom {
    /// What people call the old room.
    pub label: String,
    /// The link to the new one.
    pub link: String,
}

/// Whom each message of a ping mentions, those first who were not mentioned before; those with other
/// rooms apart, since that makes messages longer.
pub(crate) fn parts<'a>(
    stragglers: impl Iterator<Item = &'a OwnedUserId>,
    mention: Mention,
    before: impl Fn(&UserId) -> bool,
    has_other_rooms: impl Fn(&UserId) -> bool,
) -> Vec<Vec<OwnedUserId>> {
    if mention != Mention::Stragglers {
        return vec![Vec::new()];
    }
    let (known, mut people): (Vec<_>, Vec<_>) = stragglers.cloned().partition(|user| before(user));
    people.extend(known);
    let (with, without): (Vec<_>, Vec<_>) =
        people.into_iter().partition(|user| has_other_rooms(user));
    let with = with.chunks(PEOPLE_WITH_ROOMS);
    let without = without.chunks(PEOPLE_PER_MESSAGE);
    with.chain(without)
        .take(MESSAGES_MAX)
        .map(<[_]>::to_vec)
        .collect()
}

/// Content of one message of a ping.
///
/// # Errors
/// When the template cannot be rendered.
pub(crate) fn ping(
    template: &str,
    variables: &Variables<'_>,
    people: &[OwnedUserId],
    mention: Mention,
    also: &BTreeMap<OwnedUserId, Vec<OtherRoom>>,
) -> Result<Content, TemplateError> {
    let text = linked(template, variables)?;
    let (names, pills, mentions) = match mention {
        Mention::Stragglers => (
            people
                .iter()
                .map(|user| user.as_str())
                .collect::<Vec<_>>()
                .join(" "),
            people
                .iter()
                .map(|user| pill(user))
                .collect::<Vec<_>>()
                .join(" "),
            json!({ "user_ids": people }),
        ),
        Mention::Room => (
            "@room".to_owned(),
            "@room".to_owned(),
            json!({ "room": true }),
        ),
        Mention::Nobody => (String::new(), String::new(), json!({})),
    };
    let (mut plain, mut html) = (text.plain, text.html);
    if !names.is_empty() {
        // Writing to a String cannot fail. Below the text: what a phone shows of it is the beginning.
        let _ = write!(plain, "\n\n{names}");
        let _ = write!(html, "<br><br>{pills}");
    }
    for user in people {
        let rooms = also.get(user).map(Vec::as_slice).unwrap_or_default();
        if rooms.is_empty() {
            continue;
        }
        let (mut words, mut links) = (Vec::new(), Vec::new());
        for room in rooms.iter().take(OTHER_ROOMS_MAX) {
            let label = shortened(&room.label);
            words.push(format!("{label}:\n{}", room.link));
            let (url, label) = (escape(&room.link), escape(&label));
            links.push(format!("<a href=\"{url}\">{label}</a>"));
        }
        if rooms.len() > OTHER_ROOMS_MAX {
            let more = format!("{} more", rooms.len() - OTHER_ROOMS_MAX);
            words.push(more.clone());
            links.push(more);
        }
        let _ = write!(plain, "\n{user}, also:\n{}", words.join("\n"));
        let _ = write!(html, "<br>{}, also: {}", pill(user), links.join(", "));
    }
    Ok(content(json!({
        "msgtype": "m.text",
        "body": plain,
        "format": "org.matrix.custom.html",
        "formatted_body": html,
        "m.mentions": mentions,
    })))
}

/// A user that can be clicked. Ids may hold characters that end a link.
fn pill(user: &UserId) -> String {
    let url = escape(&link_to(&[user.as_str()], &[]));
    format!("<a href=\"{url}\">{}</a>", escape(user.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables<'static> {
        Variables {
            old_name: "<i>Old</i>",
            new_link: "https://matrix.to/#/!n:x?via=x".to_owned(),
            version: "12",
            reason: "",
        }
    }

    fn users(numbers: std::ops::Range<usize>, name: &str) -> Vec<OwnedUserId> {
        numbers
            .map(|n| format!("@{name}{n:05}:x").try_into().unwrap())
            .collect()
    }

    #[test]
    fn a_ping_mentions_exactly_whom_it_is_for() {
        let people = users(0..2, "a");
        let template = "{{ old_name }} goes on: {{ new_link }}";
        let of =
            |mention| ping(template, &variables(), &people, mention, &BTreeMap::new()).unwrap();
        let ping = of(Mention::Stragglers);
        assert_eq!(
            ping["m.mentions"],
            json!({"user_ids": ["@a00000:x", "@a00001:x"]})
        );
        assert_eq!(ping["msgtype"], "m.text");
        insta::assert_snapshot!(ping["body"].as_str().unwrap(), @"
        <i>Old</i> goes on:
        https://matrix.to/#/!n:x?via=x

        @a00000:x @a00001:x
        ");
        insta::assert_snapshot!(ping["formatted_body"].as_str().unwrap(), @r#"&lt;i&gt;Old&lt;/i&gt; goes on: <a href="https://matrix.to/#/!n:x?via=x">&lt;i&gt;Old&lt;/i&gt;</a><br><br><a href="https://matrix.to/#/@a00000:x">@a00000:x</a> <a href="https://matrix.to/#/@a00001:x">@a00001:x</a>"#);
        assert_eq!(of(Mention::Room)["m.mentions"], json!({"room": true}));
        assert!(
            of(Mention::Room)["body"]
                .as_str()
                .unwrap()
                .ends_with("\n\n@room")
        );
        assert_eq!(of(Mention::Nobody)["m.mentions"], json!({}));
        assert!(!of(Mention::Nobody)["body"].as_str().unwrap().contains("@a"));
    }

    #[test]
    fn ten_thousand_are_split_and_those_go_first_who_were_not_mentioned() {
        let all = users(0..10_000, "a");
        let parts_of = |before: &dyn Fn(&UserId) -> bool| {
            parts(all.iter(), Mention::Stragglers, before, |_| false)
        };
        let first = parts_of(&|_| false);
        assert_eq!(first.len(), MESSAGES_MAX);
        assert!(first.iter().all(|part| part.len() == PEOPLE_PER_MESSAGE));
        let mentioned: Vec<_> = first.concat();
        let second = parts_of(&|user| mentioned.iter().any(|known| known == user)).concat();
        assert!(second.iter().all(|user| !mentioned.contains(user)));
        let few = users(0..3, "a");
        let all_known = parts(few.iter(), Mention::Stragglers, |_| true, |_| false);
        assert_eq!(all_known, [few]);
        assert_eq!(
            parts(all.iter(), Mention::Room, |_| false, |_| false),
            [Vec::<OwnedUserId>::new()]
        );
    }

    /// The longest ids and names there are fit into an event, encrypted too.
    #[test]
    fn a_message_fits_into_an_event() {
        let long = |numbers| users(numbers, &"n".repeat(255 - "@00000:x".len()));
        let fits = |people: &[OwnedUserId], also: &BTreeMap<OwnedUserId, Vec<OtherRoom>>| {
            assert_eq!(people[0].as_str().len(), 255);
            let mention = Mention::Stragglers;
            let content = ping("{{ new_link }}", &variables(), people, mention, also).unwrap();
            let bytes = serde_json::to_string(&content).unwrap().len();
            // Encryption writes it in Base64, with some more around it.
            assert!(bytes * 4 / 3 + 2_000 < 65_536, "{bytes}");
        };
        fits(&long(0..PEOPLE_PER_MESSAGE), &BTreeMap::new());
        let room = OtherRoom {
            label: "&".repeat(300),
            link: format!("https://matrix.to/#/!{}?via=x", "n".repeat(250)),
        };
        let people = long(0..PEOPLE_WITH_ROOMS);
        let rooms = vec![room; OTHER_ROOMS_MAX + 9];
        let also = people.iter().map(|user| (user.clone(), rooms.clone()));
        fits(&people, &also.collect());
    }

    #[test]
    fn who_lags_in_other_rooms_is_told_which() {
        let people = users(0..2, "a");
        let room = OtherRoom {
            label: "<b>Other</b>".to_owned(),
            link: "https://matrix.to/#/!o:x?via=x".to_owned(),
        };
        let also = [(people[0].clone(), vec![room])].into();
        let mention = Mention::Stragglers;
        let ping = ping("{{ new_link }}", &variables(), &people, mention, &also).unwrap();
        assert_eq!(
            ping["body"],
            "https://matrix.to/#/!n:x?via=x\n\n@a00000:x @a00001:x\n@a00000:x, also:\n<b>Other</b>:\nhttps://matrix.to/#/!o:x?via=x"
        );
        let html = ping["formatted_body"].as_str().unwrap();
        assert!(
            html.ends_with(
                "also: <a href=\"https://matrix.to/#/!o:x?via=x\">&lt;b&gt;Other&lt;/b&gt;</a>"
            ),
            "{html}"
        );
        let parts = parts(people.iter(), mention, |_| false, |user| *user == people[1]);
        assert_eq!(parts, [vec![people[1].clone()], vec![people[0].clone()]]);
    }
}
