//! Posts of the outbox as the content of events: notices, edits, reactions; and what replaces a post that the server
//! refuses.

use jiff::Timestamp;
use ruma::EventId;
use serde_json::{Value, json};

use crate::homeserver::HomeserverError;
use crate::message::{answer, emoji};
use crate::model::Text;
use crate::room::state::Content;
use crate::store::{Due, End, Post, Sent};

/// What is said in place of a file that cannot be sent. A picture only shows what its words say.
pub(super) fn in_words(post: &Due, error: &HomeserverError, now: Timestamp) -> Option<Sent> {
    let (text, reply_to, end) = match &post.post {
        Post::File { name, reply_to, .. } => {
            let (status, said) = match error {
                HomeserverError::Refused {
                    status,
                    code,
                    message,
                    ..
                } => (Some(*status), Some(format!("{message} ({code})"))),
                HomeserverError::Uncertain { status, .. } => (*status, None),
                _ => (None, None),
            };
            let end = reply_to.clone().map(|of| End {
                of,
                emoji: emoji::NO,
            });
            let text = answer::file_not_sent(name, status, said.as_deref());
            (text, reply_to, end)
        }
        Post::Image {
            caption, reply_to, ..
        } => (caption.clone(), reply_to, None),
        Post::Message { .. } | Post::Reaction { .. } | Post::Redaction { .. } => return None,
    };
    let post = Post::Message {
        text,
        reply_to: reply_to.clone(),
    };
    Some(Sent::Instead {
        post: Box::new(post),
        at: now,
        end,
    })
}

/// Whether an earlier try may have put an earlier revision into the room.
pub(super) fn may_be_older(post: &Due) -> bool {
    post.event_id.is_none() && post.attempts > 0 && post.revision > 0
}

/// A notice that mentions nobody.
pub(super) fn notice(plain: &str, html: &str) -> Value {
    json!({
        "msgtype": "m.notice",
        "body": plain,
        "format": "org.matrix.custom.html",
        "formatted_body": html,
        "m.mentions": {},
    })
}

pub(super) fn original(text: &Text, relation: Option<Value>) -> Content {
    let mut content = object(notice(&text.plain, &text.html));
    if let Some(relation) = relation {
        content.insert("m.relates_to".to_owned(), relation);
    }
    content
}

/// The asterisk is for clients that show an edit as a message of its own.
pub(super) fn edit(text: &Text, original: &EventId) -> Content {
    let mut content = object(notice(
        &format!("* {}", text.plain),
        &format!("* {}", text.html),
    ));
    content.insert("m.new_content".to_owned(), notice(&text.plain, &text.html));
    let relation = json!({ "rel_type": "m.replace", "event_id": original });
    content.insert("m.relates_to".to_owned(), relation);
    content
}

pub(super) fn reaction(event: &EventId, emoji: &str) -> Content {
    object(json!({
        "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": emoji },
    }))
}

pub(super) fn object(value: Value) -> Content {
    match value {
        Value::Object(content) => content,
        _ => Content::new(),
    }
}
