//! A pinned message of the old room, said again in the new one.
//!
//! Nobody can speak for somebody else, so the bot quotes: who wrote it and when, a link to the
//! original, and the text or the same media. What cannot be quoted is still named, with its link.
//! Left out: reading the original, and pinning the copy.

use jiff::Timestamp;
use ruma::events::room::message::sanitize::remove_plain_reply_fallback;
use ruma::html::{Children, Html, SanitizerConfig};
use ruma::{EventId, OwnedServerName, RoomId};
use serde_json::{Value, json};

use super::doc::escape;
use crate::model::Text;
use crate::room::state::{Content, RoomEvent, content, link_to};

/// Key in the content of a copy; its value is the id of the original.
pub(crate) const PIN_OF: &str = "io.roomlift.pin_of";

/// Longest quotation, in each of its forms. An event holds 65,536 bytes, encrypted a third less.
const QUOTE_BYTES_MAX: usize = 8 * 1024;

/// Most `<` in HTML that is quoted as it is: the tree is freed recursively, so that this bounds the
/// stack; a message with more is quoted as plain text.
const QUOTE_TAGS_MAX: usize = 1000;

/// Longest description of a file (address, keys, thumbnail, size) that is carried over.
const MEDIA_BYTES_MAX: usize = 16 * 1024;

/// Where the original is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Original<'a> {
    pub room: &'a RoomId,
    pub event: &'a EventId,
    /// Servers to find it by.
    pub via: &'a [OwnedServerName],
}

/// Content of the copy of a pinned message. It mentions nobody and answers nothing.
pub(crate) fn copy(event: &RoomEvent, original: &Original<'_>) -> Content {
    let intro = Intro::new(event, original);
    let mut copy = match copied(event) {
        Copied::Words(quote) => with_text(json!({ "msgtype": "m.text" }), &intro.before(&quote)),
        Copied::Media { media, caption } => {
            let caption = caption.map_or_else(|| intro.alone(), |quote| intro.before(&quote));
            with_text(media, &caption)
        }
        Copied::Nothing(why) => with_text(json!({ "msgtype": "m.text" }), &intro.instead(why)),
    };
    copy.insert("m.mentions".to_owned(), json!({}));
    copy.insert(PIN_OF.to_owned(), json!(original.event));
    copy
}

/// What of a message can be said again.
enum Copied {
    Words(Text),
    /// Its file, and the text with it.
    Media {
        media: Value,
        caption: Option<Text>,
    },
    Nothing(&'static str),
}

fn copied(event: &RoomEvent) -> Copied {
    let nothing = |why| Copied::Nothing(why);
    match event.kind.as_str() {
        _ if event.content.is_empty() => return nothing("it was deleted"),
        "m.room.message" => {}
        "m.room.encrypted" => return nothing("it is encrypted, and I do not have its key"),
        "m.sticker" => return nothing("it is a sticker"),
        "m.poll.start" | "org.matrix.msc3381.poll.start" => return nothing("it is a poll"),
        "m.location" => return nothing("it is a location"),
        _ => return nothing("it is not a message that I know"),
    }
    let text = |key: &str| event.content.get(key).and_then(Value::as_str);
    let Some(body) = text("body") else {
        return nothing("it has no text");
    };
    match text("msgtype").unwrap_or_default() {
        "m.text" | "m.notice" => Copied::Words(quote(&event.content, body)),
        "m.emote" => Copied::Words(quote(&event.content, &format!("* {body}"))),
        "m.image" | "m.file" | "m.video" | "m.audio" => media(&event.content, body),
        "m.location" => nothing("it is a location"),
        _ => nothing("it is not a message that I know"),
    }
}

/// A file, with the words that came with it as a caption.
/// Source: Matrix specification 1.10 (MSC2530): with `filename`, another `body` is a caption.
fn media(original: &Content, body: &str) -> Copied {
    let filename = original.get("filename").and_then(Value::as_str);
    let kept = ["msgtype", "url", "file", "info"];
    let mut media: Content = kept
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), original.get(key)?.clone())))
        .collect();
    media.insert("filename".to_owned(), json!(filename.unwrap_or(body)));
    let address = media
        .get("url")
        .or_else(|| media.get("file").and_then(|file| file.get("url")))
        .and_then(Value::as_str);
    if !address.is_some_and(|address| address.starts_with("mxc://")) {
        return Copied::Nothing("its file has no address");
    }
    let media = Value::Object(media);
    if media.to_string().len() > MEDIA_BYTES_MAX {
        return Copied::Nothing("the description of its file is too long");
    }
    let caption = filename.is_some_and(|filename| filename != body);
    Copied::Media {
        media,
        caption: caption.then(|| quote(original, body)),
    }
}

