//! Reads the sections of the file, one function each. What is wrong is noted and the rest is read all the same, so
//! that an operator sees all of it at once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ruma::RoomVersionId;
use serde::Deserialize;
use toml::de::DeTable;

use super::secret::Origin;
use super::section::Section;
use super::{
    Account, AdminRoomRules, Config, ConfigError, Env, Finding, MakeRoomAdmin, Messages,
    MissedStart, ScheduleSettings, Scope, SynapseAdmin, TargetPower, UpgradeSettings,
    VerifiedDevice, follow_up, secret, values,
};
use crate::model::{InvitePolicy, JoinRulePolicy, MethodChoice, OldChildLink};
use crate::telemetry::LogFormat;

/// Variable that overrides `log`.
pub const ENV_LOG: &str = "ROOMLIFT_LOG";

/// Variable that overrides `listen`.
pub const ENV_LISTEN: &str = "ROOMLIFT_LISTEN";

/// Variable that holds the password of the account.
pub const ENV_PASSWORD: &str = "ROOMLIFT_PASSWORD";

/// Variable that holds the access token of the account.
pub const ENV_ACCESS_TOKEN: &str = "ROOMLIFT_ACCESS_TOKEN";

/// What the templates of `[messages]` may use. `reason` is empty where none was given.
pub const TEMPLATE_VARIABLES: [&str; 4] = ["old_name", "new_link", "version", "reason"];

/// What the templates of announcements may use: there is no new room yet. `rest` is empty in
/// `called_off`.
pub const ANNOUNCEMENT_VARIABLES: [&str; 5] = ["old_name", "version", "reason", "time", "rest"];

const DEFAULT_DATA_DIR: &str = "data";

const DEFAULT_LOG: &str = "info";

const DEFAULT_COMMAND_LEVEL: i64 = 50;

const DEFAULT_READ_LEVEL: i64 = 0;

/// Above the 100 of those who may do anything else, and what Synapse uses for version 12.
const DEFAULT_TOMBSTONE_LEVEL: i64 = 150;

const DEFAULT_CONCURRENCY: u8 = 4;

const DEFAULT_DURATION: Duration = Duration::from_hours(1);

/// Moderation bots, and the accounts that bridges make.
const DEFAULT_BOTS: [&str; 3] = ["@draupnir:*", "@mjolnir:*", "@_*:*"];

const DEFAULT_NOTICE: &str = "This room has moved. Join the new room: \
    {{ new_link }}{% if reason %}\n\nReason: {{ reason }}{% endif %}";

const DEFAULT_ANNOUNCEMENT: &str = "This room will be upgraded on {{ time }}, in {{ rest }}. A new \
    room will take its place; a link here will lead to it.\
    {% if reason %}\n\nReason: {{ reason }}{% endif %}";
const DEFAULT_CALLED_OFF: &str = "This room will not be upgraded on {{ time }} after all.";

/// Long enough to plan for it, and short enough not to forget it.
const DEFAULT_ANNOUNCE: [Duration; 2] = [Duration::from_hours(3 * 24), Duration::from_hours(1)];

/// More announcements of one thing are noise.
const ANNOUNCE_MAX: usize = 10;

/// How long before a start it can be announced.
const ANNOUNCE_BEFORE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(30 * 24);

const DEFAULT_TOMBSTONE: &str = "This room has been replaced";

const DEFAULT_PING: &str = "{{ old_name }} goes on in a new room, and you are not there yet. Please \
    come over: {{ new_link }}";
const DEFAULT_INVITE: &str = "{{ old_name }} has moved to a new room";

/// Jobs at the same time: more would only wait for the same rate limit.
const CONCURRENCY: std::ops::RangeInclusive<u8> = 1..=16;

/// Shortest of the durations: below, a slow phone makes a command or a plan expire.
const MIN_DURATION: Duration = Duration::from_mins(1);

/// Longest of the durations: nobody expects an older command or plan to take effect.
const MAX_DURATION: Duration = Duration::from_hours(30 * 24);

/// How long what is over is kept: a year, as `1y` says it.
pub(super) const DEFAULT_KEEP: Duration = Duration::from_hours(8_766);

/// No command and no plan is older than the first of these when it takes effect.
const KEEP: std::ops::RangeInclusive<Duration> = MAX_DURATION..=Duration::from_hours(876_600);

