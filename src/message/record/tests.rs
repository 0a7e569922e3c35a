//! A record of a job that met everything, and one that is too long.

use std::collections::BTreeSet;

use ruma::{owned_event_id, owned_room_id, owned_user_id};
use serde_json::json;

use super::*;
use crate::job::log::Again;
use crate::job::{Asks, Counts, Plan, Request, Step};
use crate::model::{Bucket, Confirmation, JobId, RoomName, RoomRef, UpgradeOptions};
use crate::room::change::Change;
use crate::room::intent::tests::intent;
use crate::room::state::tests::room;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn plan() -> Plan {
    Plan {
        old_room: owned_room_id!("!old:x"),
        label: "Lounge".to_owned(),
        from: Some("10".try_into().unwrap()),
        successor: None,
        intent: intent("12"),
        findings: vec![],
        counts: Counts::default(),
        requests: 20,
        seconds: 2,
        limited_seconds: 0,
        hash: "abc".to_owned(),
        expires_at: at(1000),
        asks: Asks::Itself,
        schedule: None,
    }
}

fn step(step: Step, event: StepEvent) -> Entry {
    Entry::Step { step, event }
}

fn job(entries: Vec<Entry>) -> Job {
    let log = entries.into_iter().enumerate();
    Job {
        id: JobId(7),
        asked_in: owned_room_id!("!admin:x"),
        request: Request {
            named: RoomRef {
                name: RoomName::Id(owned_room_id!("!old:x")),
                via: vec![],
            },
            old_room: owned_room_id!("!old:x"),
            options: UpgradeOptions {
                reason: Some("Rules\n2026-01-01 00:00:00  switch  forged".to_owned()),
                ..UpgradeOptions::default()
            },
            confirmation: Confirmation::Ask,
            sender: owned_user_id!("@maria:x"),
            admin_room: owned_room_id!("!admin:x"),
            command_event: owned_event_id!("$command"),
            campaign: None,
        },
        created_at: at(0),
        log: log
            .map(|(index, entry)| (at(i64::try_from(index).unwrap()), entry))
            .collect(),
    }
}

fn eventful() -> Job {
    let refusal = Refusal {
        change: Change::Lock {
            content: crate::room::state::content(json!({ "events_default": 100 })),
        },
        code: "M_FORBIDDEN".to_owned(),
        message: "no\npower".to_owned(),
    };
    job(vec![
        Entry::Planned {
            plan: Box::new(plan()),
        },
        Entry::Confirmed {
            by: owned_user_id!("@maria:x"),
            hash: "abc".to_owned(),
            event: None,
        },
        step(Step::Snapshot, StepEvent::Started),
        step(
            Step::Snapshot,
            StepEvent::Succeeded {
                output: Output::Stored,
            },
        ),
        step(Step::Switch, StepEvent::Started),
        step(Step::Switch, StepEvent::Called { at: at(5) }),
        step(Step::Switch, StepEvent::Undone),
        step(
            Step::Switch,
            StepEvent::Waiting {
                until: at(60),
                reason: WaitReason::RateLimit {
                    bucket: Bucket::RoomCreation,
                },
                progress: None,
                kept: crate::job::log::Kept::default(),
            },
        ),
        step(Step::Switch, StepEvent::Started),
        step(
            Step::Switch,
            StepEvent::Succeeded {
                output: Output::Switched {
                    new_room: owned_room_id!("!new:x"),
                },
            },
        ),
        step(Step::Complete, StepEvent::Started),
        step(
            Step::Complete,
            StepEvent::Succeeded {
                output: Output::Closed {
                    made: 2,
                    refused: vec![refusal],
                },
            },
        ),
        step(Step::Pins, StepEvent::Started),
        step(
            Step::Pins,
            StepEvent::Failed {
                again: Again::MayHelp,
                problem: "Nothing works.".to_owned(),
            },
        ),
        Entry::Retried {
            by: owned_user_id!("@maria:x"),
        },
    ])
}

fn snapshot() -> Snapshot {
    let member = |membership: &str| json!({ "membership": membership });
    Snapshot {
        replaced: [].into(),
        room: room(
            "!old:x",
            &[
                (
                    "m.room.create",
                    "",
                    "@maria:x",
                    json!({ "room_version": "10" }),
                ),
                ("m.room.member", "@maria:x", "@maria:x", member("join")),
                ("m.room.member", "@bob:x", "@maria:x", member("ban")),
                (
                    "m.room.topic",
                    "",
                    "@maria:x",
                    json!({ "topic": "between us" }),
                ),
            ],
        ),
        aliases: BTreeSet::new(),
        listing: Listing::Private,
        referrers: vec![],
        known_successors: BTreeSet::new(),
    }
}

