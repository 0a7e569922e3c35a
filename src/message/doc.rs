//! Text in two forms from one source: HTML and a plain body that says the same.
//!
//! Everything that came from outside goes in as [`Span::Text`] and is escaped; backticks in our own
//! texts mark code, as in Markdown, and stay in the plain body.

use std::fmt::Write;

use ruma::{OwnedRoomId, OwnedServerName, RoomId, UserId};

use crate::model::Text;
use crate::room::state::matrix_to;

/// Longest label of a room in a text, in characters.
const LABEL_CHARS_MAX: usize = 80;

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Span {
    Text(String),
    Bold(String),
    /// To be typed, or an id.
    Code(String),
    Room {
        url: String,
        /// What people call it.
        label: String,
        id: OwnedRoomId,
    },
}

/// A line from our own words: `code` between backticks.
pub(crate) fn own(text: &str) -> Vec<Span> {
    text.split('`')
        .enumerate()
        .filter(|(_, piece)| !piece.is_empty())
        .map(|(index, piece)| {
            if index % 2 == 1 {
                Span::Code(piece.to_owned())
            } else {
                Span::Text(piece.to_owned())
            }
        })
        .collect()
}

/// A room by its label: a pill, and in the plain body, which has none, the label and the id.
pub(crate) fn room(label: &str, id: &RoomId, via: &[OwnedServerName]) -> Vec<Span> {
    vec![Span::Room {
        url: matrix_to(id, via),
        label: shortened(label),
        id: id.to_owned(),
    }]
}

/// A person by their id. Not a mention: only texts for members mention people.
pub(crate) fn person(user: &UserId) -> Span {
    Span::Code(user.to_string())
}

/// Text from outside, in one line and not too long. Control characters and characters that turn
/// the direction of writing could make a text look like another.
pub(crate) fn shortened(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
                ' '
            } else {
                c
            }
        })
        .collect();
    let clean = clean.trim();
    if clean.chars().count() <= LABEL_CHARS_MAX {
        return clean.to_owned();
    }
    let mut short: String = clean.chars().take(LABEL_CHARS_MAX).collect();
    short.push('…');
    short
}

/// A text in the making.
#[derive(Debug, Default)]
pub(crate) struct Doc {
    plain: String,
    html: String,
    list: List,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum List {
    #[default]
    Closed,
    Open,
}

impl Doc {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn line(mut self, spans: &[Span]) -> Self {
        // An empty piece (a problem that there is none of) makes no empty line.
        if spans
            .iter()
            .all(|span| matches!(span, Span::Text(text) if text.is_empty()))
        {
            return self;
        }
        self.close_list();
        self.break_plain();
        self.html.push_str("<p>");
        self.spans(spans);
        self.html.push_str("</p>");
        self
    }

    /// A paragraph of our own words.
    pub(crate) fn say(self, text: &str) -> Self {
        self.line(&own(text))
    }

    pub(crate) fn heading(self, text: &str) -> Self {
        self.line(&[Span::Bold(text.to_owned())])
    }

    /// An item of a list.
    pub(crate) fn item(mut self, spans: &[Span]) -> Self {
        if self.list == List::Closed {
            self.list = List::Open;
            self.html.push_str("<ul>");
        }
        self.break_plain();
        self.plain.push_str("- ");
        self.html.push_str("<li>");
        self.spans(spans);
        self.html.push_str("</li>");
        self
    }

    /// A list that clients fold up, under a line that stays.
    pub(crate) fn folded(mut self, summary: &str, items: &[Vec<Span>]) -> Self {
        self.close_list();
        self.break_plain();
        self.html.push_str("<details><summary>");
        self.spans(&[Span::Bold(summary.to_owned())]);
        self.html.push_str("</summary>");
        let mut doc = items.iter().fold(self, |doc, item| doc.item(item));
        doc.close_list();
        doc.html.push_str("</details>");
        doc
    }

    /// How large both forms are together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.plain.len() + self.html.len()
    }

    pub(crate) fn finish(mut self) -> Text {
        self.close_list();
        Text {
            plain: self.plain,
            html: self.html,
        }
    }

    fn break_plain(&mut self) {
        if !self.plain.is_empty() {
            self.plain.push('\n');
        }
    }

    fn close_list(&mut self) {
        if self.list == List::Open {
            self.list = List::Closed;
            self.html.push_str("</ul>");
        }
    }

    fn spans(&mut self, spans: &[Span]) {
        for span in spans {
            match span {
                Span::Text(text) => {
                    self.plain.push_str(text);
                    self.html.push_str(&escape(text));
                }
                Span::Bold(text) => {
                    self.plain.push_str(text);
                    // Writing to a String cannot fail.
                    let _ = write!(self.html, "<strong>{}</strong>", escape(text));
                }
                Span::Code(text) => {
                    let _ = write!(self.plain, "`{text}`");
                    let _ = write!(self.html, "<code>{}</code>", escape(text));
                }
                Span::Room { url, label, id } => {
                    let _ = write!(self.plain, "{label} (`{id}`)");
                    let name = if label.is_empty() { id.as_str() } else { label };
                    let _ = write!(
                        self.html,
                        "<a href=\"{}\">{}</a>",
                        escape(url),
                        escape(name)
                    );
                }
            }
        }
    }
}

/// Lines of our own words, as `command` gives help and errors: list items begin with `- `.
pub(crate) fn lines(text: &str) -> Text {
    let mut doc = Doc::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        doc = match line.strip_prefix("- ") {
            Some(item) => doc.item(&own(item)),
            None => doc.line(&own(line)),
        };
    }
    doc.finish()
}

/// Escapes text for HTML. That `@room` in it pages nobody is said by `m.mentions` of the message.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("<br>"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same_and_nothing_from_outside_is_markup() {
        let text = Doc::new()
            .line(&room(
                "<b>R</b> & \"@room\"\u{202e}",
                ruma::room_id!("!r:x"),
                &[],
            ))
            .item(&own("Type `!upgrade help`."))
            .item(&[Span::Bold("two".to_owned())])
            .say("End.")
            .finish();
        insta::assert_snapshot!(text.plain, @r#"
        <b>R</b> & "@room" (`!r:x`)
        - Type `!upgrade help`.
        - two
        End.
        "#);
        insta::assert_snapshot!(text.html, @r#"<p><a href="https://matrix.to/#/!r:x">&lt;b&gt;R&lt;/b&gt; &amp; &quot;@room&quot;</a></p><ul><li>Type <code>!upgrade help</code>.</li><li><strong>two</strong></li></ul><p>End.</p>"#);
    }
}
