//! Tests of the parser as a whole: tables of commands and answers, and properties.
//!
//! Single parts are tested where they are.

mod meant;

use proptest::prelude::*;
use ruma::{OwnedUserId, owned_room_alias_id, owned_room_id, owned_server_name, owned_user_id};

use super::*;
use crate::model::{
    Announce, CampaignId, InvitePolicy, JobId, JoinRulePolicy, MethodChoice, OwnAdminRoom, Pings,
    Policies, Review, RoomName, RoomType,
};

fn read_body(body: &str) -> Option<Result<Command, CommandError>> {
    parse(&Incoming {
        body,
        formatted_body: None,
    })
}

fn accepted(body: &str) -> Command {
    read_body(body)
        .expect(body)
        .unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn answer(body: &str) -> String {
    read_body(body).expect(body).expect_err(body).to_string()
}

fn alias() -> RoomRef {
    RoomRef {
        name: RoomName::Alias(owned_room_alias_id!("#a:b.org")),
        via: Vec::new(),
    }
}

fn upgrade(options: UpgradeOptions, confirmation: Confirmation) -> Command {
    Command::Upgrade(UpgradeCommand {
        room: alias(),
        options,
        when: None,
        confirmation,
    })
}

fn upgrade_later(when: When, announce: Announce) -> Command {
    let options = UpgradeOptions {
        announce,
        ..to_12()
    };
    Command::Upgrade(UpgradeCommand {
        room: alias(),
        options,
        when: Some(when),
        confirmation: Confirmation::Ask,
    })
}

fn to_12() -> UpgradeOptions {
    UpgradeOptions {
        version: Some(RoomVersionId::V12),
        ..UpgradeOptions::default()
    }
}

#[test]
fn which_messages_are_ours() {
    let cases = [
        ("!upgrade", true),
        ("  \n!upgrade help", true),
        ("!Upgrade\u{a0}help", true),
        ("!upgrade\n#a:b", true),
        ("!upgrades", false),
        ("!upgrade#a:b", false),
        ("upgrade", false),
        ("please !upgrade", false),
        ("> <@a:b> !upgrade", false),
        ("> <@a:b> hello\n> more\n\n!upgrade list", true),
        ("> * <@a:b> waves\n\n!upgrade list", true),
        ("> quoted by hand\n\n!upgrade list", false),
        ("!upgradé", false),
        ("", false),
    ];
    for (body, ours) in cases {
        assert_eq!(concerns_us(body), ours, "{body:?}");
        assert_eq!(read_body(body).is_some(), ours, "{body:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn commands() {
    let (job, campaign) = (JobId(7), CampaignId(7));
    let work = WorkId::Job(job);
    let all_options = UpgradeOptions {
        version: Some(RoomVersionId::V11),
        method: Some(MethodChoice::Staged),
        creators: vec![owned_user_id!("@c:d"), owned_user_id!("@e:f")],
        reason: Some("it's time".to_owned()),
        invite: Some(InvitePolicy::All),
        join_rule: Some(JoinRulePolicy::Keep),
        policies: Some(Policies::Transition),
        room_type: Some(RoomType::Policy),
        review: Review::Wanted,
        own_admin_room: OwnAdminRoom::Included,
        ping: Some(Pings::After(vec![Duration::from_hours(24)])),
        ..UpgradeOptions::default()
    };
    let evening = || when::at("20:00 Europe/Berlin").unwrap();
    let none = UpgradeOptions::default;
    let cases = [
        ("!upgrade", Command::Help(None)),
        ("!upgrade help", Command::Help(None)),
        (
            "!upgrade help Confirm",
            Command::Help(Some(grammar::topic("confirm").unwrap())),
        ),
        (
            "!upgrade --help",
            Command::Help(Some(grammar::topic("upgrade").unwrap())),
        ),
        ("!upgrade #a:b.org", upgrade(none(), Confirmation::Ask)),
        (
            "!upgrade upgrade #a:b.org",
            upgrade(none(), Confirmation::Ask),
        ),
        ("!upgrade #a:b.org 12", upgrade(to_12(), Confirmation::Ask)),
        (
            "!upgrade\n#a:b.org\n12",
            upgrade(to_12(), Confirmation::Ask),
        ),
        (
            "!upgrade --yes #a:b.org 12",
            upgrade(to_12(), Confirmation::Given),
        ),
        (
            "!Upgrade —yes —version 12 #a:b.org",
            upgrade(to_12(), Confirmation::Given),
        ),
        (
            "!upgrade --version=12 #a:b.org 12",
            upgrade(to_12(), Confirmation::Ask),
        ),
        (
            "!upgrade plan #a:b.org --version 12",
            upgrade(to_12(), Confirmation::PlanOnly),
        ),
        (
            "!upgrade Plan matrix:r/a:b.org 12",
            upgrade(to_12(), Confirmation::PlanOnly),
        ),
        (
            "!upgrade --reason “it's time” --creator @c:d #a:b.org --method staged \
             --creator @e:f 11 --creator @c:d --review --yes-this-room --invite all --join-rule keep --ping 1d --policies transition \
             --room-type m.policy",
            upgrade(all_options, Confirmation::Ask),
        ),
        (
            "!upgrade #a:b.org --reason ''",
            upgrade(none(), Confirmation::Ask),
        ),
        (
            "!upgrade --at 20:00 Europe/Berlin #a:b.org 12",
            upgrade_later(evening(), Announce::Silent),
        ),
        (
            "!upgrade #a:b.org --announce --at \"20:00 Europe/Berlin\" 12",
            upgrade_later(evening(), Announce::Wanted),
        ),
        (
            "!upgrade #a:b.org 12 --in=2h",
            upgrade_later(when::within("2h").unwrap(), Announce::Silent),
        ),
        ("!upgrade confirm 7", Command::Confirm(work)),
        ("!upgrade confirm #7", Command::Confirm(work)),
        ("!upgrade cancel 7", Command::Cancel(work)),
        ("!upgrade status", Command::Status(None)),
        ("!upgrade status #7", Command::Status(Some(JobRef::Id(job)))),
        (
            "!upgrade status #a:b.org",
            Command::Status(Some(JobRef::Room(alias()))),
        ),
        ("!upgrade list", Command::List(ListScope::Recent)),
        ("!upgrade list --all", Command::List(ListScope::All)),
        ("!upgrade retry 7", Command::Retry(work)),
        ("!upgrade verify 7", Command::Verify(JobRef::Id(job))),
        ("!upgrade report 7", Command::Report(work)),
        ("!upgrade pause", Command::Pause(None)),
        ("!upgrade pause 7", Command::Pause(Some(work))),
        (
            "!upgrade resume c7",
            Command::Resume(Some(WorkId::Campaign(campaign))),
        ),
        (
            "!upgrade confirm C7",
            Command::Confirm(WorkId::Campaign(campaign)),
        ),
        (
            "!upgrade status C7",
            Command::Status(Some(JobRef::Campaign(campaign))),
        ),
        (
            "!upgrade space #a:b.org 11 --skip #a:b.org --from 10 --only #a:b.org --yes",
            Command::Space(SpaceCommand {
                space: alias(),
                options: UpgradeOptions {
                    version: Some(RoomVersionId::V11),
                    ..none()
                },
                when: None,
                only: vec![alias()],
                skip: vec![alias()],
                from: Some(RoomVersionId::V10),
                confirmation: Confirmation::Given,
            }),
        ),
        (
            "!upgrade adopt #a:b.org --policies move",
            upgrade(
                UpgradeOptions {
                    method: Some(MethodChoice::Adopt),
                    policies: Some(Policies::Move),
                    ..none()
                },
                Confirmation::Ask,
            ),
        ),
        ("!upgrade rooms", Command::Rooms(None)),
        ("!upgrade Rooms #a:b.org", Command::Rooms(Some(alias()))),
        ("!upgrade doctor", Command::Doctor(DoctorAction::Look)),
        (
            "!upgrade doctor --lift-limits",
            Command::Doctor(DoctorAction::LiftLimits),
        ),
        (
            "> <@a:b> plan 7\n\n!upgrade confirm 7",
            Command::Confirm(work),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(accepted(body), expected, "{body}");
    }
}

#[test]
fn pills() {
    let formatted = r#"<mx-reply>!upgrade x</mx-reply>!upgrade plan
        <a href="https://matrix.to/#/!r:b.org?via=b.org&amp;via=c.org">Our room</a> 12
        --creator <a href="https://matrix.to/#/@c:d">Carol C</a>"#;
    let message = Incoming {
        body: "> <@a:b> x\n\n!upgrade plan Our room 12 --creator Carol C",
        formatted_body: Some(formatted),
    };
    let expected = UpgradeCommand {
        room: RoomRef {
            name: RoomName::Id(owned_room_id!("!r:b.org")),
            via: vec![owned_server_name!("b.org"), owned_server_name!("c.org")],
        },
        options: UpgradeOptions {
            creators: vec![owned_user_id!("@c:d")],
            ..to_12()
        },
        when: None,
        confirmation: Confirmation::PlanOnly,
    };
    assert_eq!(parse(&message), Some(Ok(Command::Upgrade(expected))));
}

#[test]
fn html_that_is_no_command_does_not_hide_the_body() {
    let link = r#"<a href="matrix:r/a:b">A</a>"#;
    let cases = [
        (
            "!upgrade list",
            Some(link),
            Some(Ok(Command::List(ListScope::Recent))),
        ),
        // Markdown took the underscores.
        (
            "!upgrade list",
            Some("!upgrade <em>x</em>"),
            Some(Ok(Command::List(ListScope::Recent))),
        ),
        ("hello", Some("!upgrade list"), None),
    ];
    for (body, formatted_body, expected) in cases {
        assert_eq!(
            parse(&Incoming {
                body,
                formatted_body
            }),
            expected,
            "{body}"
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn answers() {
    let bodies = [
        "!upgrade statsu",
        "!upgrade xyzzy",
        "!upgrade help stauts",
        "!upgrade help xyzzy",
        "!upgrade --yes",
        "!upgrade confirm",
        "!upgrade confirm seven",
        "!upgrade confirm #a:b",
        "!upgrade #room",
        "!upgrade @user:b",
        "!upgrade --yes plan #a:b",
        "!upgrade https://matrix.to/#/!a:b/$c",
        "!upgrade a:b",
        "!upgrade #a:b 12 now",
        "!upgrade #a:b --reason in three words",
        "!upgrade #a:b --vresion 12",
        "!upgrade plan #a:b --yes",
        "!upgrade #a:b --yes=no",
        "!upgrade #a:b --reason",
        "!upgrade #a:b --reason a --reason b",
        "!upgrade #a:b 12 --version 11",
        "!upgrade #a:b V12!",
        "!upgrade #a:b --method magic",
        "!upgrade #a:b --creator user",
        "!upgrade #a:b --reason \"not closed",
        "!upgrade status x`y",
        "!upgrade #a:b --at 25:00 Europe/Berlin",
        "!upgrade #a:b --at 20:00 Europe/Berln",
        "!upgrade #a:b --at 20:00Z --in 2h",
        "!upgrade #a:b --in soon",
        "!upgrade #a:b --announce",
    ];
    let answers: Vec<String> = bodies
        .iter()
        .map(|body| format!("{body}\n    {}", answer(body)))
        .collect();
    insta::assert_snapshot!(answers.join("\n"), @r#"
    !upgrade statsu
        I do not know `statsu`. Did you mean `status`? Type `!upgrade help` to see all commands.
    !upgrade xyzzy
        I do not know `xyzzy`. Type `!upgrade help` to see all commands.
    !upgrade help stauts
        I do not know `stauts`. Did you mean `status`? Type `!upgrade help` to see all commands.
    !upgrade help xyzzy
        I do not know `xyzzy`. Type `!upgrade help` to see all commands.
    !upgrade --yes
        Something is missing: `<room>`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade confirm
        Something is missing: `<id>`. Type `!upgrade help confirm` to see how it is used.
    !upgrade confirm seven
        `seven` does not fit here. I expected the number of a job, such as `7`. Type `!upgrade help confirm` to see how it is used.
    !upgrade confirm #a:b
        `#a:b` is a room. I expected the number of a job, such as `7`. Type `!upgrade help confirm` to see how it is used.
    !upgrade #room
        `#room` has no server part. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used.
    !upgrade @user:b
        `@user:b` is a user. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used.
    !upgrade --yes plan #a:b
        `plan` is a command; put it right after `!upgrade`. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used.
    !upgrade https://matrix.to/#/!a:b/$c
        `https://matrix.to/#/!a:b/$c` is a link to a message. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used.
    !upgrade a:b
        `a:b` does not fit here. I expected a room: `#name:server`, `!id:server` or a link to it. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b 12 now
        I do not know what to do with `now`. Text with spaces needs quotation marks. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --reason in three words
        Text of several words needs quotation marks: `--reason "in three words"`. What is no part of the text goes in front of `--reason`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --vresion 12
        I do not know the option `--vresion` here. Did you mean `--version`? Type `!upgrade help upgrade` to see how it is used.
    !upgrade plan #a:b --yes
        I do not know the option `--yes` here. Type `!upgrade help plan` to see how it is used.
    !upgrade #a:b --yes=no
        `--yes` takes no value; leave out the `=` and what follows. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --reason
        `--reason` needs something after it. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --reason a --reason b
        `--reason` was given more than once. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b 12 --version 11
        You gave two versions, `12` and `11`. Please give one. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b V12!
        `V12!` is not a room version. Write for example `12`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --method magic
        `--method` cannot be `magic`. It can be: `auto`, `server`, `staged`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --creator user
        `user` does not fit here. I expected a user with server, such as `@name:server`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --reason "not closed
        Missing closing quote: `"not closed`. Type `!upgrade help` to see all commands.
    !upgrade status x`y
        `x'y` does not fit here. I expected the number of a job, such as `7`, or a room, such as `#name:server`. Type `!upgrade help status` to see how it is used.
    !upgrade #a:b --at 25:00 Europe/Berlin
        `25:00 Europe/Berlin` is not a time. Write for example `--at "20:00 Europe/Berlin"`, `--at "2026-12-01 20:00 Europe/Berlin"` or `--at 2026-12-01T20:00+01:00`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --at 20:00 Europe/Berln
        I do not know the time zone `Europe/Berln`. Write for example `Europe/Berlin`, `UTC` or `+02:00`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --at 20:00Z --in 2h
        Please give either `--at` or `--in`, and not both. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --in soon
        `soon` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help upgrade` to see how it is used.
    !upgrade #a:b --announce
        `--announce` needs `--at` or `--in`: an upgrade that starts right away cannot be announced. Type `!upgrade help upgrade` to see how it is used.
    "#);
}

#[test]
fn limits() {
    let reason = |chars| format!("!upgrade #a:b --reason '{}'", "ä".repeat(chars));
    accepted(&reason(MAX_REASON_CHARS));
    insta::assert_snapshot!(answer(&reason(MAX_REASON_CHARS + 1)), @r#"The reason has 501 characters. At most 500 are possible; please shorten it. Type `!upgrade help upgrade` to see how it is used."#);

    let creators = |number| format!("!upgrade #a:b{}", " --creator @c:d".repeat(number));
    accepted(&creators(MAX_CREATORS));
    insta::assert_snapshot!(answer(&creators(MAX_CREATORS + 1)), @r#"21 creators is too many; the limit is 20. Type `!upgrade help upgrade` to see how it is used."#);

    let version = |chars| format!("!upgrade #a:b {}", "x".repeat(chars));
    accepted(&version(32));
    answer(&version(33));

    let long = "!upgrade ".to_owned() + &*"x".repeat(100_000);
    insta::assert_snapshot!(answer(&long), @r#"This command is too long: 100009 bytes, and I read at most 4000. Please shorten it. Type `!upgrade help` to see all commands."#);
    let quoted = format!("> <@a:b> {}\n\n!upgrade list", "x".repeat(50_000));
    assert_eq!(accepted(&quoted), Command::List(ListScope::Recent));
}

#[test]
fn needs() {
    let cases = [
        ("!upgrade #a:b", Need::Change),
        ("!upgrade #a:b --yes", Need::Change),
        ("!upgrade plan #a:b", Need::Ask),
        ("!upgrade confirm 7", Need::Change),
        ("!upgrade cancel 7", Need::Change),
        ("!upgrade retry 7", Need::Change),
        ("!upgrade status", Need::Ask),
        ("!upgrade list", Need::Ask),
        ("!upgrade verify 7", Need::Change),
        ("!upgrade pause", Need::Change),
        ("!upgrade resume C7", Need::Change),
        ("!upgrade report 7", Need::Ask),
        ("!upgrade rooms", Need::Ask),
        ("!upgrade doctor", Need::Ask),
        ("!upgrade doctor --lift-limits", Need::Change),
        ("!upgrade doctor --power #a:b", Need::Change),
        ("!upgrade help", Need::Ask),
    ];
    for (body, need) in cases {
        assert_eq!(accepted(body).needs(), need, "{body}");
    }
}

/// Writes a command the way a person would who likes options in this order.
fn render(command: &Command) -> String {
    let arguments = match command {
        Command::Upgrade(upgrade) => {
            let options = &upgrade.options;
            let mut words: Vec<String> = match upgrade.confirmation {
                Confirmation::Ask => vec![],
                Confirmation::Given => vec!["--yes".to_owned()],
                Confirmation::PlanOnly => vec!["plan".to_owned()],
            };
            words.extend(
                options
                    .creators
                    .iter()
                    .map(|creator| format!("--creator {creator}")),
            );
            words.extend(
                options
                    .reason
                    .iter()
                    .map(|reason| format!("--reason='{}'", reason.replace('\'', r"'\''"))),
            );
            words.extend(options.method.map(|method| format!("--method {method}")));
            words.push(if upgrade.room.via.is_empty() {
                upgrade.room.name.to_string()
            } else {
                let via: Vec<_> = upgrade
                    .room
                    .via
                    .iter()
                    .map(|s| format!("via={s}"))
                    .collect();
                format!(
                    "https://matrix.to/#/{}?{}",
                    upgrade.room.name,
                    via.join("&")
                )
            });
            words.extend(options.version.iter().map(ToString::to_string));
            words.join(" ")
        }
        Command::Confirm(id) => format!("confirm {id}"),
        Command::Cancel(WorkId::Job(id)) => format!("cancel #{id}"),
        Command::Cancel(WorkId::Campaign(id)) => format!("cancel {id}"),
        Command::Space(space) => {
            let rooms = |option: &str, rooms: &[RoomRef]| {
                let words = rooms
                    .iter()
                    .map(|room| format!(" --{option} {}", room.name));
                words.collect::<Vec<_>>().concat()
            };
            format!(
                "space {}{}{}",
                space.space.name,
                rooms("only", &space.only),
                rooms("skip", &space.skip)
            )
        }
        Command::Pause(None) => "pause".to_owned(),
        Command::Pause(Some(id)) => format!("pause {id}"),
        Command::Resume(None) => "resume".to_owned(),
        Command::Resume(Some(id)) => format!("resume {id}"),
        Command::Status(Some(JobRef::Campaign(id))) => format!("status {id}"),
        Command::Verify(JobRef::Campaign(id)) => format!("verify {id}"),
        Command::Status(None) => "status".to_owned(),
        Command::Status(Some(JobRef::Id(id))) => format!("status {id}"),
        Command::Status(Some(JobRef::Room(room))) => format!("status {}", room.name),
        Command::Verify(JobRef::Room(room)) => format!("verify {}", room.name),
        Command::List(ListScope::Recent) => "list".to_owned(),
        Command::List(ListScope::All) => "list --all".to_owned(),
        Command::Retry(id) => format!("retry {id}"),
        Command::Verify(JobRef::Id(id)) => format!("verify {id}"),
        Command::Report(id) => format!("report {id}"),
        Command::Stragglers(JobRef::Id(id)) => format!("stragglers {id}"),
        Command::Stragglers(JobRef::Campaign(id)) => format!("stragglers {id}"),
        Command::Stragglers(JobRef::Room(room)) => format!("stragglers {}", room.name),
        Command::Ping(of, what) => {
            let of = match of {
                JobRef::Id(id) => id.to_string(),
                JobRef::Campaign(id) => id.to_string(),
                JobRef::Room(room) => room.name.to_string(),
            };
            let what = match what {
                PingCommand::Show => String::new(),
                PingCommand::Now => "now".to_owned(),
                PingCommand::Off => "off".to_owned(),
                PingCommand::After(after) => {
                    let after = after.iter().map(|one| format!("{}s", one.as_secs()));
                    after.collect::<Vec<_>>().join(",")
                }
            };
            format!("ping {of} {what}")
        }
        Command::Rooms(None) => "rooms".to_owned(),
        Command::Rooms(Some(space)) => format!("rooms {}", space.name),
        Command::Doctor(DoctorAction::Look) => "doctor".to_owned(),
        Command::Doctor(DoctorAction::LiftLimits) => "doctor --lift-limits".to_owned(),
        Command::Doctor(DoctorAction::TakePower(room)) => format!("doctor --power {}", room.name),
        Command::Help(None) => "help".to_owned(),
        Command::Help(Some(topic)) => format!("help {topic}"),
    };
    format!("!upgrade {arguments}")
}

fn any_room() -> impl Strategy<Value = RoomRef> {
    let alias = "#[a-z0-9_.ä-]{1,12}:[a-z]{1,8}\\.org"
        .prop_map(|name| RoomName::Alias(name.try_into().expect("an alias")));
    let id = "![A-Za-z0-9_-]{1,43}(:[a-z]{1,8}(:80)?)?"
        .prop_map(|name| RoomName::Id(name.try_into().expect("a room id")));
    let via = proptest::collection::hash_set("[a-z]{1,8}\\.[a-z]{2}", 0..4);
    (prop_oneof![alias, id], via).prop_map(|(name, via)| RoomRef {
        name,
        via: via
            .into_iter()
            .map(|server| server.try_into().expect("a server"))
            .collect(),
    })
}

fn any_upgrade() -> impl Strategy<Value = Command> {
    let version = "[a-z0-9.][a-z0-9.-]{0,31}"
        .prop_map(|version| RoomVersionId::try_from(version.as_str()).expect("a version"));
    let creators = proptest::collection::hash_set("@[a-z]{1,8}:[a-z]{1,8}", 0..4).prop_map(|ids| {
        ids.into_iter()
            .map(|id| id.try_into().expect("a user id"))
            .collect::<Vec<OwnedUserId>>()
    });
    let options = (
        proptest::option::of(version),
        proptest::option::of(prop::sample::select(vec![
            MethodChoice::Auto,
            MethodChoice::Server,
            MethodChoice::Staged,
        ])),
        creators,
        proptest::option::of("[^\\s\\p{Cc}]([^\0]{0,60}[^\\s\\p{Cc}])?"),
    )
        .prop_map(|(version, method, creators, reason)| UpgradeOptions {
            version,
            method,
            creators,
            reason,
            ..UpgradeOptions::default()
        });
    let confirmation = prop_oneof![
        Just(Confirmation::Ask),
        Just(Confirmation::Given),
        Just(Confirmation::PlanOnly)
    ];
    (any_room(), options, confirmation).prop_map(|(room, options, confirmation)| {
        Command::Upgrade(UpgradeCommand {
            room,
            options,
            when: None,
            confirmation,
        })
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = || (1..=i64::MAX).prop_map(JobId);
    let work = || {
        prop_oneof![
            id().prop_map(WorkId::Job),
            (1..=i64::MAX).prop_map(|id| WorkId::Campaign(CampaignId(id))),
        ]
    };
    let plain = || {
        any_room().prop_map(|room| RoomRef {
            via: Vec::new(),
            ..room
        })
    };
    let some = || prop::collection::vec(plain(), 0..3);
    prop_oneof![
        10 => any_upgrade(),
        2 => (plain(), some(), some()).prop_map(|(space, only, skip)| {
            Command::Space(SpaceCommand {
                space,
                options: UpgradeOptions::default(),
                when: None,
                only,
                skip,
                from: None,
                confirmation: Confirmation::Ask,
            })
        }),
        1 => work().prop_map(Command::Confirm),
        1 => work().prop_map(Command::Cancel),
        1 => work().prop_map(Command::Retry),
        1 => work().prop_map(|id| Command::Pause(Some(id))),
        1 => work().prop_map(|id| Command::Resume(Some(id))),
        1 => (1..=i64::MAX).prop_map(|id| Command::Verify(JobRef::Campaign(CampaignId(id)))),
        1 => id().prop_map(|id| Command::Verify(JobRef::Id(id))),
        1 => work().prop_map(Command::Report),
        1 => proptest::option::of(any_room()).prop_map(|space| {
            Command::Rooms(space.map(|room| RoomRef { via: Vec::new(), ..room }))
        }),
        1 => id().prop_map(|id| Command::Status(Some(JobRef::Id(id)))),
        1 => any_room().prop_map(|room| {
            Command::Status(Some(JobRef::Room(RoomRef { via: Vec::new(), ..room })))
        }),
        1 => any_room().prop_map(|room| {
            Command::Verify(JobRef::Room(RoomRef { via: Vec::new(), ..room }))
        }),
        1 => Just(Command::Status(None)),
        1 => Just(Command::List(ListScope::All)),
        1 => Just(Command::List(ListScope::Recent)),
        1 => Just(Command::Help(None)),
        1 => Just(Command::Help(Some(grammar::topic("plan").expect("a topic")))),
    ]
}

proptest! {
    #[test]
    fn rendered_commands_are_read_back(command in any_command()) {
        let body = render(&command);
        prop_assert_eq!(read_body(&body), Some(Ok(command)), "{}", body);
    }

    #[test]
    fn no_text_panics(body in ".*", html in ".*") {
        let message = Incoming { body: &body, formatted_body: Some(&html) };
        prop_assert_eq!(parse(&message).is_some(), concerns_us(&body));
    }

    #[test]
    fn no_arguments_panic(
        words in proptest::collection::vec(
            "plan|status|list|help|confirm|--?[a-z=-]{0,9}|--(version|reason|method|creator|yes|at|in|announce)=?\
             |[\"'“”‘’\\\\—–]|[#!@$][a-z:.]{0,9}|https://matrix.to/#/[%!#@/?a-f:]{0,9}|[0-9]{1,20}|.{0,9}",
            0..8,
        ),
        separator in "[ \n=]|",
    ) {
        let body = format!("!upgrade {}", words.join(&separator));
        if let Some(Err(error)) = read_body(&body) {
            let text = error.to_string();
            prop_assert!(!text.contains('\n'), "{}", text);
            prop_assert_eq!(text.matches('`').count() % 2, 0, "{}", text);
            prop_assert!(text.contains("Type `!upgrade help"), "{}", text);
            prop_assert_ne!(error.problem, Problem::Other, "{}", body);
        }
    }

    #[test]
    fn no_html_panics(
        parts in proptest::collection::vec(
            "</?(a|b|p|br|table|td|mx-reply|svg|template|select|!--|x)( href='(matrix:|https://matrix.to/#/)[^>]{0,9}')?>?|.{0,9}",
            0..30,
        ),
    ) {
        let html = format!("!upgrade {}", parts.concat());
        let _ = parse(&Incoming { body: "!upgrade x", formatted_body: Some(&html) });
    }
}

#[test]
fn pings_are_read() {
    let hours = |hours: &[u64]| {
        let hours = hours.iter().map(|hours| Duration::from_hours(*hours));
        hours.collect::<Vec<_>>()
    };
    let job = JobRef::Id(JobId(7));
    for (body, expected) in [
        ("!upgrade ping 7", PingCommand::Show),
        ("!upgrade ping 7 now", PingCommand::Now),
        ("!upgrade ping #7 OFF", PingCommand::Off),
        ("!upgrade ping 7 1d", PingCommand::After(hours(&[24]))),
        (
            "!upgrade ping 7 3d,1d,1d",
            PingCommand::After(hours(&[24, 72])),
        ),
        (
            "!upgrade ping 7 1d, 3d 2h",
            PingCommand::After(hours(&[2, 24, 72])),
        ),
    ] {
        let need = if expected == PingCommand::Show {
            Need::Ask
        } else {
            Need::Change
        };
        let command = accepted(body);
        assert_eq!(command, Command::Ping(job.clone(), expected), "{body}");
        assert_eq!(command.needs(), need, "{body}");
    }
    assert_eq!(accepted("!upgrade stragglers 7"), Command::Stragglers(job));
    let options = |ping| UpgradeOptions {
        ping: Some(ping),
        ..UpgradeOptions::default()
    };
    for (word, ping) in [
        ("off", Pings::Off),
        ("1d,3d", Pings::After(hours(&[24, 72]))),
    ] {
        assert_eq!(
            accepted(&format!("!upgrade #a:b.org --ping {word}")),
            upgrade(options(ping), Confirmation::Ask)
        );
    }
}

#[test]
fn times_that_are_none_are_told_with_what_to_write() {
    let many: Vec<_> = (1..=21).map(|n| format!("{n}h")).collect();
    let many = many.join(",");
    let answers: Vec<_> = ["1x", "-3d", "999999d", "0s", "soon", ",", "1d,now", &many]
        .iter()
        .flat_map(|word| {
            [
                answer(&format!("!upgrade ping 7 {word}")),
                answer(&format!("!upgrade #a:b.org --ping {word}")),
            ]
        })
        .collect();
    insta::assert_snapshot!(answers.join("\n"), @r##"
    `1x` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help ping` to see how it is used.
    `1x` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help upgrade` to see how it is used.
    `-3d` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help ping` to see how it is used.
    `-3d` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help upgrade` to see how it is used.
    `999999d` is too short or too long. It can be from `1s` to `1year`. Type `!upgrade help ping` to see how it is used.
    `999999d` is too short or too long. It can be from `1s` to `1year`. Type `!upgrade help upgrade` to see how it is used.
    `0s` is too short or too long. It can be from `1s` to `1year`. Type `!upgrade help ping` to see how it is used.
    `0s` is too short or too long. It can be from `1s` to `1year`. Type `!upgrade help upgrade` to see how it is used.
    `soon` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help ping` to see how it is used.
    `soon` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help upgrade` to see how it is used.
    `,` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help ping` to see how it is used.
    `,` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help upgrade` to see how it is used.
    `now` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help ping` to see how it is used.
    `now` is not a length of time. Write for example `90m`, `2h` or `3d`. Type `!upgrade help upgrade` to see how it is used.
    You gave 21 times. At most 20 are possible. Type `!upgrade help ping` to see how it is used.
    You gave 21 times. At most 20 are possible. Type `!upgrade help upgrade` to see how it is used.
    "##);
}
