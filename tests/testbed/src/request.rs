//! What a request to a homeserver asks for, told from its method and path alone.
//!
//! Leaves out what the bot has no business with (media, devices, push rules, …): [`Kind::Other`].

use std::time::Instant;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// The kinds of request tests tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `GET versions`
    Versions,
    /// `GET capabilities`
    Capabilities,
    /// `GET sync`
    Sync,
    /// `GET` or `POST login`
    Login,
    /// `POST logout`
    Logout,
    /// `GET account/whoami`
    WhoAmI,
    /// Anything about a sync filter.
    Filter,
    /// Anything about encryption keys.
    Keys,
    /// `PUT sendToDevice/…`
    ToDevice,
    /// Anything about account data, of the account or of a room.
    AccountData,
    /// Anything about a profile.
    Profile,
    /// `POST createRoom`
    CreateRoom,
    /// `POST rooms/…/upgrade`
    Upgrade,
    /// `GET rooms/…/state`
    ReadState,
    /// `GET rooms/…/state/…`
    ReadStateEvent {
        /// The event type asked for.
        event_type: String,
    },
    /// `PUT rooms/…/state/…`
    PutState {
        /// The event type set.
        event_type: String,
    },
    /// `PUT rooms/…/send/…`
    Send {
        /// The event type sent.
        event_type: String,
    },
    /// `PUT rooms/…/redact/…`
    Redact,
    /// `GET rooms/…/event/…`
    ReadEvent,
    /// `GET rooms/…/relations/…`
    Relations,
    /// `GET rooms/…/messages`
    Messages,
    /// `GET rooms/…/members` or `joined_members`
    Members,
    /// `PUT` or `DELETE directory/room/…`
    Alias,
    /// `GET directory/room/…`
    ReadAlias,
    /// `GET rooms/…/aliases`
    ReadAliases,
    /// `PUT directory/list/room/…`
    Listing,
    /// `GET directory/list/room/…`
    ReadListing,
    /// `GET rooms/…/hierarchy`
    Hierarchy,
    /// `GET joined_rooms`
    JoinedRooms,
    /// `POST join/…` or `rooms/…/join`
    Join,
    /// `POST rooms/…/leave`
    Leave,
    /// `POST rooms/…/forget`
    Forget,
    /// `POST rooms/…/invite`
    Invite,
    /// `POST rooms/…/kick`
    Kick,
    /// `POST rooms/…/ban`
    Ban,
    /// `POST rooms/…/unban`
    Unban,
    /// Read receipts and markers.
    Receipt,
    /// `PUT rooms/…/typing/…`
    Typing,
    /// Anything else.
    Other,
}

impl Kind {
    /// The kind of a request, from its method and its path as sent (percent-encoded).
    #[must_use]
    pub fn of(method: &str, path: &str) -> Self {
        let decoded: Vec<String> = path.split('/').skip(1).map(decode).collect();
        let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let ["_matrix", "client", rest @ ..] = segments.as_slice() else {
            return Self::Other;
        };
        // An API version, but for `/_matrix/client/versions`.
        let rest = match rest {
            ["unstable", rest @ ..] if rest.first().is_some_and(|s| s.contains("msc")) => {
                &rest[1..]
            }
            ["versions"] => return Self::Versions,
            [_version, rest @ ..] => rest,
            [] => return Self::Other,
        };
        match (method, rest) {
            ("GET", ["capabilities"]) => Self::Capabilities,
            ("GET", ["sync"]) => Self::Sync,
            (_, ["login"]) => Self::Login,
            ("POST", ["logout", ..]) => Self::Logout,
            ("GET", ["account", "whoami"]) => Self::WhoAmI,
            (_, ["user", _, "filter", ..]) => Self::Filter,
            (_, ["keys" | "room_keys", ..]) => Self::Keys,
            ("PUT", ["sendToDevice", ..]) => Self::ToDevice,
            (_, ["user", _, "account_data", ..] | ["user", _, "rooms", _, "account_data", ..]) => {
                Self::AccountData
            }
            (_, ["profile", ..]) => Self::Profile,
            ("POST", ["createRoom"]) => Self::CreateRoom,
            ("POST", ["join", _]) => Self::Join,
            ("GET", ["joined_rooms"]) => Self::JoinedRooms,
            ("GET", ["directory", "room", _]) => Self::ReadAlias,
            ("PUT" | "DELETE", ["directory", "room", _]) => Self::Alias,
            ("GET", ["directory", "list", "room", _]) => Self::ReadListing,
            ("PUT", ["directory", "list", "room", _]) => Self::Listing,
            (_, ["rooms", _, rest @ ..]) => Self::of_room(method, rest),
            _ => Self::Other,
        }
    }

