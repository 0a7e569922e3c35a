//! What the SDK leaves to us on the way to the homeserver: how answers are told apart, how events
//! are sent, and a few requests by hand.
//!
//! Left out: retries and rate limits (`homeserver::paced`).

pub(super) mod requests;

use std::fmt;
use std::io::Cursor;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use matrix_sdk::config::RequestConfig;
use matrix_sdk::{Client, HttpError, Room, RoomState};
use ruma::api::client::media::create_content;
use ruma::api::client::message::send_message_event;
use ruma::api::error::{
    DeserializationError, ErrorBody, ErrorKind, FromHttpResponseError, RetryAfter,
};
use ruma::serde::Raw;
use ruma::{OwnedEventId, OwnedTransactionId, RoomId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::homeserver::{
    Bucket, HomeserverError, REQUEST_TIMEOUT, RETRY_AFTER_DEFAULT, RateLimit, Upload, Uploaded,
};
use crate::metrics::{self, Outcome, RequestKind};
use crate::room::state::{Content, in_url};

/// Longest wait that is believed; then the server is asked again.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Longest text of a server that goes into an error.
const MESSAGE_MAX_CHARS: usize = 500;

const OK: u16 = 200;
const TOO_MANY_REQUESTS: u16 = 429;
const REQUEST_TIMED_OUT: u16 = 408;
const NOT_IMPLEMENTED: u16 = 501;
const NOT_FOUND: u16 = 404;

/// One try, with a limit on its time.
pub(super) fn once(timeout: Duration) -> RequestConfig {
    RequestConfig::new().disable_retry().timeout(timeout)
}

/// Tells the failures of a request apart.
pub(super) fn failed(
    request: String,
    bucket: Bucket,
    now: Timestamp,
    error: HttpError,
) -> HomeserverError {
    // A request that had to wait for `/versions` fails with the failure of that one.
    let answer = match &error {
        HttpError::Cached(inner) => inner.as_client_api_error(),
        error => error.as_client_api_error(),
    };
    let Some(answer) = answer else {
        return without_error_body(request, error);
    };
    let status = answer.status_code.as_u16();
    let (limit, code, message) = match &answer.body {
        ErrorBody::Standard(body) => {
            let limit = match &body.kind {
                ErrorKind::LimitExceeded(limit) => Some(limit.retry_after.as_ref()),
                _ => None,
            };
            (limit, body.kind.errcode().to_string(), body.message.clone())
        }
        // An error that lacks what its code calls for.
        ErrorBody::Json(json) => {
            let text = |key: &str| json.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
            let message = text("error").unwrap_or_else(|| json.to_string());
            (None, text("errcode").unwrap_or_default(), message)
        }
        ErrorBody::NotJson { .. } => (None, String::new(), String::new()),
    };
    let retry_after = match limit {
        None if status == TOO_MANY_REQUESTS => Some(RETRY_AFTER_DEFAULT),
        limit => limit.map(|told| wait(told, now)),
    };
    if let Some(retry_after) = retry_after {
        let limit = RateLimit {
            bucket,
            retry_after,
        };
        return HomeserverError::RateLimited { request, limit };
    }
    if is_refusal(status) && !code.is_empty() {
        let message = message.chars().take(MESSAGE_MAX_CHARS).collect();
        return HomeserverError::refused(request, status, code, message);
    }
    // A server or proxy that gave up waiting may have begun the work all the same. What has no Matrix error
    // code comes from something in front of the server, which is away.
    HomeserverError::Uncertain {
        request,
        status: Some(status),
        source: error.into(),
    }
}

/// Whether an answer with this HTTP status, if it is the homeserver's, says no.
fn is_refusal(status: u16) -> bool {
    status == NOT_IMPLEMENTED || (status < 500 && status != REQUEST_TIMED_OUT)
}

/// What a request is for: what it does, and to what.
#[derive(Debug, Clone)]
pub(super) struct Purpose {
    pub(super) kind: RequestKind,
    object: String,
}

impl Purpose {
    pub(super) fn new(kind: RequestKind, object: impl Into<String>) -> Self {
        let object = object.into();
        Self { kind, object }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.object)
    }
}

