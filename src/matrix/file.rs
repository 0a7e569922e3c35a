//! Files: uploaded, and described in the content of a message; encrypted where the room is.
//!
//! A try that was cut off is made anew from the beginning: what was uploaded for nothing stays
//! unseen, and the message has its transaction id. Left out: sending the message.

use std::io::Cursor;

use jiff::Timestamp;
use matrix_sdk::{Client, HttpResult};
use ruma::api::client::media::create_content;
use ruma::{EventId, OwnedMxcUri, RoomId};
use serde_json::{Value, json};

use super::wire::{failed, joined, once, refuse_encrypted, sdk_failed};
use crate::homeserver::{Bucket, HomeserverError, REQUEST_TIMEOUT};
use crate::model::Text;
use crate::room::state::{Content, content};

/// A file to be sent.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// What it is called.
    pub(super) name: String,
    /// Its media type.
    pub(super) content_type: String,
    /// What is in it.
    pub(super) bytes: Vec<u8>,
    /// As what it is shown.
    pub(super) shown: Shown,
}

/// As what a file is shown.
#[derive(Debug, Clone)]
pub(super) enum Shown {
    /// By its name.
    File,
    /// As a picture, with words below it.
    Image {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
        /// The words.
        caption: Text,
    },
}

/// Uploads a file as it is.
pub(super) async fn upload(
    client: &Client,
    name: &str,
    content_type: &str,
    bytes: Vec<u8>,
) -> HttpResult<OwnedMxcUri> {
    let mut request = create_content::v3::Request::new(bytes);
    request.filename = Some(name.to_owned());
    request.content_type = Some(content_type.to_owned());
    let answer = client
        .send(request)
        .with_request_config(once(REQUEST_TIMEOUT))
        .await;
    answer.map(|answer| answer.content_uri)
}

/// Uploads a file for a room; gives the content of the message that shows it there.
pub(super) async fn message(
    client: &Client,
    room: &RoomId,
    file: &File,
    reply_to: Option<&EventId>,
    now: Timestamp,
) -> Result<Content, HomeserverError> {
    let what = format!("upload {} for {room}", file.name);
    let (key, source) = source(client, room, file, what, now).await?;
    let size = file.bytes.len();
    let mut message = content(match &file.shown {
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
    message.insert(key.to_owned(), source);
    if let Some(event) = reply_to {
        let relation = json!({ "m.in_reply_to": { "event_id": event } });
        message.insert("m.relates_to".to_owned(), relation);
    }
    Ok(message)
}

/// Where the uploaded file is, under the key that it has in a message.
async fn source(
    client: &Client,
    room: &RoomId,
    file: &File,
    what: String,
    now: Timestamp,
) -> Result<(&'static str, Value), HomeserverError> {
    let sdk_failed = |what, error| sdk_failed(what, Bucket::Everything, now, error);
    let encrypted = if let Some(known) = joined(client, room) {
        let state = known.latest_encryption_state().await;
        let state = state.map_err(|error| sdk_failed(what.clone(), error))?;
        state.is_encrypted()
    } else {
        refuse_encrypted(client, room, &what, now).await?;
        false
    };
    if encrypted {
        let mut bytes = Cursor::new(file.bytes.as_slice());
        let uploaded = client
            .upload_encrypted_file(&mut bytes)
            .with_request_config(once(REQUEST_TIMEOUT))
            .await;
        let uploaded = uploaded.map_err(|error| sdk_failed(what.clone(), error))?;
        let source =
            serde_json::to_value(uploaded).map_err(|source| HomeserverError::Unusable {
                request: what,
                source: source.into(),
            })?;
        return Ok(("file", source));
    }
    let uploaded = upload(client, &file.name, &file.content_type, file.bytes.clone()).await;
    let uploaded = uploaded.map_err(|error| failed(what, Bucket::Everything, now, error))?;
    Ok(("url", json!(uploaded)))
}
