//! A homeserver that takes requests of the client-server API: the simulated one or a real Synapse.
//!
//! The simulated one knows the endpoints that people need here; the bot has a way of its own to it
//! (`port`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use roomlift_testbed::{ApiError, Synapse, User, seg};
use ruma::{EventId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};
use serde_json::{Value, json};

use crate::clock::BEGIN;
use crate::fault::{Endpoint, Request};
use crate::limits::Limits;
use crate::port::{count, uncount};
use crate::world::{Answer, Event, Refusal, SERVER, World, content, refuse};

/// More events than any room here has.
const MANY: u32 = 500;

/// A request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct No {
    pub(super) status: u16,
    pub(super) code: String,
    /// How many milliseconds to wait, where it says so.
    pub(super) wait: Option<u64>,
}

/// Where people are, and send requests to.
#[async_trait]
pub(super) trait Server: Send + Sync {
    /// The part of ids behind the colon.
    fn name(&self) -> String;

    /// A new account; its id.
    async fn register(&self, localpart: &str) -> String;

    /// A request to a path below `/_matrix/client/v3`, given in its parts.
    async fn ask(&self, by: &str, method: &str, path: &[&str], body: &Value) -> Result<Value, No>;
}

/// A real Synapse.
pub(super) struct Real<'a> {
    synapse: &'a Synapse,
    users: Mutex<BTreeMap<String, User>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Real<'a> {
    pub(super) fn new(synapse: &'a Synapse) -> Self {
        Self {
            synapse,
            users: Mutex::default(),
        }
    }

    /// An account that was registered here.
    pub(super) fn user(&self, id: &str) -> User {
        held(&self.users)[id].clone()
    }
}

#[async_trait]
impl Server for Real<'_> {
    fn name(&self) -> String {
        self.synapse.server_name()
    }

    async fn register(&self, localpart: &str) -> String {
        let user = self.synapse.register_exact(localpart).await;
        let id = user.user_id.clone();
        held(&self.users).insert(id.clone(), user);
        id
    }

    async fn ask(&self, by: &str, method: &str, path: &[&str], body: &Value) -> Result<Value, No> {
        let user = self.user(by);
        let parts: Vec<String> = path.iter().map(|part| seg(part)).collect();
        let mut url = parts.join("/");
        if path.last() == Some(&"messages") {
            url = format!("{url}?dir=b&limit={MANY}");
        }
        let body = (method != "GET").then(|| body.clone());
        user.call(method, &url, body).await.map_err(|error| No {
            status: error.status,
            code: error.code().to_owned(),
            wait: wait(&error),
        })
    }
}

fn wait(error: &ApiError) -> Option<u64> {
    error.body.get("retry_after_ms")?.as_u64()
}

/// The simulated one.
pub(super) struct Simulated {
    world: Mutex<World>,
}

impl Simulated {
    pub(super) fn new() -> Self {
        Self::of(World::new(Timestamp::from_second(BEGIN).expect("a time")))
    }

    pub(super) fn of(world: World) -> Self {
        Self {
            world: Mutex::new(world),
        }
    }

    /// One with these limits.
    pub(super) fn limited(limits: Limits) -> Self {
        let simulated = Self::new();
        held(&simulated.world).limits = limits;
        simulated
    }

