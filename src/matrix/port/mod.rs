//! The port for a real homeserver: one request per method, none repeated, every failure told.
//!
//! Left out: the server's limits (`homeserver::paced`). What sync has told already (`told`) is read from the
//! SDK's store.
//!
//! Longer than most files, as it is one implementation of one trait.

mod admin;
pub(super) mod told;

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use matrix_sdk::{Client, HttpResult};
use ruma::api::client::alias::{create_alias, delete_alias, get_alias};
use ruma::api::client::directory::{get_room_visibility, set_room_visibility};
use ruma::api::client::discovery::get_capabilities;
use ruma::api::client::membership::{
    get_member_events, invite_user, join_room_by_id_or_alias, joined_rooms, kick_user, leave_room,
};
use ruma::api::client::profile::get_profile;
use ruma::api::client::redact::redact_event;
use ruma::api::client::room::{Visibility, aliases, get_room_event, upgrade_room};
use ruma::api::client::state::get_state_events;
use ruma::events::AnyTimelineEvent;
use ruma::events::room::encrypted::OriginalSyncRoomEncryptedEvent;
use ruma::serde::Raw;
use ruma::{
    EventId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedTransactionId, OwnedUserId,
    RoomAliasId, RoomId, RoomVersionId, ServerName, UserId,
};
use serde_json::Value;

use super::members::member;
use super::session::Session;
use super::syncs::Syncs;
use super::wire::requests::{self, Exact};
use super::wire::{
    Purpose, SharedClient, count, failed, found, joined, once, sdk_failed, send_event, upload,
};
use crate::checkup::{Backup, EncryptionFacts, Identity, ServerFacts};
use crate::clock::Clock;
use crate::homeserver::admin::{RoomPower, ServerAdmin};
use crate::homeserver::{
    Bucket, Existence, Homeserver, HomeserverError, REQUEST_TIMEOUT, Resolved, Result,
    RoomVersions, ToldRoom, UPGRADE_TIMEOUT, Upload, Uploaded, ensure_reachable,
};
use crate::metrics::RequestKind;
use crate::model::{RoomName, RoomRef};
use crate::room::creation::Preset;
use crate::room::moves::MemberEvent;
use crate::room::state::{Content, Listing, RoomEvent, RoomState};

/// Longest wait for what a message to a room takes.
const READY_MAX: Duration = Duration::from_secs(2);

/// Entries of another server's directory that are looked through for a room.
const SEARCHED_MAX: u32 = 50;

/// A homeserver as the account sees it.
#[derive(Clone)]
pub struct Port {
    client: SharedClient,
    account: OwnedUserId,
    clock: Arc<dyn Clock>,
    /// To wait for what sync tells.
    syncs: Arc<Syncs>,
    /// There if the account is a server admin's.
    room_power: Option<RoomPower>,
    /// Whether a recovery key is configured, which opens the account's secrets.
    has_recovery_key: bool,
}

/// Starts one request; nothing leaves before it is awaited.
macro_rules! request {
    ($port:expr, $request:expr) => {
        request!($port, $request, REQUEST_TIMEOUT)
    };
    ($port:expr, $request:expr, $timeout:expr) => {
        $port
            .client
            .send($request)
            .with_request_config(once($timeout))
            .into_future()
    };
}

impl Port {
    /// The port for a session.
    #[must_use]
    pub fn new(session: &Session, clock: Arc<dyn Clock>) -> Self {
        let client = session.client().clone();
        Self {
            client,
            account: session.user().to_owned(),
            clock,
            syncs: Arc::clone(session.syncs()),
            room_power: None,
            has_recovery_key: session.recovery_key().is_some(),
        }
    }

    /// The same for a server admin's account.
    #[must_use]
    pub fn of_admin(self, room_power: RoomPower) -> Self {
        Self {
            room_power: Some(room_power),
            ..self
        }
    }

    /// Sends a request, and tells its failures apart.
    async fn ask<T>(
        &self,
        bucket: Bucket,
        what: Purpose,
        answer: impl Future<Output = HttpResult<T>> + Send,
    ) -> Result<T> {
        let answer = answer.await;
        let now = self.clock.now();
        let answer = answer.map_err(|error| failed(what.to_string(), bucket, now, error));
        count(what.kind, &answer);
        answer
    }

    /// The same for what only reads.
    async fn read<T>(
        &self,
        what: Purpose,
        answer: impl Future<Output = HttpResult<T>> + Send,
    ) -> Result<T> {
        self.ask(Bucket::Reads, what, answer).await
    }