    /// The kind of a request about a room, from what follows the room id.
    fn of_room(method: &str, rest: &[&str]) -> Self {
        match (method, rest) {
            ("POST", ["upgrade"]) => Self::Upgrade,
            ("GET", ["state"]) => Self::ReadState,
            ("GET", ["state", event_type, ..]) => Self::ReadStateEvent {
                event_type: (*event_type).into(),
            },
            ("PUT", ["state", event_type, ..]) => Self::PutState {
                event_type: (*event_type).into(),
            },
            (_, ["send", event_type, ..]) => Self::Send {
                event_type: (*event_type).into(),
            },
            (_, ["redact", ..]) => Self::Redact,
            ("GET", ["event", _]) => Self::ReadEvent,
            ("GET", ["relations", ..]) => Self::Relations,
            ("GET", ["messages"]) => Self::Messages,
            ("GET", ["members" | "joined_members"]) => Self::Members,
            ("GET", ["aliases"]) => Self::ReadAliases,
            ("GET", ["hierarchy"]) => Self::Hierarchy,
            ("POST", ["join"]) => Self::Join,
            ("POST", ["leave"]) => Self::Leave,
            ("POST", ["forget"]) => Self::Forget,
            ("POST", ["invite"]) => Self::Invite,
            ("POST", ["kick"]) => Self::Kick,
            ("POST", ["ban"]) => Self::Ban,
            ("POST", ["unban"]) => Self::Unban,
            ("POST", ["receipt", ..] | ["read_markers"]) => Self::Receipt,
            ("PUT", ["typing", _]) => Self::Typing,
            _ => Self::Other,
        }
    }
}

/// A request the proxy got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When its last byte came.
    pub at: Instant,
    /// The method, in capitals.
    pub method: String,
    /// The path, decoded. An encoded slash inside a segment looks like any other here.
    pub path: String,
    /// The query as sent; empty where there is none.
    pub query: String,
    /// What it asks for.
    pub kind: Kind,
    /// The status of the answer, upstream's or one made up, whether or not it reached the client;
    /// `None` while there is none, and for good where the request was not forwarded or upstream
    /// did not answer.
    pub status: Option<u16>,
    /// The body, where it is JSON.
    pub body: Option<Value>,
}

impl Seen {
    /// A request that has come just now.
    #[must_use]
    pub fn new(method: &str, path: &str, query: &str, body: &[u8]) -> Self {
        Self {
            at: Instant::now(),
            method: method.into(),
            path: decode(path),
            query: query.into(),
            kind: Kind::of(method, path),
            status: None,
            body: serde_json::from_slice(body).ok(),
        }
    }

    /// Whether it changes anything a room's members could see: `PUT`, `POST` and `DELETE`, but for
    /// logging in, uploading a filter and key business.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "PUT" | "POST" | "DELETE")
            && !matches!(
                self.kind,
                Kind::Login | Kind::Filter | Kind::Sync | Kind::Keys
            )
    }
}

