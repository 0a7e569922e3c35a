//! Sync by the SDK, which also decrypts. It stores its place in the sync before the answer is here.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use matrix_sdk::config::SyncSettings;
use matrix_sdk::deserialized_responses::{
    RawAnySyncOrStrippedState, TimelineEvent as SdkEvent, TimelineEventKind, VerificationLevel,
    VerificationState,
};
use matrix_sdk::room::{Messages, MessagesOptions};
use matrix_sdk::store::StateStoreDataKey;
use matrix_sdk::sync::{JoinedRoomUpdate, State, SyncResponse};
use matrix_sdk::{Client, Room};
use ruma::api::client::config::set_global_account_data;
use ruma::api::client::filter::{Filter as EventFilter, FilterDefinition, RoomEventFilter};
use ruma::api::client::sync::sync_events::v3::Filter;
use ruma::events::StateEventType;
use ruma::events::room::encrypted::OriginalSyncRoomEncryptedEvent;
use ruma::serde::Raw;
use ruma::{OwnedRoomId, RoomId, UInt, UserId};
use serde_json::value::RawValue;

use super::{
    Gap, Invitation, Page, RoomUpdate, SyncAnswer, SyncSource, TimelineEvent, Undecrypted,
};
use crate::clock::{Clock as _, SystemClock};
use crate::homeserver::{Bucket, HomeserverError, REQUEST_TIMEOUT, Result};
use crate::matrix::session::Session;
use crate::matrix::syncs::Syncs;
use crate::matrix::wire::{failed, joined, once, raw, sdk_failed};
use crate::matrix::{MatrixError, encryption};
use crate::model::Device;
use crate::room::state::Content;

/// Events per room in one sync answer; with more, the rest is read back.
const TIMELINE_LIMIT: u32 = 50;

#[async_trait]
impl SyncSource for Session {
    fn account(&self) -> &UserId {
        self.user()
    }

    fn syncs(&self) -> &Syncs {
        Self::syncs(self)
    }

    async fn has_synced(&self) -> bool {
        let store = self.client().state_store();
        let token = store.get_kv_data(StateStoreDataKey::SyncToken).await;
        matches!(token, Ok(Some(_)))
    }

    async fn sync(&self, poll: Duration) -> Result<SyncAnswer> {
        let answer = sync_once(self.client(), poll).await;
        let answer = answer.map_err(|error| fault("sync", error))?;
        let rooms = answer.rooms;
        Ok(SyncAnswer {
            joined: rooms
                .joined
                .into_iter()
                .map(|(room, news)| (room, update(news)))
                .collect(),
            invited: rooms.invited.into_keys().collect(),
            left: rooms.left.into_keys().collect(),
        })
    }

    async fn messages(
        &self,
        room: &RoomId,
        from: Option<&str>,
        limit: u32,
    ) -> Result<Option<Page>> {
        let Some(room) = joined(self.client(), room) else {
            return Ok(None);
        };
        let mut options = MessagesOptions::backward().from(from);
        options.limit = UInt::from(limit);
        let page = read_back(room, options).await;
        let page = page.map_err(|error| fault("read back", error))?;
        Ok(Some(Page {
            events: page.chunk.into_iter().map(event).collect(),
            end: page.end,
        }))
    }

    async fn account_data(&self, kind: &str) -> Option<Content> {
        account_data(self.client(), kind).await
    }

    async fn set_account_data(&self, kind: &str, content: &Content) -> Result<()> {
        let request = set_global_account_data::v3::Request::new_raw(
            self.user().to_owned(),
            kind.into(),
            raw(content),
        );
        let client = self.client();
        let set = client.send(request);
        let set = set.with_request_config(once(REQUEST_TIMEOUT)).await;
        let what = format!("set {kind} of the account");
        set.map(drop)
            .map_err(|error| failed(what, Bucket::Everything, SystemClock.now(), error))
    }

    async fn tombstones(&self) -> Vec<(OwnedRoomId, Box<RawValue>)> {
        tombstones(self.client()).await
    }

    async fn invitations(&self) -> Vec<Invitation> {
        invitations(self.client()).await
    }

    async fn accept(&self, room: &RoomId) -> Result<()> {
        let Some(room) = self.client().get_room(room) else {
            return Ok(());
        };
        let accepted = join(room).await;
        accepted.map_err(|error| fault("accept an invitation", error))
    }

    async fn decrypt(&self, room: &RoomId, json: &RawValue) -> Option<TimelineEvent> {
        let room = joined(self.client(), room)?;
        let decrypted = decrypted(room, Raw::from_json(json.to_owned())).await?;
        matches!(decrypted.kind, TimelineEventKind::Decrypted(_)).then(|| event(decrypted))
    }

