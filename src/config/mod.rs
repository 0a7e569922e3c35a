//! The configuration: a TOML file, and a few variables of the environment, as checked values.
//!
//! All mistakes are reported at once, each with its key and what to write instead. No text made here
//! contains a value that could be a secret. Only files are asked, never the homeserver: whether the
//! account and the rooms exist is found out on start.

mod follow_up;
mod secret;
mod section;
mod values;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ruma::{OwnedRoomOrAliasId, OwnedUserId, RoomVersionId};
use serde::Deserialize;
use thiserror::Error;
use toml::de::DeTable;

pub use self::follow_up::{FollowUpSettings, OldRoom};
use self::secret::Origin;
pub use self::secret::Secret;
use self::section::Section;
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
const DEFAULT_NOTICE: &str = "This room has been replaced. Please go on in the new one: \
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
const DEFAULT_KEEP: Duration = Duration::from_hours(8_766);

/// No command and no plan is older than the first of these when it takes effect.
const KEEP: std::ops::RangeInclusive<Duration> = MAX_DURATION..=Duration::from_hours(876_600);

/// Stands for ever.
const NEVER_REMOVED: &str = "0";

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of the database, the SDK's store and the lock.
    pub data_dir: PathBuf,
    /// Directives of what is logged, for `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// Where health and metrics are told; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// The account of the bot.
    pub account: Account,
    /// Where commands are read; at least one, no two for the same room.
    pub admin_rooms: Vec<AdminRoomRules>,
    /// How rooms are upgraded where a command says nothing else.
    pub upgrade: UpgradeSettings,
    /// How people who did not come are followed up.
    pub follow_up: FollowUpSettings,
    /// Upgrades that begin later.
    pub schedule: ScheduleSettings,
    /// How long what is over is kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// Texts for members.
    pub messages: Messages,
    /// What the account may do as a server admin, if it is one.
    pub synapse_admin: Option<SynapseAdmin>,
    /// What works but should be changed.
    pub warnings: Vec<Finding>,
}

/// The account of the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `http(s)://host[:port]` of the homeserver, without a slash at the end.
    pub homeserver: String,
    /// Its id. The server in it may differ from the host of the homeserver.
    pub user_id: OwnedUserId,
    /// How it logs in.
    pub credentials: Credentials,
    /// Opens the secrets that the account keeps on its server: a recovery key or a passphrase.
    pub recovery_key: Option<Secret>,
    /// User ids, with `*` and `?` as in [`UpgradeSettings::bots`], of people whose invitations are
    /// accepted, beside those who may give commands.
    pub accept_invites_from: Vec<String>,
}

/// How the account logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// With a password.
    Password(Secret),
    /// With the token of a session that exists.
    AccessToken(Secret),
}

/// A room where commands are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRoomRules {
    /// The room.
    pub room: OwnedRoomOrAliasId,
    /// Power level in this room from which on somebody may change anything.
    pub command_level: i64,
    /// Power level in this room from which on somebody may ask; not above `command_level`.
    pub read_level: i64,
    /// What may be upgraded from here.
    pub scope: Scope,
    /// Whether power in the room to be upgraded is needed as well.
    pub target_power: TargetPower,
    /// Whether it takes a verified device to change anything.
    pub verified_device: VerifiedDevice,
}

/// What may be upgraded from an admin room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every room that the bot can upgrade. Only where there is a single admin room.
    Everything,
    /// These rooms, and what is in these spaces; at least one.
    Only(Vec<OwnedRoomOrAliasId>),
}

/// Whether a sender needs power in the room to be upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetPower {
    /// Power in the admin room is enough.
    NotNeeded,
    /// The sender must also be able to send `m.room.tombstone` there.
    Needed,
}

/// Whether who changes something must do so from a device that they verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifiedDevice {
    /// Any device will do, also one that does not encrypt.
    NotNeeded,
    /// The message must be encrypted, by a device that its owner signed (cross-signing).
    Needed,
}

/// How rooms are upgraded where a command says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeSettings {
    /// Version of new rooms.
    pub version: RoomVersionId,
    /// How they come to be.
    pub method: MethodChoice,
    /// Their creators, beside the bot.
    pub additional_creators: Vec<OwnedUserId>,
    /// What becomes of closed join rules.
    pub join_rule: JoinRulePolicy,
    /// Who is invited to the new room.
    pub invite: InvitePolicy,
    /// User ids, with `*` for any characters and `?` for any one, of bots: invited first.
    pub bots: Vec<String>,
    /// What becomes of the old room's place in its spaces.
    pub old_child_link: OldChildLink,
    /// Power level needed to upgrade the new room again, from version 12 on.
    pub tombstone_level: i64,
    /// Jobs at the same time, 1 to 16.
    pub concurrency: u8,
    /// How old a command may be when the bot gets to read it.
    pub max_command_age: Duration,
    /// How long a plan can be confirmed.
    pub plan_expires: Duration,
}