/// Percent-decodes; what is no UTF-8 is replaced.
fn decode(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Kind, Seen};

    /// The kind of a request below `/_matrix/client/v3`.
    fn kind(method: &str, path: &str) -> Kind {
        Kind::of(method, &format!("/_matrix/client/v3/{path}"))
    }

    #[test]
    fn kinds_are_told_apart() {
        for (method, path, expected) in [
            ("GET", "sync", Kind::Sync),
            ("POST", "login", Kind::Login),
            ("GET", "login", Kind::Login),
            ("GET", "account/whoami", Kind::WhoAmI),
            ("POST", "user/%40a%3Ab/filter", Kind::Filter),
            ("POST", "keys/upload", Kind::Keys),
            (
                "PUT",
                "user/%40a%3Ab/account_data/m.direct",
                Kind::AccountData,
            ),
            (
                "PUT",
                "user/%40a%3Ab/rooms/!r/account_data/x",
                Kind::AccountData,
            ),
            ("POST", "createRoom", Kind::CreateRoom),
            ("POST", "rooms/%21r%3Ab/upgrade", Kind::Upgrade),
            ("GET", "rooms/!r/state", Kind::ReadState),
            ("PUT", "rooms/!r/redact/$e/t", Kind::Redact),
            ("GET", "rooms/!r/event/$e", Kind::ReadEvent),
            ("GET", "rooms/!r/messages", Kind::Messages),
            ("GET", "rooms/!r/members", Kind::Members),
            ("GET", "rooms/!r/joined_members", Kind::Members),
            ("GET", "rooms/!r/aliases", Kind::ReadAliases),
            ("GET", "directory/room/%23a%2Fb%3Ac", Kind::ReadAlias),
            ("PUT", "directory/room/%23a%3Ab", Kind::Alias),
            ("DELETE", "directory/room/%23a%3Ab", Kind::Alias),
            ("GET", "directory/list/room/!r", Kind::ReadListing),
            ("PUT", "directory/list/room/!r", Kind::Listing),
            ("POST", "join/!r", Kind::Join),
            ("POST", "rooms/!r/join", Kind::Join),
            ("POST", "rooms/!r/leave", Kind::Leave),
            ("POST", "rooms/!r/invite", Kind::Invite),
            ("POST", "rooms/!r/kick", Kind::Kick),
            ("POST", "rooms/!r/ban", Kind::Ban),
            ("POST", "rooms/!r/unban", Kind::Unban),
            ("GET", "joined_rooms", Kind::JoinedRooms),
            ("GET", "capabilities", Kind::Capabilities),
            ("GET", "rooms", Kind::Other),
            ("GET", "rooms/!r/no_such_thing", Kind::Other),
        ] {
            assert_eq!(kind(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn event_types_are_decoded() {
        let event_type = "m.room.name".to_owned();
        assert_eq!(
            kind("PUT", "rooms/!r/state/m.room.name/"),
            Kind::PutState {
                event_type: event_type.clone()
            }
        );
        assert_eq!(
            kind("GET", "rooms/!r/state/m%2Eroom%2Ename"),
            Kind::ReadStateEvent { event_type }
        );
        assert_eq!(
            kind("PUT", "rooms/!a%2Fstate/send/m.reaction/t1"),
            Kind::Send {
                event_type: "m.reaction".to_owned()
            }
        );
    }

    #[test]
    fn versions_of_the_api_do_not_matter() {
        assert_eq!(Kind::of("GET", "/_matrix/client/versions"), Kind::Versions);
        assert_eq!(Kind::of("GET", "/_matrix/client/r0/sync"), Kind::Sync);
        assert_eq!(
            Kind::of("GET", "/_matrix/client/v1/rooms/!r/hierarchy"),
            Kind::Hierarchy
        );
        assert_eq!(
            Kind::of("GET", "/_matrix/client/v1/rooms/!r/relations/$e/m.replace"),
            Kind::Relations
        );
        assert_eq!(
            Kind::of(
                "GET",
                "/_matrix/client/unstable/org.matrix.msc2946/rooms/!r/hierarchy"
            ),
            Kind::Hierarchy
        );
        assert_eq!(
            Kind::of("GET", "/_matrix/federation/v1/version"),
            Kind::Other
        );
        assert_eq!(Kind::of("GET", "/"), Kind::Other);
    }

    #[test]
    fn writes_are_what_others_can_see() {
        let write = |method: &str, path: &str| {
            Seen::new(method, &format!("/_matrix/client/v3/{path}"), "", b"{}").is_write()
        };
        assert!(write("PUT", "rooms/!r/send/m.room.message/t"));
        assert!(write("POST", "createRoom"));
        assert!(write("DELETE", "directory/room/%23a%3Ab"));
        assert!(!write("GET", "rooms/!r/state"));
        assert!(!write("POST", "login"));
        assert!(!write("POST", "keys/query"));
        assert!(!write("POST", "user/@a:b/filter"));
    }

    #[test]
    fn seen_requests_are_decoded() {
        let seen = Seen::new(
            "POST",
            "/_matrix/client/v3/join/%23a%3Ab",
            "via=c",
            b"{\"k\":1}",
        );
        assert_eq!(seen.path, "/_matrix/client/v3/join/#a:b");
        assert_eq!(seen.query, "via=c");
        assert_eq!(seen.body.unwrap()["k"], 1);
        assert!(Seen::new("GET", "/", "", b"").body.is_none());
    }
}
