//! A user of a homeserver: a thin client that says what tests say, and a [`Timeline`] to wait on.
//!
//! What a test sets up or looks at is expected to work, so most methods panic with the server's
//! answer when it does not; [`User::call`] is for requests that may fail. Leaves out encryption and
//! retries.

use std::fmt::Write as _;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// What a path segment or a query value may hold as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where paths that do not begin with a slash start.
const CLIENT_API: &str = "/_matrix/client/v3/";

/// How long one request may take. Longer than any long poll here.
pub const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// How long a [`Timeline`] waits unless told otherwise.
pub const TIMELINE_DEADLINE: Duration = Duration::from_mins(1);

/// How long one long poll of a [`Timeline`] lasts at most.
const LONG_POLL: Duration = Duration::from_secs(10);

/// The most events one poll of a [`Timeline`] takes; beyond, there would be a gap.
const TIMELINE_LIMIT: usize = 10_000;

/// Status code of an [`ApiError`] where the server gave no answer at all.
pub const NO_ANSWER: u16 = 0;

/// A request that did not succeed.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The HTTP status; [`NO_ANSWER`] where there was none.
    pub status: u16,
    /// The body, `null` where it was not JSON; the reason, as a string, where there was no answer.
    pub body: Value,
}

impl ApiError {
    /// The `errcode`, empty where there is none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["errcode"].as_str().unwrap_or_default()
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.body)
    }
}

impl std::error::Error for ApiError {}

/// A logged in user, in one device.
#[derive(Debug, Clone)]
pub struct User {
    /// The full user id.
    pub user_id: String,
    /// The device's access token.
    pub access_token: String,
    /// The device's id.
    pub device_id: String,
    /// The password.
    pub password: String,
    base_url: String,
    http: reqwest::Client,
}

impl User {
    /// Registers a user with a homeserver that lets everyone.
    #[track_caller]
    pub fn register(
        base_url: &str,
        localpart: &str,
        password: &str,
    ) -> impl Future<Output = Self> + Send {
        let request = json!({
            "username": localpart,
            "password": password,
            "auth": { "type": "m.login.dummy" },
        });
        Self::enter(Location::caller(), base_url, "register", request, password)
    }

