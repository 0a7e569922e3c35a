//! Tests of whole configurations: the example, defaults, texts of mistakes, and that none of them
//! holds a secret.

use std::fs;

use proptest::prelude::*;

use super::read::DEFAULT_KEEP;
use super::*;

const EXAMPLE: &str = include_str!("../../config.example.toml");

const SECRET: &str = "hunter2";

const MINIMAL: &str = r##"
    [account]
    homeserver = "https://b.org"
    user_id = "@bot:b.org"
    password = "hunter2"
    [[admin_room]]
    room = "#mods:b.org"
"##;

fn no_env(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/roomlift"), &no_env)
}

fn mistakes(text: &str) -> String {
    match parse(text) {
        Err(error @ ConfigError::Invalid(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The example with every commented-out default made active.
fn uncommented() -> String {
    let is_default = |rest: &&str| {
        if rest.starts_with('[') && rest.ends_with(']') {
            return true;
        }
        let Some((key, value)) = rest.split_once(" = ") else {
            return false;
        };
        !value.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(is_default).unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_is_valid_and_its_comments_are_the_defaults() {
    let plain = parse(EXAMPLE).unwrap();
    assert_eq!(plain.warnings, []);
    let text = uncommented();
    assert_ne!(text, EXAMPLE);
    let full = parse(&text).unwrap();
    assert_eq!(full.warnings, []);
    assert_eq!(full.upgrade, plain.upgrade);
    assert_eq!(full.schedule, plain.schedule);
    assert_eq!(full.keep, plain.keep);
    assert_eq!(full.messages, plain.messages);
    assert_eq!(full.log, plain.log);
    assert_eq!(full.log_format, plain.log_format);
    assert_eq!(full.data_dir, plain.data_dir);
    // The only other key without a default.
    assert_eq!((plain.listen, full.listen.is_some()), (None, true));
    let [mut room] = <[AdminRoomRules; 1]>::try_from(full.admin_rooms).unwrap();
    assert!(matches!(room.scope, Scope::Only(_)));
    // The only keys whose default cannot be written.
    room.scope = Scope::Everything;
    let mut follow_up = full.follow_up;
    assert!(follow_up.quiet_hours.take().is_some());
    assert_eq!(follow_up, plain.follow_up);
    assert_eq!(plain.admin_rooms, [room]);
}

#[test]
fn records_are_kept_for_a_year_or_as_long_as_it_says() {
    let days = |days: u64| Some(Duration::from_hours(24 * days));
    for (lines, keep) in [
        ("", Some(DEFAULT_KEEP)),
        ("[records]", Some(DEFAULT_KEEP)),
        ("[records]\nkeep = \"2y\"", Some(DEFAULT_KEEP * 2)),
        ("[records]\nkeep = \"30d\"", days(30)),
        ("[records]\nkeep = \"0\"", None),
    ] {
        let text = format!("{MINIMAL}\n{lines}");
        assert_eq!(parse(&text).unwrap().keep, keep, "{lines}");
    }
    let short = mistakes(&format!("{MINIMAL}\n[records]\nkeep = \"29d\""));
    assert!(
        short.contains("records.keep: `29d` is out of bounds"),
        "{short}"
    );
}

#[test]
fn the_example_names_every_key() {
    let text = MINIMAL.replace("room = ", "x = 1\nroom = ")
        + "[upgrade]\nx = 1\n[follow_up]\nx = 1\n[schedule]\nx = 1\n[records]\nx = 1\n[messages]\nx = 1\n[synapse_admin]\nx = 1\n[x]\n[account.x]\n";
    let text = mistakes(&text);
    let mut keys = 0;
    for line in text.lines() {
        let Some((_, known)) = line.split_once(" Keys ") else {
            continue;
        };
        let Some((_, list)) = known.split_once(": ") else {
            panic!("{line}")
        };
        for key in list.split(", ").map(|key| key.trim_matches('`')) {
            let as_key = format!("{key} = ");
            let as_table = format!("[{key}]");
            assert!(
                EXAMPLE.contains(&as_key) || EXAMPLE.contains(&as_table),
                "{key}"
            );
            keys += 1;
        }
    }
    assert_eq!(keys, 53);
}

#[test]
fn defaults() {
    let config = parse(MINIMAL).unwrap();
    insta::assert_debug_snapshot!(config, @r##"
    Config {
        data_dir: "/etc/roomlift/data",
        log: "info",
        log_format: Text,
        listen: None,
        account: Account {
            homeserver: "https://b.org",
            user_id: "@bot:b.org",
            credentials: Password(
                ***,
            ),
            recovery_key: None,
            accept_invites_from: [],
        },
        admin_rooms: [
            AdminRoomRules {
                room: "#mods:b.org",
                command_level: 50,
                read_level: 0,
                scope: Everything,
                target_power: NotNeeded,
                verified_device: NotNeeded,
            },
        ],
        upgrade: UpgradeSettings {
            version: V12,
            method: Auto,
            additional_creators: [],
            join_rule: Restricted,
            invite: Auto,
            bots: [
                "@draupnir:*",
                "@mjolnir:*",
                "@_*:*",
            ],
            old_child_link: Remove,
            tombstone_level: 150,
            concurrency: 4,
            max_command_age: 3600s,
            plan_expires: 3600s,
        },
        follow_up: FollowUpSettings {
            after: [
                86400s,
                259200s,
                604800s,
            ],
            until_moved: 0.95,
            mention: Stragglers,
            quiet_hours: None,
            old_room: Stay,
        },
        schedule: ScheduleSettings {
            time_zone: None,
            announce: [
                259200s,
                3600s,
            ],
            missed_start: Run,
        },
        keep: Some(
            31557600s,
        ),
        messages: Messages {
            announcement: "This room will be upgraded on {{ time }}, in {{ rest }}. A new room will take its place; a link here will lead to it.{% if reason %}\n\nReason: {{ reason }}{% endif %}",
            called_off: "This room will not be upgraded on {{ time }} after all.",
            notice: "This room has moved. Join the new room: {{ new_link }}{% if reason %}\n\nReason: {{ reason }}{% endif %}",
            tombstone: "This room has been replaced",
            invite: "{{ old_name }} has moved to a new room",
            ping: "{{ old_name }} goes on in a new room, and you are not there yet. Please come over: {{ new_link }}",
        },
        synapse_admin: None,
        warnings: [],
    }
    "##);
    let Credentials::Password(password) = config.account.credentials else {
        panic!()
    };
    assert_eq!(password.expose(), SECRET);
}

#[test]
fn everything_missing_is_told_at_once() {
    insta::assert_snapshot!(mistakes(""), @r#"
    the configuration has mistakes:
    - admin_room: is missing; write at least one table `[[admin_room]]`
    - account.homeserver: is missing; write the address, such as `"https://matrix.example.org"`
    - account.user_id: is missing; write the id of the account, such as `"@roomlift:example.org"`
    - account.password: is missing; write exactly one of `password`, `password_file`, `access_token`, `access_token_file`, or set `ROOMLIFT_PASSWORD` or `ROOMLIFT_ACCESS_TOKEN` in the environment
    "#);
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = r##"
        data_dir = 5
        log = "loud=er"
        lgo = "info"
        [account]
        homeserver = "b.org"
        user_id = "bot"
        password = 12345
        passwrd = "x"
        [[admin_room]]
        room = "#mods:b.org"
        command_level = "50"
        [[admin_room]]
        room = "#mods:b.org"
        command_level = 10
        read_level = 20
        scope = []
        require_target_power = "yes"
        [[admin_room]]
        room = "mods"
        scope = ["#a:b", 3, "#a", "#a:b"]
        [upgrade]
        version = "V12"
        method = "magic"
        additional_creators = "@a:b"
        join_rule = "open"
        concurrency = 17
        tombstone_level = 9007199254740992
        max_command_age = "1"
        plan_expires = "1s"
        invited = "auto"
        [schedule]
        announce = ["3d", "0s", "91d"]
        time_zone = "Europe/Berln"
        missed_start = "never"
        [messages]
        notice = "{{ new_lnik }}"
        announcement = "{{ new_link }}"
    "##;
    insta::assert_snapshot!(mistakes(text), @r##"
    the configuration has mistakes:
    - data_dir: is a number; write text in quotation marks
    - log: `loud=er` is not possible; write `error`, `warn`, `info`, `debug` or `trace`
    - lgo: is not a key; did you mean `log`? Keys before the first table: `data_dir`, `log`, `log_format`, `listen`, `account`, `admin_room`, `upgrade`, `follow_up`, `schedule`, `records`, `messages`, `synapse_admin`
    - account.homeserver: is not an address; write it like `"https://matrix.example.org"`
    - account.user_id: `bot` is not a user id; write `"@name:example.org"`
    - account.password: is a number; write text in quotation marks
    - account.passwrd: is not a key; did you mean `password`? Keys in `account`: `homeserver`, `user_id`, `password`, `password_file`, `access_token`, `access_token_file`, `recovery_key_file`, `accept_invites_from`
    - admin_room[0].command_level: is text; write a whole number without quotation marks
    - admin_room[0].scope: is missing; write its rooms and spaces, since there are several admin rooms
    - admin_room[1].room: `#mods:b.org` is an admin room already; remove one of them
    - admin_room[1].read_level: 20 is above `command_level` (10); who may change rooms may ask as well, so make it at most 10
    - admin_room[1].scope: is empty, so nothing could be upgraded; name a room or space
    - admin_room[1].require_target_power: is text; write `true` or `false`
    - admin_room[2].room: `mods` is not a room; write `"#name:example.org"` or `"!id:example.org"`
    - admin_room[2].scope[1]: is a number; write text in quotation marks
    - admin_room[2].scope[2]: `#a` is not a room; write `"#name:example.org"` or `"!id:example.org"`
    - admin_room[2].scope[3]: is in the list already; remove it
    - upgrade.concurrency: must be from 1 to 16
    - upgrade.version: `V12` is not a room version; write `"12"`
    - upgrade.method: `magic` is not possible; possible: `"auto"`, `"server"`, `"staged"`
    - upgrade.additional_creators: is text; write a list, such as `["…", "…"]`
    - upgrade.join_rule: `open` is not possible; possible: `"restricted"`, `"keep"`
    - upgrade.tombstone_level: must be from 0 to 9007199254740991
    - upgrade.max_command_age: `1` is not a duration; write `"90s"`, `"10m"`, `"2h"` or `"3d"`
    - upgrade.plan_expires: `1s` is out of bounds; from 1m to 30days
    - upgrade.invited: is not a key; did you mean `invite`? Keys in `upgrade`: `concurrency`, `version`, `method`, `additional_creators`, `join_rule`, `invite`, `bots`, `old_child_link`, `tombstone_level`, `max_command_age`, `plan_expires`
    - schedule.announce[1]: `0s` is out of bounds; from 1s to 30days
    - schedule.announce[2]: `91d` is out of bounds; from 1s to 30days
    - schedule.time_zone: `Europe/Berln` is no time zone; write `"Europe/Berlin"`
    - schedule.missed_start: `never` is not possible; possible: `"run"`, `"ask"`
    - messages.announcement: `new_link` is not a variable; known: `old_name`, `version`, `reason`, `time`, `rest`
    - messages.notice: `new_lnik` is not a variable; known: `old_name`, `new_link`, `version`, `reason`
    "##);
}

#[test]
fn tables_of_the_wrong_kind() {
    insta::assert_snapshot!(mistakes("account = 1\nupgrade = []\n[admin_room]\nroom = 1"), @r#"
    the configuration has mistakes:
    - account: is a number; write a table `[account]`
    - admin_room: is a table; write tables `[[admin_room]]`
    - upgrade: is a list; write a table `[upgrade]`
    - account.homeserver: is missing; write the address, such as `"https://matrix.example.org"`
    - account.user_id: is missing; write the id of the account, such as `"@roomlift:example.org"`
    - account.password: is missing; write exactly one of `password`, `password_file`, `access_token`, `access_token_file`, or set `ROOMLIFT_PASSWORD` or `ROOMLIFT_ACCESS_TOKEN` in the environment
    "#);
    insta::assert_snapshot!(mistakes("admin_room = []"), @r#"
    the configuration has mistakes:
    - admin_room: is empty; write at least one table `[[admin_room]]`
    - account.homeserver: is missing; write the address, such as `"https://matrix.example.org"`
    - account.user_id: is missing; write the id of the account, such as `"@roomlift:example.org"`
    - account.password: is missing; write exactly one of `password`, `password_file`, `access_token`, `access_token_file`, or set `ROOMLIFT_PASSWORD` or `ROOMLIFT_ACCESS_TOKEN` in the environment
    "#);
    insta::assert_snapshot!(mistakes("admin_room = [1]"), @r#"
    the configuration has mistakes:
    - admin_room[0]: is a number; write tables `[[admin_room]]`
    - account.homeserver: is missing; write the address, such as `"https://matrix.example.org"`
    - account.user_id: is missing; write the id of the account, such as `"@roomlift:example.org"`
    - account.password: is missing; write exactly one of `password`, `password_file`, `access_token`, `access_token_file`, or set `ROOMLIFT_PASSWORD` or `ROOMLIFT_ACCESS_TOKEN` in the environment
    "#);
}

#[test]
fn several_admin_rooms_with_scopes() {
    let text = MINIMAL.to_owned()
        + "scope = ['#s:b.org']\n[[admin_room]]\nroom = '!x:b.org'\nscope = ['!y']\n\
           require_target_power = true\n";
    let config = parse(&text).unwrap();
    assert_eq!(config.admin_rooms.len(), 2);
    assert_eq!(config.admin_rooms[1].target_power, TargetPower::Needed);
}

#[test]
fn the_environment_holds_secrets_and_overrides_the_log() {
    let without = MINIMAL.replace("password = \"hunter2\"", "");
    let env = |variable: &'static str, value: &'static str| {
        move |name: &str| (name == variable).then(|| value.to_owned())
    };
    let base = Path::new("");
    let config = Config::parse(&without, base, &env(ENV_ACCESS_TOKEN, "t")).unwrap();
    assert_eq!(
        config.account.credentials,
        Credentials::AccessToken(Secret::new("t".to_owned()))
    );
    let config = Config::parse(&without, base, &env(ENV_PASSWORD, "p")).unwrap();
    assert_eq!(
        config.account.credentials,
        Credentials::Password(Secret::new("p".to_owned()))
    );
    assert!(Config::parse(&without, base, &env(ENV_PASSWORD, "")).is_err());
    let config = Config::parse(MINIMAL, base, &env(ENV_LOG, "debug")).unwrap();
    assert_eq!(config.log, "debug");

    let error = Config::parse(MINIMAL, base, &env(ENV_PASSWORD, "p")).unwrap_err();
    insta::assert_snapshot!(error, @r#"
    the configuration has mistakes:
    - account.password: `password` and the environment's `ROOMLIFT_PASSWORD` contradict each other; keep one of them
    "#);
    let error = Config::parse(MINIMAL, base, &env(ENV_LOG, "a=b=c")).unwrap_err();
    insta::assert_snapshot!(error, @r#"
    the configuration has mistakes:
    - ROOMLIFT_LOG: `a=b=c` is not possible; write `error`, `warn`, `info`, `debug` or `trace`
    "#);
}

#[test]
fn two_sources_of_a_secret_contradict_each_other() {
    let text = MINIMAL.replace("[[", "access_token_file = \"/nowhere\"\n[[");
    insta::assert_snapshot!(mistakes(&text), @r#"
    the configuration has mistakes:
    - account.access_token_file: cannot open /nowhere: No such file or directory (os error 2)
    - account.password: `password` and `access_token_file` contradict each other; keep one of them
    "#);
}

#[test]
fn warnings() {
    let text = MINIMAL.replace("https", "http") + "[messages]\nnotice = 'gone'\n";
    let warnings = parse(&text).unwrap().warnings;
    insta::assert_snapshot!(listed(&warnings).trim(), @r#"
    - account.homeserver: `http://` sends the password in the clear; use `https://`
    - messages.notice: does not use `{{ new_link }}`, so members are not told where to go
    "#);
}

#[cfg(unix)]
mod files {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn secrets_are_read_from_files_beside_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let text = MINIMAL.replace("password = \"hunter2\"", "password_file = \"secret\"");
        write(&config, &text, 0o644);
        let load = || Config::load(&config, &no_env);
        let secret = dir.path().join("secret");

        for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            write(&secret, content, 0o600);
            let config = load().unwrap();
            let expected = Credentials::Password(Secret::new(SECRET.to_owned()));
            assert_eq!(config.account.credentials, expected, "{content:?}");
            assert_eq!(config.data_dir, dir.path().join("data"));
            assert_eq!(config.warnings, []);
        }
        let cases = [
            ("hunter2", 0o644, "chmod 600"),
            ("", 0o600, "is empty"),
            ("\n", 0o600, "is empty"),
            ("hunter2\nmore", 0o600, "several lines"),
            (&"hunter2".repeat(10_000), 0o600, "too long"),
        ];
        for (content, mode, expected) in cases {
            write(&secret, content, mode);
            let error = load().unwrap_err().to_string();
            assert!(error.contains("account.password_file: "), "{error}");
            assert!(error.contains(expected), "{error}");
            assert!(error.contains(secret.to_str().unwrap()), "{error}");
            assert!(!error.contains(SECRET), "{error}");
        }
        fs::remove_file(&secret).unwrap();
        assert!(load().unwrap_err().to_string().contains("cannot open"));
        fs::create_dir(&secret).unwrap();
        assert!(load().is_err());
    }

    #[test]
    fn a_readable_configuration_with_a_secret_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        write(&path, MINIMAL, 0o600);
        assert_eq!(Config::load(&path, &no_env).unwrap().warnings, []);
        write(&path, MINIMAL, 0o644);
        let warnings = Config::load(&path, &no_env).unwrap().warnings;
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].key, "account.password");
        assert!(warnings[0].text.contains("chmod 600"));
    }

    #[test]
    fn a_missing_configuration_is_named() {
        let error = Config::load(Path::new("/nowhere/config.toml"), &no_env).unwrap_err();
        assert!(error.to_string().contains("/nowhere/config.toml"));
    }
}

#[test]
fn no_error_shows_a_secret() {
    let lines = [
        "password = \"hunter2",
        "password = 'hunter2",
        "password = \"\"\"hunter2",
        "password = hunter2",
        "password = hunter2 hunter2",
        "password = \"hunter2\" hunter2",
        "password = \"hunter2\\q\"",
        "password = \"\\uhunter2\"",
        "password = [\"hunter2\"]",
        "password = { hunter2 = 1 }",
        "password = { a = \"hunter2\" }",
        "password = 0xhunter2",
        "password.a = \"hunter2\"",
        "password = \"hunter2\"\n    password = \"hunter2\"",
        "password = \"hunter2\\nhunter2\"",
        "password_file = [\"hunter2\"]",
        "password: hunter2",
        "password hunter2",
        "password = \"hunter2\"\n    access_token = \"hunter2\"",
    ];
    for line in lines {
        let text = MINIMAL.replace("password = \"hunter2\"", line);
        let error = parse(&text).expect_err(line);
        assert!(
            !format!("{error} {error:?}").contains(SECRET),
            "{line}: {error:?}"
        );
    }
    // Numbers can be secrets too.
    let text = MINIMAL.replace("\"hunter2\"", "271828182845904523536");
    assert!(!format!("{:?}", parse(&text).unwrap_err()).contains("27182818"));
    insta::assert_snapshot!(parse(&text).unwrap_err(), @r#"the configuration is not valid TOML: line 5, column 16: a number has too many digits"#);
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{:?}", parse(MINIMAL).unwrap()).contains(SECRET));
}

#[test]
fn syntax_errors_have_a_place() {
    insta::assert_snapshot!(parse("log = \"info\"\nä = [").unwrap_err(), @r#"the configuration is not valid TOML: line 2, column 6: unclosed array, expected `]`"#);
    insta::assert_snapshot!(parse("[account]\n  password = \"hunter2").unwrap_err(), @r#"the configuration is not valid TOML: line 2, column 22: invalid basic string, expected `"`"#);
    insta::assert_snapshot!(parse("log = \"a\"\nlog = \"b\"").unwrap_err(), @r#"the configuration is not valid TOML: line 2, column 1: duplicate key"#);
}

proptest! {
    #[test]
    fn no_text_panics(text in ".*", key in "[a-z_.]{0,12}", value in "[-0-9a-z\"'{}\\[\\], ]{0,20}") {
        let _ = parse(&text);
        let _ = parse(&format!("{key} = {value}"));
        let _ = parse(&format!("{MINIMAL}\n{key} = {value}"));
    }

    #[test]
    fn no_damage_brings_a_secret_to_light(
        at in 0..MINIMAL.len(),
        length in 0_usize..12,
        noise in "[\"'=\\[\\]{}\\\\\n#.,:ä0 ]{0,3}",
    ) {
        let mut text = MINIMAL.to_owned();
        text.replace_range(at..(at + length).min(MINIMAL.len()), &noise);
        if let Err(error) = parse(&text) {
            let error = format!("{error} {error:?}");
            // A line that lost its key is a key itself, and unknown keys are named.
            let as_key = text.lines().any(|line| line.trim_start().starts_with(['h', '"', '\'']));
            prop_assert!(as_key || !error.contains(SECRET), "{}\n{}", text, error);
        }
    }
}
