//! What is held back, and what a clock that was wrong has put off.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use super::super::*;

fn now() -> Timestamp {
    Timestamp::from_second(10_000).unwrap()
}

fn store(folder: &TempDir) -> Store {
    Store::open(&folder.path().join("db")).unwrap()
}

fn key(name: &str) -> PostKey {
    PostKey::Reply(format!("${name}").try_into().unwrap())
}

fn post() -> Outgoing {
    Outgoing {
        key: key("progress"),
        room_id: "!admin:x".try_into().unwrap(),
        post: Post::Redaction {
            of: Target::Post(key("plan")),
        },
    }
}

fn due_keys(store: &Store, now: Timestamp) -> Vec<String> {
    let due = store.due_posts(now, 10, &HashSet::new()).unwrap();
    let key = |post: Due| post.txn.split_once(".reply:$").unwrap().1.to_owned();
    due.into_iter().map(key).collect()
}

#[test]
fn what_is_held_waits_and_what_is_withdrawn_is_gone_unless_it_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let out = |name: &str| Outgoing {
        key: key(name),
        ..post()
    };
    let later = now() + SignedDuration::from_secs(2);
    let hold = |name: &str| Write::Hold {
        key: key(name),
        until: later,
    };
    let enqueue = ["a", "b", "c"].map(|name| Write::Enqueue(out(name)));
    store.commit(now(), &enqueue).unwrap();
    let due = store.due_posts(now(), 10, &HashSet::new()).unwrap();
    assert_eq!(store.post_tried(due[0].id).unwrap(), Wanted::Still);
    store.commit(now(), &["a", "b"].map(hold)).unwrap();
    assert_eq!(due_keys(&store, now()), ["a", "c"], "a was tried already");
    assert_eq!(due_keys(&store, later), ["a", "b", "c"]);
    let withdraw = ["a", "b"].map(|name| Write::Withdraw(key(name)));
    store.commit(now(), &withdraw).unwrap();
    assert_eq!(due_keys(&store, later), ["a", "c"]);
    // Whoever read it before, and comes to it now, leaves it.
    assert_eq!(store.post_tried(due[1].id).unwrap(), Wanted::NoMore);
}

#[test]
fn no_post_waits_for_a_clock_that_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    store.commit(now(), &[Write::Enqueue(post())]).unwrap();
    let before = |seconds| now() - SignedDuration::from_secs(seconds);
    assert!(
        due_keys(&store, before(300)).is_empty(),
        "it is not its time"
    );
    assert_eq!(due_keys(&store, before(3600)).len(), 1);
}
