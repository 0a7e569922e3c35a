//! P1 and P3 as far as the database carries them: accepted once, posted once, never guessed.

use std::collections::HashSet;

use jiff::Timestamp;
use ruma::RoomId;

use super::*;
use crate::model::TakenBack;
use crate::model::WorkKey;

fn now() -> Timestamp {
    Timestamp::from_second(1000).unwrap()
}

fn event() -> Received {
    Received {
        event_id: "$command".try_into().unwrap(),
        room_id: "!admin:x".try_into().unwrap(),
        sender: "@maria:x".try_into().unwrap(),
        sent_at: now(),
        kind: ReceivedKind::Message {
            body: "!upgrade help".to_owned(),
            formatted_body: None,
            device: crate::model::Device::Unknown,
            thread: None,
        },
    }
}

#[test]
fn an_event_that_is_delivered_again_is_handled_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = Store::open(&path).unwrap();
    store.receive(&[event(), event()], &[], &[]).unwrap();
    assert_eq!(
        store.received(Lane::Commands, 1).unwrap().pop(),
        Some(event())
    );
    store
        .commit(now(), &[Write::Handled(event().event_id)])
        .unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    store.receive(&[event()], &[], &[]).unwrap();
    assert_eq!(store.received(Lane::Commands, 1).unwrap().pop(), None);
}

#[test]
fn what_was_withdrawn_before_it_was_handled_counts_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    let edited = |by: &str| Withdrawal {
        event: event().event_id,
        by: by.try_into().unwrap(),
        how: TakenBack::Edited,
    };
    let removed = Withdrawal {
        event: event().event_id,
        by: "@eve:x".try_into().unwrap(),
        how: TakenBack::Removed,
    };
    let kind = || {
        let next = store.received(Lane::Commands, 1).unwrap().pop();
        next.map(|received| received.kind)
    };
    let counts = [Write::Counts(event().event_id)];
    store.receive(&[event()], &[edited("@eve:x")], &[]).unwrap();
    assert_eq!(kind(), Some(event().kind), "only its sender can edit it");
    store.commit(now(), &counts).unwrap();
    // Also where the same answer tells both, in whatever order.
    store
        .receive(&[event()], &[edited("@maria:x")], &[])
        .unwrap();
    assert_eq!(kind(), Some(ReceivedKind::Edited));
    let refused = store.commit(now(), &counts);
    assert!(matches!(refused, Err(StoreError::Withdrawn)));
    store
        .receive(&[], std::slice::from_ref(&removed), &[])
        .unwrap();
    assert_eq!(kind(), Some(ReceivedKind::Removed));
    let handled = Write::Handled(event().event_id);
    store.commit(now(), &[handled]).unwrap();
    store.receive(&[event()], &[removed], &[]).unwrap();
    assert_eq!(kind(), None);
}

#[test]
fn a_post_is_stored_once_per_key_and_revised_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    let out = |words: &str| Outgoing {
        key: PostKey::Progress(WorkKey {
            command: "$command".try_into().unwrap(),
            room: None,
        }),
        room_id: "!admin:x".try_into().unwrap(),
        post: Post::Message {
            text: crate::model::Text {
                plain: words.to_owned(),
                html: words.to_owned(),
            },
            reply_to: None,
        },
    };
    store
        .commit(
            now(),
            &[Write::Enqueue(out("one")), Write::Enqueue(out("two"))],
        )
        .unwrap();
    let due = store.due_posts(now(), 10, &HashSet::new()).unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].revision, &due[0].post), (0, &out("one").post));
    store
        .commit(
            now(),
            &[Write::Revise(out("one")), Write::Revise(out("three"))],
        )
        .unwrap();
    let revised = store.due_posts(now(), 10, &HashSet::new()).unwrap();
    assert_eq!(revised.len(), 1);
    assert_eq!(
        (revised[0].revision, &revised[0].post),
        (1, &out("three").post)
    );
    assert_eq!(revised[0].txn, due[0].txn, "the transaction id stays");
}

/// A year of reports and pictures does not stay in the database.
#[test]
fn a_file_that_is_in_its_room_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = Store::open(&path).unwrap();
    let file = Outgoing {
        key: PostKey::Reply("$file".try_into().unwrap()),
        room_id: "!admin:x".try_into().unwrap(),
        post: Post::File {
            name: "report.txt".to_owned(),
            content_type: "text/plain".to_owned(),
            body: "x".repeat(10_000),
            reply_to: None,
        },
    };
    store.commit(now(), &[Write::Enqueue(file)]).unwrap();
    let due = store.due_posts(now(), 10, &HashSet::new()).unwrap();
    let sent = Sent::Posted("$posted".try_into().unwrap());
    store
        .post_sent(now(), due[0].id, due[0].revision, &sent)
        .unwrap();
    assert_eq!(store.due_posts(now(), 10, &HashSet::new()).unwrap(), []);
    drop(store);
    let db = Connection::open(&path).unwrap();
    let bytes: usize = db
        .query_row("SELECT length(post) FROM outbox", [], |row| row.get(0))
        .unwrap();
    assert!(bytes < 200, "{bytes}");
}

#[test]
fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(Store::open(&path).unwrap());
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    assert!(matches!(Store::open(&path), Err(StoreError::Newer { .. })));
    let version: i64 = Connection::open(&path)
        .unwrap()
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, 99);
}

/// Rows in every table of the first version, as the bot wrote them: a job that is done, with its log,
/// its snapshot and what was said; and one whose plan waits for a yes.
const ROWS: &str = include_str!("tests/rows.sql");

