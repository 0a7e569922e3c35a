//! The ping in the old room: a link to the new one, for those who have not come.
//!
//! It is a text and not a notice, since clients do not alert anybody to notices. Whom it alerts is said
//! by `m.mentions`, exactly; names in the text are for the eye. Left out: who that is, and when.

use ruma::{OwnedUserId, UserId};
use serde_json::json;

use super::doc::escape;
use super::member::{TemplateError, Variables, render};
use crate::model::Mention;
use crate::room::state::{Content, content};

/// People in one message. An event holds 65 kB, a third less where it is encrypted, and a user id of up
/// to 255 bytes stands in it four times.
pub const PEOPLE_PER_MESSAGE: usize = 40;

/// Messages of one ping; who does not fit is mentioned by the next. Synapse lets an account send ten
/// messages at once before it asks for a pause.
pub const MESSAGES_MAX: usize = 10;

/// Whom each message of a ping mentions, those first who were not mentioned before.
#[must_use]
pub fn parts<'a>(
    stragglers: impl Iterator<Item = &'a OwnedUserId>,
    mention: Mention,
    before: impl Fn(&UserId) -> bool,
) -> Vec<Vec<OwnedUserId>> {
    if mention != Mention::Stragglers {
        return vec![Vec::new()];
    }
    let (known, mut people): (Vec<_>, Vec<_>) = stragglers.cloned().partition(|user| before(user));
    people.extend(known);
    people.truncate(PEOPLE_PER_MESSAGE * MESSAGES_MAX);
    people
        .chunks(PEOPLE_PER_MESSAGE)
        .map(<[_]>::to_vec)
        .collect()
}

/// Content of one message of a ping.
///
/// # Errors
/// When the template cannot be rendered.
pub fn ping(
    template: &str,
    variables: &Variables<'_>,
    people: &[OwnedUserId],
    mention: Mention,
) -> Result<Content, TemplateError> {
    let text = render(template, variables)?;
    let link = escape(&variables.new_link);
    let html = escape(&text).replace(&link, &format!("<a href=\"{link}\">{link}</a>"));
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
    let (plain, html) = if names.is_empty() {
        (text, html)
    } else {
        (format!("{names}: {text}"), format!("{pills}: {html}"))
    };
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
    let url = escape(&user.matrix_to_uri().to_string());
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
        let of = |mention| ping(template, &variables(), &people, mention).unwrap();
        let ping = of(Mention::Stragglers);
        assert_eq!(
            ping["m.mentions"],
            json!({"user_ids": ["@a00000:x", "@a00001:x"]})
        );
        assert_eq!(ping["msgtype"], "m.text");
        insta::assert_snapshot!(ping["body"].as_str().unwrap(), @"@a00000:x @a00001:x: <i>Old</i> goes on: https://matrix.to/#/!n:x?via=x");
        insta::assert_snapshot!(ping["formatted_body"].as_str().unwrap(), @r#"<a href="https://matrix.to/#/@a00000:x">@a00000:x</a> <a href="https://matrix.to/#/@a00001:x">@a00001:x</a>: &lt;i&gt;Old&lt;/i&gt; goes on: <a href="https://matrix.to/#/!n:x?via=x">https://matrix.to/#/!n:x?via=x</a>"#);
        assert_eq!(of(Mention::Room)["m.mentions"], json!({"room": true}));
        assert!(
            of(Mention::Room)["body"]
                .as_str()
                .unwrap()
                .starts_with("@room: ")
        );
        assert_eq!(of(Mention::Nobody)["m.mentions"], json!({}));
        assert!(!of(Mention::Nobody)["body"].as_str().unwrap().contains("@a"));
    }

    #[test]
    fn ten_thousand_are_split_and_those_go_first_who_were_not_mentioned() {
        let all = users(0..10_000, "a");
        let parts_of =
            |before: &dyn Fn(&UserId) -> bool| parts(all.iter(), Mention::Stragglers, before);
        let first = parts_of(&|_| false);
        assert_eq!(first.len(), MESSAGES_MAX);
        assert!(first.iter().all(|part| part.len() == PEOPLE_PER_MESSAGE));
        let mentioned: Vec<_> = first.concat();
        let second = parts_of(&|user| mentioned.iter().any(|known| known == user)).concat();
        assert!(second.iter().all(|user| !mentioned.contains(user)));
        let few = users(0..3, "a");
        let all_known = parts(few.iter(), Mention::Stragglers, |_| true);
        assert_eq!(all_known, [few]);
        assert_eq!(
            parts(all.iter(), Mention::Room, |_| false),
            [Vec::<OwnedUserId>::new()]
        );
    }

    /// The longest ids there are fit into an event, encrypted too.
    #[test]
    fn a_message_fits_into_an_event() {
        let people = users(0..PEOPLE_PER_MESSAGE, &"n".repeat(255 - "@00000:x".len()));
        assert_eq!(people[0].as_str().len(), 255);
        let content = ping("{{ new_link }}", &variables(), &people, Mention::Stragglers).unwrap();
        let bytes = serde_json::to_string(&content).unwrap().len();
        // Encryption writes it in Base64, with some more around it.
        assert!(bytes * 4 / 3 + 2_000 < 65_536, "{bytes}");
    }
}
