//! What is over goes when it is old, all of it, and nothing else does.

use jiff::Timestamp;
use ruma::OwnedEventId;

use super::super::*;
use super::campaigns::{campaign, request, turn};
use crate::campaign;
use crate::job::{Entry, Output, Step, StepEvent};
use crate::model::{CampaignId, WorkId};

/// More batches than any of these databases needs.
const BATCHES_MAX: usize = 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn event(name: &str) -> OwnedEventId {
    format!("${name}").try_into().unwrap()
}

fn append(job: i64, entries: Vec<Entry>) -> Write {
    Write::Job(Append {
        id: JobId(job),
        expected: 0,
        entries,
    })
}

/// A job that a newer plan took the place of, with everything that was said and heard about it.
pub(super) fn ended(store: &Store, name: &str, when: Timestamp) {
    let room = format!("!{name}:x");
    heard(store, name, when);
    let post = |key: String| {
        Write::Enqueue(Outgoing {
            key: key.parse().unwrap(),
            room_id: "!admin:x".try_into().unwrap(),
            post: Post::Redaction {
                of: Target::Event(event("x")),
            },
        })
    };
    let asked = request(&room, &format!("${name}"), None);
    store.commit(when, &[asked]).unwrap();
    let job = store
        .job_of_key(&format!("${name}").parse().unwrap())
        .unwrap()
        .unwrap();
    let writes = [
        append(job.id.0, vec![Entry::Superseded]),
        post(format!("plan:${name}:abc")),
        post(format!("lost:{room}:!admin:x:5")),
    ];
    store.commit(when, &writes).unwrap();
    settle(store, when);
}

/// A command that was handled.
fn heard(store: &Store, name: &str, when: Timestamp) {
    let received = Received {
        event_id: event(name),
        room_id: "!admin:x".try_into().unwrap(),
        sender: "@maria:x".try_into().unwrap(),
        sent_at: when,
        kind: ReceivedKind::Edited,
    };
    store.receive(&[received], &[], &[]).unwrap();
    store.commit(when, &[Write::Handled(event(name))]).unwrap();
}

/// Everything that is to be sent was.
fn settle(store: &Store, when: Timestamp) {
    for post in store.due_posts(when, 100, &[].into()).unwrap() {
        if post.room_id == "!admin:x" {
            let sent = Sent::Posted(event(&format!("sent{}", post.id)));
            store.post_sent(when, post.id, 0, &sent).unwrap();
        }
    }
}

/// A campaign with so many jobs, all of which ended.
pub(super) fn ended_campaign(store: &Store, first: i64, rooms: i64, when: Timestamp) {
    let superseded = Write::Campaign(Append {
        id: CampaignId(1),
        expected: 0,
        entries: vec![campaign::Entry::Superseded],
    });
    let jobs = (0..rooms).flat_map(|number| {
        let of_campaign = request(&format!("!room{number}:x"), "$space", Some(turn(0)));
        [of_campaign, append(first + number, vec![Entry::Superseded])]
    });
    let writes: Vec<_> = [campaign()]
        .into_iter()
        .chain(jobs)
        .chain([superseded])
        .collect();
    store.commit(when, &writes).unwrap();
    let woken = store.campaign_woken(CampaignId(1)).unwrap();
    store.campaign_rests(CampaignId(1), woken, None).unwrap();
}

/// Whole rounds; says in how many batches.
pub(super) fn prune(store: &Store, now: Timestamp, before: Timestamp) -> usize {
    let mut round = Round::default();
    for batch in 1..BATCHES_MAX {
        store.prune(now, before, &mut round).unwrap();
        if round.is_over() {
            return batch;
        }
    }
    panic!("it does not end");
}

/// Rows of each table that holds work, and what was said and heard.
fn rows(store: &Store) -> Vec<(&'static str, i64)> {
    let db = store.db.lock().unwrap();
    let tables = [
        "job",
        "job_log",
        "snapshot",
        "campaign",
        "campaign_log",
        "outbox",
        "inbox",
    ];
    let count = |table: &&'static str| {
        let sql = format!("SELECT count(*) FROM {table}");
        let count = db.query_row(&sql, [], |row| row.get(0)).unwrap();
        (*table, count)
    };
    tables.iter().map(count).collect()
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("db")).unwrap()
}

