//! Plays other homeservers: has a [`Proxy`] do parts of a server's work the way they would.
//!
//! What they do is taken from reading them, see the table in the project's notes on homeservers. A
//! played `/upgrade` uses the sender's access token on the Synapse behind, for requests that any
//! client could make; they are not in the proxy's log. So what a client cannot keep Synapse from
//! doing stays: a new room always has join rule, history visibility, guest access and power levels.
//! Left out is what happens later, such as tags that move when a member joins the new room.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hyper::header::SERVER;
use serde_json::{Map, Value, json};

use crate::proxy::{Fault, Fired, Proxy, Rule};
use crate::request::{Kind, Seen};
use crate::user::{ApiError, NO_ANSWER, User, seg};
use crate::version::has_creators;

/// The state Palpo copies, in its order. Power levels come last and otherwise.
const PALPO_COPIES: [&str; 8] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
];

/// The level `events_default` and `invite` of a replaced room have at least, by the specification.
const LOCKED_LEVEL: i64 = 50;

/// How a server says that it has no `/upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 501 `M_UNSUPPORTED`, as Construct does: it knows the request.
    NotImplemented,
    /// 404 `M_UNRECOGNIZED`, as the specification has it for any request a server does not know.
    Unrecognized,
}

/// Plays a server that limits reading, as Palpo does, and does not say for how long.
pub fn limits_reads(proxy: &Proxy, per_second: f64, burst: f64) -> Fired {
    let bucket = Mutex::new((burst, Instant::now()));
    let is_one_too_many = move |seen: &Seen| {
        let reads = matches!(
            seen.kind,
            Kind::ReadState
                | Kind::ReadStateEvent { .. }
                | Kind::ReadAliases
                | Kind::ReadListing
                | Kind::Members
        );
        if !reads {
            return false;
        }
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *bucket;
        let left = (left + since.elapsed().as_secs_f64() * per_second).min(burst);
        let is_allowed = left >= 1.0;
        *bucket = (left - if is_allowed { 1.0 } else { 0.0 }, Instant::now());
        !is_allowed
    };
    let fault = Fault::error(429, "M_LIMIT_EXCEEDED");
    proxy.add(Rule::new(is_one_too_many, fault).for_ever())
}

/// Plays a server that refuses to show addresses of other servers, as Palpo does.
pub fn shows_own_addresses_only(proxy: &Proxy, server: &str) -> Fired {
    let own = format!(":{server}");
    let names_others = move |seen: &Seen| {
        let shown = seen
            .body
            .as_ref()
            .and_then(|body| body["alt_aliases"].as_array());
        let is_foreign = |alias: &Value| alias.as_str().is_some_and(|alias| !alias.ends_with(&own));
        matches!(&seen.kind, Kind::PutState { event_type } if event_type == "m.room.canonical_alias")
            && shown.is_some_and(|shown| shown.iter().any(is_foreign))
    };
    let fault = Fault::error(403, "M_FORBIDDEN");
    proxy.add(Rule::new(names_others, fault).for_ever())
}

/// Whether who made a room can enter it again after they left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// They can.
    IsLetIn,
    /// Nobody can.
    StaysOut,
}

/// Plays a server that sends the tombstone first and drops its `/upgrade` when the client goes, as Palpo does: the
/// old room points to a new one that nobody is in, not even who asked for it, and there is no answer. Synapse lets
/// nobody enter an empty room: where the maker is let in, they are in it all along and cannot read it before they
/// ask to join.
pub fn drops_an_upgrade(proxy: &Proxy, maker: Maker) {
    let unread = Arc::new(Mutex::new(None::<String>));
    let made = Arc::clone(&unread);
    proxy.stand_in(is_upgrade, move |seen, sender| {
        let made = Arc::clone(&made);
        async move {
            match drop_upgrade(&Call::of(&seen, sender), maker).await {
                Ok(new) => {
                    *made.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
                    error(504, "", "no answer from the server behind")
                }
                Err(refused) => answer(Err(refused)),
            }
        }
    });
    let is_unread = move |seen: &Seen| {
        let mut unread = unread.lock().unwrap_or_else(PoisonError::into_inner);
        let is_about = unread.as_ref().is_some_and(|new| seen.path.contains(new));
        if is_about && seen.kind == Kind::Join && maker == Maker::IsLetIn {
            *unread = None;
        }
        is_about && matches!(seen.kind, Kind::ReadState | Kind::ReadStateEvent { .. })
    };
    proxy.stand_in(is_unread, |_, _| async {
        error(403, "M_FORBIDDEN", "not in this room")
    });
}

/// See [`drops_an_upgrade`]; the new room.
async fn drop_upgrade(call: &Call, maker: Maker) -> Result<String, ApiError> {
    let content = json!({ "predecessor": { "room_id": call.old } });
    let new = call.create(content).await?;
    call.bury(&new).await?;
    if maker == Maker::StaysOut {
        let path = format!("rooms/{}/leave", seg(&new));
        call.sender.call("POST", &path, Some(json!({}))).await?;
    }
    Ok(new)
}