    async fn set_up_encryption(&self) -> Result<(), MatrixError> {
        set_up_encryption(self).await
    }
}

// Each of these is looked into by the compiler once, see `SharedClient`.

fn sync_once(client: &Client, poll: Duration) -> BoxFuture<'_, matrix_sdk::Result<SyncResponse>> {
    Box::pin(client.sync_once(settings(poll)))
}

fn read_back(
    room: Room,
    options: MessagesOptions,
) -> BoxFuture<'static, matrix_sdk::Result<Messages>> {
    Box::pin(async move { room.messages(options).await })
}

fn tombstones(client: &Client) -> BoxFuture<'_, Vec<(OwnedRoomId, Box<RawValue>)>> {
    Box::pin(async move {
        let mut found = Vec::new();
        for room in client.joined_rooms() {
            let event = room
                .get_state_event(StateEventType::RoomTombstone, "")
                .await;
            if let Ok(Some(RawAnySyncOrStrippedState::Sync(raw))) = event {
                found.push((room.room_id().to_owned(), raw.into_json()));
            }
        }
        found
    })
}

fn account_data<'a>(client: &'a Client, kind: &'a str) -> BoxFuture<'a, Option<Content>> {
    Box::pin(async move {
        let found = client.account().account_data_raw(kind.into()).await;
        let found = found.inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            tracing::warn!(kind, error, "cannot read the account's data");
        });
        found.ok()??.deserialize_as_unchecked().ok()
    })
}

fn invitations(client: &Client) -> BoxFuture<'_, Vec<Invitation>> {
    Box::pin(async move {
        let mut open = Vec::new();
        for room in client.invited_rooms() {
            let details = room.invite_details().await;
            open.push(Invitation {
                room_id: room.room_id().to_owned(),
                inviter: details.ok().map(|details| details.inviter_id),
            });
        }
        open
    })
}

fn join(room: Room) -> BoxFuture<'static, matrix_sdk::Result<()>> {
    Box::pin(async move { room.join().await })
}

fn decrypted(
    room: Room,
    event: Raw<OriginalSyncRoomEncryptedEvent>,
) -> BoxFuture<'static, Option<SdkEvent>> {
    Box::pin(async move { room.decrypt_event(&event, None).await.ok() })
}

fn set_up_encryption(session: &Session) -> BoxFuture<'_, Result<(), MatrixError>> {
    Box::pin(encryption::set_up(session))
}

fn fault(what: &str, error: matrix_sdk::Error) -> HomeserverError {
    sdk_failed(
        what.to_owned(),
        Bucket::Everything,
        SystemClock.now(),
        error,
    )
}

fn update(news: JoinedRoomUpdate) -> RoomUpdate {
    let (State::Before(state) | State::After(state)) = news.state;
    RoomUpdate {
        state: state.into_iter().map(Raw::into_json).collect(),
        timeline: news.timeline.events.into_iter().map(event).collect(),
        prev_batch: news.timeline.prev_batch,
        gap: if news.timeline.limited {
            Gap::Before
        } else {
            Gap::None
        },
    }
}

fn event(event: SdkEvent) -> TimelineEvent {
    let undecrypted = match &event.kind {
        TimelineEventKind::UnableToDecrypt { utd_info, .. } => Some(Undecrypted {
            session: utd_info.session_id.clone(),
        }),
        _ => None,
    };
    TimelineEvent {
        device: device(&event),
        undecrypted,
        json: event.into_raw().into_json(),
    }
}

/// What is known of the device that an event came from. Whether its owner is who they say is not
/// asked: that is what power levels are about.
fn device(event: &SdkEvent) -> Device {
    match event.encryption_info().map(|info| &info.verification_state) {
        Some(
            VerificationState::Verified
            | VerificationState::Unverified(VerificationLevel::UnverifiedIdentity),
        ) => Device::Verified,
        _ => Device::Unknown,
    }
}

fn settings(poll: Duration) -> SyncSettings {
    let mut filter = FilterDefinition::with_lazy_loading();
    filter.room.timeline = RoomEventFilter::with_lazy_loading();
    filter.room.timeline.limit = Some(UInt::from(TIMELINE_LIMIT));
    filter.room.ephemeral = RoomEventFilter::ignore_all();
    filter.presence = EventFilter::ignore_all();
    SyncSettings::default()
        .timeout(poll)
        .filter(Filter::FilterDefinition(filter))
}