const NEVER_REMOVED: &str = "0";

pub(super) fn listed(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("\n- {finding}"))
        .collect();
    lines.concat()
}

/// Reads a configuration; also returns where its secret was.
pub(super) fn read(
    text: &str,
    base_dir: &Path,
    env: Env<'_>,
) -> Result<(Config, Origin), ConfigError> {
    // TOML allows no byte order mark within, but some editors put one in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let table = table(text)?;
    let mut findings = Vec::new();
    let mut warnings = Vec::new();

    let mut root = Section::root(table);
    let data_dir = root
        .text("data_dir")
        .unwrap_or_else(|| DEFAULT_DATA_DIR.to_owned());
    let log = read_log(&mut root, env);
    let log_format = root
        .choice(
            "log_format",
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        )
        .unwrap_or_default();
    let listen = read_listen(&mut root, env);
    let account = read_account(
        root.child("account"),
        base_dir,
        env,
        &mut findings,
        &mut warnings,
    );
    let admin_rooms = read_admin_rooms(&mut root, &mut findings);
    let upgrade = read_upgrade(root.child("upgrade"), &mut findings);
    let follow_up = follow_up::read(root.child("follow_up"), &mut findings);
    let schedule = read_schedule(root.child("schedule"), &mut findings);
    let keep = read_records(root.child("records"), &mut findings);
    let messages = read_messages(root.child("messages"), &mut findings, &mut warnings);
    let synapse_admin = read_synapse_admin(&mut root, &mut findings);
    // What is wrong at the top is told first.
    findings.splice(0..0, root.finish());

    match account {
        Some((account, origin)) if findings.is_empty() => {
            let data_dir = base_dir.join(data_dir);
            Ok((
                Config {
                    data_dir,
                    log,
                    log_format,
                    listen,
                    account,
                    admin_rooms,
                    upgrade,
                    follow_up,
                    schedule,
                    keep,
                    messages,
                    synapse_admin,
                    warnings,
                },
                origin,
            ))
        }
        _ => Err(ConfigError::Invalid(findings)),
    }
}

/// Reads TOML without ever repeating it, since any line may hold a secret: the `Display` of toml's
/// errors shows the line. Their messages alone come from a fixed set as long as only the syntax is
/// read; after that they can hold values.
pub(super) fn table(text: &str) -> Result<toml::Table, ConfigError> {
    let syntax = DeTable::parse(text)
        .map_err(|error| syntax_error(text, &error, error.message().to_owned()))?;
    toml::Table::deserialize(toml::Deserializer::from(syntax))
        .map_err(|error| syntax_error(text, &error, "a number has too many digits".to_owned()))
}

/// A mistake at the place that toml tells.
pub(super) fn syntax_error(content: &str, error: &toml::de::Error, text: String) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let before = content.get(..start).unwrap_or(content);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    ConfigError::Syntax { line, column, text }
}

fn read_log(root: &mut Section, env: Env<'_>) -> String {
    let in_file = root.parsed("log", values::log);
    // A variable that is set to nothing is as good as none.
    match env(ENV_LOG).filter(|log| !log.is_empty()) {
        Some(log) => match values::log(&log) {
            Ok(log) => log,
            Err(text) => {
                root.report_about(ENV_LOG, text);
                DEFAULT_LOG.to_owned()
            }
        },
        None => in_file.unwrap_or_else(|| DEFAULT_LOG.to_owned()),
    }
}

fn read_listen(root: &mut Section, env: Env<'_>) -> Option<SocketAddr> {
    let in_file = root.parsed("listen", values::listen);
    match env(ENV_LISTEN).filter(|listen| !listen.is_empty()) {
        Some(listen) => values::listen(&listen)
            .map_err(|text| root.report_about(ENV_LISTEN, text))
            .ok(),
        None => in_file,
    }
}