    /// The event in the clear; `None` if it is in the clear already, or cannot be read.
    fn decrypted<'a>(
        &'a self,
        room: &'a RoomId,
        event: &'a Raw<AnyTimelineEvent>,
    ) -> BoxFuture<'a, Option<Raw<AnyTimelineEvent>>> {
        Box::pin(async move {
            let kind = event.get_field::<String>("type").ok().flatten()?;
            if kind != "m.room.encrypted" {
                return None;
            }
            let encrypted = event.cast_ref_unchecked::<OriginalSyncRoomEncryptedEvent>();
            let room = self.client.get_room(room)?;
            let event = room.decrypt_event(encrypted, None).await;
            let event = event.inspect_err(|error| {
                tracing::warn!(room = %room.room_id(), error = error as &dyn std::error::Error, "cannot decrypt");
            });
            Some(event.ok()?.into_raw().cast_unchecked())
        })
    }
}

/// Has the SDK ask whether a room is encrypted.
fn ask_encryption<'a>(client: &'a Client, room: &'a RoomId) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        if let Some(known) = joined(client, room) {
            // The SDK keeps the answer.
            let _ = known.request_encryption_state().await;
        }
    })
}

fn encryption_facts<'a>(
    client: &'a Client,
    account: &'a UserId,
    has_recovery_key: bool,
) -> BoxFuture<'a, matrix_sdk::Result<EncryptionFacts>> {
    Box::pin(async move {
        let encryption = client.encryption();
        let identity = encryption.request_user_identity(account).await?;
        let device = encryption.get_own_device().await?;
        let is_signed = device.is_some_and(|device| device.is_cross_signed_by_owner());
        // The device goes on believing in a backup that was deleted until it next sends keys there.
        let is_there = encryption.backups().fetch_exists_on_server().await?;
        let is_kept = is_there && encryption.backups().are_enabled().await;
        Ok(EncryptionFacts {
            identity: match identity {
                None => Identity::Missing,
                Some(_) if is_signed => Identity::Signed,
                Some(_) => Identity::Unsigned,
            },
            backup: match (is_kept, has_recovery_key) {
                (true, _) => Backup::On,
                (false, false) => Backup::Off,
                (false, true) if is_there => Backup::Shut,
                (false, true) => Backup::Gone,
            },
        })
    })
}

#[async_trait]
impl Homeserver for Port {
    fn account(&self) -> &UserId {
        &self.account
    }

    async fn room_versions(&self) -> Result<RoomVersions> {
        let request = get_capabilities::v3::Request::new();
        let what = Purpose::new(RequestKind::Read, "the server's capabilities");
        let answer = self.read(what, request!(self, request)).await?;
        let versions = answer.capabilities.room_versions;
        Ok(RoomVersions {
            available: versions
                .available
                .into_keys()
                .chain([versions.default.clone()])
                .collect(),
            default: versions.default,
        })
    }

