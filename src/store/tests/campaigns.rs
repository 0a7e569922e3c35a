//! What the database owes campaigns: no reason to look gets lost, and a clock that was set back keeps
//! nobody waiting.

use jiff::Timestamp;
use ruma::OwnedRoomId;

use super::super::*;
use crate::campaign;
use crate::job::{Consent, Entry, Request, StepEvent, Turn, WaitReason};
use crate::model::{CampaignId, Confirmation, RoomName, RoomRef, UpgradeOptions};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn named(room: &OwnedRoomId) -> RoomRef {
    RoomRef {
        name: RoomName::Id(room.clone()),
        via: Vec::new(),
    }
}

pub(super) fn request(room: &str, command: &str, turn: Option<Turn>) -> Write {
    let old_room: OwnedRoomId = room.try_into().unwrap();
    Write::CreateJob(Box::new(Request {
        named: named(&old_room),
        old_room,
        options: UpgradeOptions::default(),
        confirmation: Confirmation::Ask,
        sender: "@maria:x".try_into().unwrap(),
        admin_room: "!admin:x".try_into().unwrap(),
        command_event: command.try_into().unwrap(),
        campaign: turn,
    }))
}

pub(super) fn campaign() -> Write {
    let space: OwnedRoomId = "!space:x".try_into().unwrap();
    Write::CreateCampaign(Box::new(campaign::Request {
        named: named(&space),
        space,
        options: UpgradeOptions::default(),
        narrow: campaign::Narrow::default(),
        confirmation: Confirmation::Ask,
        sender: "@maria:x".try_into().unwrap(),
        admin_room: "!admin:x".try_into().unwrap(),
        command_event: "$space".try_into().unwrap(),
    }))
}

pub(super) fn turn(rank: u32) -> Turn {
    Turn {
        campaign: CampaignId(1),
        rank,
        consent: Consent::Campaign,
    }
}

pub(super) fn wait() -> Entry {
    Entry::Step {
        step: job::Step::Plan,
        event: StepEvent::Waiting {
            until: at(5000),
            reason: WaitReason::Unreachable,
            kept: job::log::Kept::default(),
            progress: None,
        },
    }
}

fn waits(job: i64, expected: usize) -> Write {
    Write::Job(Append {
        id: JobId(job),
        expected,
        entries: vec![wait()],
    })
}

#[test]
fn one_command_makes_a_job_for_each_room_and_another_try_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    let made = [
        campaign(),
        request("!space:x", "$space", Some(turn(1))),
        request("!a:x", "$space", Some(turn(0))),
        request("!b:x", "$space", Some(turn(0))),
    ];
    store.commit(at(1000), &made).unwrap();
    // Asked for twice, made once.
    store.commit(at(1000), &made).unwrap();
    let rooms = || -> Vec<_> {
        let children = store.children(CampaignId(1)).unwrap();
        children
            .iter()
            .map(|child| (child.old_room.to_string(), child.rank))
            .collect()
    };
    let of = |rooms: [(&str, u32); 3]| rooms.map(|(room, rank)| (room.to_owned(), rank));
    assert_eq!(rooms(), of([("!a:x", 0), ("!b:x", 0), ("!space:x", 1)]));
    let again = request("!a:x", "$again", Some(turn(0)));
    store.commit(at(1001), &[again]).unwrap();
    // The newest, and so behind the other one.
    assert_eq!(rooms(), of([("!b:x", 0), ("!a:x", 0), ("!space:x", 1)]));
    // They are listed with their campaign only, and no other plan takes their place.
    let room: OwnedRoomId = "!admin:x".try_into().unwrap();
    assert!(store.jobs(&room, Filter::All, 10).unwrap().is_empty());
    let room: OwnedRoomId = "!b:x".try_into().unwrap();
    assert!(store.open_plans(&room).unwrap().is_empty());
}

#[test]
fn a_reason_to_look_that_comes_during_a_look_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    let made = [campaign(), request("!a:x", "$space", Some(turn(0)))];
    store.commit(at(1000), &made).unwrap();
    let id = CampaignId(1);
    let due = |second| -> Vec<_> {
        let due = store.due_work(at(second)).unwrap().into_iter();
        due.filter(|due| *due == id.into()).collect()
    };
    let seen = store.campaign_woken(id).unwrap();
    store.campaign_rests(id, seen, None).unwrap();
    assert_eq!(due(2000), []);
    let seen = store.campaign_woken(id).unwrap();
    store.commit(at(1001), &[waits(1, 0)]).unwrap();
    assert_eq!(due(2000), [id.into()], "its job has to wait");
    store.campaign_rests(id, seen, None).unwrap();
    assert_eq!(due(2000), [id.into()], "not overlooked");
    let seen = store.campaign_woken(id).unwrap();
    store.campaign_rests(id, seen, Some(at(1500))).unwrap();
    assert_eq!(due(1499), []);
    assert_eq!(due(2000), [id.into()]);
}

#[test]
fn a_clock_that_was_set_back_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    store
        .commit(at(1000), &[request("!a:x", "$a", None)])
        .unwrap();
    store.commit(at(1000), &[waits(1, 0)]).unwrap();
    let due = |second| store.due_work(at(second)).unwrap();
    assert_eq!(due(1001), [], "it waits until 5000");
    assert_eq!(due(5000), [JobId(1).into()]);
    assert_eq!(
        due(900),
        [JobId(1).into()],
        "nobody knows how long it waited"
    );
    store.clock_turned_back(JobId(1), at(900)).unwrap();
    assert_eq!(due(900), [], "it was looked at");
}