/// Plays a server without `/upgrade`.
pub fn without_upgrade(proxy: &Proxy, refusal: Refusal) {
    let (status, errcode) = match refusal {
        Refusal::NotImplemented => (501, "M_UNSUPPORTED"),
        Refusal::Unrecognized => (404, "M_UNRECOGNIZED"),
    };
    proxy.stand_in(is_upgrade, move |_, _| async move {
        error(status, errcode, "the played server has no upgrade")
    });
}

/// Plays a server whose `/upgrade` does what the specification lists and says in full, and nothing
/// that it recommends or leaves to the server: it checks the permission, makes a room with
/// `predecessor`, `room_version`, `type` and the `additional_creators` asked for, and sends the
/// tombstone. No state is copied, no level, ban or alias moves, the old room stays open, and another
/// call makes another room.
pub fn spec_only(proxy: &Proxy) {
    proxy.stand_in(is_upgrade, |seen, sender| async move {
        answer(upgrade_by_the_spec(&Call::of(&seen, sender)).await)
    });
}

/// Plays Palpo's `/upgrade`: the permission is not checked before the new room exists, so a refusal
/// leaves a room behind; the tombstone precedes what is copied; the create event is kept whole;
/// eight types of state are copied; and the new room gets the power levels of the locked old one, so
/// that ordinary members cannot speak in it. Bans, aliases, the directory entry and local users'
/// settings stay behind, and another call makes another room.
pub fn palpo(proxy: &Proxy) {
    proxy.stand_in(is_upgrade, |seen, sender| async move {
        answer(upgrade_by_palpo(&Call::of(&seen, sender)).await)
    });
}

/// Plays a server that calls itself by that name, and is not Synapse: nothing below `/_synapse/`,
/// and no `Server` header.
pub fn other_software(proxy: &Proxy, name: &str) {
    let name: Arc<str> = name.into();
    proxy.stand_in(
        |seen| seen.method == "GET" && seen.path == "/_matrix/federation/v1/version",
        move |_, _| {
            let body = json!({ "server": { "name": &*name, "version": "1.2.3" } });
            async move { (200, body) }
        },
    );
    proxy.stand_in(
        |seen| seen.path.starts_with("/_synapse/"),
        |_, _| async { error(404, "M_UNRECOGNIZED", "this is not Synapse") },
    );
    proxy.hide_header(SERVER);
}

/// A call of `/upgrade`.
struct Call {
    /// Who calls, as a client of the homeserver.
    sender: User,
    /// The room to be replaced.
    old: String,
    /// The request's body.
    request: Value,
}

impl Call {
    /// The call that request is.
    fn of(seen: &Seen, sender: User) -> Self {
        let old = seen.path.strip_suffix("/upgrade").unwrap_or_default();
        let old = old.rsplit('/').next().unwrap_or_default();
        Self {
            sender,
            old: old.to_owned(),
            request: seen.body.clone().unwrap_or_default(),
        }
    }

    /// The version asked for.
    fn version(&self) -> &str {
        self.request["new_version"].as_str().unwrap_or_default()
    }

    /// Whether rooms of the version asked for have creators above everyone.
    fn makes_creators(&self) -> bool {
        has_creators(self.version())
    }

    /// Who calls.
    async fn sender_id(&self) -> Result<String, ApiError> {
        let answer = self.sender.call("GET", "account/whoami", None).await?;
        Ok(string(&answer["user_id"]))
    }

    /// The present state of the old room.
    async fn state(&self) -> Result<State, ApiError> {
        let path = format!("rooms/{}/state", seg(&self.old));
        let answer = self.sender.call("GET", &path, None).await?;
        Ok(State(answer.as_array().cloned().unwrap_or_default()))
    }

    /// The last event of the old room.
    async fn last_event(&self) -> Result<String, ApiError> {
        let path = format!("rooms/{}/messages?dir=b&limit=1", seg(&self.old));
        let answer = self.sender.call("GET", &path, None).await?;
        Ok(string(&answer["chunk"][0]["event_id"]))
    }

    /// Makes the new room, with that content of its create event.
    async fn create(&self, content: Value) -> Result<String, ApiError> {
        let request = json!({
            "room_version": self.request["new_version"],
            "preset": "private_chat",
            "creation_content": content,
        });
        let answer = self
            .sender
            .call("POST", "createRoom", Some(request))
            .await?;
        Ok(string(&answer["room_id"]))
    }

    /// Sets state in a room.
    async fn put(&self, room: &str, kind: &str, content: Value) -> Result<(), ApiError> {
        let path = format!("rooms/{}/state/{}/", seg(room), seg(kind));
        self.sender.call("PUT", &path, Some(content)).await?;
        Ok(())
    }

    /// Sends the tombstone.
    async fn bury(&self, new: &str) -> Result<(), ApiError> {
        let content = json!({ "body": "This room has been replaced", "replacement_room": new });
        self.put(&self.old, "m.room.tombstone", content).await
    }
}