    /// The world, once nobody asks for anything any more.
    pub(super) fn into_world(self) -> World {
        self.world
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Server for Simulated {
    fn name(&self) -> String {
        SERVER.to_owned()
    }

    async fn register(&self, localpart: &str) -> String {
        held(&self.world).register(localpart).to_string()
    }

    async fn ask(&self, by: &str, method: &str, path: &[&str], body: &Value) -> Result<Value, No> {
        let mut world = held(&self.world);
        let by: OwnedUserId = by.parse().expect("a user id");
        let request = counted(method, path, body);
        let wait = request.as_ref();
        if let Some(wait) = wait.and_then(|request| count(&mut world, &by, request)) {
            return Err(No {
                status: 429,
                code: "M_LIMIT_EXCEEDED".to_owned(),
                wait: u64::try_from(wait.as_millis()).ok(),
            });
        }
        let no = |Refusal { status, code, .. }| No {
            status,
            code: code.to_owned(),
            wait: None,
        };
        let answer = answer(&mut world, &by, method, path, body);
        if let (Err(_), Some(request)) = (&answer, &request) {
            uncount(&mut world, &by, request);
        }
        answer.map_err(no)
    }
}

/// A request as limits count it.
fn counted(method: &str, path: &[&str], body: &Value) -> Option<Request> {
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    let (user, version) = (text("user_id"), text("new_version"));
    let (endpoint, about, detail) = match (method, path) {
        ("POST", ["createRoom"]) => (Endpoint::CreateRoom, "", ""),
        ("POST", ["rooms", room, "upgrade"]) => (Endpoint::Upgrade, *room, version),
        ("POST", ["rooms", room, "invite"]) => (Endpoint::Invite, *room, user),
        ("POST", ["rooms", room, "ban" | "unban"]) => (Endpoint::Ban, *room, user),
        ("POST", ["rooms", room, "kick"]) => (Endpoint::Kick, *room, user),
        ("POST", ["rooms", room, "leave"]) => (Endpoint::Leave, *room, ""),
        ("POST", ["join", room]) => (Endpoint::Join, *room, ""),
        ("PUT", ["rooms", room, "state", ..]) => (Endpoint::PutState, *room, ""),
        ("PUT", ["rooms", room, "send", _, transaction]) => (Endpoint::Send, *room, *transaction),
        ("PUT", ["rooms", room, "redact", _, transaction]) => {
            (Endpoint::Redact, *room, *transaction)
        }
        ("PUT", ["directory", "room", alias]) => (Endpoint::CreateAlias, *alias, ""),
        ("DELETE", ["directory", "room", alias]) => (Endpoint::DeleteAlias, *alias, ""),
        ("PUT", ["directory", "list", "room", room]) => (Endpoint::SetListing, *room, ""),
        _ => return None,
    };
    Some(Request::new(endpoint, about, detail))
}

fn room_id(text: &str) -> Answer<&RoomId> {
    match <&RoomId>::try_from(text) {
        Ok(id) => Ok(id),
        Err(_) => refuse(400, "M_INVALID_PARAM", "no room id"),
    }
}

fn user_id(text: &str) -> Answer<&UserId> {
    match <&UserId>::try_from(text) {
        Ok(id) => Ok(id),
        Err(_) => refuse(400, "M_INVALID_PARAM", "no user id"),
    }
}

fn alias(text: &str) -> Answer<&RoomAliasId> {
    match <&RoomAliasId>::try_from(text) {
        Ok(alias) => Ok(alias),
        Err(_) => refuse(400, "M_INVALID_PARAM", "no address"),
    }
}

/// A room by its id or an address.
fn named(world: &World, name: &str) -> Answer<OwnedRoomId> {
    if name.starts_with('#') {
        return Ok(world.resolve(alias(name)?)?.0);
    }
    room_id(name).map(ToOwned::to_owned)
}

fn answer(
    world: &mut World,
    by: &UserId,
    method: &str,
    path: &[&str],
    body: &Value,
) -> Answer<Value> {
    let nothing = |()| json!({});
    let event = |id: &EventId| json!({ "event_id": id });
    match (method, path) {
        ("POST", ["createRoom"]) => {
            let made = world.create_room(by, &content(body.clone()))?;
            Ok(json!({ "room_id": made }))
        }
        ("GET", ["joined_rooms"]) => Ok(json!({ "joined_rooms": world.joined_rooms(by) })),
        ("POST", ["join", room]) => {
            let room = named(world, room)?;
            Ok(json!({ "room_id": world.join(by, &room)? }))
        }
        ("POST", ["knock", room]) => {
            let room = named(world, room)?;
            world.knock(by, &room)?;
            Ok(json!({ "room_id": room }))
        }
        ("GET", ["directory", "room", name]) => {
            let (room, servers) = world.resolve(alias(name)?)?;
            Ok(json!({ "room_id": room, "servers": servers }))
        }
        ("PUT", ["directory", "room", name]) => {
            let room = room_id(body["room_id"].as_str().unwrap_or_default())?;
            world.create_alias(by, alias(name)?, room).map(nothing)
        }
        ("DELETE", ["directory", "room", name]) => {
            world.delete_alias(by, alias(name)?).map(nothing)
        }
        ("GET", ["directory", "list", "room", room]) => {
            let room = world.room(room_id(room)?)?;
            let is_listed = world.listed.contains(&room.id);
            Ok(json!({ "visibility": if is_listed { "public" } else { "private" } }))
        }
        ("PUT", ["directory", "list", "room", room]) => {
            let listed = body["visibility"] == "public";
            world.set_listed(by, room_id(room)?, listed).map(nothing)
        }
        ("GET", ["rooms", room, rest @ ..]) => read(world, by, room_id(room)?, rest),
        ("PUT", ["rooms", room, "state", kind, key]) => {
            let sent = world.put_state(by, room_id(room)?, kind, key, &content(body.clone()))?;
            Ok(event(&sent))
        }
        ("PUT", ["rooms", room, "send", kind, transaction]) => {
            let body = content(body.clone());
            let sent = world.send(by, room_id(room)?, kind, transaction, &body)?;
            Ok(event(&sent))
        }
        ("PUT", ["rooms", room, "redact", id, transaction]) => {
            let sent = world.redact(by, room_id(room)?, id, transaction)?;
            Ok(event(&sent))
        }
        ("POST", ["rooms", room, "upgrade"]) => {
            let version = body["new_version"].as_str().unwrap_or_default();
            let wanted = body.get("additional_creators").cloned();
            let creators = serde_json::from_value(wanted.unwrap_or(json!([])));
            let creators: BTreeSet<OwnedUserId> = match creators {
                Ok(creators) => creators,
                Err(_) if version == "12" => {
                    return refuse(400, "M_FORBIDDEN", "not a valid user ID");
                }
                Err(_) => BTreeSet::new(),
            };
            let new = world.upgrade(by, room_id(room)?, version, &creators)?;
            Ok(json!({ "replacement_room": new }))
        }
        ("POST", ["rooms", room, "leave"]) => world.leave(by, room_id(room)?).map(nothing),
        ("POST", ["rooms", room, what]) => {
            let room = room_id(room)?;
            let name = body["user_id"].as_str().unwrap_or_default();
            let reason = body["reason"].as_str();
            if *what == "ban" {
                return world.ban(by, room, name, reason).map(nothing);
            }
            let user = user_id(name)?;
            match *what {
                "invite" => world.invite(by, room, user, reason),
                "kick" => world.kick(by, room, user, reason),
                "unban" => world.unban(by, room, user, reason),
                _ => refuse(404, "M_UNRECOGNIZED", "Unrecognized request"),
            }
            .map(nothing)
        }
        _ => refuse(404, "M_UNRECOGNIZED", "Unrecognized request"),
    }
}

fn read(world: &World, by: &UserId, room: &RoomId, what: &[&str]) -> Answer<Value> {
    match what {
        ["state"] => {
            let room = world.readable(by, room)?;
            Ok(room.state_events().map(Event::json).collect())
        }
        ["state", kind, key] => world.state_event(by, room, kind, key).map(Value::Object),
        ["aliases"] => {
            world.room_of(by, room)?;
            Ok(json!({ "aliases": world.local_aliases(room) }))
        }
        ["messages"] => {
            let room = world.readable(by, room)?;
            let newest_first = room.events.iter().rev().map(Event::json);
            Ok(json!({ "chunk": newest_first.collect::<Value>() }))
        }
        _ => refuse(404, "M_UNRECOGNIZED", "Unrecognized request"),
    }
}
