//! P1 and P3 as far as the database carries them: accepted once, posted once, never guessed.

use jiff::Timestamp;

use super::*;

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
        },
    }
}

#[test]
fn an_event_that_is_delivered_again_is_handled_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let store = Store::open(&path).unwrap();
    store.receive(&[event(), event()], &[]).unwrap();
    assert_eq!(store.next_received().unwrap(), Some(event()));
    store
        .commit(now(), &[Write::Handled(event().event_id)])
        .unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    store.receive(&[event()], &[]).unwrap();
    assert_eq!(store.next_received().unwrap(), None);
}

#[test]
fn a_post_is_stored_once_per_key_and_revised_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    let out = |words: &str| Outgoing {
        key: "progress:$command".to_owned(),
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
    let due = store.due_posts(now(), 10).unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].revision, &due[0].post), (0, &out("one").post));
    store
        .commit(
            now(),
            &[Write::Revise(out("one")), Write::Revise(out("three"))],
        )
        .unwrap();
    let revised = store.due_posts(now(), 10).unwrap();
    assert_eq!(revised.len(), 1);
    assert_eq!(
        (revised[0].revision, &revised[0].post),
        (1, &out("three").post)
    );
    assert_eq!(revised[0].txn, due[0].txn, "the transaction id stays");
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