/// The state of a room.
struct State(Vec<Value>);

impl State {
    /// The event of that type with an empty key; `null` where there is none.
    fn event(&self, kind: &str) -> &Value {
        let found = self
            .0
            .iter()
            .find(|event| event["type"] == kind && event["state_key"] == "");
        found.unwrap_or(&Value::Null)
    }

    /// Its content; `null` where there is none.
    fn content(&self, kind: &str) -> &Value {
        &self.event(kind)["content"]
    }

    /// Whether that user's level allows a tombstone.
    fn lets_bury(&self, user: &str) -> bool {
        let create = self.event("m.room.create");
        let content = &create["content"];
        let version = content["room_version"].as_str().unwrap_or("1");
        let added = content["additional_creators"].as_array();
        let creator =
            create["sender"] == user || added.is_some_and(|added| added.contains(&user.into()));
        if creator && has_creators(version) {
            return true;
        }
        let levels = self.content("m.room.power_levels");
        if levels.is_null() {
            return creator;
        }
        let level = |value: &Value, otherwise: i64| value.as_i64().unwrap_or(otherwise);
        let needed = level(
            &levels["events"]["m.room.tombstone"],
            level(&levels["state_default"], 50),
        );
        level(&levels["users"][user], level(&levels["users_default"], 0)) >= needed
    }
}

/// See [`spec_only`].
async fn upgrade_by_the_spec(call: &Call) -> Result<Value, ApiError> {
    let state = call.state().await?;
    if !state.lets_bury(&call.sender_id().await?) {
        let (status, body) = error(403, "M_FORBIDDEN", "no power to send the tombstone");
        return Err(ApiError { status, body });
    }
    let mut content = json!({ "predecessor": { "room_id": call.old } });
    if !call.makes_creators() {
        content["predecessor"]["event_id"] = call.last_event().await?.into();
    }
    let kind = &state.content("m.room.create")["type"];
    if kind.is_string() {
        content["type"] = kind.clone();
    }
    let creators = &call.request["additional_creators"];
    if call.makes_creators() && creators.is_array() {
        content["additional_creators"] = creators.clone();
    }
    let new = call.create(content).await?;
    call.bury(&new).await?;
    Ok(json!({ "replacement_room": new }))
}

/// See [`palpo`].
async fn upgrade_by_palpo(call: &Call) -> Result<Value, ApiError> {
    let state = call.state().await?;
    let mut content = object(state.content("m.room.create"));
    content.remove("creator");
    content.remove("room_version");
    content.insert("predecessor".into(), json!({ "room_id": call.old }));
    let creators = &call.request["additional_creators"];
    if creators.is_array() {
        content.insert("additional_creators".into(), creators.clone());
    }
    let mut creators = content
        .get("additional_creators")
        .cloned()
        .unwrap_or_default();
    let new = call.create(content.into()).await?;
    call.bury(&new).await?;
    for kind in PALPO_COPIES {
        let content = state.content(kind);
        if !content.is_null() {
            call.put(&new, kind, content.clone()).await?;
        }
    }

    let old_levels = state.content("m.room.power_levels");
    let mut levels = object(old_levels);
    let member = levels.get("users_default").and_then(Value::as_i64);
    let locked = LOCKED_LEVEL.max(member.unwrap_or_default() + 1);
    for name in ["events_default", "invite"] {
        let level = levels.get(name).and_then(Value::as_i64);
        levels.insert(name.into(), level.unwrap_or_default().max(locked).into());
    }
    let levels = Value::from(levels);
    if levels != *old_levels {
        call.put(&call.old, "m.room.power_levels", levels.clone())
            .await?;
    }
    // The mistake: these are the old room's levels as they are now.
    let mut new_levels = levels;
    if call.makes_creators() {
        let sender = Value::from(call.sender_id().await?);
        let creators = creators
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        if let Some(users) = new_levels["users"].as_object_mut() {
            for creator in creators.iter().chain([&sender]) {
                users.remove(creator.as_str().unwrap_or_default());
            }
        }
    }
    call.put(&new, "m.room.power_levels", new_levels).await?;
    Ok(json!({ "replacement_room": new }))
}

/// Whether that is a call of `/upgrade`.
fn is_upgrade(seen: &Seen) -> bool {
    seen.kind == Kind::Upgrade
}

/// What the played server answers: refusals of the server behind are its own.
fn answer(result: Result<Value, ApiError>) -> (u16, Value) {
    match result {
        Ok(body) => (200, body),
        Err(e) if e.status == NO_ANSWER => error(502, "M_UNKNOWN", "no answer behind the play"),
        Err(e) => (e.status, e.body),
    }
}

/// A Matrix error.
fn error(status: u16, errcode: &str, text: &str) -> (u16, Value) {
    (status, json!({ "errcode": errcode, "error": text }))
}

/// The string; empty where it is none.
fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The object; empty where it is none.
fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
