//! The port for a real homeserver: one request per method, none repeated, every failure told.
//!
//! The gate is asked first and told of every 429. Left out: waiting; whoever asks stores the wait.
//! What sync has told already (`referrers`, `children`) is read from the SDK's store.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::sync::Arc;

use async_trait::async_trait;
use matrix_sdk::deserialized_responses::RawAnySyncOrStrippedState;
use matrix_sdk::{Client, HttpResult, Room};
use ruma::api::client::alias::{create_alias, delete_alias, get_alias};
use ruma::api::client::directory::{get_room_visibility, set_room_visibility};
use ruma::api::client::discovery::get_capabilities;
use ruma::api::client::membership::{ban_user, join_room_by_id_or_alias, joined_rooms};
use ruma::api::client::profile::get_profile;
use ruma::api::client::room::{Visibility, aliases, upgrade_room};
use ruma::api::client::state::get_state_events;
use ruma::events::StateEventType;
use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, RoomVersionId,
    UserId,
};
use serde_json::Value;

use super::session::Session;
use super::wire::{GetState, PutState, after, failed, found, once, send_event};
use crate::clock::Clock;
use crate::homeserver::gate::Gate;
use crate::homeserver::{
    Bucket, Existence, Homeserver, HomeserverError, REQUEST_TIMEOUT, Resolved, Result,
    RoomVersions, UPGRADE_TIMEOUT,
};
use crate::model::{RoomName, RoomRef};
use crate::room::state::{Content, Listing, RoomState, StateEvent};

/// State with an empty key that a referrer is read with.
const REFERRER_STATE: [&str; 5] = [
    "m.room.create",
    "m.room.name",
    "m.room.canonical_alias",
    "m.room.power_levels",
    "m.room.join_rules",
];

/// A homeserver as the account sees it.
#[derive(Clone)]
pub struct Port {
    client: Client,
    account: OwnedUserId,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
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
    /// The port for a session; the gate is shared with the outbox.
    #[must_use]
    pub fn new(session: &Session, gate: Arc<Gate>, clock: Arc<dyn Clock>) -> Self {
        let client = session.client().clone();
        Self {
            client,
            account: session.user().to_owned(),
            gate,
            clock,
        }
    }

    /// Lets a request through the gate, and tells its failures apart.
    async fn ask<T>(
        &self,
        bucket: Bucket,
        what: String,
        answer: impl Future<Output = HttpResult<T>> + Send,
    ) -> Result<T> {
        let what = self.enter(bucket, what)?;
        let answer = answer.await;
        let now = self.clock.now();
        answer.map_err(|error| self.noted(failed(what, bucket, now, error)))
    }

    /// Refuses where the bucket is closed.
    fn enter(&self, bucket: Bucket, request: String) -> Result<String> {
        let now = self.clock.now();
        let Some(until) = self.gate.closed_until(bucket, now) else {
            return Ok(request);
        };
        let retry_after = until.duration_since(now).unsigned_abs();
        Err(HomeserverError::RateLimited {
            request,
            bucket,
            retry_after,
        })
    }

    fn noted(&self, error: HomeserverError) -> HomeserverError {
        if let HomeserverError::RateLimited {
            bucket,
            retry_after,
            ..
        } = &error
        {
            self.gate
                .close(*bucket, after(self.clock.now(), *retry_after));
        }
        error
    }

    /// Reads what sync told about a room; `None` where it is not what it should be.
    async fn stored(&self, room: &Room, kind: &str, key: &str) -> Result<Option<StateEvent>> {
        let event = room.get_state_event(StateEventType::from(kind), key).await;
        let event = event.map_err(|source| unreadable(room.room_id(), source))?;
        Ok(event.as_ref().and_then(state_event))
    }

