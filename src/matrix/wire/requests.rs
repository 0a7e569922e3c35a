//! Requests by hand: what ruma's types would rename, refuse or not know.
//!
//! Its event types rename some that clients write in their unstable or stable form
//! (`m.call.member`), and state must arrive under the name it has; rooms are made from JSON that no
//! type has looked at; a directory of another server may hold entries that no type accepts; and
//! `whoami` is asked with a token that is not a session yet. In its paths, `%` and `\` stay as they are,
//! and the server, which decodes them, reads another name. Left out: sending them.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;

use ruma::api::auth_scheme::{AccessToken, AuthScheme, NoAuthentication, SendAccessToken};
use ruma::api::client::account::whoami;
use ruma::api::client::membership::ban_user;
use ruma::api::client::room::create_room;
use ruma::api::client::state::send_state_event;
use ruma::api::error::{Error, FromHttpResponseError, IntoHttpError};
use ruma::api::path_builder::{PathBuilder as _, SinglePath, VersionHistory};
use ruma::api::{IncomingResponse, Metadata, OutgoingRequest, SupportedVersions};
use ruma::exports::bytes::BufMut;
use ruma::exports::http;
use ruma::{RoomId, ServerName};
use serde_json::{Value, json};

use crate::room::state::{Content, in_url};

/// A request of ruma's with the parts of its path as they are.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct Exact<R> {
    request: R,
    path: Vec<String>,
}

impl<R> Exact<R> {
    /// The parts in the order in which they are in the path.
    pub(in crate::matrix) fn new(request: R, path: &[&str]) -> Self {
        let path = path.iter().map(|part| in_url(part)).collect();
        Self { request, path }
    }
}

impl<R: Metadata> Metadata for Exact<R> {
    const METHOD: http::Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: OutgoingRequest + Metadata<PathBuilder = VersionHistory>> OutgoingRequest for Exact<R> {
    type EndpointError = R::EndpointError;
    type IncomingResponse = R::IncomingResponse;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        authentication: <R::Authentication as AuthScheme>::Input<'_>,
        versions: Cow<'_, SupportedVersions>,
    ) -> Result<http::Request<T>, IntoHttpError> {
        let Self { request, path } = self;
        let path: Vec<&dyn Display> = path.iter().map(|part| part as &dyn Display).collect();
        let mut request =
            request.try_into_http_request(base_url, authentication, versions.clone())?;
        let query = request.uri().query().unwrap_or_default();
        let url = R::PATH_BUILDER.make_endpoint_url(versions, base_url, &path, query)?;
        *request.uri_mut() = url.parse().map_err(http::Error::from)?;
        Ok(request)
    }
}

/// A request whose path, body and answer are as they are written here.
#[derive(Clone)]
pub(in crate::matrix) struct ByHand<A, R> {
    method: http::Method,
    /// With its query, encoded.
    path: String,
    body: Option<Value>,
    /// In place of that of the session.
    token: Option<String>,
    answer: PhantomData<fn() -> (A, R)>,
}

/// Shows no token and no body.
impl<A, R> fmt::Debug for ByHand<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl<A, R> ByHand<A, R> {
    fn new(method: http::Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self {
            method,
            path: path.into(),
            body,
            token: None,
            answer: PhantomData,
        }
    }
}

impl<A: AuthScheme, R> Metadata for ByHand<A, R> {
    // Stands in for that of each request, which is put in below, as are its paths.
    const METHOD: http::Method = http::Method::GET;
    const RATE_LIMITED: bool = true;
    type Authentication = A;
    type PathBuilder = SinglePath;
    const PATH_BUILDER: SinglePath = SinglePath::new("/");
}

impl<A, R> OutgoingRequest for ByHand<A, R>
where
    A: AuthScheme + Clone,
    R: IncomingResponse<EndpointError = Error> + Clone,
{
    type EndpointError = Error;
    type IncomingResponse = R;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        authentication: A::Input<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let url = format!("{}{}", base_url.trim_end_matches('/'), self.path);
        let mut request = http::Request::builder().method(self.method).uri(url);
        let mut body = T::default();
        if let Some(json) = &self.body {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
            body.put_slice(&serde_json::to_vec(json)?);
        }
        let mut request = request.body(body)?;
        A::add_authentication(&mut request, authentication)
            .map_err(|error| IntoHttpError::Authentication(error.into()))?;
        if let Some(token) = &self.token {
            AccessToken::add_authentication(&mut request, SendAccessToken::Always(token))
                .map_err(|error| IntoHttpError::Authentication(error.into()))?;
        }
        Ok(request)
    }
}

/// An answer that is a JSON object, whatever is in it.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct Answer(pub(in crate::matrix) Content);

