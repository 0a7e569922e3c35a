//! A person whose client encrypts: one built on the same SDK as the bot, logged in as another device.

use std::sync::{Arc, Mutex, PoisonError};

use matrix_sdk::Client;
use matrix_sdk::config::SyncSettings;
use matrix_sdk::deserialized_responses::EncryptionInfo;
use matrix_sdk::encryption::EncryptionSettings;
use matrix_sdk::media::{MediaFormat, MediaRequestParameters};
use matrix_sdk::room::Room;
use roomlift_testbed::{User, eventually};
use ruma::RoomId;
use ruma::events::room::MediaSource;
use ruma::events::room::message::{
    MessageType, OriginalSyncRoomMessageEvent, Relation, RoomMessageEventContent,
};
use tokio::task::JoinHandle;

use super::scene::SPEECH;

/// A message as the client shows it.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) room: String,
    pub(crate) sender: String,
    pub(crate) body: String,
    pub(crate) form: Form,
    pub(crate) image: Option<MediaSource>,
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Encrypted,
    InTheClear,
}

/// Whether the client makes and uses a cross-signing identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signing {
    Signed,
    Unsigned,
}

/// A client that syncs until it is dropped.
pub(crate) struct SdkUser {
    pub(crate) client: Client,
    said: Arc<Mutex<Vec<Said>>>,
    sync: JoinHandle<()>,
}

impl Drop for SdkUser {
    fn drop(&mut self) {
        self.sync.abort();
    }
}

impl SdkUser {
    /// Logs in as one more device of a user.
    pub(crate) async fn log_in(base_url: &str, user: &User, signing: Signing) -> Self {
        let client = Client::builder()
            .homeserver_url(base_url)
            .with_encryption_settings(EncryptionSettings {
                auto_enable_cross_signing: signing == Signing::Signed,
                ..EncryptionSettings::default()
            })
            .build()
            .await
            .expect("a client");
        client
            .matrix_auth()
            .login_username(&user.user_id, &user.password)
            .send()
            .await
            .expect("a login");
        client
            .encryption()
            .wait_for_e2ee_initialization_tasks()
            .await;
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        client.add_event_handler(
            move |event: OriginalSyncRoomMessageEvent, room: Room, info: Option<EncryptionInfo>| {
                let form = if info.is_some() {
                    Form::Encrypted
                } else {
                    Form::InTheClear
                };
                let body = match &event.content.relates_to {
                    Some(Relation::Replacement(edit)) => edit.new_content.msgtype.body(),
                    _ => event.content.body(),
                };
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Said {
                        room: room.room_id().to_string(),
                        sender: event.sender.to_string(),
                        body: body.to_owned(),
                        form,
                        image: match &event.content.msgtype {
                            MessageType::Image(image) => Some(image.source.clone()),
                            _ => None,
                        },
                    });
                async {}
            },
        );
        client
            .sync_once(SyncSettings::default())
            .await
            .expect("a first sync");
        let syncing = client.clone();
        let sync = tokio::spawn(async move {
            while syncing.sync_once(SyncSettings::default()).await.is_ok() {}
        });
        Self { client, said, sync }
    }

    /// Types into a room.
    pub(crate) async fn say(&self, room: &str, text: &str) -> String {
        let room = <&RoomId>::try_from(room).expect("an id");
        let room = self.client.get_room(room).expect("a known room");
        let sent = room.send(RoomMessageEventContent::text_plain(text)).await;
        sent.expect("it is sent").response.event_id.to_string()
    }

    /// Waits until somebody said something with this in it, and returns how it came.
    pub(crate) async fn hear(&self, room: &str, from: &User, part: &str) -> Said {
        eventually(part, SPEECH, async || self.heard(room, from, part).pop()).await
    }

    /// Waits until somebody showed a picture, and returns the file as this client gets it.
    pub(crate) async fn see(&self, room: &str, from: &User) -> (Form, Vec<u8>) {
        let shown = eventually("a picture", SPEECH, async || {
            let shown = self.heard(room, from, "");
            shown.into_iter().find(|said| said.image.is_some())
        });
        let shown = shown.await;
        let form = match &shown.image {
            Some(MediaSource::Encrypted(_)) => shown.form,
            _ => Form::InTheClear,
        };
        let request = MediaRequestParameters {
            source: shown.image.expect("a picture"),
            format: MediaFormat::File,
        };
        let media = self.client.media();
        let file = media.get_media_content(&request, false).await;
        (form, file.expect("the file"))
    }

    /// What somebody said so far with this in it.
    pub(crate) fn heard(&self, room: &str, from: &User, part: &str) -> Vec<Said> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter()
            .filter(|said| said.room == room && said.sender == from.user_id)
            .filter(|said| said.body.contains(part))
            .cloned()
            .collect()
    }

    /// Whether a device of somebody is signed by its owner, as the server tells now.
    pub(crate) async fn trusts(&self, user: &User, device: &str) -> bool {
        let id = ruma::UserId::parse(&user.user_id).expect("an id");
        let encryption = self.client.encryption();
        let identity = encryption.request_user_identity(&id).await;
        identity.expect("an answer");
        let device = encryption.get_device(&id, device.into()).await;
        device
            .expect("a store")
            .is_some_and(|device| device.is_cross_signed_by_owner())
    }
}