    async fn encrypted_presets(&self) -> Result<BTreeSet<Preset>> {
        let what = Purpose::new(RequestKind::Read, "the server's features");
        let answer = self
            .ask(
                Bucket::Everything,
                what,
                request!(self, requests::server_features()),
            )
            .await;
        let features = match answer {
            Ok(answer) => answer.0.get("unstable_features").cloned(),
            Err(HomeserverError::Refused { .. } | HomeserverError::Unusable { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_forced = |name: &str| {
            let forced = features.as_ref().and_then(|features| features.get(name));
            forced.and_then(Value::as_bool) == Some(true)
        };
        let presets = [
            (Preset::Public, "io.element.e2ee_forced.public"),
            (Preset::Private, "io.element.e2ee_forced.private"),
        ];
        let forced = presets.into_iter().filter(|(_, name)| is_forced(name));
        Ok(forced.map(|(preset, _)| preset).collect())
    }

    async fn user_exists(&self, user: &UserId) -> Result<Option<Existence>> {
        let request = get_profile::v3::Request::new(user.to_owned());
        let request = Exact::new(request, &[user.as_str()]);
        let what = Purpose::new(RequestKind::Read, format!("the profile of {user}"));
        let answer = self.read(what, request!(self, request)).await;
        match found(answer) {
            Ok(Some(_)) => Ok(Some(Existence::Known)),
            Ok(None) => Ok(Some(Existence::Unknown)),
            // Some servers tell only those who share a room.
            Err(HomeserverError::Refused { .. }) => Ok(None),
            // What another server does not say is no failure of ours.
            Err(HomeserverError::Uncertain { .. }) if user.server_name() != self.server_name() => {
                ensure_reachable(self).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn state(&self, room: &RoomId) -> Result<RoomState> {
        let request = get_state_events::v3::Request::new(room.to_owned());
        let what = Purpose::new(RequestKind::Read, format!("the state of {room}"));
        let answer = self.read(what, request!(self, request)).await?;
        let events = answer
            .room_state
            .iter()
            .filter_map(|event| told::lenient(event.json().get()));
        Ok(RoomState::new(room.to_owned(), events))
    }

    async fn state_event(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Content>> {
        let request = requests::get_state(room, kind, key);
        let what = Purpose::new(RequestKind::Read, format!("{kind} of {room}"));
        let answer = self.read(what, request!(self, request)).await;
        Ok(found(answer)?.map(|content| content.0))
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<MemberEvent>> {
        let request = get_member_events::v3::Request::new(room.to_owned());
        let what = Purpose::new(RequestKind::Read, format!("the members of {room}"));
        let answer = self.read(what, request!(self, request)).await?;
        let events = answer.chunk.iter();
        let events = events.filter_map(|raw| serde_json::from_str(raw.json().get()).ok());
        Ok(events.filter_map(|event: Value| member(&event)).collect())
    }

    async fn put_state(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        let request = requests::put_state(room, kind, key, content);
        let what = Purpose::new(RequestKind::Set, format!("{kind} in {room}"));
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await?;
        Ok(answer.event_id)
    }

    async fn get_ready_for_message(&self, room: &RoomId) {
        // The message asks again, and says what is wrong.
        let asked = ask_encryption(&self.client, room);
        let _ = tokio::time::timeout(READY_MAX, asked).await;
    }

    async fn send_event(
        &self,
        room: &RoomId,
        kind: &str,
        transaction: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        let now = self.clock.now();
        let sent = send_event(&self.client, room, kind, transaction, content, now).await;
        count(RequestKind::Send, &sent);
        sent
    }

    async fn redact(
        &self,
        room: &RoomId,
        event: &EventId,
        transaction: &str,
    ) -> Result<OwnedEventId> {
        let path = [room.as_str(), event.as_str(), transaction];
        let transaction = OwnedTransactionId::from(transaction);
        let request =
            redact_event::v3::Request::new(room.to_owned(), event.to_owned(), transaction);
        let request = Exact::new(request, &path);
        let what = Purpose::new(RequestKind::Redact, format!("{event} in {room}"));
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await?;
        Ok(answer.event_id)
    }

    async fn event(&self, room: &RoomId, event: &EventId) -> Result<Option<RoomEvent>> {
        let request = get_room_event::v3::Request::new(room.to_owned(), event.to_owned());
        let request = Exact::new(request, &[room.as_str(), event.as_str()]);
        let what = Purpose::new(RequestKind::Read, format!("{event} of {room}"));
        let answer = self.read(what.clone(), request!(self, request)).await;
        let raw = match found(answer) {
            Ok(Some(answer)) => answer.event,
            // Sent before the account may read, or not there: servers tell it either way.
            Ok(None) | Err(HomeserverError::Refused { status: 403, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let json = self.decrypted(room, &raw).await;
        let event = told::as_last_edited(json.as_ref().unwrap_or(&raw).json().get());
        let event = event.map_err(|source| HomeserverError::Unusable {
            request: what.to_string(),
            source: source.into(),
        })?;
        Ok(Some(event))
    }

    async fn create_room(&self, body: &Content) -> Result<OwnedRoomId> {
        let request = request!(self, requests::create_room(body), UPGRADE_TIMEOUT);
        let what = Purpose::new(RequestKind::Create, "a room");
        let answer = self.ask(Bucket::RoomCreation, what, request).await?;
        Ok(answer.room_id)
    }

    async fn upload(&self, room: &RoomId, file: &Upload) -> Result<Uploaded> {
        let what = Purpose::new(RequestKind::Upload, format!("{} for {room}", file.name));
        let uploaded = upload(&self.client, room, file, what.to_string(), self.clock.now()).await;
        count(what.kind, &uploaded);
        uploaded
    }

    async fn invite(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()> {
        let mut invitee = invite_user::v3::InviteUserId::new(user.to_owned());
        invitee.reason = reason.map(ToOwned::to_owned);
        let request = invite_user::v3::Request::new(room.to_owned(), invitee.into());
        let what = Purpose::new(RequestKind::Invite, format!("{user} to {room}"));
        let answer = self.ask(Bucket::Invitations, what, request!(self, request));
        answer.await.map(drop)
    }

    async fn kick(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()> {
        let mut request = kick_user::v3::Request::new(room.to_owned(), user.to_owned());
        request.reason = reason.map(ToOwned::to_owned);
        let what = Purpose::new(RequestKind::Remove, format!("{user} from {room}"));
        self.ask(Bucket::Everything, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn leave(&self, room: &RoomId) -> Result<()> {
        let request = leave_room::v3::Request::new(room.to_owned());
        let what = Purpose::new(RequestKind::Leave, room.as_str());
        let left = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await;
        match left {
            // Servers differ in how they refuse whoever is not in the room.
            Err(HomeserverError::Refused { .. }) if !self.joined_rooms().await?.contains(room) => {
                Ok(())
            }
            left => left.map(drop),
        }
    }

    async fn ban(&self, room: &RoomId, user: &str, reason: Option<&str>) -> Result<()> {
        let request = requests::ban(room, user, reason);
        let what = Purpose::new(RequestKind::Ban, format!("{user} from {room}"));
        self.ask(Bucket::Everything, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn join(&self, room: &RoomRef) -> Result<OwnedRoomId> {
        let name = match &room.name {
            RoomName::Id(id) => id.clone().into(),
            RoomName::Alias(alias) => alias.clone().into(),
        };
        let mut request = join_room_by_id_or_alias::v3::Request::new(name);
        request.via.clone_from(&room.via);
        let request = Exact::new(request, &[&room.name.to_string()]);
        let what = Purpose::new(RequestKind::Join, room.name.to_string());
        let answer = self
            .ask(Bucket::Joins, what, request!(self, request))
            .await?;
        Ok(answer.room_id)
    }

    async fn joined_rooms(&self) -> Result<BTreeSet<OwnedRoomId>> {
        let request = joined_rooms::v3::Request::new();
        let what = Purpose::new(RequestKind::List, "the joined rooms");
        let answer = self.read(what, request!(self, request)).await?;
        Ok(answer.joined_rooms.into_iter().collect())
    }

    async fn resolve(&self, alias: &RoomAliasId) -> Result<Option<Resolved>> {
        let request = get_alias::v3::Request::new(alias.to_owned());
        let request = Exact::new(request, &[alias.as_str()]);
        let what = Purpose::new(RequestKind::Resolve, alias.as_str());
        let answer = self.ask(Bucket::Reads, what, request!(self, request)).await;
        Ok(found(answer)?.map(|room| Resolved {
            room_id: room.room_id,
            via: room.servers,
        }))
    }

    async fn local_aliases(&self, room: &RoomId) -> Result<BTreeSet<OwnedRoomAliasId>> {
        let request = aliases::v3::Request::new(room.to_owned());
        let what = Purpose::new(RequestKind::List, format!("the aliases of {room}"));
        let answer = self.read(what, request!(self, request)).await;
        let aliases = found(answer)?
            .map(|answer| answer.aliases)
            .unwrap_or_default();
        Ok(aliases.into_iter().collect())
    }

    async fn create_alias(&self, alias: &RoomAliasId, room: &RoomId) -> Result<()> {
        let request = create_alias::v3::Request::new(alias.to_owned(), room.to_owned());
        let request = Exact::new(request, &[alias.as_str()]);
        let what = Purpose::new(RequestKind::Create, alias.as_str());
        self.ask(Bucket::Addresses, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn delete_alias(&self, alias: &RoomAliasId) -> Result<()> {
        let request = delete_alias::v3::Request::new(alias.to_owned());
        let request = Exact::new(request, &[alias.as_str()]);
        let what = Purpose::new(RequestKind::Remove, alias.as_str());
        self.ask(Bucket::Addresses, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn listing(&self, room: &RoomId) -> Result<Listing> {
        let request = get_room_visibility::v3::Request::new(room.to_owned());
        let what = Purpose::new(
            RequestKind::Read,
            format!("whether the directory lists {room}"),
        );
        let answer = self.read(what, request!(self, request)).await?;
        Ok(match answer.visibility {
            Visibility::Public => Listing::Public,
            _ => Listing::Private,
        })
    }

    async fn set_listing(&self, room: &RoomId, listing: Listing) -> Result<()> {
        let visibility = match listing {
            Listing::Public => Visibility::Public,
            Listing::Private => Visibility::Private,
        };
        let request = set_room_visibility::v3::Request::new(room.to_owned(), visibility);
        let what = Purpose::new(
            RequestKind::Set,
            format!("whether the directory lists {room}"),
        );
        self.ask(Bucket::Addresses, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn listed_elsewhere(
        &self,
        server: &ServerName,
        room: &RoomId,
        term: &str,
    ) -> Result<Listing> {
        let request = requests::public_rooms(server, term, SEARCHED_MAX);
        let what = Purpose::new(RequestKind::Search, format!("the directory of {server}"));
        let answer = self
            .ask(Bucket::Reads, what, request!(self, request))
            .await?;
        let entries = answer.0.get("chunk").and_then(Value::as_array);
        let is_it =
            |entry: &Value| entry.get("room_id").and_then(Value::as_str) == Some(room.as_str());
        Ok(if entries.into_iter().flatten().any(is_it) {
            Listing::Public
        } else {
            Listing::Private
        })
    }

    async fn server_software(&self) -> Result<Option<String>> {
        let what = Purpose::new(RequestKind::Read, "the name of the server's software");
        let answer = self
            .read(what, request!(self, requests::server_software()))
            .await;
        match answer {
            Ok(answer) => {
                let name = answer.0.get("server").and_then(|server| server.get("name"));
                Ok(name.and_then(Value::as_str).map(ToOwned::to_owned))
            }
            // Not there, or something else is there. The name is no condition for anything.
            Err(
                HomeserverError::Refused { .. }
                | HomeserverError::Unusable { .. }
                | HomeserverError::Uncertain {
                    status: Some(_), ..
                },
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn server_facts(&self) -> Result<ServerFacts> {
        let what = Purpose::new(RequestKind::Read, "the name of the server's software");
        let software = self
            .read(what, request!(self, requests::server_software()))
            .await;
        let software = match software {
            Ok(answer) => answer.0.get("server").cloned().unwrap_or_default(),
            Err(
                HomeserverError::Refused { .. }
                | HomeserverError::Unusable { .. }
                | HomeserverError::Uncertain {
                    status: Some(_), ..
                },
            ) => Value::Null,
            Err(error) => return Err(error),
        };
        let text = |key: &str| {
            let text = software.get(key).and_then(Value::as_str);
            text.map(ToOwned::to_owned)
        };
        let what = Purpose::new(RequestKind::Read, "the server's time");
        let dated = self
            .read(what, request!(self, requests::server_time()))
            .await?;
        let now = dated.0.as_deref().map(jiff::fmt::rfc2822::parse);
        Ok(ServerFacts {
            name: text("name"),
            version: text("version"),
            now: now.and_then(|now| Some(now.ok()?.timestamp())),
        })
    }

    async fn encryption(&self) -> Result<EncryptionFacts> {
        let facts = encryption_facts(&self.client, &self.account, self.has_recovery_key).await;
        facts.map_err(|error| {
            let what = "read the account's keys".to_owned();
            let now = self.clock.now();
            sdk_failed(what, Bucket::Everything, now, error)
        })
    }

    fn admin(&self) -> Option<&dyn ServerAdmin> {
        self.room_power.map(|_| self as &dyn ServerAdmin)
    }

    async fn upgrade(
        &self,
        room: &RoomId,
        version: &RoomVersionId,
        additional_creators: &BTreeSet<OwnedUserId>,
    ) -> Result<OwnedRoomId> {
        let mut request = upgrade_room::v3::Request::new(room.to_owned(), version.clone());
        request.additional_creators = additional_creators.iter().cloned().collect();
        let what = Purpose::new(RequestKind::Upgrade, room.as_str());
        let answer = request!(self, request, UPGRADE_TIMEOUT);
        Ok(self
            .ask(Bucket::RoomCreation, what, answer)
            .await?
            .replacement_room)
    }

    async fn until_told(&self, rooms: &[&RoomId], patience: Duration) {
        let told = async {
            while !rooms.iter().all(|room| self.is_told(room)) {
                self.syncs.next().await;
            }
        };
        // Whoever asked looks for themselves what there is.
        let _told = tokio::time::timeout(patience, told).await;
    }

    async fn until_now(&self, patience: Duration) {
        let _told = tokio::time::timeout(patience, self.syncs.next()).await;
    }

    async fn told_rooms(&self) -> Result<Vec<ToldRoom>> {
        self.all_told().await
    }

    async fn known_state(&self, room: &RoomId) -> Result<Option<RoomState>> {
        self.told_state(room).await
    }

    async fn children(&self, space: &RoomId) -> Result<BTreeSet<OwnedRoomId>> {
        self.told_children(space).await
    }
}
