//! The port and sync of a bot in the simulated world: latency, faults, limits and kills on the way.
//!
//! Failures are told apart as `matrix::wire` does it. Left out: what the server does (`world`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use roomlift::checkup::{Backup, EncryptionFacts, Identity, ServerFacts};
use roomlift::homeserver::admin::ServerAdmin;
use roomlift::homeserver::{
    Bucket, Existence, Homeserver, HomeserverError, REQUEST_TIMEOUT, RateLimit, Resolved, Result,
    RoomVersions, ToldRoom, UPGRADE_TIMEOUT, Upload, Uploaded, ensure_reachable,
};
use roomlift::matrix::{
    Invitation, MatrixError, Page, SyncAnswer, SyncSource, Syncs, TimelineEvent,
};
use roomlift::model::{RoomName, RoomRef};
use roomlift::room::creation::Preset;
use roomlift::room::moves::MemberEvent;
use roomlift::room::state::{Content, Listing, RoomEvent, RoomState};
use ruma::{
    EventId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId,
    RoomVersionId, ServerName, UserId,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::fault::{Endpoint, Fault, Kill, Request};
use crate::life::{Life, Logged};
use crate::limits::{Kind, Limiter};
use crate::world::{self, Answer, Refusal, Software, World};

/// How long a request takes to get there, and its answer to come back.
pub(crate) const WAY: Duration = Duration::from_millis(5);

/// How long to wait after a 429 that does not say, as `matrix::wire` has it.
const UNKNOWN_WAIT: Duration = Duration::from_secs(5);

/// How the bot reaches the simulated server.
pub(crate) struct SimPort {
    life: Arc<Life>,
    syncs: Syncs,
}

/// Counts a request as under way.
struct UnderWay<'a>(&'a Life);

impl<'a> UnderWay<'a> {
    fn new(life: &'a Life) -> Self {
        life.under_way.fetch_add(1, Ordering::SeqCst);
        Self(life)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SimPort {
    pub(crate) fn new(life: Arc<Life>) -> Self {
        Self {
            life,
            syncs: Syncs::default(),
        }
    }

    fn own(&self) -> OwnedUserId {
        self.life.shared.bot.clone()
    }

    /// One request.
    async fn ask<T: Send + 'static>(
        &self,
        request: Request,
        work: impl FnOnce(&mut World) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let _under_way = UnderWay::new(&self.life);
        self.carry_out(request, work).await
    }

    async fn carry_out<T: Send + 'static>(
        &self,
        request: Request,
        work: impl FnOnce(&mut World) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let named = request.to_string();
        let endpoint = request.endpoint;
        let answer = self.carry(request, work).await;
        let failure = answer.as_ref().err();
        if matches!(
            endpoint,
            Endpoint::Sync | Endpoint::Poll | Endpoint::Messages
        ) {
            self.life
                .sync_fails
                .store(failure.is_some(), Ordering::SeqCst);
        }
        tracing::trace!(target: "sim", request = named, ?failure);
        answer
    }