    /// Logs in, in a new device. `user` is a localpart or a full id.
    #[track_caller]
    pub fn login(base_url: &str, user: &str, password: &str) -> impl Future<Output = Self> + Send {
        let request = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": user },
            "password": password,
        });
        Self::enter(Location::caller(), base_url, "login", request, password)
    }

    /// Whoever has that access token; what else there is to know of them is empty.
    pub(crate) fn with_token(base_url: &str, access_token: &str) -> Self {
        Self {
            user_id: String::new(),
            access_token: access_token.into(),
            device_id: String::new(),
            password: String::new(),
            base_url: base_url.into(),
            http: client(),
        }
    }

    /// Makes a user of the answer to a registration or a login.
    async fn enter(
        caller: &Location<'_>,
        base_url: &str,
        path: &str,
        request: Value,
        password: &str,
    ) -> Self {
        let mut user = Self {
            password: password.into(),
            ..Self::with_token(base_url, "")
        };
        let answer = user.must(caller, "POST", path.into(), Some(request)).await;
        user.user_id = string(&answer, "user_id");
        user.access_token = string(&answer, "access_token");
        user.device_id = string(&answer, "device_id");
        user
    }

    /// The same user and device, with requests going to another address (such as a proxy's).
    #[must_use]
    pub fn via(&self, base_url: &str) -> Self {
        Self {
            base_url: base_url.into(),
            ..self.clone()
        }
    }

    /// The part of the user id before the colon, without the `@`.
    #[must_use]
    pub fn localpart(&self) -> &str {
        self.user_id[1..].split(':').next().unwrap_or_default()
    }

    /// Makes a request. A path without a slash at its beginning is one below
    /// `/_matrix/client/v3/`; put variable parts through [`seg`].
    ///
    /// # Errors
    ///
    /// Whatever is not a success, including no answer at all.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, ApiError> {
        let prefix = if path.starts_with('/') {
            ""
        } else {
            CLIENT_API
        };
        let url = format!("{}{prefix}{path}", self.base_url);
        let method = method.parse().expect("a method's name");
        let mut request = self.http.request(method, url);
        if !self.access_token.is_empty() {
            request = request.bearer_auth(&self.access_token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let lost = |e| ApiError {
            status: NO_ANSWER,
            body: reason(&e).into(),
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(lost)?;
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            Ok(body)
        } else {
            Err(ApiError {
                status: status.as_u16(),
                body,
            })
        }
    }

    /// [`User::call`], panicking in the name of `caller` where it fails.
    async fn must(
        &self,
        caller: &Location<'_>,
        method: &str,
        path: String,
        body: Option<Value>,
    ) -> Value {
        match self.call(method, &path, body).await {
            Ok(answer) => answer,
            Err(e) => panic!("{caller}: {method} {path} by {}: {e}", self.user_id),
        }
    }

    /// [`User::must`], giving the string at `key` of the answer.
    async fn must_give(
        &self,
        caller: &Location<'_>,
        method: &str,
        path: String,
        body: Value,
        key: &str,
    ) -> String {
        string(&self.must(caller, method, path, Some(body)).await, key)
    }

    /// [`User::must`] where what is asked for may not be there.
    async fn must_if_found(&self, caller: &Location<'_>, path: String) -> Option<Value> {
        match self.call("GET", &path, None).await {
            Ok(answer) => Some(answer),
            Err(e) if e.status == 404 => None,
            Err(e) => panic!("{caller}: GET {path} by {}: {e}", self.user_id),
        }
    }

    /// [`User::must`] where the answer says nothing.
    async fn must_do(&self, caller: &Location<'_>, method: &str, path: String, body: Value) {
        self.must(caller, method, path, Some(body)).await;
    }

    /// Whose token this is, as the server sees it.
    #[track_caller]
    pub fn whoami(&self) -> impl Future<Output = Value> + Send {
        self.must(Location::caller(), "GET", "account/whoami".into(), None)
    }

    /// Creates a room; returns its id.
    #[track_caller]
    pub fn create_room(&self, request: Value) -> impl Future<Output = String> + Send {
        self.must_give(
            Location::caller(),
            "POST",
            "createRoom".into(),
            request,
            "room_id",
        )
    }

    /// Upgrades a room; returns the new room's id.
    #[track_caller]
    pub fn upgrade(&self, room: &str, version: &str) -> impl Future<Output = String> + Send {
        let path = format!("rooms/{}/upgrade", seg(room));
        let request = json!({ "new_version": version });
        self.must_give(
            Location::caller(),
            "POST",
            path,
            request,
            "replacement_room",
        )
    }

    /// Sends an event; returns its id.
    #[track_caller]
    pub fn send_event(
        &self,
        room: &str,
        event_type: &str,
        content: Value,
    ) -> impl Future<Output = String> + Send {
        let path = format!(
            "rooms/{}/send/{}/{}",
            seg(room),
            seg(event_type),
            transaction()
        );
        self.must_give(Location::caller(), "PUT", path, content, "event_id")
    }

    /// Sends a plain message; returns its id.
    #[track_caller]
    pub fn send_text(&self, room: &str, body: &str) -> impl Future<Output = String> + Send {
        self.send_event(
            room,
            "m.room.message",
            json!({ "msgtype": "m.text", "body": body }),
        )
    }

    /// Sends a formatted message; returns its id.
    #[track_caller]
    pub fn send_html(
        &self,
        room: &str,
        body: &str,
        formatted_body: &str,
    ) -> impl Future<Output = String> + Send {
        let content = json!({
            "msgtype": "m.text",
            "body": body,
            "format": "org.matrix.custom.html",
            "formatted_body": formatted_body,
        });
        self.send_event(room, "m.room.message", content)
    }

    /// Replaces a message's text; returns the edit's id.
    #[track_caller]
    pub fn edit_text(
        &self,
        room: &str,
        event_id: &str,
        body: &str,
    ) -> impl Future<Output = String> + Send {
        let content = json!({
            "msgtype": "m.text",
            "body": format!("* {body}"),
            "m.new_content": { "msgtype": "m.text", "body": body },
            "m.relates_to": { "rel_type": "m.replace", "event_id": event_id },
        });
        self.send_event(room, "m.room.message", content)
    }

    /// Reacts to an event; returns the reaction's id.
    #[track_caller]
    pub fn react(
        &self,
        room: &str,
        event_id: &str,
        key: &str,
    ) -> impl Future<Output = String> + Send {
        let relation = json!({ "rel_type": "m.annotation", "event_id": event_id, "key": key });
        self.send_event(room, "m.reaction", json!({ "m.relates_to": relation }))
    }

    /// Redacts an event; returns the redaction's id.
    #[track_caller]
    pub fn redact(&self, room: &str, event_id: &str) -> impl Future<Output = String> + Send {
        let path = format!(
            "rooms/{}/redact/{}/{}",
            seg(room),
            seg(event_id),
            transaction()
        );
        self.must_give(Location::caller(), "PUT", path, json!({}), "event_id")
    }

    /// One event, where this user may see it.
    #[track_caller]
    pub fn event(&self, room: &str, event_id: &str) -> impl Future<Output = Option<Value>> + Send {
        let path = format!("rooms/{}/event/{}", seg(room), seg(event_id));
        self.must_if_found(Location::caller(), path)
    }

    /// All of a room's present state events.
    #[track_caller]
    pub fn state(&self, room: &str) -> impl Future<Output = Vec<Value>> + Send {
        let path = format!("rooms/{}/state", seg(room));
        let answer = self.must(Location::caller(), "GET", path, None);
        async move { list(&answer.await) }
    }

    /// The content of one state event.
    #[track_caller]
    pub fn state_event(
        &self,
        room: &str,
        event_type: &str,
        key: &str,
    ) -> impl Future<Output = Option<Value>> + Send {
        let path = format!("rooms/{}/state/{}/{}", seg(room), seg(event_type), seg(key));
        self.must_if_found(Location::caller(), path)
    }

    /// Sets one state event; returns its id.
    #[track_caller]
    pub fn put_state(
        &self,
        room: &str,
        event_type: &str,
        key: &str,
        content: Value,
    ) -> impl Future<Output = String> + Send {
        let path = format!("rooms/{}/state/{}/{}", seg(room), seg(event_type), seg(key));
        self.must_give(Location::caller(), "PUT", path, content, "event_id")
    }

    /// Joins a room, by id or alias; returns its id.
    #[track_caller]
    pub fn join(&self, room: &str) -> impl Future<Output = String> + Send {
        let path = format!("join/{}", seg(room));
        self.must_give(Location::caller(), "POST", path, json!({}), "room_id")
    }

    /// Leaves a room, or declines an invitation.
    #[track_caller]
    pub fn leave(&self, room: &str) -> impl Future<Output = ()> + Send {
        self.must_do(
            Location::caller(),
            "POST",
            format!("rooms/{}/leave", seg(room)),
            json!({}),
        )
    }

    /// Invites a user.
    #[track_caller]
    pub fn invite(&self, room: &str, user_id: &str) -> impl Future<Output = ()> + Send {
        let path = format!("rooms/{}/invite", seg(room));
        self.must_do(
            Location::caller(),
            "POST",
            path,
            json!({ "user_id": user_id }),
        )
    }

    /// Kicks a user.
    #[track_caller]
    pub fn kick(&self, room: &str, user_id: &str, reason: &str) -> impl Future<Output = ()> + Send {
        let path = format!("rooms/{}/kick", seg(room));
        let request = json!({ "user_id": user_id, "reason": reason });
        self.must_do(Location::caller(), "POST", path, request)
    }

    /// Bans a user.
    #[track_caller]
    pub fn ban(&self, room: &str, user_id: &str, reason: &str) -> impl Future<Output = ()> + Send {
        let path = format!("rooms/{}/ban", seg(room));
        let request = json!({ "user_id": user_id, "reason": reason });
        self.must_do(Location::caller(), "POST", path, request)
    }

    /// Lifts a ban.
    #[track_caller]
    pub fn unban(&self, room: &str, user_id: &str) -> impl Future<Output = ()> + Send {
        let path = format!("rooms/{}/unban", seg(room));
        self.must_do(
            Location::caller(),
            "POST",
            path,
            json!({ "user_id": user_id }),
        )
    }

    /// The rooms this user is in.
    #[track_caller]
    pub fn joined_rooms(&self) -> impl Future<Output = Vec<String>> + Send {
        let answer = self.must(Location::caller(), "GET", "joined_rooms".into(), None);
        async move { strings(&answer.await["joined_rooms"]) }
    }

    /// Points an alias at a room.
    #[track_caller]
    pub fn set_alias(&self, alias: &str, room: &str) -> impl Future<Output = ()> + Send {
        let path = format!("directory/room/{}", seg(alias));
        self.must_do(Location::caller(), "PUT", path, json!({ "room_id": room }))
    }

    /// Deletes an alias.
    #[track_caller]
    pub fn remove_alias(&self, alias: &str) -> impl Future<Output = ()> + Send {
        let path = format!("directory/room/{}", seg(alias));
        let answer = self.must(Location::caller(), "DELETE", path, None);
        async move { drop(answer.await) }
    }

    /// The room an alias points at.
    #[track_caller]
    pub fn resolve_alias(&self, alias: &str) -> impl Future<Output = Option<String>> + Send {
        let path = format!("directory/room/{}", seg(alias));
        let answer = self.must_if_found(Location::caller(), path);
        async move { answer.await.map(|found| string(&found, "room_id")) }
    }

    /// The server's aliases of a room.
    #[track_caller]
    pub fn aliases(&self, room: &str) -> impl Future<Output = Vec<String>> + Send {
        let path = format!("rooms/{}/aliases", seg(room));
        let answer = self.must(Location::caller(), "GET", path, None);
        async move { strings(&answer.await["aliases"]) }
    }

    /// Puts a room into the public room directory, or takes it out.
    #[track_caller]
    pub fn set_listed(&self, room: &str, listed: bool) -> impl Future<Output = ()> + Send {
        let path = format!("directory/list/room/{}", seg(room));
        let visibility = if listed { "public" } else { "private" };
        self.must_do(
            Location::caller(),
            "PUT",
            path,
            json!({ "visibility": visibility }),
        )
    }

    /// Whether a room is in the public room directory.
    #[track_caller]
    pub fn is_listed(&self, room: &str) -> impl Future<Output = bool> + Send {
        let path = format!("directory/list/room/{}", seg(room));
        let answer = self.must(Location::caller(), "GET", path, None);
        async move { answer.await["visibility"] == "public" }
    }

    /// Uploads a file; returns its `mxc:` address.
    #[track_caller]
    pub fn upload(
        &self,
        content_type: &str,
        bytes: &'static [u8],
    ) -> impl Future<Output = String> + Send {
        let caller = Location::caller();
        let request = self
            .http
            .post(format!("{}/_matrix/media/v3/upload", self.base_url))
            .bearer_auth(&self.access_token)
            .header("content-type", content_type)
            .body(bytes);
        async move {
            let answer = match request.send().await {
                Ok(response) => response.text().await,
                Err(e) => Err(e),
            };
            let answer = answer.unwrap_or_else(|e| panic!("{caller}: upload: {}", reason(&e)));
            string(
                &serde_json::from_str(&answer).unwrap_or_default(),
                "content_uri",
            )
        }
    }

    /// The bytes behind an `mxc://` address.
    #[track_caller]
    pub fn download(&self, uri: &str) -> impl Future<Output = Vec<u8>> + Send {
        let caller = Location::caller();
        let path = uri.strip_prefix("mxc://").unwrap_or(uri);
        let url = format!("{}/_matrix/client/v1/media/download/{path}", self.base_url);
        let request = self.http.get(url).bearer_auth(&self.access_token);
        async move {
            let answer = request
                .send()
                .await
                .and_then(reqwest::Response::error_for_status);
            let bytes = match answer {
                Ok(answer) => answer.bytes().await,
                Err(e) => Err(e),
            };
            match bytes {
                Ok(bytes) => bytes.into(),
                Err(e) => panic!("{caller}: download: {}", reason(&e)),
            }
        }
    }

    /// The last `limit` events of a room's timeline, newest first.
    #[track_caller]
    pub fn messages(&self, room: &str, limit: usize) -> impl Future<Output = Vec<Value>> + Send {
        let path = format!("rooms/{}/messages?dir=b&limit={limit}", seg(room));
        let answer = self.must(Location::caller(), "GET", path, None);
        async move { list(&answer.await["chunk"]) }
    }

    /// What happens in a room from now on. The user need not be in the room yet.
    #[track_caller]
    pub fn timeline(&self, room: &str) -> impl Future<Output = Timeline> + Send {
        let caller = Location::caller();
        let none = json!({ "types": [] });
        let filter = json!({
            "account_data": none,
            "presence": none,
            "room": {
                "rooms": [room],
                "account_data": none,
                "ephemeral": none,
                "timeline": { "limit": TIMELINE_LIMIT },
            },
        });
        let user = self.clone();
        let room = room.to_owned();
        async move {
            let filter = seg(&filter.to_string());
            // The first sync is only for the token. Synapse keeps the answer to one without a token for two
            // minutes, and would tell of a moment that is past: each asks for a room of its own.
            let nowhere = format!("!{}:nowhere.invalid", transaction());
            let first = json!({ "room": { "rooms": [nowhere] } }).to_string();
            let path = format!("sync?timeout=0&filter={}", seg(&first));
            let since = string(&user.must(caller, "GET", path, None).await, "next_batch");
            let within = TIMELINE_DEADLINE;
            Timeline {
                user,
                room,
                filter,
                since,
                within,
                seen: Vec::new(),
                looked_at: 0,
            }
        }
    }
}

