//! Files as messages: how an uploaded file is shown.
//!
//! A try that was cut off is made anew from the beginning: what was uploaded for nothing stays
//! unseen, and the message has its transaction id. Left out: uploading, and sending the message.

use serde_json::{Value, json};

use crate::homeserver::{Upload, Uploaded};
use crate::model::Text;
use crate::room::state::{Content, content};

/// As what a file is shown.
#[derive(Debug, Clone)]
pub(super) enum Shown {
    File,
    /// As a picture, with words below it.
    Image {
        width: u32,
        height: u32,
        caption: Text,
    },
}

/// Content of the message that shows an uploaded file.
pub(super) fn message(
    file: &Upload,
    uploaded: Uploaded,
    shown: &Shown,
    relation: Option<Value>,
) -> Content {
    let size = file.bytes.len();
    let mut message = content(match shown {
        Shown::File => json!({
            "msgtype": "m.file",
            "body": file.name,
            "filename": file.name,
            "info": { "mimetype": file.content_type, "size": size },
            "m.mentions": {},
        }),
        // Source: Matrix specification, "Media captions" (MSC2530).
        Shown::Image {
            width,
            height,
            caption,
        } => json!({
            "msgtype": "m.image",
            "body": caption.plain,
            "format": "org.matrix.custom.html",
            "formatted_body": caption.html,
            "filename": file.name,
            "info": { "mimetype": file.content_type, "size": size, "w": width, "h": height },
            "m.mentions": {},
        }),
    });
    message.insert(uploaded.key.to_owned(), uploaded.source);
    if let Some(relation) = relation {
        message.insert("m.relates_to".to_owned(), relation);
    }
    message
}