    async fn carry<T: Send + 'static>(
        &self,
        request: Request,
        work: impl FnOnce(&mut World) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let life = &*self.life;
        let endpoint = request.endpoint;
        let number = endpoint.has_effect().then(|| life.number());
        life.live(number.map(Kill::BeforeRequest)).await;
        sleep(WAY).await;
        life.live(None).await;
        let fault = {
            let mut world = life.shared.world();
            life.shared.faults().of(&request, &mut world)
        };
        let what = request.to_string();
        let gone = |status| HomeserverError::Uncertain {
            request: what.clone(),
            status,
            source: "simulated".into(),
        };
        let limited = |retry_after| HomeserverError::RateLimited {
            request: what.clone(),
            limit: RateLimit {
                bucket: bucket(endpoint),
                retry_after,
            },
        };
        match &fault {
            Some(Fault::Reset) => return Err(gone(None)),
            Some(Fault::Page(status)) => return Err(page(what, *status)),
            Some(Fault::TooMany(wait)) => {
                let wait = wait.unwrap_or(UNKNOWN_WAIT);
                if endpoint == Endpoint::CreateAlias {
                    life.shared.world().turned_away += wait.try_into().unwrap_or_default();
                }
                return Err(limited(wait));
            }
            Some(Fault::Refuse(status, code)) => {
                if matches!(endpoint, Endpoint::Send | Endpoint::Redact) {
                    life.shared.world().refused_words = true;
                }
                let message = "simulated refusal".to_owned();
                return Err(HomeserverError::refused(
                    what,
                    *status,
                    (*code).to_owned(),
                    message,
                ));
            }
            Some(Fault::Delay(delay)) => {
                let longest = if matches!(endpoint, Endpoint::CreateRoom | Endpoint::Upgrade) {
                    UPGRADE_TIMEOUT
                } else {
                    REQUEST_TIMEOUT
                };
                sleep((*delay).min(longest)).await;
                if *delay >= longest {
                    return Err(gone(None));
                }
                life.live(None).await;
            }
            Some(Fault::Late(answer, effect)) => {
                life.shared.world().schedule(*answer + *effect, |world| {
                    let _nobody_hears_it = work(world);
                });
                sleep(*answer).await;
                return Err(gone(Some(504)));
            }
            Some(Fault::LoseAnswer | Fault::PageAfter(_)) | None => {}
        }
        if Self::is_silent(&request) {
            sleep(REQUEST_TIMEOUT).await;
            return Err(gone(None));
        }
        let answer = self.serve(&request, work);
        life.live(number.map(Kill::AfterRequest)).await;
        sleep(WAY).await;
        life.live(None).await;
        match (answer, fault) {
            (_, Some(Fault::LoseAnswer)) => Err(gone(None)),
            (_, Some(Fault::PageAfter(status))) => Err(page(what, status)),
            // Palpo limits reading, and does not say for how long.
            (Err(_), _) if life.shared.world().software == Software::Palpo => {
                Err(limited(UNKNOWN_WAIT))
            }
            (Err(wait), _) => Err(limited(wait)),
            (Ok(Ok(value)), _) => Ok(value),
            (
                Ok(Err(Refusal {
                    status,
                    code,
                    message,
                })),
                _,
            ) => Err(if status >= 500 && status != 501 {
                gone(Some(status))
            } else {
                HomeserverError::refused(what, status, code.to_owned(), message)
            }),
        }
    }

    /// The server's work on a request that arrived; how long to wait instead, where it is one too many.
    fn serve<T>(
        &self,
        request: &Request,
        work: impl FnOnce(&mut World) -> Answer<T>,
    ) -> std::result::Result<Answer<T>, Duration> {
        let shared = &self.life.shared;
        let mut world = shared.world();
        if let Some(wait) = count(&mut world, &shared.bot, request) {
            return Err(wait);
        }
        let answer = work(&mut world);
        if answer.is_err() {
            uncount(&mut world, &shared.bot, request);
        }
        shared.log().push(Logged {
            at: world.now,
            request: request.clone(),
        });
        Ok(answer)
    }

    /// Whether the server of somebody that a request is about never answers.
    fn is_silent(request: &Request) -> bool {
        let named = match request.endpoint {
            Endpoint::Invite | Endpoint::Profile => &request.detail,
            Endpoint::Resolve | Endpoint::ListedElsewhere => &request.about,
            _ => return false,
        };
        named
            .split_once(':')
            .map_or(named.as_str(), |(_, server)| server)
            == world::GONE
    }
}

/// An error page of something in front of the server, as `matrix::wire` tells it apart.
fn page(request: String, status: u16) -> HomeserverError {
    HomeserverError::Uncertain {
        request,
        status: Some(status),
        source: "an error page".into(),
    }
}

fn bucket(endpoint: Endpoint) -> Bucket {
    match endpoint {
        Endpoint::CreateRoom | Endpoint::Upgrade => Bucket::RoomCreation,
        Endpoint::Join => Bucket::Joins,
        Endpoint::Invite => Bucket::Invitations,
        Endpoint::CreateAlias | Endpoint::DeleteAlias | Endpoint::SetListing => Bucket::Addresses,
        endpoint if endpoint.is_write() => Bucket::Everything,
        _ => Bucket::Reads,
    }
}