/// The events of one room, as one user gets them.
///
/// An event that puts the user into the room brings what history it opens with it; an invitation
/// shows as its stripped state events, which have no ids.
#[derive(Debug)]
pub struct Timeline {
    user: User,
    room: String,
    filter: String,
    since: String,
    within: Duration,
    seen: Vec<Value>,
    /// How many of `seen` are behind the last one returned.
    looked_at: usize,
}

impl Timeline {
    /// With another deadline than [`TIMELINE_DEADLINE`] for each wait.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.within = deadline;
        self
    }

    /// All events so far, oldest first.
    #[must_use]
    pub fn seen(&self) -> &[Value] {
        &self.seen
    }

    /// The next event that satisfies `wanted`, after the last one returned.
    ///
    /// Panics with all events seen when the deadline passes first.
    #[track_caller]
    pub fn until(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&Value) -> bool + Send,
    ) -> impl Future<Output = Value> + Send {
        let caller = Location::caller();
        async move {
            let deadline = Instant::now() + self.within;
            loop {
                while let Some(event) = self.seen.get(self.looked_at) {
                    self.looked_at += 1;
                    if wanted(event) {
                        return event.clone();
                    }
                }
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(
                    !left.is_zero(),
                    "{caller}: within {:?}, {} did not see in {}: {what}\nIt saw:\n{}",
                    self.within,
                    self.user.user_id,
                    self.room,
                    transcript(&self.seen)
                );
                self.poll(caller, left.min(LONG_POLL)).await;
            }
        }
    }

    /// Takes in what has happened up to now, without waiting for more.
    #[track_caller]
    pub fn catch_up(&mut self) -> impl Future<Output = ()> + Send {
        self.poll(Location::caller(), Duration::ZERO)
    }

    /// One long poll.
    async fn poll(&mut self, caller: &Location<'_>, timeout: Duration) {
        let path = format!(
            "sync?since={}&timeout={}&filter={}",
            seg(&self.since),
            timeout.as_millis(),
            self.filter
        );
        let answer = self.user.must(caller, "GET", path, None).await;
        let rooms = &answer["rooms"];
        let room = self.room.as_str();
        self.seen
            .extend(list(&rooms["invite"][room]["invite_state"]["events"]));
        self.seen
            .extend(list(&rooms["join"][room]["timeline"]["events"]));
        self.seen
            .extend(list(&rooms["leave"][room]["timeline"]["events"]));
        self.since = string(&answer, "next_batch");
    }
}