    /// What `room` says about itself and about `target`, if it names that.
    async fn referrer(&self, room: &Room, target: &RoomId) -> Result<Option<RoomState>> {
        let child = self.stored(room, "m.space.child", target.as_str()).await?;
        let child = child.filter(|event| is_child(&event.content));
        let rules = self.stored(room, "m.room.join_rules", "").await?;
        if child.is_none() && !rules.is_some_and(|rules| allows(&rules.content, target)) {
            return Ok(None);
        }
        let mut events: Vec<StateEvent> = child.into_iter().collect();
        for kind in REFERRER_STATE {
            events.extend(self.stored(room, kind, "").await?);
        }
        events.extend(
            self.stored(room, "m.room.member", self.account.as_str())
                .await?,
        );
        Ok(Some(RoomState::new(room.room_id().to_owned(), events)))
    }
}

#[async_trait]
impl Homeserver for Port {
    fn account(&self) -> &UserId {
        &self.account
    }

    async fn room_versions(&self) -> Result<RoomVersions> {
        let request = get_capabilities::v3::Request::new();
        let what = "read the server's capabilities".to_owned();
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await?;
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

    async fn user_exists(&self, user: &UserId) -> Result<Option<Existence>> {
        let request = get_profile::v3::Request::new(user.to_owned());
        let what = format!("read the profile of {user}");
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await;
        match found(answer) {
            Ok(Some(_)) => Ok(Some(Existence::Known)),
            Ok(None) => Ok(Some(Existence::Unknown)),
            // What another server does not say is no failure of ours.
            Err(HomeserverError::Refused { .. } | HomeserverError::Uncertain { .. })
                if user.server_name() != self.server_name() =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn state(&self, room: &RoomId) -> Result<RoomState> {
        let request = get_state_events::v3::Request::new(room.to_owned());
        let what = format!("read the state of {room}");
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await?;
        let events = answer
            .room_state
            .iter()
            .filter_map(|event| lenient(event.json().get()));
        Ok(RoomState::new(room.to_owned(), events))
    }

    async fn state_event(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Content>> {
        let request = GetState::new(room, kind, key);
        let what = format!("read {kind} of {room}");
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await;
        Ok(found(answer)?.map(|content| content.0))
    }

    async fn put_state(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        let request = PutState::new(room, kind, key, content);
        let what = format!("set {kind} in {room}");
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await?;
        Ok(answer.event_id)
    }

    async fn send_message(
        &self,
        room: &RoomId,
        transaction: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        self.enter(Bucket::Everything, format!("send m.room.message to {room}"))?;
        let now = self.clock.now();
        send_event(
            &self.client,
            room,
            "m.room.message",
            transaction,
            content,
            now,
        )
        .await
        .map_err(|error| self.noted(error))
    }

    async fn ban(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()> {
        let mut request = ban_user::v3::Request::new(room.to_owned(), user.to_owned());
        request.reason = reason.map(ToOwned::to_owned);
        let what = format!("ban {user} from {room}");
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
        let what = format!("join {}", room.name);
        let answer = self
            .ask(Bucket::Joins, what, request!(self, request))
            .await?;
        Ok(answer.room_id)
    }

    async fn joined_rooms(&self) -> Result<BTreeSet<OwnedRoomId>> {
        let request = joined_rooms::v3::Request::new();
        let what = "list the joined rooms".to_owned();
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await?;
        Ok(answer.joined_rooms.into_iter().collect())
    }

    async fn resolve(&self, alias: &RoomAliasId) -> Result<Option<Resolved>> {
        let request = get_alias::v3::Request::new(alias.to_owned());
        let what = format!("resolve {alias}");
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await;
        Ok(found(answer)?.map(|room| Resolved {
            room_id: room.room_id,
            via: room.servers,
        }))
    }

    async fn local_aliases(&self, room: &RoomId) -> Result<BTreeSet<OwnedRoomAliasId>> {
        let request = aliases::v3::Request::new(room.to_owned());
        let what = format!("list the aliases of {room}");
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await;
        let aliases = found(answer)?
            .map(|answer| answer.aliases)
            .unwrap_or_default();
        Ok(aliases.into_iter().collect())
    }

    async fn create_alias(&self, alias: &RoomAliasId, room: &RoomId) -> Result<()> {
        let request = create_alias::v3::Request::new(alias.to_owned(), room.to_owned());
        let what = format!("create {alias}");
        self.ask(Bucket::Everything, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn delete_alias(&self, alias: &RoomAliasId) -> Result<()> {
        let request = delete_alias::v3::Request::new(alias.to_owned());
        let what = format!("remove {alias}");
        self.ask(Bucket::Everything, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn listing(&self, room: &RoomId) -> Result<Listing> {
        let request = get_room_visibility::v3::Request::new(room.to_owned());
        let what = format!("read whether the directory lists {room}");
        let answer = self
            .ask(Bucket::Everything, what, request!(self, request))
            .await?;
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
        let what = format!("set whether the directory lists {room}");
        self.ask(Bucket::Everything, what, request!(self, request))
            .await
            .map(drop)
    }

    async fn upgrade(
        &self,
        room: &RoomId,
        version: &RoomVersionId,
        additional_creators: &BTreeSet<OwnedUserId>,
    ) -> Result<OwnedRoomId> {
        let mut request = upgrade_room::v3::Request::new(room.to_owned(), version.clone());
        request.additional_creators = additional_creators.iter().cloned().collect();
        let what = format!("upgrade {room}");
        let answer = request!(self, request, UPGRADE_TIMEOUT);
        Ok(self
            .ask(Bucket::RoomCreation, what, answer)
            .await?
            .replacement_room)
    }

    async fn referrers(&self, room: &RoomId) -> Result<Vec<RoomState>> {
        let mut referrers = Vec::new();
        for joined in self.client.joined_rooms() {
            if joined.room_id() != room {
                referrers.extend(self.referrer(&joined, room).await?);
            }
        }
        referrers.sort_by(|a, b| a.room_id.cmp(&b.room_id));
        Ok(referrers)
    }

    async fn children(&self, space: &RoomId) -> Result<BTreeSet<OwnedRoomId>> {
        let joined = |room: &Room| room.state() == matrix_sdk::RoomState::Joined;
        let Some(space) = self.client.get_room(space).filter(joined) else {
            return Ok(BTreeSet::new());
        };
        let events = space.get_state_events(StateEventType::SpaceChild).await;
        let events = events.map_err(|source| unreadable(space.room_id(), source))?;
        Ok(events
            .iter()
            .filter_map(state_event)
            .filter(|event| is_child(&event.content))
            .filter_map(|event| event.state_key.parse().ok())
            .collect())
    }
}

fn unreadable(room: &RoomId, source: matrix_sdk::Error) -> HomeserverError {
    let request = format!("read what sync told about {room}");
    HomeserverError::Unusable {
        request,
        source: source.into(),
    }
}

/// A state event that sync told, unless it is not what it should be.
fn state_event(event: &RawAnySyncOrStrippedState) -> Option<StateEvent> {
    lenient(match event {
        RawAnySyncOrStrippedState::Sync(raw) => raw.json().get(),
        RawAnySyncOrStrippedState::Stripped(raw) => raw.json().get(),
    })
}

/// Reads a state event for what it is. Only what makes it one must fit: the rest may be odd.
pub(super) fn lenient(json: &str) -> Option<StateEvent> {
    let Value::Object(mut event) = serde_json::from_str(json).ok()? else {
        return None;
    };
    let Some(Value::Object(content)) = event.remove("content") else {
        return None;
    };
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    Some(StateEvent {
        kind: text("type")?.to_owned(),
        state_key: text("state_key")?.to_owned(),
        sender: text("sender")?.parse().ok()?,
        event_id: text("event_id").and_then(|id| id.parse().ok()),
        origin_server_ts: event
            .get("origin_server_ts")
            .and_then(Value::as_u64)
            .unwrap_or(0),
        content,
    })
}

/// Whether content of `m.space.child` makes a room a child.
/// Source: Matrix specification, `m.space.child`: without `via` the event counts as removed.
fn is_child(content: &Content) -> bool {
    content
        .get("via")
        .and_then(Value::as_array)
        .is_some_and(|via| !via.is_empty())
}

/// Whether join rules let members of a room in.
fn allows(content: &Content, room: &RoomId) -> bool {
    let allow = content.get("allow").and_then(Value::as_array);
    allow
        .into_iter()
        .flatten()
        .any(|rule| rule.get("room_id").and_then(Value::as_str) == Some(room.as_str()))
}