fn read_account(
    mut section: Section,
    base_dir: &Path,
    env: Env<'_>,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) -> Option<(Account, Origin)> {
    section.require(
        "homeserver",
        "the address, such as `\"https://matrix.example.org\"`",
    );
    let homeserver = section.parsed("homeserver", values::homeserver);
    if homeserver.as_deref().is_some_and(values::is_in_the_clear) {
        warnings.push(Finding {
            key: "account.homeserver".to_owned(),
            text: "`http://` sends the password in the clear; use `https://`".to_owned(),
        });
    }
    section.require(
        "user_id",
        "the id of the account, such as `\"@roomlift:example.org\"`",
    );
    let user_id = section.parsed("user_id", values::user);
    let credentials = secret::credentials(&mut section, base_dir, env);
    let recovery_key = section.parsed("recovery_key_file", |path| {
        secret::in_file(&base_dir.join(path))
    });
    let accept_invites_from = section
        .parsed_list("accept_invites_from", values::user_pattern)
        .unwrap_or_default();
    findings.extend(section.finish());
    let (credentials, origin) = credentials?;
    Some((
        Account {
            homeserver: homeserver?,
            user_id: user_id?,
            credentials,
            recovery_key,
            accept_invites_from,
        },
        origin,
    ))
}

fn read_admin_rooms(top: &mut Section, findings: &mut Vec<Finding>) -> Vec<AdminRoomRules> {
    top.require("admin_room", "at least one table `[[admin_room]]`");
    let sections = top.children("admin_room");
    let several = sections.len() > 1;
    let mut seen = BTreeSet::new();
    let mut admin_rooms = Vec::new();
    for mut section in sections {
        section.require(
            "room",
            "an id or alias, such as `\"#moderators:example.org\"`",
        );
        let room = section.parsed("room", values::room);
        if let Some(room) = &room
            && !seen.insert(room.clone())
        {
            section.report(
                "room",
                format!("`{room}` is an admin room already; remove one of them"),
            );
        }
        let levels = values::MIN_POWER_LEVEL..=values::MAX_POWER_LEVEL;
        let command_level = section
            .integer("command_level", levels.clone())
            .unwrap_or(DEFAULT_COMMAND_LEVEL);
        let read_level = section
            .integer("read_level", levels)
            .unwrap_or(DEFAULT_READ_LEVEL);
        if read_level > command_level {
            section.report(
                "read_level",
                format!(
                    "{read_level} is above `command_level` ({command_level}); who may change \
                     rooms may ask as well, so make it at most {command_level}"
                ),
            );
        }
        if several {
            section.require(
                "scope",
                "its rooms and spaces, since there are several admin rooms",
            );
        }
        let has_scope = section.has("scope");
        let scope = section.parsed_list("scope", values::room);
        if has_scope && scope.as_ref().is_some_and(Vec::is_empty) {
            section.report(
                "scope",
                "is empty, so nothing could be upgraded; name a room or space",
            );
        }
        let target_power = match section.flag("require_target_power") {
            Some(true) => TargetPower::Needed,
            Some(false) | None => TargetPower::NotNeeded,
        };
        let verified_device = match section.flag("require_verified_device") {
            Some(true) => VerifiedDevice::Needed,
            Some(false) | None => VerifiedDevice::NotNeeded,
        };
        findings.extend(section.finish());
        if let Some(room) = room {
            let scope = scope.map_or(Scope::Everything, Scope::Only);
            admin_rooms.push(AdminRoomRules {
                room,
                command_level,
                read_level,
                scope,
                target_power,
                verified_device,
            });
        }
    }
    admin_rooms
}

fn read_upgrade(mut section: Section, findings: &mut Vec<Finding>) -> UpgradeSettings {
    let durations = |text: &str| values::duration(text, MIN_DURATION..=MAX_DURATION);
    let concurrency = section.integer(
        "concurrency",
        i64::from(*CONCURRENCY.start())..=i64::from(*CONCURRENCY.end()),
    );
    let settings = UpgradeSettings {
        version: section
            .parsed("version", values::version)
            .unwrap_or(RoomVersionId::V12),
        method: section
            .choice("method", &MethodChoice::WORDS)
            .unwrap_or(MethodChoice::Auto),
        additional_creators: section
            .parsed_list("additional_creators", values::user)
            .unwrap_or_default(),
        join_rule: section
            .choice("join_rule", &JoinRulePolicy::WORDS)
            .unwrap_or(JoinRulePolicy::Restricted),
        invite: section
            .choice("invite", &InvitePolicy::WORDS)
            .unwrap_or_default(),
        bots: section
            .parsed_list("bots", values::user_pattern)
            .unwrap_or_else(|| DEFAULT_BOTS.map(ToOwned::to_owned).into()),
        old_child_link: section
            .choice(
                "old_child_link",
                &[
                    ("remove", OldChildLink::Remove),
                    ("keep", OldChildLink::Keep),
                ],
            )
            .unwrap_or(OldChildLink::Remove),
        tombstone_level: section
            .integer("tombstone_level", 0..=values::MAX_POWER_LEVEL)
            .unwrap_or(DEFAULT_TOMBSTONE_LEVEL),
        concurrency: concurrency
            .and_then(|number| u8::try_from(number).ok())
            .unwrap_or(DEFAULT_CONCURRENCY),
        max_command_age: section
            .parsed("max_command_age", durations)
            .unwrap_or(DEFAULT_DURATION),
        plan_expires: section
            .parsed("plan_expires", durations)
            .unwrap_or(DEFAULT_DURATION),
    };
    findings.extend(section.finish());
    settings
}