/// Counts what became of a request.
pub(super) fn count<T>(kind: RequestKind, answer: &Result<T, HomeserverError>) {
    let outcome = match answer {
        Ok(_) => Outcome::Ok,
        Err(HomeserverError::RateLimited { .. }) => Outcome::RateLimited,
        Err(HomeserverError::Refused { .. }) => Outcome::Refused,
        Err(HomeserverError::AccountBlocked { .. }) => Outcome::AccountBlocked,
        Err(HomeserverError::Uncertain { .. }) => Outcome::Uncertain,
        Err(HomeserverError::Unusable { .. }) => Outcome::Unusable,
    };
    metrics::request(kind, outcome);
}

/// The same for the SDK's own operations, of which requests are a part.
pub(super) fn sdk_failed(
    request: String,
    bucket: Bucket,
    now: Timestamp,
    error: matrix_sdk::Error,
) -> HomeserverError {
    match error {
        matrix_sdk::Error::Http(error) => failed(request, bucket, now, *error),
        // Keys could not be exchanged, or the store is busy: trying again may help.
        error => HomeserverError::Uncertain {
            request,
            status: None,
            source: error.into(),
        },
    }
}

/// The failures that are no answer of a homeserver to this request.
fn without_error_body(request: String, error: HttpError) -> HomeserverError {
    let source = match error {
        // Asking for credentials once more; the bot asks nothing that servers guard so.
        HttpError::Api(api) if matches!(*api, FromHttpResponseError::Server(_)) => {
            return HomeserverError::Refused {
                request,
                status: 401,
                code: String::new(),
                message: "the server wants more credentials".to_owned(),
            };
        }
        source => source,
    };
    match &source {
        HttpError::Api(api) if is_no_json(api) => HomeserverError::Uncertain {
            request,
            status: Some(OK),
            source: source.into(),
        },
        HttpError::Api(_) | HttpError::IntoHttp(_) => HomeserverError::Unusable {
            request,
            source: source.into(),
        },
        _ => HomeserverError::Uncertain {
            request,
            status: None,
            source: source.into(),
        },
    }
}

/// Whether an answer that says that all went well is a page of something in front of the homeserver.
fn is_no_json<E>(error: &FromHttpResponseError<E>) -> bool {
    matches!(error, FromHttpResponseError::Deserialization(DeserializationError::Json(error))
        if error.is_syntax() || error.is_eof())
}

fn wait(told: Option<&RetryAfter>, now: Timestamp) -> Duration {
    match told {
        None => RETRY_AFTER_DEFAULT,
        Some(RetryAfter::Delay(delay)) => *delay,
        Some(RetryAfter::DateTime(at)) => at
            .duration_since(SystemTime::from(now))
            .unwrap_or(Duration::ZERO),
    }
    .min(RETRY_AFTER_MAX)
}

/// Nothing, where a homeserver says that the thing does not exist. `M_UNRECOGNIZED` means that the endpoint
/// does not exist.
pub(super) fn found<T>(answer: Result<T, HomeserverError>) -> Result<Option<T>, HomeserverError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(HomeserverError::Refused {
            status: NOT_FOUND,
            code,
            ..
        }) if code != "M_UNRECOGNIZED" => Ok(None),
        Err(error) => Err(error),
    }
}

/// JSON as it is.
pub(super) fn raw<T>(content: &Content) -> Raw<T> {
    let json =
        serde_json::value::to_raw_value(content).unwrap_or_else(|_| RawValue::NULL.to_owned());
    Raw::from_json(json)
}

/// A room that the account is in, as far as sync has told.
pub(super) fn joined(client: &Client, room: &RoomId) -> Option<Room> {
    client
        .get_room(room)
        .filter(|known| known.state() == RoomState::Joined)
}