fn admin() -> OwnedRoomId {
    "!admin:x".try_into().unwrap()
}

#[test]
fn what_ended_long_ago_is_removed_with_all_that_was_said_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    ended(&store, "old", at(10));
    ended(&store, "young", at(100));
    prune(&store, at(1000), at(50));
    let one_job = [
        ("job", 1),
        ("job_log", 1),
        ("snapshot", 0),
        ("campaign", 0),
        ("campaign_log", 0),
        ("outbox", 2),
        ("inbox", 1),
    ];
    assert_eq!(rows(&store), one_job);
    assert!(store.job(JobId(1)).unwrap().is_none());
    assert!(store.job(JobId(2)).unwrap().is_some());
    assert!(
        store
            .is_enqueued(&"plan:$young:abc".parse().unwrap())
            .unwrap()
    );
    let pruned = |id| store.pruned(WorkId::Job(JobId(id)), &admin()).unwrap();
    assert_eq!((pruned(1), pruned(2)), (Some(at(1000)), None));
    assert_eq!(store.last_pruned(&admin()).unwrap(), Some(at(1000)));
    let counts = store.counts().unwrap();
    assert_eq!(counts.jobs, [("expired".to_owned(), 1)]);
    // Numbers are never given twice.
    store
        .commit(at(1000), &[request("!new:x", "$new", None)])
        .unwrap();
    assert!(store.job(JobId(3)).unwrap().is_some());
}

/// It may come again when a room is read back, and was handled.
#[test]
fn a_command_that_was_removed_is_not_accepted_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    ended(&store, "old", at(10));
    prune(&store, at(1000), at(50));
    let mut old = Received {
        event_id: event("old"),
        room_id: admin(),
        sender: "@maria:x".try_into().unwrap(),
        sent_at: at(10),
        kind: ReceivedKind::Edited,
    };
    store.receive(std::slice::from_ref(&old), &[], &[]).unwrap();
    assert_eq!(store.received(Lane::Commands, 9).unwrap(), []);
    // What was sent since is heard, however late it comes.
    old.sent_at = at(11);
    store.receive(std::slice::from_ref(&old), &[], &[]).unwrap();
    assert_eq!(store.received(Lane::Commands, 9).unwrap(), [old]);
    // A room was closed then: each start tells of it.
    let closed = Received {
        event_id: event("closed"),
        room_id: admin(),
        sender: "@maria:x".try_into().unwrap(),
        sent_at: at(1),
        kind: ReceivedKind::Tombstone { replacement: None },
    };
    store
        .receive(std::slice::from_ref(&closed), &[], &[])
        .unwrap();
    assert_eq!(store.received(Lane::Commands, 9).unwrap().len(), 2);
    store
        .commit(at(12), &[Write::Handled(event("closed"))])
        .unwrap();
    prune(&store, at(1000), at(50));
    store.receive(&[closed], &[], &[]).unwrap();
    assert_eq!(store.received(Lane::Commands, 9).unwrap().len(), 1);
}