/// Upgrades that begin later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSettings {
    /// The zone of times without one; absent: each time must name its own.
    pub time_zone: Option<String>,
    /// How long before the start members are told, where a command asks for it.
    pub announce: Vec<Duration>,
    /// What becomes of a start at which the bot was away.
    pub missed_start: MissedStart,
}

/// What becomes of a start at which the bot was away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MissedStart {
    /// The upgrade begins as soon as the bot is back.
    #[default]
    Run,
    /// The bot asks whether it should begin.
    Ask,
}

/// What the account may do as an admin of its server, a Synapse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynapseAdmin {
    /// Whether it may have itself made admin of a room.
    pub make_room_admin: MakeRoomAdmin,
}

/// Whether the bot may have itself made admin of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MakeRoomAdmin {
    /// It may not.
    Never,
    /// When somebody with `command_level` tells it to.
    WhenTold,
}

/// Texts for members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages {
    /// minijinja template of what the old room is told before a scheduled upgrade; uses only
    /// [`ANNOUNCEMENT_VARIABLES`].
    pub announcement: String,
    /// The same for what it is told if nothing comes of an upgrade that was announced.
    pub called_off: String,
    /// minijinja template of the notice in the old room; uses only [`TEMPLATE_VARIABLES`], and has been
    /// rendered once to see that it can be.
    pub notice: String,
    /// The same for the body of the tombstone, which clients show where the room ends.
    pub tombstone: String,
    /// The same for the reason that an invitation to the new room gives.
    pub invite: String,
    /// The same for the pings in the old room.
    pub ping: String,
}

/// Something to say about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key with its tables: `account.user_id`, `admin_room[1].scope`; counted from 0.
    pub key: String,
    /// What is wrong and what to write instead, in one line.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// A configuration that cannot be used. The `Display` is for the operator and holds no secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("the configuration is not valid TOML: line {line}, column {column}: {text}")]
    Syntax {
        /// Line, counted from 1.
        line: usize,
        /// Character in the line, counted from 1.
        column: usize,
        /// What is wrong, without any text of the file.
        text: String,
    },
    /// Some keys are wrong.
    #[error("the configuration has mistakes:{}", listed(.0))]
    Invalid(Vec<Finding>),
}

fn listed(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("\n- {finding}"))
        .collect();
    lines.concat()
}

/// The environment: a variable's value, if it is set.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// Reads the file at `path`. Paths in it are relative to its folder.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all mistakes, unless the file is missing or not TOML.
    pub fn load(path: &Path, env: Env<'_>) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let access = secret::access(&path.metadata().map_err(unreadable)?);
        let base_dir = path.parent().unwrap_or(Path::new(""));
        let (mut config, origin) = read(&text, base_dir, env)?;
        if let Origin::Configuration(key) = origin
            && access == secret::Access::Anybody
        {
            config.warnings.push(Finding {
                key: format!("account.{key}"),
                text: format!(
                    "every user of this machine can read it; run `chmod 600 {}`",
                    path.display()
                ),
            });
        }
        Ok(config)
    }

    /// Reads the text of a file in `base_dir`. The only files it opens are those that hold secrets.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Syntax`], or [`ConfigError::Invalid`] with all mistakes.
    pub fn parse(text: &str, base_dir: &Path, env: Env<'_>) -> Result<Self, ConfigError> {
        read(text, base_dir, env).map(|(config, _)| config)
    }
}

/// Reads a configuration; also returns where its secret was.
fn read(text: &str, base_dir: &Path, env: Env<'_>) -> Result<(Config, Origin), ConfigError> {
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
fn table(text: &str) -> Result<toml::Table, ConfigError> {
    let syntax = DeTable::parse(text)
        .map_err(|error| syntax_error(text, &error, error.message().to_owned()))?;
    toml::Table::deserialize(toml::Deserializer::from(syntax))
        .map_err(|error| syntax_error(text, &error, "a number has too many digits".to_owned()))
}

/// A mistake at the place that toml tells.
fn syntax_error(content: &str, error: &toml::de::Error, text: String) -> ConfigError {
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

#[cfg(test)]
mod tests;
