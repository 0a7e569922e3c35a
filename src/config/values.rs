//! What single values mean, each with a short error that says what to write.
//!
//! Pure; keys and their places are known to `section` only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use minijinja::{Environment, UndefinedBehavior};
use ruma::{OwnedRoomOrAliasId, OwnedUserId, RoomVersionId, ServerName, UserId};
use tracing_subscriber::EnvFilter;

use crate::command::when;

/// Power levels are integers as of canonical JSON, ±(2⁵³ − 1)
/// (<https://spec.matrix.org/v1.16/appendices/#canonical-json>).
pub(super) const MAX_POWER_LEVEL: i64 = (1 << 53) - 1;

pub(super) const MIN_POWER_LEVEL: i64 = -MAX_POWER_LEVEL;

/// Longest piece of a value that a text repeats, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// A value that is no secret, in backticks, in one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut chars = text
        .chars()
        .map(|c| if c.is_control() || c == '`' { ' ' } else { c });
    let mut shown: String = chars.by_ref().take(MAX_SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Directives of `EnvFilter`.
pub(super) fn log(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(format!(
            "{} is not possible; write `error`, `warn`, `info`, `debug` or `trace`",
            shown(text)
        )),
    }
}

/// An address of this machine and a port.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{} is not an IP address with a port; write it like `\"127.0.0.1:9187\"`",
            shown(text)
        )
    })
}

/// `http(s)://host[:port]`; a slash at the end is dropped.
pub(super) fn homeserver(text: &str) -> Result<String, String> {
    // The value is not repeated: an address can have a password in it.
    let example = "write it like `\"https://matrix.example.org\"`";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("is not an address; {example}"));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(format!("must begin with `https://`; {example}"));
    }
    let host = rest.strip_suffix('/').unwrap_or(rest);
    if host.contains('@') {
        return Err(format!("must have no user or password in it; {example}"));
    }
    if host.contains(['/', '?', '#']) {
        return Err(format!("must end after the host or port; {example}"));
    }
    // The grammar of server names is that of a host with an optional port.
    if <&ServerName>::try_from(host).is_err() {
        return Err(format!("has no valid host; {example}"));
    }
    Ok(format!("{scheme}://{host}"))
}

/// Whether what is sent to this address can be read on the way.
pub(super) fn is_in_the_clear(homeserver: &str) -> bool {
    let Some(host) = homeserver.strip_prefix("http://") else {
        return false;
    };
    let Ok(server) = <&ServerName>::try_from(host) else {
        return true;
    };
    let host = server.host();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    !(host == "localhost" || address.is_ok_and(|address| address.is_loopback()))
}

/// A user id with its server.
pub(super) fn user(text: &str) -> Result<OwnedUserId, String> {
    UserId::parse(text)
        .ok()
        .filter(|user| user.validate_historical().is_ok())
        .ok_or_else(|| {
            format!(
                "{} is not a user id; write `\"@name:example.org\"`",
                shown(text)
            )
        })
}

/// A user id in which `*` stands for any characters and `?` for any one.
pub(super) fn user_pattern(text: &str) -> Result<String, String> {
    let is_sound = text.starts_with('@')
        && text.contains(':')
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if is_sound {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{} is no pattern of user ids; write `\"@draupnir:*\"`, where `*` stands for anything",
        shown(text)
    ))
}

/// A room id or alias. Ids have no server from room version 12 on.
pub(super) fn room(text: &str) -> Result<OwnedRoomOrAliasId, String> {
    let is_sound = |id: &OwnedRoomOrAliasId| {
        let (local, server) = text.split_once(':').unwrap_or((text, "without.server"));
        local.len() > 1
            && <&ServerName>::try_from(server).is_ok()
            && !id
                .as_str()
                .contains(|c: char| c.is_whitespace() || c.is_control())
    };
    OwnedRoomOrAliasId::try_from(text)
        .ok()
        .filter(is_sound)
        .ok_or_else(|| {
            format!(
                "{} is not a room; write `\"#name:example.org\"` or `\"!id:example.org\"`",
                shown(text)
            )
        })
}

/// A room version by its grammar (<https://spec.matrix.org/v1.16/rooms/#room-version-grammar>).
/// Whether the homeserver knows it is asked later.
pub(super) fn version(text: &str) -> Result<RoomVersionId, String> {
    RoomVersionId::try_from(text)
        .ok()
        .filter(|_| !text.contains(|c: char| c.is_ascii_uppercase()))
        .ok_or_else(|| format!("{} is not a room version; write `\"12\"`", shown(text)))
}

/// A duration such as `90s` or `2h`.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|_| {
        format!(
            "{} is not a duration; write `\"90s\"`, `\"10m\"`, `\"2h\"` or `\"3d\"`",
            shown(text)
        )
    })?;
    if !range.contains(&duration) {
        let [least, most] =
            [range.start(), range.end()].map(|limit| humantime::format_duration(*limit));
        return Err(format!(
            "{} is out of bounds; from {least} to {most}",
            shown(text)
        ));
    }
    Ok(duration)
}