/// What Synapse counts a request for.
pub(crate) fn limiters(world: &World, by: &UserId, request: &Request) -> Vec<Limiter> {
    let mine = |kind| Limiter {
        kind,
        of: by.to_string(),
    };
    let of = |kind, of: &str| Limiter {
        kind,
        of: of.to_owned(),
    };
    match request.endpoint {
        Endpoint::Upgrade if !world::VERSIONS.contains(&request.detail.as_str()) => vec![],
        Endpoint::CreateRoom | Endpoint::Upgrade => {
            vec![mine(Kind::Messages), mine(Kind::RoomCreation)]
        }
        Endpoint::Invite => vec![
            of(Kind::InvitesPerRoom, &request.about),
            of(Kind::InvitesPerInvitee, &request.detail),
            mine(Kind::InvitesPerIssuer),
            mine(Kind::Messages),
        ],
        Endpoint::Join => vec![mine(Kind::Joins)],
        Endpoint::Send | Endpoint::Redact if is_repeated(world, by, request) => vec![],
        // Synapse counts neither addresses nor listings, nor what an account keeps for itself.
        Endpoint::CreateAlias
        | Endpoint::DeleteAlias
        | Endpoint::SetListing
        | Endpoint::SetAccountData => vec![],
        endpoint if endpoint.is_write() => vec![mine(Kind::Messages)],
        Endpoint::Sync | Endpoint::Poll => vec![],
        _ => vec![mine(Kind::Reads)],
    }
}

/// Counts a request as Synapse does. How long to wait where it is too many.
pub(crate) fn count(world: &mut World, by: &UserId, request: &Request) -> Option<Duration> {
    let limiters = limiters(world, by, request);
    if request.endpoint == Endpoint::Join {
        let room = joined_room(world, &request.about);
        let room = room.filter(|room| room.membership(by) != "join")?;
        let per_room = Limiter {
            kind: Kind::JoinsPerRoom,
            of: room.id.to_string(),
        };
        let now = world.now;
        let wait = limiters.iter().find_map(|limiter| world.count(limiter));
        return wait.or_else(|| world.limits.peek(&per_room, now));
    }
    limiters.iter().find_map(|limiter| world.count(limiter))
}

/// The room that a request to join is about.
fn joined_room<'a>(world: &'a World, name: &str) -> Option<&'a world::Room> {
    if let Ok(alias) = <&RoomAliasId>::try_from(name) {
        let (room, _) = world.resolve(alias).ok()?;
        return world.rooms.get(&room);
    }
    world.rooms.get(<&RoomId>::try_from(name).ok()?)
}

/// Gives back what a request was counted for that was refused: events are counted once they may be sent.
/// Source: Synapse 1.163.2, `persist_and_notify_client_events`.
pub(crate) fn uncount(world: &mut World, by: &UserId, request: &Request) {
    let is_event = matches!(
        request.endpoint,
        Endpoint::PutState
            | Endpoint::Send
            | Endpoint::Redact
            | Endpoint::Invite
            | Endpoint::Kick
            | Endpoint::Leave
            | Endpoint::Ban
    );
    if is_event {
        let (kind, of) = (Kind::Messages, by.to_string());
        world.limits.give_back(&Limiter { kind, of });
    }
}

/// Source: Synapse, `HttpTransactionCache`: the answer to the first try.
fn is_repeated(world: &World, by: &UserId, request: &Request) -> bool {
    if world.software != Software::Synapse {
        return false;
    }
    let room = <&RoomId>::try_from(request.about.as_str());
    let transaction = request.detail.split(' ').next_back().unwrap_or_default();
    room.is_ok_and(|room| world.was_sent(by, room, transaction))
}

fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(HomeserverError::Refused {
            status: 404, code, ..
        }) if !code.is_empty() && code != "M_UNRECOGNIZED" => Ok(None),
        Err(error) => Err(error),
    }
}

