//! What members read: announcements, the message in the old room, the tombstone, the reason of an
//! invitation. Templates of the configuration.

use minijinja::{Environment, UndefinedBehavior, context};
use ruma::{RoomId, ServerName};
use serde_json::json;

use super::doc::{escape, shortened};
use super::moment;
use crate::job::{Plan, Schedule};
use crate::model::Text;
use crate::room::state::{Content, content, matrix_to};

/// A template that could not be rendered. The configuration was checked, so that this is a bug.
#[derive(Debug, thiserror::Error)]
#[error("cannot render a template of [messages]")]
pub(crate) struct TemplateError(#[from] minijinja::Error);

/// What a template may use.
#[derive(Debug, Clone)]
pub(crate) struct Variables<'a> {
    /// What people call the old room.
    pub old_name: &'a str,
    /// The link to the new room.
    pub new_link: String,
    /// Version of the new room.
    pub version: &'a str,
    pub reason: &'a str,
}

impl<'a> Variables<'a> {
    /// Those of a job whose new room is known.
    pub(crate) fn of(plan: &'a Plan, new_room: &RoomId, server: &ServerName) -> Self {
        Self {
            old_name: &plan.label,
            new_link: matrix_to(new_room, &[server.to_owned()]),
            version: plan.intent.version.as_str(),
            reason: plan.intent.reason.as_deref().unwrap_or_default(),
        }
    }
}

/// What the old room is told before an upgrade begins at its time. `rest` is empty in the message
/// that it does not: it may be posted at any time.
///
/// # Errors
/// When the template cannot be rendered.
pub(crate) fn announcement(
    template: &str,
    plan: &Plan,
    schedule: &Schedule,
    rest: &str,
) -> Result<Text, TemplateError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = environment.render_str(
        template,
        context! {
            old_name => plan.label.as_str(),
            version => plan.intent.version.as_str(),
            reason => plan.intent.reason.as_deref().unwrap_or_default(),
            time => moment::start(&schedule.start),
            rest => rest,
        },
    )?;
    Ok(Text {
        html: escape(&text),
        plain: text,
    })
}

/// The text of a template.
///
/// # Errors
/// When it cannot be rendered.
pub(crate) fn render(template: &str, variables: &Variables<'_>) -> Result<String, TemplateError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    Ok(environment.render_str(
        template,
        context! {
            old_name => variables.old_name,
            new_link => variables.new_link.clone(),
            version => variables.version,
            reason => variables.reason,
        },
    )?)
}

/// The text of a template with the link to the new room: in HTML its name is the link, in the plain body
/// the address has a line of its own.
///
/// # Errors
/// When it cannot be rendered.
pub(crate) fn linked(template: &str, variables: &Variables<'_>) -> Result<Text, TemplateError> {
    let text = render(template, variables)?;
    let url = escape(&variables.new_link);
    // A room without a name has its id for one.
    let name = match shortened(variables.old_name) {
        name if name.is_empty() || name.starts_with('!') => "the new room".to_owned(),
        name => name,
    };
    let anchor = format!("<a href=\"{url}\">{}</a>", escape(&name));
    Ok(Text {
        plain: alone(&text, &variables.new_link),
        html: escape(&text).replace(&url, &anchor),
    })
}

/// The text with each occurrence of an address on a line of its own.
fn alone(text: &str, address: &str) -> String {
    let mut pieces = text.split(address);
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.truncate(plain.trim_end_matches(' ').len());
        if !plain.is_empty() && !plain.ends_with('\n') {
            plain.push('\n');
        }
        plain.push_str(address);
        // The end of its sentence is no part of an address, and no line either.
        let rest = piece.trim_start_matches(['.', ',', ';', '!', ' ']);
        if !rest.is_empty() && !rest.starts_with('\n') {
            plain.push('\n');
        }
        plain.push_str(rest);
    }
    plain
}

/// Content of the message in the old room. It mentions nobody; people are not paged by an upgrade.
///
/// # Errors
/// When the template cannot be rendered.
pub(crate) fn notice(template: &str, variables: &Variables<'_>) -> Result<Content, TemplateError> {
    let text = linked(template, variables)?;
    Ok(content(json!({
        "msgtype": "m.text",
        "body": text.plain,
        "format": "org.matrix.custom.html",
        "formatted_body": text.html,
        "m.mentions": {},
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_a_link_and_names_are_text() {
        let variables = Variables {
            old_name: "<b>@room</b>",
            new_link: "https://matrix.to/#/!n:x?via=x".to_owned(),
            version: "12",
            reason: "",
        };
        let content = notice("{{ old_name }} moved: {{ new_link }}", &variables).unwrap();
        assert_eq!(
            content["body"],
            "<b>@room</b> moved:\nhttps://matrix.to/#/!n:x?via=x"
        );
        assert_eq!(
            content["formatted_body"],
            "&lt;b&gt;@room&lt;/b&gt; moved: <a href=\"https://matrix.to/#/!n:x?via=x\">&lt;b&gt;@room&lt;/b&gt;</a>"
        );
        assert_eq!(content["m.mentions"], json!({}));
        let nameless = Variables {
            old_name: "!o:x",
            ..variables
        };
        let content = notice("Moved: {{ new_link }}", &nameless).unwrap();
        assert_eq!(
            content["formatted_body"],
            "Moved: <a href=\"https://matrix.to/#/!n:x?via=x\">the new room</a>"
        );
    }

    #[test]
    fn an_address_has_a_line_of_its_own() {
        for (text, plain) in [
            ("Go to L", "Go to\nL"),
            ("Go to L.", "Go to\nL"),
            ("L", "L"),
            ("Go to L, please. Or stay.", "Go to\nL\nplease. Or stay."),
            ("Go to:\nL\n\nReason: why", "Go to:\nL\n\nReason: why"),
            ("L and L", "L\nand\nL"),
            ("nowhere", "nowhere"),
        ] {
            assert_eq!(alone(text, "L"), plain, "{text}");
        }
    }
}