/// A client that the compiler need not look into. Whether threads may share all that is in the SDK's takes it ten
/// seconds for each shape of an asynchronous method of a trait; for the same reason, what waits for the SDK in
/// such a method is a [`BoxFuture`].
#[derive(Clone)]
pub(super) struct SharedClient(Arc<dyn Deref<Target = Client> + Send + Sync>);

impl SharedClient {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(Box::new(client)))
    }
}

impl Deref for SharedClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.deref()
    }
}

impl fmt::Debug for SharedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Sends an event that is no state, encrypted where the room is.
pub(super) fn send_event<'a>(
    client: &'a Client,
    room: &'a RoomId,
    kind: &'a str,
    transaction: &'a str,
    content: &'a Content,
    now: Timestamp,
) -> BoxFuture<'a, Result<OwnedEventId, HomeserverError>> {
    Box::pin(async move {
        let what = format!("send {kind} to {room}");
        // ruma encodes what is not encoded yet, but for `%`.
        let transaction = OwnedTransactionId::from(in_url(transaction));
        let Some(known) = joined(client, room) else {
            return send_unseen(client, room, kind, transaction, content, now, what).await;
        };
        let sent = known
            .send_raw(kind, Value::Object(content.clone()))
            .with_transaction_id(&transaction)
            .with_request_config(once(REQUEST_TIMEOUT))
            .await;
        sent.map(|sent| sent.response.event_id)
            .map_err(|error| sdk_failed(what, Bucket::Everything, now, error))
    })
}

/// Sends to a room that sync has not told of yet: only if it is not encrypted.
async fn send_unseen(
    client: &Client,
    room: &RoomId,
    kind: &str,
    transaction: OwnedTransactionId,
    content: &Content,
    now: Timestamp,
    what: String,
) -> Result<OwnedEventId, HomeserverError> {
    if kind != "m.reaction" {
        refuse_encrypted(client, room, &what, now).await?;
    }
    let request = send_message_event::v3::Request::new_raw(
        room.to_owned(),
        transaction,
        kind.into(),
        raw(content),
    );
    client
        .send(request)
        .with_request_config(once(REQUEST_TIMEOUT))
        .await
        .map(|sent| sent.event_id)
        .map_err(|error| failed(what, Bucket::Everything, now, error))
}

/// Fails if a room that sync has not told of yet is encrypted: nothing goes there in the clear.
async fn refuse_encrypted(
    client: &Client,
    room: &RoomId,
    what: &str,
    now: Timestamp,
) -> Result<(), HomeserverError> {
    let encryption = client
        .send(requests::get_state(room, "m.room.encryption", ""))
        .with_request_config(once(REQUEST_TIMEOUT))
        .await;
    let asked = format!("read encryption of {room}");
    let encryption =
        found(encryption.map_err(|error| failed(asked, Bucket::Everything, now, error)))?;
    match encryption {
        None => Ok(()),
        Some(_) => Err(HomeserverError::Uncertain {
            request: what.to_owned(),
            status: None,
            source: "the room is encrypted and sync has not told its members yet".into(),
        }),
    }
}

/// Uploads a file for a message in a room, encrypted where the room is.
pub(super) fn upload<'a>(
    client: &'a Client,
    room: &'a RoomId,
    file: &'a Upload,
    what: String,
    now: Timestamp,
) -> BoxFuture<'a, Result<Uploaded, HomeserverError>> {
    Box::pin(uploaded(client, room, file, what, now))
}

async fn uploaded(
    client: &Client,
    room: &RoomId,
    file: &Upload,
    what: String,
    now: Timestamp,
) -> Result<Uploaded, HomeserverError> {
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
        return Ok(Uploaded {
            key: "file",
            source,
        });
    }
    let mut request = create_content::v3::Request::new(file.bytes.clone());
    request.filename = Some(file.name.clone());
    request.content_type = Some(file.content_type.clone());
    let answer = client
        .send(request)
        .with_request_config(once(REQUEST_TIMEOUT))
        .await;
    let uploaded = answer.map_err(|error| failed(what, Bucket::Everything, now, error))?;
    Ok(Uploaded {
        key: "url",
        source: json!(uploaded.content_uri),
    })
}