fn members_of(world: &World, by: &UserId, room: &RoomId) -> Answer<Vec<MemberEvent>> {
    let events = world.room_of(by, room)?.of_kind("m.room.member");
    let member = |event: &world::Event| {
        let before = event.before.as_ref();
        Some(MemberEvent {
            user: event.state_key.as_deref()?.parse().ok()?,
            sender: event.sender.clone(),
            membership: event.text("membership")?.into(),
            before: before.and_then(|before| Some(before.get("membership")?.as_str()?.into())),
            at: Timestamp::from_millisecond(event.at).ok()?,
        })
    };
    Ok(events.filter_map(member).collect())
}

#[async_trait]
impl Homeserver for SimPort {
    fn account(&self) -> &UserId {
        &self.life.shared.bot
    }

    async fn room_versions(&self) -> Result<RoomVersions> {
        let request = Request::new(Endpoint::RoomVersions, "", "");
        self.ask(request, |_| {
            let versions = world::VERSIONS.iter();
            Ok(RoomVersions {
                default: RoomVersionId::V12,
                available: versions
                    .filter_map(|version| RoomVersionId::try_from(*version).ok())
                    .collect(),
            })
        })
        .await
    }

    async fn encrypted_presets(&self) -> Result<BTreeSet<Preset>> {
        let request = Request::new(Endpoint::Features, "", "");
        self.ask(request, |world| {
            let encrypts = world.software == Software::Synapse && world.encrypts_new_rooms;
            Ok(encrypts.then_some(Preset::Private).into_iter().collect())
        })
        .await
    }

