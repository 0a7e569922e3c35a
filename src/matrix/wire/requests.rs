//! Requests by hand: what ruma's types would rename, refuse or not know.
//!
//! Its event types rename some that clients write in their unstable or stable form
//! (`m.call.member`), and state must arrive under the name it has; rooms are made from JSON that no
//! type has looked at; a directory of another server may hold entries that no type accepts; and
//! `whoami` is asked with a token that is not a session yet. In its paths, `%` and `\` stay as they are,
//! and the server, which decodes them, reads another name. Left out: sending them.

use std::borrow::Cow;
use std::fmt::Display;

use ruma::api::auth_scheme::{AccessToken, AuthScheme, NoAuthentication, SendAccessToken};
use ruma::api::client::membership::ban_user;
use ruma::api::client::room::create_room;
use ruma::api::client::state::send_state_event;
use ruma::api::error::{Error, FromHttpResponseError, IntoHttpError};
use ruma::api::path_builder::{PathBuilder as _, VersionHistory};
use ruma::api::{IncomingResponse, Metadata, OutgoingRequest, SupportedVersions, metadata};
use ruma::exports::bytes::BufMut;
use ruma::exports::http;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde::Serialize;
use serde_json::{Value, json};

use crate::room::state::{Content, in_url};

/// A request of ruma's with the parts of its path as they are.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct Exact<R> {
    request: R,
    /// Encoded.
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

/// `PUT /rooms/{room}/state/{kind}/{key}`.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct PutState {
    room: OwnedRoomId,
    kind: String,
    key: String,
    content: Content,
}

impl PutState {
    pub(in crate::matrix) fn new(room: &RoomId, kind: &str, key: &str, content: &Content) -> Self {
        Self {
            room: room.to_owned(),
            kind: kind.to_owned(),
            key: key.to_owned(),
            content: content.clone(),
        }
    }
}

metadata! {
    @for PutState,
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
}

impl OutgoingRequest for PutState {
    type EndpointError = Error;
    type IncomingResponse = send_state_event::v3::Response;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        token: SendAccessToken<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let Self {
            room, kind, key, ..
        } = &self;
        let path = [room.as_str(), kind, key].map(in_url);
        let url = Self::make_endpoint_url((), base_url, &[&path[0], &path[1], &path[2]], "")?;
        authenticated::<Self, T>(with_json::<Self, T>(url, &self.content)?, token)
    }
}

/// `GET /rooms/{room}/state/{kind}/{key}`.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct GetState {
    room: OwnedRoomId,
    kind: String,
    key: String,
}

impl GetState {
    pub(in crate::matrix) fn new(room: &RoomId, kind: &str, key: &str) -> Self {
        Self {
            room: room.to_owned(),
            kind: kind.to_owned(),
            key: key.to_owned(),
        }
    }
}

metadata! {
    @for GetState,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/{state_key}",
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

impl OutgoingRequest for GetState {
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        token: SendAccessToken<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let Self {
            room, kind, key, ..
        } = &self;
        let path = [room.as_str(), kind, key].map(in_url);
        let url = Self::make_endpoint_url((), base_url, &[&path[0], &path[1], &path[2]], "")?;
        authenticated::<Self, T>(bare::<Self, T>(url)?, token)
    }
}

/// `POST /rooms/{room}/ban`, of somebody whose id may be none by the specification.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct Ban {
    room: OwnedRoomId,
    body: Value,
}

impl Ban {
    pub(in crate::matrix) fn new(room: &RoomId, user: &str, reason: Option<&str>) -> Self {
        let mut body = json!({ "user_id": user });
        if let Some(reason) = reason {
            body["reason"] = reason.into();
        }
        Self {
            room: room.to_owned(),
            body,
        }
    }
}

metadata! {
    @for Ban,
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/v3/rooms/{room_id}/ban",
}

impl OutgoingRequest for Ban {
    type EndpointError = Error;
    type IncomingResponse = ban_user::v3::Response;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        token: SendAccessToken<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let room = in_url(self.room.as_str());
        let url = Self::make_endpoint_url((), base_url, &[&room], "")?;
        authenticated::<Self, T>(with_json::<Self, T>(url, &self.body)?, token)
    }
}

/// `POST /createRoom`.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct CreateRoom {
    body: Content,
}

impl CreateRoom {
    pub(in crate::matrix) fn new(body: &Content) -> Self {
        Self { body: body.clone() }
    }
}

metadata! {
    @for CreateRoom,
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/v3/createRoom",
}

impl OutgoingRequest for CreateRoom {
    type EndpointError = Error;
    type IncomingResponse = create_room::v3::Response;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        token: SendAccessToken<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let url = Self::make_endpoint_url((), base_url, &[], "")?;
        authenticated::<Self, T>(with_json::<Self, T>(url, &self.body)?, token)
    }
}

/// `POST /publicRooms?server=…`, rooms that match a term.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct PublicRooms {
    server: OwnedServerName,
    term: String,
    limit: u32,
}

impl PublicRooms {
    pub(in crate::matrix) fn new(server: &ServerName, term: &str, limit: u32) -> Self {
        Self {
            server: server.to_owned(),
            term: term.to_owned(),
            limit,
        }
    }
}