/// A database of some version, with data in it.
fn database_of(version: usize, path: &Path) {
    let mut db = Connection::open(path).unwrap();
    MIGRATIONS.to_version(&mut db, 1).unwrap();
    db.execute_batch(ROWS).unwrap();
    MIGRATIONS.to_version(&mut db, version).unwrap();
    if version >= 4 {
        db.execute_batch(
            "INSERT INTO campaign (command_event, admin_room, space, request, state, created_at)
             VALUES ('$space', '!admin:x', '!space:x', '{}', 'done', 0);",
        )
        .unwrap();
    }
    if version >= 3 {
        db.execute_batch("INSERT INTO admin_room_moved VALUES ('!before:x', '!admin:x');")
            .unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn version_of(path: &Path) -> usize {
    backup::version(&Connection::open(path).unwrap()).unwrap()
}

#[test]
fn every_version_is_migrated_with_its_data_and_a_copy() {
    for version in 1..=SCHEMA_VERSION {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        database_of(version, &path);
        let store = Store::open(&path).unwrap();
        assert_eq!(version_of(&path), SCHEMA_VERSION, "from {version}");

        let done = store.job(JobId(1)).unwrap().unwrap();
        assert_eq!(done.state().unwrap().phase.name(), "done", "from {version}");
        assert!(store.snapshot(JobId(1)).unwrap().is_some());
        let waiting = store.job(JobId(2)).unwrap().unwrap();
        assert_eq!(waiting.state().unwrap().phase.name(), "planned");
        assert!(store.next_work_due(Timestamp::MIN).unwrap().is_some());
        let posted = PostKey::Progress(done.request.key());
        let known = store.posted_event(&posted).unwrap();
        assert!(known.is_some(), "{posted} from {version}");
        assert!(store.marker(&done.asked_in).unwrap().is_some());
        let moved = store.admin_room_now(<&RoomId>::try_from("!before:x").unwrap());
        assert_eq!(moved.unwrap() == "!admin:x", version >= 3);
        let counts = store.counts().unwrap();
        let one_each = [("done".to_owned(), 1), ("planned".to_owned(), 1)];
        assert_eq!(counts.jobs, one_each, "from {version}");

        let copy = folder.path().join("db.before-migration");
        if version == SCHEMA_VERSION {
            assert!(!copy.exists(), "nothing was migrated");
            continue;
        }
        assert_eq!((version_of(&copy), mode(&copy)), (version, 0o600));
        drop(store);
        // It can be put back, by this program.
        restore(&copy, &path).unwrap();
        assert_eq!(version_of(&path), version);
        assert!(Store::open(&path).unwrap().job(JobId(1)).unwrap().is_some());
    }
}

/// A database that is put back is that one, whatever SQLite's log beside the other held.
#[test]
fn what_is_restored_is_the_copy_and_what_was_there_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let copy = folder.path().join("copy");
    let store = Store::open(&path).unwrap();
    store.receive(&[event()], &[], &[]).unwrap();
    backup(&path, &copy).unwrap();
    assert_eq!(mode(&copy), 0o600);
    store
        .commit(now(), &[Write::Handled(event().event_id)])
        .unwrap();
    // A kill: the log stays beside the database, with the last commit in it alone.
    let log = beside(&path, "-wal");
    let (left, kept_log) = (folder.path().join("left"), folder.path().join("left-wal"));
    std::fs::copy(&path, &left).unwrap();
    std::fs::copy(&log, &kept_log).unwrap();
    drop(store);
    std::fs::rename(&left, &path).unwrap();
    std::fs::rename(&kept_log, &log).unwrap();

    let kept = restore(&copy, &path).unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(
        store.received(Lane::Commands, 1).unwrap().pop(),
        Some(event())
    );
    let before = Store::open(&kept).unwrap();
    assert_eq!(before.received(Lane::Commands, 1).unwrap().pop(), None);
}

#[test]
fn only_whole_databases_of_the_bot_are_copied_or_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let other = folder.path().join("other");
    let to = folder.path().join("to");
    assert!(matches!(backup(&path, &to), Err(StoreError::Open { .. })));
    assert!(!path.exists() && !to.exists());
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE job (id); PRAGMA user_version = 1;")
        .unwrap();
    assert!(matches!(
        backup(&other, &to),
        Err(StoreError::NotOurs { .. })
    ));
    assert!(!to.exists());

    let store = Store::open(&path).unwrap();
    backup(&path, &to).unwrap();
    assert!(matches!(backup(&path, &to), Err(StoreError::Copy { .. })));
    drop(store);
    let set_version = |version: usize| {
        let db = Connection::open(&to).unwrap();
        db.pragma_update(None, "user_version", version).unwrap();
    };
    set_version(SCHEMA_VERSION + 1);
    assert!(matches!(restore(&to, &path), Err(StoreError::Newer { .. })));
    set_version(SCHEMA_VERSION);
    // A page that lost its content.
    let mut bytes = std::fs::read(&to).unwrap();
    let end = bytes.len();
    bytes[end - 4096..].fill(0xff);
    std::fs::write(&to, bytes).unwrap();
    let refused = restore(&to, &path);
    assert!(
        matches!(
            refused,
            Err(StoreError::Damaged { .. } | StoreError::Sql { .. })
        ),
        "{refused:?}"
    );
    assert!(
        Store::open(&path)
            .unwrap()
            .received(Lane::Commands, 1)
            .unwrap()
            .is_empty()
    );
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

mod campaigns;
mod growth;
mod outbox;
mod records;