fn read_schedule(mut section: Section, findings: &mut Vec<Finding>) -> ScheduleSettings {
    let before = |text: &str| values::duration(text, ANNOUNCE_BEFORE);
    let announce = section.parsed_list("announce", before);
    if announce
        .as_ref()
        .is_some_and(|list| list.len() > ANNOUNCE_MAX)
    {
        section.report("announce", format!("has more than {ANNOUNCE_MAX} entries"));
    }
    let settings = ScheduleSettings {
        time_zone: section.parsed("time_zone", values::time_zone),
        announce: announce.unwrap_or_else(|| DEFAULT_ANNOUNCE.into()),
        missed_start: section
            .choice(
                "missed_start",
                &[("run", MissedStart::Run), ("ask", MissedStart::Ask)],
            )
            .unwrap_or_default(),
    };
    findings.extend(section.finish());
    settings
}

fn read_synapse_admin(root: &mut Section, findings: &mut Vec<Finding>) -> Option<SynapseAdmin> {
    let is_there = root.has("synapse_admin");
    let mut section = root.child("synapse_admin");
    let make_room_admin = match section.flag("make_room_admin") {
        Some(true) => MakeRoomAdmin::WhenTold,
        Some(false) | None => MakeRoomAdmin::Never,
    };
    findings.extend(section.finish());
    is_there.then_some(SynapseAdmin { make_room_admin })
}

fn read_records(mut section: Section, findings: &mut Vec<Finding>) -> Option<Duration> {
    let keep = section.parsed("keep", |text| match text {
        NEVER_REMOVED => Ok(None),
        text => values::duration(text, KEEP).map(Some),
    });
    findings.extend(section.finish());
    keep.unwrap_or(Some(DEFAULT_KEEP))
}

fn read_messages(
    mut section: Section,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<Finding>,
) -> Messages {
    let template = |text: &str| values::template(text, &TEMPLATE_VARIABLES);
    let mut other = |key: &'static str, variables: &[&str], default: &str| {
        section
            .parsed(key, |text| values::template(text, variables))
            .map_or_else(|| default.to_owned(), |(text, _)| text)
    };
    let ping = other("ping", &TEMPLATE_VARIABLES, DEFAULT_PING);
    let announcement = other(
        "announcement",
        &ANNOUNCEMENT_VARIABLES,
        DEFAULT_ANNOUNCEMENT,
    );
    let called_off = other("called_off", &ANNOUNCEMENT_VARIABLES, DEFAULT_CALLED_OFF);
    let tombstone = other("tombstone", &TEMPLATE_VARIABLES, DEFAULT_TOMBSTONE);
    let invite = other("invite", &TEMPLATE_VARIABLES, DEFAULT_INVITE);
    let notice = section.parsed("notice", template).map_or_else(
        || DEFAULT_NOTICE.to_owned(),
        |(notice, used)| {
            if !used.contains("new_link") {
                warnings.push(Finding {
                    key: "messages.notice".to_owned(),
                    text: "does not use `{{ new_link }}`, so members are not told where to go"
                        .to_owned(),
                });
            }
            notice
        },
    );
    findings.extend(section.finish());
    Messages {
        announcement,
        called_off,
        notice,
        tombstone,
        invite,
        ping,
    }
}