/// A time zone, such as `Europe/Berlin`.
pub(super) fn time_zone(text: &str) -> Result<String, String> {
    when::zone(text)
        .map(|_| text.to_owned())
        .ok_or_else(|| format!("{} is no time zone; write `\"Europe/Berlin\"`", shown(text)))
}

/// A minijinja template that uses none but `variables`; also returns those that it uses.
///
/// It is rendered with each variable once empty and once not, since some mistakes, such as an
/// unknown filter, show only then.
pub(super) fn template(
    text: &str,
    variables: &[&str],
) -> Result<(String, BTreeSet<String>), String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let failed = |error: &minijinja::Error| {
        let line = error
            .line()
            .map(|line| format!("line {line}: "))
            .unwrap_or_default();
        let detail = error
            .detail()
            .map(|detail| format!(": {detail}"))
            .unwrap_or_default();
        format!("{line}{}{detail}", error.kind())
    };
    let template = environment
        .template_from_str(text)
        .map_err(|error| failed(&error))?;
    let functions: BTreeSet<_> = environment
        .globals()
        .map(|(name, _)| name.to_owned())
        .collect();
    let used: BTreeSet<String> = template
        .undeclared_variables(false)
        .into_iter()
        .filter(|name| !functions.contains(name))
        .collect();
    let known: Vec<_> = variables.iter().map(|name| format!("`{name}`")).collect();
    if let Some(unknown) = used.iter().find(|name| !variables.contains(&name.as_str())) {
        return Err(format!(
            "{} is not a variable; known: {}",
            shown(unknown),
            known.join(", ")
        ));
    }
    for sample in ["x", ""] {
        let context: BTreeMap<_, _> = variables.iter().map(|name| (*name, sample)).collect();
        template.render(context).map_err(|error| failed(&error))?;
    }
    Ok((text.to_owned(), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homeservers() {
        let cases = [
            ("https://a.org", Some("https://a.org")),
            ("https://a.org/", Some("https://a.org")),
            ("http://localhost:8008", Some("http://localhost:8008")),
            ("http://[::1]:8008", Some("http://[::1]:8008")),
            ("https://a.org//", None),
            ("https://a.org/_matrix", None),
            ("https://a.org?x", None),
            ("https://u:p@a.org", None),
            ("https://", None),
            ("https://a.org:99999", None),
            ("https://a b", None),
            ("a.org", None),
            ("ftp://a.org", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(homeserver(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn only_loopback_may_be_in_the_clear() {
        let cases = [
            ("http://a.org", true),
            ("http://10.0.0.1:8008", true),
            ("http://localhost.a.org", true),
            ("https://a.org", false),
            ("http://localhost", false),
            ("http://127.0.0.1:8008", false),
            ("http://[::1]:8008", false),
        ];
        for (address, expected) in cases {
            assert_eq!(is_in_the_clear(address), expected, "{address}");
        }
    }

    #[test]
    fn rooms() {
        for text in ["#a:b", "!a:b.org:80", "!abc"] {
            assert!(room(text).is_ok(), "{text}");
        }
        for text in [
            "", "#a", "#:b", "!", "!:b", "!a:", "#a:b c", "@a:b", "a:b", "! a:b",
        ] {
            assert!(room(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let limits = Duration::from_mins(1)..=Duration::from_hours(24);
        let cases = [
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("1d", Some(86400)),
            ("1h 30m", Some(5400)),
            ("59s", None),
            ("3d", None),
            ("10", None),
            ("", None),
            ("-1h", None),
            ("99999999999999999999d", None),
        ];
        for (text, expected) in cases {
            let read = duration(text, limits.clone()).ok();
            assert_eq!(read, expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn templates() {
        let cases = [
            ("plain", true),
            ("{{ a }} {% if b %}{{ b|upper }}{% endif %}", true),
            ("{% for i in range(3) %}{{ i }}{{ a }}{% endfor %}", true),
            ("{{ c }}", false),
            ("{% if c %}x{% endif %}", false),
            ("{{ a.b.c }}", false),
            ("{{ a|nonsense }}", false),
            ("{% if b %}{{ b|nonsense }}{% endif %}", false),
            ("{{ nonsense() }}", false),
            ("{{ a", false),
            ("{% if a %}", false),
        ];
        for (text, sound) in cases {
            let read = template(text, &["a", "b"]);
            assert_eq!(read.is_ok(), sound, "{text}: {read:?}");
        }
    }

    #[test]
    fn logs() {
        for text in ["info", "roomlift=debug,info", "matrix_sdk::sync=warn"] {
            assert!(log(text).is_ok(), "{text}");
        }
        for text in ["", "roomlift=loud", "a=b=c"] {
            assert!(log(text).is_err(), "{text}");
        }
    }
}
