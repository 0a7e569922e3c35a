//! The message that members find in the old room: a template of the configuration.

use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::json;

use super::doc::escape;
use crate::room::state::{Content, content};

/// A template that could not be rendered. The configuration was checked, so that this is a bug.
#[derive(Debug, thiserror::Error)]
#[error("cannot render the template messages.notice")]
pub struct NoticeError(#[from] minijinja::Error);

/// What the template may use.
#[derive(Debug, Clone, Copy)]
pub struct Variables<'a> {
    /// What people call the old room.
    pub old_name: &'a str,
    /// The link to the new room.
    pub new_link: &'a str,
    /// Version of the new room.
    pub version: &'a str,
    /// Why, or empty.
    pub reason: &'a str,
}

/// Content of the message. It mentions nobody; people are not paged by an upgrade.
///
/// # Errors
/// When the template cannot be rendered.
pub fn notice(template: &str, variables: &Variables<'_>) -> Result<Content, NoticeError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let plain = environment.render_str(
        template,
        context! {
            old_name => variables.old_name,
            new_link => variables.new_link,
            version => variables.version,
            reason => variables.reason,
        },
    )?;
    let link = escape(variables.new_link);
    let html = escape(&plain).replace(&link, &format!("<a href=\"{link}\">{link}</a>"));
    Ok(content(json!({
        "msgtype": "m.text",
        "body": plain,
        "format": "org.matrix.custom.html",
        "formatted_body": html,
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
            new_link: "https://matrix.to/#/!n:x?via=x",
            version: "12",
            reason: "",
        };
        let content = notice("{{ old_name }} moved: {{ new_link }}", &variables).unwrap();
        assert_eq!(
            content["body"],
            "<b>@room</b> moved: https://matrix.to/#/!n:x?via=x"
        );
        assert_eq!(
            content["formatted_body"],
            "&lt;b&gt;@room&lt;/b&gt; moved: <a href=\"https://matrix.to/#/!n:x?via=x\">https://matrix.to/#/!n:x?via=x</a>"
        );
        assert_eq!(content["m.mentions"], json!({}));
    }
}