/// The words of a message: cut, without its quotation of another, and paging nobody.
fn quote(original: &Content, body: &str) -> Text {
    let text = |key: &str| original.get(key).and_then(Value::as_str);
    let is_reply = original
        .get("m.relates_to")
        .is_some_and(|relation| relation.get("m.in_reply_to").is_some());
    let body = if is_reply {
        remove_plain_reply_fallback(body)
    } else {
        body
    };
    let clean: String = body
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    let plain = pages_nobody(clean.trim());
    if plain.len() > QUOTE_BYTES_MAX {
        let end = plain.floor_char_boundary(QUOTE_BYTES_MAX);
        let plain = format!("{}…", &plain[..end]);
        let html = escape(&plain);
        return Text { plain, html };
    }
    let html = text("formatted_body")
        .filter(|_| text("format") == Some("org.matrix.custom.html"))
        .and_then(sanitised)
        .unwrap_or_else(|| escape(&plain));
    Text { plain, html }
}

/// HTML with nothing in it but what the specification lets clients show; `None` if it is too much.
fn sanitised(html: &str) -> Option<String> {
    if html.len() > QUOTE_BYTES_MAX || html.matches('<').count() > QUOTE_TAGS_MAX {
        return None;
    }
    let html = Html::parse(html);
    html.sanitize_with(&SanitizerConfig::compat().remove_reply_fallback());
    let mut open: Vec<Children> = vec![html.children()];
    while let Some(children) = open.last_mut() {
        let Some(node) = children.next() else {
            open.pop();
            continue;
        };
        if let Some(text) = node.as_text() {
            let harmless = pages_nobody(&text.borrow());
            *text.borrow_mut() = harmless.into();
        }
        open.push(node.children());
    }
    Some(html.to_string())
}

/// Clients that do not know `m.mentions` look for `@room`: a word joiner, which is not seen, parts
/// it.
fn pages_nobody(text: &str) -> String {
    text.replace("@room", "@\u{2060}room")
}

/// What stands before a quotation: who wrote it, when, and where it is.
struct Intro {
    author: String,
    day: String,
    link: String,
}

impl Intro {
    fn new(event: &RoomEvent, original: &Original<'_>) -> Self {
        let place = [original.room.as_str(), original.event.as_str()];
        let written = i64::try_from(event.origin_server_ts)
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok());
        Self {
            author: event.sender.clone(),
            day: written.map_or_else(
                || "an unknown day".to_owned(),
                |written| written.strftime("%Y-%m-%d").to_string(),
            ),
            link: link_to(&place, original.via),
        }
    }

    fn line(&self, rest: &str) -> Text {
        let Self { author, day, link } = self;
        Text {
            plain: format!("Pinned in the old room, by {author} on {day}{rest}: {link}"),
            html: format!(
                "<p>Pinned in the old room, by <code>{}</code> on {day}{rest} \
                 (<a href=\"{}\">original</a>)</p>",
                escape(author),
                escape(link)
            ),
        }
    }

    fn alone(&self) -> Text {
        self.line("")
    }

    fn before(&self, quote: &Text) -> Text {
        let Text { plain, html } = self.alone();
        let quoted: Vec<String> = quote
            .plain
            .lines()
            .map(|line| format!("> {line}"))
            .collect();
        Text {
            plain: format!("{plain}\n{}", quoted.join("\n")),
            html: format!("{html}<blockquote>{}</blockquote>", quote.html),
        }
    }

    fn instead(&self, why: &str) -> Text {
        self.line(&format!(". I could not copy it, since {why}"))
    }
}

/// Adds a text; its HTML only while it is short enough.
fn with_text(to: Value, text: &Text) -> Content {
    let mut to = content(to);
    to.insert("body".to_owned(), json!(text.plain));
    if text.html.len() <= 2 * QUOTE_BYTES_MAX {
        to.insert("format".to_owned(), json!("org.matrix.custom.html"));
        to.insert("formatted_body".to_owned(), json!(text.html));
    }
    to
}

#[cfg(test)]
mod tests;