metadata! {
    @for PublicRooms,
    method: POST,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/v3/publicRooms",
}

impl OutgoingRequest for PublicRooms {
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        token: SendAccessToken<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        // A server name has no character that a query would have to escape.
        let query = format!("server={}", self.server);
        let url = Self::make_endpoint_url((), base_url, &[], &query)?;
        let filter = json!({ "generic_search_term": self.term });
        let body = json!({ "limit": self.limit, "filter": filter });
        authenticated::<Self, T>(with_json::<Self, T>(url, &body)?, token)
    }
}

/// `GET /_matrix/federation/v1/version`, which needs no signature.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct ServerSoftware;

metadata! {
    @for ServerSoftware,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/federation/v1/version",
}

impl OutgoingRequest for ServerSoftware {
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        (): (),
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        bare::<Self, T>(Self::make_endpoint_url((), base_url, &[], "")?)
    }
}

/// `GET /_matrix/client/versions`, for what the server says of itself beside versions.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct ServerFeatures;

metadata! {
    @for ServerFeatures,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/client/versions",
}

impl OutgoingRequest for ServerFeatures {
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        (): (),
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        bare::<Self, T>(Self::make_endpoint_url((), base_url, &[], "")?)
    }
}

/// `GET /_matrix/client/versions`, for the time that the server puts on its answer.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct ServerTime;

metadata! {
    @for ServerTime,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/client/versions",
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

impl OutgoingRequest for ServerTime {
    type EndpointError = Error;
    type IncomingResponse = Dated;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        (): (),
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        bare::<Self, T>(Self::make_endpoint_url((), base_url, &[], "")?)
    }
}

/// A request of Synapse's admin API: version, kind, id, and what to do with it, if that is not in
/// the method.
#[derive(Debug, Clone)]
pub(in crate::matrix) struct AdminRequest {
    method: http::Method,
    path: [String; 4],
    body: Option<Value>,
}

impl AdminRequest {
    pub(in crate::matrix) fn new(
        method: http::Method,
        path: [&str; 4],
        body: Option<Value>,
    ) -> Self {
        Self {
            method,
            path: path.map(str::to_owned),
            body,
        }
    }
}

// The method stands in for that of each request, which is put in below.
metadata! {
    @for AdminRequest,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_synapse/admin/{version}/{kind}/{id}/{action}",
}

impl OutgoingRequest for AdminRequest {
    type EndpointError = Error;
    type IncomingResponse = Answer;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        token: SendAccessToken<'_>,
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let [version, kind, id, action] = &self.path.each_ref().map(|part| in_url(part));
        let url = Self::make_endpoint_url((), base_url, &[version, kind, id, action], "")?;
        // Without an action, the path ends after the id.
        let url = url.trim_end_matches('/').to_owned();
        let mut request = match &self.body {
            Some(body) => with_json::<Self, T>(url, body)?,
            None => bare::<Self, T>(url)?,
        };
        *request.method_mut() = self.method;
        authenticated::<Self, T>(request, token)
    }
}

/// `GET /account/whoami` with a token that is no session of the SDK.
#[derive(Clone)]
pub(in crate::matrix) struct WhoAmI {
    token: String,
}

impl WhoAmI {
    pub(in crate::matrix) fn new(token: &str) -> Self {
        Self {
            token: token.to_owned(),
        }
    }
}

/// Shows no token.
impl std::fmt::Debug for WhoAmI {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WhoAmI")
    }
}

metadata! {
    @for WhoAmI,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/_matrix/client/v3/account/whoami",
}

impl OutgoingRequest for WhoAmI {
    type EndpointError = Error;
    type IncomingResponse = ruma::api::client::account::whoami::v3::Response;

    fn try_into_http_request<T: Default + BufMut + AsRef<[u8]>>(
        self,
        base_url: &str,
        (): (),
        (): (),
    ) -> Result<http::Request<T>, IntoHttpError> {
        let url = Self::make_endpoint_url((), base_url, &[], "")?;
        let request = bare::<Self, T>(url)?;
        authenticated::<PutState, T>(request, SendAccessToken::Always(&self.token))
    }
}

/// A request without a body.
fn bare<R: Metadata, T: Default>(url: String) -> Result<http::Request<T>, IntoHttpError> {
    Ok(http::Request::builder()
        .method(R::METHOD)
        .uri(url)
        .body(T::default())?)
}

/// A request with a body of JSON.
fn with_json<R: Metadata, T: Default + BufMut>(
    url: String,
    json: &impl Serialize,
) -> Result<http::Request<T>, IntoHttpError> {
    let mut body = T::default();
    body.put_slice(&serde_json::to_vec(json)?);
    Ok(http::Request::builder()
        .method(R::METHOD)
        .uri(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)?)
}

fn authenticated<R, T>(
    mut request: http::Request<T>,
    token: SendAccessToken<'_>,
) -> Result<http::Request<T>, IntoHttpError>
where
    R: Metadata<Authentication = AccessToken>,
    T: AsRef<[u8]>,
{
    R::Authentication::add_authentication(&mut request, token)
        .map_err(|error| IntoHttpError::Authentication(error.into()))?;
    Ok(request)
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
