//! The list of members stays right whatever sync leaves out, and in whatever order news come in.

use ruma::events::room::member::MembershipState;

use super::*;
use crate::job::Request;
use crate::model::{Confirmation, RoomName, RoomRef, UpgradeOptions};
use crate::room::moves::Presence;
use crate::store::Write;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn old() -> OwnedRoomId {
    "!old:x".try_into().unwrap()
}

fn new() -> OwnedRoomId {
    "!new:x".try_into().unwrap()
}

fn event(user: &str, membership: MembershipState) -> MemberEvent {
    MemberEvent {
        user: user.try_into().unwrap(),
        sender: user.try_into().unwrap(),
        membership,
        before: None,
        at: at(5),
    }
}

fn request() -> Request {
    Request {
        named: RoomRef {
            name: RoomName::Id(old()),
            via: vec![],
        },
        old_room: old(),
        options: UpgradeOptions::default(),
        confirmation: Confirmation::Given,
        sender: "@mod:x".try_into().unwrap(),
        admin_room: "!admin:x".try_into().unwrap(),
        command_event: "$command".try_into().unwrap(),
        campaign: None,
    }
}

/// A store with a job whose rooms are followed, and `@seed:x` in the old room.
fn store() -> (tempfile::TempDir, Store, JobId) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    store
        .commit(at(1), &[Write::CreateJob(Box::new(request()))])
        .unwrap();
    let follow = Write::Follow {
        job: JobId(1),
        old_room: old(),
        new_room: new(),
        members: vec!["@seed:x".try_into().unwrap()],
    };
    store.commit(at(2), &[follow.clone(), follow]).unwrap();
    (folder, store, JobId(1))
}

fn presence(store: &Store, room: &RoomId, user: &str) -> Option<Presence> {
    let user: OwnedUserId = user.try_into().unwrap();
    store
        .seats(room)
        .unwrap()
        .get(&user)
        .map(|seat| seat.presence)
}

#[test]
fn what_sync_told_while_a_list_was_read_is_newer_than_the_list() {
    let (_folder, store, _) = store();
    let unread = store.unread_members(&new()).unwrap().expect("never read");
    let left = (new(), event("@a:x", MembershipState::Leave));
    store
        .note_members(at(9), &[left], &BTreeSet::new())
        .unwrap();
    let list = [
        event("@a:x", MembershipState::Join),
        event("@b:x", MembershipState::Join),
    ];
    store.put_members(at(9), &new(), unread, &list).unwrap();
    assert_eq!(presence(&store, &new(), "@a:x"), Some(Presence::Left));
    assert_eq!(presence(&store, &new(), "@b:x"), Some(Presence::Joined));
    assert_eq!(store.unread_members(&new()).unwrap(), None);
}

#[test]
fn a_gap_while_a_list_is_read_asks_for_another_reading() {
    let (_folder, store, _) = store();
    let unread = store.unread_members(&new()).unwrap().unwrap();
    store.note_members(at(9), &[], &[new()].into()).unwrap();
    store.put_members(at(9), &new(), unread, &[]).unwrap();
    let again = store.unread_members(&new()).unwrap().expect("a gap");
    store.put_members(at(9), &new(), again, &[]).unwrap();
    assert_eq!(store.unread_members(&new()).unwrap(), None);
    store.members_may_be_missing().unwrap();
    assert!(store.unread_members(&new()).unwrap().is_some());
}

#[test]
fn who_was_there_when_the_upgrade_began_is_remembered() {
    let (_folder, store, _) = store();
    let unread = store.unread_members(&old()).unwrap().unwrap();
    let list = [event("@seed:x", MembershipState::Leave)];
    store.put_members(at(9), &old(), unread, &list).unwrap();
    let seats = store.seats(&old()).unwrap();
    let seat = seats.values().next().unwrap();
    assert_eq!(seat.presence, Presence::Left);
    assert_eq!(seat.joined_at, Some(at(2)));
}

#[test]
fn only_news_of_followed_rooms_call_for_a_look() {
    let (_folder, store, job) = store();
    assert_eq!(store.restless_jobs().unwrap(), [job], "never looked at");
    store.look_at_members(job).unwrap();
    assert_eq!(store.restless_jobs().unwrap(), []);
    let elsewhere = (
        "!other:x".try_into().unwrap(),
        event("@a:x", MembershipState::Join),
    );
    store
        .note_members(at(9), &[elsewhere], &BTreeSet::new())
        .unwrap();
    assert_eq!(store.restless_jobs().unwrap(), []);
    let here = (new(), event("@a:x", MembershipState::Join));
    store
        .note_members(at(9), &[here], &BTreeSet::new())
        .unwrap();
    assert_eq!(store.restless_jobs().unwrap(), [job]);
}

#[test]
fn nothing_is_kept_of_rooms_that_nobody_follows_any_more() {
    let (_folder, store, job) = store();
    let followed = || store.followed_of([new(), old()].iter()).unwrap();
    assert_eq!(followed(), [new(), old()].into());
    store.commit(at(3), &[Write::Unfollow(job)]).unwrap();
    assert!(!store.is_followed(job).unwrap());
    assert_eq!(followed(), BTreeSet::new());
    assert_eq!(store.seats(&old()).unwrap(), Seats::new());
}

/// A database of the version before, with a job in it, goes on with that job.
#[test]
fn an_older_database_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut db = Connection::open(&path).unwrap();
    let before = crate::store::MIGRATION_STEPS.len() - 1;
    rusqlite_migration::Migrations::from_slice(crate::store::MIGRATION_STEPS)
        .to_version(&mut db, before)
        .unwrap();
    db.execute(
        "INSERT INTO job (command_event, admin_room, old_room, request, state, due_at, created_at)
         VALUES ('$command', '!admin:x', '!old:x', ?1, 'done', NULL, 1)",
        [serde_json::to_string(&request()).unwrap()],
    )
    .unwrap();
    drop(db);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.job(JobId(1)).unwrap().unwrap().request, request());
    assert!(!store.is_followed(JobId(1)).unwrap());
    assert_eq!(store.restless_jobs().unwrap(), []);
}