/// A variable part of a path or a query, encoded.
#[must_use]
pub fn seg(part: &str) -> String {
    utf8_percent_encode(part, ENCODED).to_string()
}

/// A message's text; of an edit, the new one. Empty where there is none.
#[must_use]
pub fn text(event: &Value) -> &str {
    content_of(event)["body"].as_str().unwrap_or_default()
}

/// A message's formatted text; of an edit, the new one. Empty where there is none.
#[must_use]
pub fn html(event: &Value) -> &str {
    content_of(event)["formatted_body"]
        .as_str()
        .unwrap_or_default()
}

/// Whether an event is an edit of another one.
#[must_use]
pub fn is_edit(event: &Value) -> bool {
    event["content"]["m.relates_to"]["rel_type"] == "m.replace"
}

/// The event another one refers to: edits, reacts to or belongs to the thread of, or else replies
/// to.
#[must_use]
pub fn relates_to(event: &Value) -> Option<&str> {
    let relation = &event["content"]["m.relates_to"];
    relation["event_id"]
        .as_str()
        .or_else(|| relation["m.in_reply_to"]["event_id"].as_str())
}

/// One line per event, for panics.
#[must_use]
pub fn transcript(events: &[Value]) -> String {
    let mut lines = String::new();
    for event in events {
        let field = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
        let key = match event["state_key"].as_str() {
            Some(key) => format!(" [{key}]"),
            None => String::new(),
        };
        let content = match text(event) {
            "" => event["content"].to_string(),
            text => format!("{}{text:?}", if is_edit(event) { "(edit) " } else { "" }),
        };
        let (id, sender, event_type) = (field("event_id"), field("sender"), field("type"));
        writeln!(lines, "  {id} {sender} {event_type}{key}: {content}").expect("write to memory");
    }
    if lines.is_empty() {
        "  (nothing)".to_owned()
    } else {
        lines
    }
}

/// The content that counts: of an edit, the new one.
fn content_of(event: &Value) -> &Value {
    let content = &event["content"];
    if is_edit(event) {
        &content["m.new_content"]
    } else {
        content
    }
}

/// A client that takes a new connection for each request, so that a server's restart costs no
/// request.
fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(REQUEST_TIMEOUT)
        .build()
        .expect("build an HTTP client")
}

/// A transaction id of its own, also among the test processes that use one server.
fn transaction() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(
        "testbed-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// An error with its causes.
fn reason(error: &reqwest::Error) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        write!(reason, ": {cause}").expect("write to memory");
        source = cause.source();
    }
    reason
}

/// The string at that key of an answer that must have it.
fn string(answer: &Value, key: &str) -> String {
    match answer[key].as_str() {
        Some(value) => value.into(),
        None => panic!("there is no {key} in the server's answer {answer}"),
    }
}

/// The elements of a list; none where there is no list.
fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The strings of a list.
fn strings(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .filter_map(|element| element.as_str().map(Into::into))
        .collect()
}