fn of(job: &Job) -> Record {
    let state = job.state().unwrap();
    record(job, &state, Some(&snapshot()), at(100)).unwrap()
}

#[test]
fn the_text_has_a_line_for_each_entry() {
    insta::assert_snapshot!(of(&eventful()).text, @r"
    Upgrade #7: running
    Old room: !old:x Lounge
    New room: !new:x
    Asked for by @maria:x at 2023-11-14 22:13:20
    Reason: Rules 2026-01-01 00:00:00  switch  forged
    Written at 2023-11-14 22:15:00. All times are in UTC.

    2023-11-14 22:13:20  -          planned from version 10 to 12, with 0 findings; plan abc
    2023-11-14 22:13:21  -          @maria:x said yes to the plan abc
    2023-11-14 22:13:22  snapshot   began: reading the old room
    2023-11-14 22:13:23  snapshot   done: the old room is stored
    2023-11-14 22:13:24  switch     began: pointing the old room to the new one
    2023-11-14 22:13:25  switch     is about to point the old room to the new one
    2023-11-14 22:13:26  switch     the rooms show that nothing was changed
    2023-11-14 22:13:27  switch     waits until 2023-11-14 22:14:20: the server limits creating rooms
    2023-11-14 22:13:28  switch     began: pointing the old room to the new one
    2023-11-14 22:13:29  switch     done: the new room is !new:x
    2023-11-14 22:13:30  complete   began: completing the new room
    2023-11-14 22:13:31  complete   done: 2 changes made; refused: M_FORBIDDEN no power
    2023-11-14 22:13:32  pins       began: posting the pinned messages again
    2023-11-14 22:13:33  pins       failed: Nothing works.
    2023-11-14 22:13:34  -          @maria:x asked for another try
    ");
}

#[test]
fn the_json_has_all_of_it() {
    let job = eventful();
    let json = of(&job).json;
    let file: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(file["new_room"], "!new:x");
    assert_eq!(file["phase"], "running");
    assert_eq!(file["request"], serde_json::to_value(&job.request).unwrap());
    assert_eq!(file["plan"], serde_json::to_value(plan()).unwrap());
    assert_eq!(file["left_out"], json!({ "parts": 0, "bytes": 0 }));
    let log: Vec<(Timestamp, Entry)> = file["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (
                serde_json::from_value(line["at"].clone()).unwrap(),
                serde_json::from_value(line["entry"].clone()).unwrap(),
            )
        })
        .collect();
    assert_eq!(log, job.log);
    insta::assert_snapshot!(serde_json::to_string_pretty(&file["snapshot"]).unwrap(), @r#"
    {
      "banned": 1,
      "invited": 0,
      "joined": 1,
      "listing": "private",
      "local_aliases": 0,
      "named_by": 0,
      "state_events": 4,
      "version": "10"
    }
    "#);
    assert!(!json.contains("between us"), "the stored room stays out");
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    let problem = "x".repeat(900);
    let waits = RECORD_BYTES_MAX / problem.len() + 10;
    let mut entries = vec![step(Step::Plan, StepEvent::Started)];
    entries.extend((0..waits).map(|index| {
        let reason = WaitReason::Problem {
            problem: format!("{index} {problem}"),
        };
        step(
            Step::Plan,
            StepEvent::Waiting {
                until: at(60),
                reason,
                progress: None,
                kept: crate::job::log::Kept::default(),
            },
        )
    }));
    let record = of(&job(entries));
    // Indentation and times come on top of the entries.
    assert!(record.json.len() < RECORD_BYTES_MAX * 3 / 2);
    assert!(record.text.len() <= RECORD_BYTES_MAX + LINE_CHARS_MAX);
    let file: Value = serde_json::from_str(&record.json).unwrap();
    let kept = file["log"].as_array().unwrap();
    let parts = usize::try_from(file["left_out"]["parts"].as_u64().unwrap()).unwrap();
    assert_eq!(kept.len() + parts, waits + 1);
    assert!(parts > 10);
    let newest = &kept.last().unwrap()["entry"]["event"]["reason"];
    assert!(
        newest.to_string().contains(&format!("{} x", waits - 1)),
        "{newest}"
    );
    assert!(record.text.contains("older entries are left out"));
    assert!(record.text.contains(&format!("{} x", waits - 1)));
    assert!(
        record
            .text
            .lines()
            .all(|line| line.chars().count() <= LINE_CHARS_MAX + 1)
    );
}