    async fn user_exists(&self, user: &UserId) -> Result<Option<Existence>> {
        let request = Request::new(Endpoint::Profile, "", user);
        let who = user.to_owned();
        let known = self
            .ask(request, move |world| Ok(world.accounts.contains(&who)))
            .await;
        match known {
            Ok(true) => Ok(Some(Existence::Known)),
            Ok(false) => Ok(Some(Existence::Unknown)),
            Err(HomeserverError::Refused { .. }) => Ok(None),
            Err(HomeserverError::Uncertain { .. }) if user.server_name() != self.server_name() => {
                ensure_reachable(self).await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn state(&self, room: &RoomId) -> Result<RoomState> {
        let (own, id) = (self.own(), room.to_owned());
        let request = Request::new(Endpoint::State, room, "");
        self.ask(request, move |world| world.state(&own, &id)).await
    }

    async fn state_event(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Content>> {
        let (own, id) = (self.own(), room.to_owned());
        let request = Request::new(Endpoint::StateEvent, room, format!("{kind} {key}"));
        let (kind, key) = (kind.to_owned(), key.to_owned());
        let answer = self
            .ask(request, move |world| {
                world.state_event(&own, &id, &kind, &key)
            })
            .await;
        found(answer)
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<MemberEvent>> {
        let (own, id) = (self.own(), room.to_owned());
        let request = Request::new(Endpoint::Members, room, "");
        self.ask(request, move |world| members_of(world, &own, &id))
            .await
    }

    async fn put_state(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        let (own, id, content) = (self.own(), room.to_owned(), content.clone());
        let request = Request::new(Endpoint::PutState, room, format!("{kind} {key}"));
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.ask(request, move |world| {
            world.put_state(&own, &id, &kind, &key, &content)
        })
        .await
    }

    async fn get_ready_for_message(&self, _room: &RoomId) {}

    async fn send_event(
        &self,
        room: &RoomId,
        kind: &str,
        transaction: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        let (own, id, content) = (self.own(), room.to_owned(), content.clone());
        let request = Request::new(Endpoint::Send, room, format!("{kind} {transaction}"));
        let (kind, transaction) = (kind.to_owned(), transaction.to_owned());
        self.ask(request, move |world| {
            world.send(&own, &id, &kind, &transaction, &content)
        })
        .await
    }

    async fn redact(
        &self,
        room: &RoomId,
        event: &EventId,
        transaction: &str,
    ) -> Result<OwnedEventId> {
        let (own, id, event) = (self.own(), room.to_owned(), event.to_string());
        let request = Request::new(Endpoint::Redact, room, format!("{event} {transaction}"));
        let transaction = transaction.to_owned();
        self.ask(request, move |world| {
            world.redact(&own, &id, &event, &transaction)
        })
        .await
    }

    async fn event(&self, room: &RoomId, event: &EventId) -> Result<Option<RoomEvent>> {
        let (own, id, event) = (self.own(), room.to_owned(), event.to_string());
        let request = Request::new(Endpoint::Event, room, &event);
        let answer = self
            .ask(request, move |world| world.event(&own, &id, &event))
            .await;
        match found(answer) {
            Ok(found) => Ok(found.map(|event| RoomEvent {
                sender: event.sender.to_string(),
                kind: event.kind,
                origin_server_ts: event.at.unsigned_abs(),
                content: event.content,
                replaces: event.replaces,
            })),
            Err(HomeserverError::Refused { status: 403, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create_room(&self, body: &Content) -> Result<OwnedRoomId> {
        let (own, body) = (self.own(), body.clone());
        let request = Request::new(Endpoint::CreateRoom, "", "");
        self.ask(request, move |world| world.create_room(&own, &body))
            .await
    }

    async fn upload(&self, room: &RoomId, file: &Upload) -> Result<Uploaded> {
        let request = Request::new(Endpoint::Upload, room, &file.name);
        self.ask(request, |_| {
            Ok(Uploaded {
                key: "url",
                source: json!("mxc://sim.test/file"),
            })
        })
        .await
    }

    async fn invite(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()> {
        let (own, id, user) = (self.own(), room.to_owned(), user.to_owned());
        let request = Request::new(Endpoint::Invite, room, &user);
        let reason = reason.map(ToOwned::to_owned);
        self.ask(request, move |world| {
            world.invite(&own, &id, &user, reason.as_deref())
        })
        .await
    }

    async fn kick(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()> {
        let (own, id, user) = (self.own(), room.to_owned(), user.to_owned());
        let request = Request::new(Endpoint::Kick, room, &user);
        let reason = reason.map(ToOwned::to_owned);
        self.ask(request, move |world| {
            world.kick(&own, &id, &user, reason.as_deref())
        })
        .await
    }

    async fn leave(&self, room: &RoomId) -> Result<()> {
        let (own, id) = (self.own(), room.to_owned());
        let request = Request::new(Endpoint::Leave, room, "");
        let left = self.ask(request, move |world| world.leave(&own, &id)).await;
        match left {
            Err(HomeserverError::Refused { .. }) if !self.joined_rooms().await?.contains(room) => {
                Ok(())
            }
            left => left,
        }
    }

    async fn ban(&self, room: &RoomId, user: &str, reason: Option<&str>) -> Result<()> {
        let (own, id, user) = (self.own(), room.to_owned(), user.to_owned());
        let request = Request::new(Endpoint::Ban, room, &*user);
        let reason = reason.map(ToOwned::to_owned);
        self.ask(request, move |world| {
            world.ban(&own, &id, &user, reason.as_deref())
        })
        .await
    }

    async fn join(&self, room: &RoomRef) -> Result<OwnedRoomId> {
        let (own, name) = (self.own(), room.name.clone());
        let request = Request::new(Endpoint::Join, &room.name, "");
        self.ask(request, move |world| {
            let id = match name {
                RoomName::Id(id) => id,
                RoomName::Alias(alias) => world.resolve(&alias)?.0,
            };
            world.join(&own, &id)
        })
        .await
    }

    async fn joined_rooms(&self) -> Result<BTreeSet<OwnedRoomId>> {
        let own = self.own();
        let request = Request::new(Endpoint::JoinedRooms, "", "");
        self.ask(request, move |world| Ok(world.joined_rooms(&own)))
            .await
    }

    async fn resolve(&self, alias: &RoomAliasId) -> Result<Option<Resolved>> {
        let name = alias.to_owned();
        let request = Request::new(Endpoint::Resolve, alias, "");
        let answer = self.ask(request, move |world| world.resolve(&name)).await;
        Ok(found(answer)?.map(|(room_id, via)| Resolved { room_id, via }))
    }

    async fn local_aliases(&self, room: &RoomId) -> Result<BTreeSet<OwnedRoomAliasId>> {
        let id = room.to_owned();
        let request = Request::new(Endpoint::LocalAliases, room, "");
        self.ask(request, move |world| Ok(world.local_aliases(&id)))
            .await
    }

    async fn create_alias(&self, alias: &RoomAliasId, room: &RoomId) -> Result<()> {
        let (own, name, id) = (self.own(), alias.to_owned(), room.to_owned());
        let request = Request::new(Endpoint::CreateAlias, alias, room);
        self.ask(request, move |world| world.create_alias(&own, &name, &id))
            .await
    }

    async fn delete_alias(&self, alias: &RoomAliasId) -> Result<()> {
        let (own, name) = (self.own(), alias.to_owned());
        let request = Request::new(Endpoint::DeleteAlias, alias, "");
        self.ask(request, move |world| world.delete_alias(&own, &name))
            .await
    }

    async fn listing(&self, room: &RoomId) -> Result<Listing> {
        let id = room.to_owned();
        let request = Request::new(Endpoint::Listing, room, "");
        self.ask(request, move |world| {
            world.room(&id)?;
            Ok(if world.listed.contains(&id) {
                Listing::Public
            } else {
                Listing::Private
            })
        })
        .await
    }

    async fn set_listing(&self, room: &RoomId, listing: Listing) -> Result<()> {
        let (own, id) = (self.own(), room.to_owned());
        let request = Request::new(Endpoint::SetListing, room, format!("{listing:?}"));
        self.ask(request, move |world| {
            world.set_listed(&own, &id, listing == Listing::Public)
        })
        .await
    }

    async fn listed_elsewhere(
        &self,
        server: &ServerName,
        _room: &RoomId,
        _term: &str,
    ) -> Result<Listing> {
        let request = Request::new(Endpoint::ListedElsewhere, server, "");
        self.ask(request, |_| Ok(Listing::Private)).await
    }

    async fn server_software(&self) -> Result<Option<String>> {
        let request = Request::new(Endpoint::Software, "", "");
        let answer = self
            .ask(request, |world| Ok(world.software.name().to_owned()))
            .await;
        match answer {
            Ok(name) => Ok(Some(name)),
            Err(HomeserverError::Refused { .. } | HomeserverError::Unusable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn server_facts(&self) -> Result<ServerFacts> {
        let request = Request::new(Endpoint::Facts, "", "");
        self.ask(request, |world| {
            Ok(ServerFacts {
                name: Some(world.software.name().to_owned()),
                version: Some("1.0".to_owned()),
                now: Some(world.now),
            })
        })
        .await
    }

    async fn encryption(&self) -> Result<EncryptionFacts> {
        let request = Request::new(Endpoint::Encryption, "", "");
        self.ask(request, |_| {
            Ok(EncryptionFacts {
                identity: Identity::Signed,
                backup: Backup::On,
            })
        })
        .await
    }

    fn admin(&self) -> Option<&dyn ServerAdmin> {
        None
    }

    async fn upgrade(
        &self,
        room: &RoomId,
        version: &RoomVersionId,
        additional_creators: &BTreeSet<OwnedUserId>,
    ) -> Result<OwnedRoomId> {
        let (own, id, version) = (self.own(), room.to_owned(), version.to_string());
        let creators = additional_creators.clone();
        let request = Request::new(Endpoint::Upgrade, room, &version);
        self.ask(request, move |world| {
            world.upgrade(&own, &id, &version, &creators)
        })
        .await
    }

    async fn until_told(&self, rooms: &[&RoomId], patience: Duration) {
        let told = async {
            let is_told = |room: &&RoomId| self.life.shared.device().rooms.contains_key(*room);
            while !rooms.iter().all(is_told) {
                self.syncs.next().await;
            }
        };
        let _told = timeout(patience, told).await;
    }

    async fn until_now(&self, patience: Duration) {
        let _told = timeout(patience, self.syncs.next()).await;
    }

    async fn told_rooms(&self) -> Result<Vec<ToldRoom>> {
        self.life.live(None).await;
        Ok(self.life.shared.device().rooms.values().cloned().collect())
    }

    async fn known_state(&self, room: &RoomId) -> Result<Option<RoomState>> {
        self.life.live(None).await;
        let device = self.life.shared.device();
        Ok(device.rooms.get(room).map(|told| told.state.clone()))
    }

    async fn children(&self, space: &RoomId) -> Result<BTreeSet<OwnedRoomId>> {
        self.life.live(None).await;
        let device = self.life.shared.device();
        let told = device.rooms.get(space);
        let links = told
            .into_iter()
            .flat_map(|told| told.state.of_kind("m.space.child"));
        Ok(links
            .filter_map(|link| link.state_key.parse().ok())
            .collect())
    }
}

#[async_trait]
impl SyncSource for SimPort {
    fn account(&self) -> &UserId {
        &self.life.shared.bot
    }

    fn syncs(&self) -> &Syncs {
        &self.syncs
    }

    async fn has_synced(&self) -> bool {
        self.life.shared.device().place.is_some()
    }

    async fn sync(&self, poll: Duration) -> Result<SyncAnswer> {
        let life = &*self.life;
        let news = async {
            loop {
                let changed = Arc::clone(&life.shared.world().changed);
                let changed = changed.notified();
                if life
                    .shared
                    .world()
                    .has_news(&life.shared.bot, &life.shared.device())
                {
                    return;
                }
                changed.await;
            }
        };
        life.live(None).await;
        let _news = timeout(poll, news).await;
        life.live(None).await;
        let shared = Arc::clone(&life.shared);
        let endpoint = if life.shared.world().has_news(&shared.bot, &shared.device()) {
            Endpoint::Sync
        } else {
            Endpoint::Poll
        };
        self.carry_out(Request::new(endpoint, "", ""), move |world| {
            Ok(world.sync(&shared.bot, &mut shared.device()))
        })
        .await
    }

    async fn messages(
        &self,
        room: &RoomId,
        from: Option<&str>,
        limit: u32,
    ) -> Result<Option<Page>> {
        if !self.life.shared.device().rooms.contains_key(room) {
            return Ok(None);
        }
        let (own, id, from) = (self.own(), room.to_owned(), from.map(ToOwned::to_owned));
        let request = Request::new(Endpoint::Messages, room, "");
        let page = self.carry_out(request, move |world| {
            world.room_of(&own, &id)?;
            Ok(world.messages(&id, from.as_deref(), limit))
        });
        page.await.map(Some)
    }

    async fn account_data(&self, kind: &str) -> Option<Content> {
        self.life.shared.device().account_data.get(kind).cloned()
    }

    async fn set_account_data(&self, kind: &str, content: &Content) -> Result<()> {
        let (own, name, content) = (self.own(), kind.to_owned(), content.clone());
        let request = Request::new(Endpoint::SetAccountData, "", kind);
        self.carry_out(request, move |world| {
            world.set_account_data(&own, &name, content);
            Ok(())
        })
        .await
    }

    async fn tombstones(&self) -> Vec<(OwnedRoomId, Box<RawValue>)> {
        let device = self.life.shared.device();
        let all = device.tombstones.iter();
        all.map(|(room, event)| (room.clone(), event.clone()))
            .collect()
    }

    async fn invitations(&self) -> Vec<Invitation> {
        self.life.shared.device().invitations()
    }

    async fn accept(&self, room: &RoomId) -> Result<()> {
        let (own, id) = (self.own(), room.to_owned());
        let request = Request::new(Endpoint::Join, room, "");
        self.carry_out(request, move |world| world.join(&own, &id).map(drop))
            .await
    }

    async fn decrypt(&self, room: &RoomId, event: &RawValue) -> Option<TimelineEvent> {
        let event: Value = serde_json::from_str(event.get()).ok()?;
        let id = event.get("event_id")?.as_str()?;
        self.life.shared.world().decrypted(room, id)
    }

    async fn set_up_encryption(&self) -> std::result::Result<(), MatrixError> {
        Ok(())
    }
}