impl IncomingResponse for Answer {
    type EndpointError = Error;

    fn try_from_http_response<T: AsRef<[u8]>>(
        response: http::Response<T>,
    ) -> Result<Self, FromHttpResponseError<Error>> {
        checked(response).and_then(|body| Ok(Self(serde_json::from_slice(body.as_ref())?)))
    }
}

/// The `Date` of an answer.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct Dated(pub(in crate::matrix) Option<String>);

impl IncomingResponse for Dated {
    type EndpointError = Error;

    fn try_from_http_response<T: AsRef<[u8]>>(
        response: http::Response<T>,
    ) -> Result<Self, FromHttpResponseError<Error>> {
        let date = response.headers().get(http::header::DATE);
        let date = date.and_then(|date| date.to_str().ok()).map(str::to_owned);
        checked(response).map(|_| Self(date))
    }
}

fn state(room: &RoomId, kind: &str, key: &str) -> String {
    let [room, kind, key] = [room.as_str(), kind, key].map(in_url);
    format!("/_matrix/client/v3/rooms/{room}/state/{kind}/{key}")
}

pub(in crate::matrix) fn put_state(
    room: &RoomId,
    kind: &str,
    key: &str,
    content: &Content,
) -> ByHand<AccessToken, send_state_event::v3::Response> {
    let body = Value::Object(content.clone());
    ByHand::new(http::Method::PUT, state(room, kind, key), Some(body))
}

pub(in crate::matrix) fn get_state(
    room: &RoomId,
    kind: &str,
    key: &str,
) -> ByHand<AccessToken, Answer> {
    ByHand::new(http::Method::GET, state(room, kind, key), None)
}

/// Bans somebody whose id may be none by the specification.
pub(in crate::matrix) fn ban(
    room: &RoomId,
    user: &str,
    reason: Option<&str>,
) -> ByHand<AccessToken, ban_user::v3::Response> {
    let mut body = json!({ "user_id": user });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    let path = format!("/_matrix/client/v3/rooms/{}/ban", in_url(room.as_str()));
    ByHand::new(http::Method::POST, path, Some(body))
}

pub(in crate::matrix) fn create_room(
    body: &Content,
) -> ByHand<AccessToken, create_room::v3::Response> {
    let body = Value::Object(body.clone());
    ByHand::new(
        http::Method::POST,
        "/_matrix/client/v3/createRoom",
        Some(body),
    )
}

/// Rooms in the directory of a server that match a term.
pub(in crate::matrix) fn public_rooms(
    server: &ServerName,
    term: &str,
    limit: u32,
) -> ByHand<AccessToken, Answer> {
    // A server name has no character that a query would have to escape.
    let path = format!("/_matrix/client/v3/publicRooms?server={server}");
    let body = json!({ "limit": limit, "filter": { "generic_search_term": term } });
    ByHand::new(http::Method::POST, path, Some(body))
}

/// What the server calls its software. It needs no signature.
pub(in crate::matrix) fn server_software() -> ByHand<NoAuthentication, Answer> {
    ByHand::new(http::Method::GET, "/_matrix/federation/v1/version", None)
}

/// What the server says of itself beside the versions of the specification.
pub(in crate::matrix) fn server_features() -> ByHand<NoAuthentication, Answer> {
    ByHand::new(http::Method::GET, "/_matrix/client/versions", None)
}

/// The same request, for the time that the server puts on its answer.
pub(in crate::matrix) fn server_time() -> ByHand<NoAuthentication, Dated> {
    ByHand::new(http::Method::GET, "/_matrix/client/versions", None)
}

/// A request of Synapse's admin API: version, kind, id, and what to do with it, which is empty where the method
/// says it.
pub(in crate::matrix) fn admin(
    method: http::Method,
    path: [&str; 4],
    body: Option<Value>,
) -> ByHand<AccessToken, Answer> {
    let [version, kind, id, action] = path.map(in_url);
    let path = format!("/_synapse/admin/{version}/{kind}/{id}/{action}");
    ByHand::new(method, path.trim_end_matches('/'), body)
}

/// Whose token this is, which is no session of the SDK.
pub(in crate::matrix) fn whoami(token: &str) -> ByHand<NoAuthentication, whoami::v3::Response> {
    ByHand {
        token: Some(token.to_owned()),
        ..ByHand::new(http::Method::GET, "/_matrix/client/v3/account/whoami", None)
    }
}

fn checked<T: AsRef<[u8]>>(response: http::Response<T>) -> Result<T, FromHttpResponseError<Error>> {
    use ruma::api::EndpointError as _;
    if response.status().is_success() {
        Ok(response.into_body())
    } else {
        Err(FromHttpResponseError::Server(Error::from_http_response(
            response,
        )))
    }
}