#[test]
fn what_may_still_be_asked_for_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let made = |room: &str, name: &str| request(&format!("!{room}:x"), &format!("${name}"), None);
    let event = |event| Entry::Step {
        step: Step::Create,
        event,
    };
    let plan: job::Plan = serde_json::from_value(serde_json::json!({
        "old_room": "!old:x", "label": "Garden", "from": "10", "successor": null, "findings": [],
        "intent": {
            "version": "12", "method": "staged", "review": "skip", "bot": "@bot:x", "creators": [],
            "join_rule": "restricted", "invite": "auto", "bots": [], "old_child_link": "remove",
            "tombstone_level": 150, "reason": null,
        },
        "counts": {
            "members": 4, "servers": 1, "bans": 2, "state": 12, "aliases": 2, "pins": 0, "spaces": 1,
        },
        "requests": 28, "seconds": 3, "hash": "abc", "expires_at": "2026-11-25T23:56:55Z",
    }))
    .unwrap();
    let by = || "@maria:x".try_into().unwrap();
    let snapshot = |event| Entry::Step {
        step: Step::Snapshot,
        event,
    };
    let working = vec![
        Entry::Planned {
            plan: Box::new(plan),
        },
        Entry::Confirmed {
            by: by(),
            hash: "abc".to_owned(),
            event: None,
        },
        snapshot(StepEvent::Started),
        snapshot(StepEvent::Succeeded {
            output: Output::Stored,
        }),
        event(StepEvent::Started),
        event(StepEvent::Called { at: at(9) }),
    ];
    let given_up = [
        Entry::Cancelled { by: by() },
        event(StepEvent::Started),
        event(StepEvent::Undone),
    ];
    let doubtful = working.iter().chain(&given_up).cloned().collect();
    let writes = [
        made("new", "planning"),
        made("busy", "working"),
        append(2, working),
        made("odd", "doubtful"),
        append(3, doubtful),
        // What it led to must be known to the next upgrade of that room.
        made("odd", "again"),
        append(4, vec![Entry::Superseded]),
        made("followed", "followed"),
        append(5, vec![Entry::Superseded]),
        Write::Follow {
            job: JobId(5),
            old_room: "!followed:x".try_into().unwrap(),
            new_room: "!new:x".try_into().unwrap(),
            members: vec![],
        },
        made("plain", "plain"),
        append(6, vec![Entry::Superseded]),
    ];
    store.commit(at(10), &writes).unwrap();
    heard(&store, "planning", at(10));
    let keys = [
        "plan:$planning:abc",
        "progress:$doubtful",
        "yes:plan:$plain:abc",
    ];
    let said = keys.map(|key| {
        Write::Enqueue(Outgoing {
            key: key.parse().unwrap(),
            room_id: admin(),
            post: Post::Redaction {
                of: Target::Event("$x".try_into().unwrap()),
            },
        })
    });
    store.commit(at(10), &said).unwrap();
    settle(&store, at(10));
    prune(&store, at(1000), at(50));
    // Revised, they would be posted again.
    let is_kept = keys.map(|key| store.is_enqueued(&key.parse().unwrap()).unwrap());
    assert_eq!(is_kept, [true, true, false]);
    assert_eq!(rows(&store).last(), Some(&("inbox", 1)));
    let left = store.jobs(&admin(), Filter::All, 100).unwrap();
    let left: Vec<_> = left.iter().map(|job| job.id.0).collect();
    assert_eq!(left, [5, 4, 3, 2, 1]);
    store
        .commit(at(1000), &[Write::Unfollow(JobId(5))])
        .unwrap();
    prune(&store, at(1000), at(50));
    assert!(store.job(JobId(5)).unwrap().is_none());
}

#[test]
fn a_campaign_goes_with_all_its_jobs_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    ended_campaign(&store, 1, 45, at(10));
    // One of its jobs is looked at once more: the campaign stays whole.
    store.clock_turned_back(JobId(7), at(60)).unwrap();
    prune(&store, at(1000), at(50));
    assert_eq!(store.children(CampaignId(1)).unwrap().len(), 45);
    // A kill after the first batch leaves the rest, which goes with the next round.
    store.clock_turned_back(JobId(7), at(10)).unwrap();
    store
        .prune(at(1000), at(50), &mut Round::default())
        .unwrap();
    assert_eq!(store.children(CampaignId(1)).unwrap().len(), 25);
    assert!(store.campaign(CampaignId(1)).unwrap().is_some());
    assert!(prune(&store, at(1001), at(50)) > 2);
    assert_eq!(
        rows(&store),
        [
            ("job", 0),
            ("job_log", 0),
            ("snapshot", 0),
            ("campaign", 0),
            ("campaign_log", 0),
            ("outbox", 0),
            ("inbox", 0),
        ]
    );
    let campaign = WorkId::Campaign(CampaignId(1));
    assert_eq!(store.pruned(campaign, &admin()).unwrap(), Some(at(1001)));
    let elsewhere: OwnedRoomId = "!elsewhere:x".try_into().unwrap();
    assert_eq!(store.pruned(campaign, &elsewhere).unwrap(), None);
    // The room moves, and what is said of it moves along.
    let moves = Write::MoveAdminRoom {
        from: admin(),
        to: elsewhere.clone(),
    };
    store.commit(at(1002), &[moves]).unwrap();
    assert_eq!(store.pruned(campaign, &elsewhere).unwrap(), Some(at(1001)));
}
