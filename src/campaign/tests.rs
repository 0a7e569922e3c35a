//! The walk through spaces, and what a campaign does next: tables and properties.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde_json::json;

use super::log::{Action, Entry, confirmed};
use super::rooms::{Walk, Wanted, Why, walk};
use super::*;
use crate::job::{Asks, Phase as JobPhase, Summary, WaitReason};
use crate::model::Bucket;
use crate::room::state::{RoomState, StateEvent, content};
use crate::work::State as _;

fn id(name: &str) -> OwnedRoomId {
    format!("!{name}:x").try_into().unwrap()
}

fn event(kind: &str, key: &str, value: serde_json::Value) -> StateEvent {
    StateEvent {
        kind: kind.to_owned(),
        state_key: key.to_owned(),
        sender: "@maria:x".try_into().unwrap(),
        content: content(value),
        event_id: None,
        origin_server_ts: 0,
        replaces: None,
    }
}

/// A room, or with children a space.
fn room(name: &str, version: &str, children: &[&str]) -> RoomState {
    let mut create = json!({"room_version": version, "creator": "@maria:x"});
    if !children.is_empty() {
        create["type"] = json!("m.space");
    }
    let links = children
        .iter()
        .map(|child| event("m.space.child", id(child).as_str(), json!({"via": ["x"]})));
    let events = [event("m.room.create", "", create)]
        .into_iter()
        .chain(links);
    RoomState::new(id(name), events)
}

fn told(rooms: impl IntoIterator<Item = RoomState>) -> BTreeMap<OwnedRoomId, RoomState> {
    rooms
        .into_iter()
        .map(|room| (room.room_id.clone(), room))
        .collect()
}

fn walked(rooms: &BTreeMap<OwnedRoomId, RoomState>, root: &str, narrow: &Narrow) -> Walk {
    let version = "12".try_into().unwrap();
    let admin_rooms = BTreeSet::from([id("admin")]);
    walk(
        rooms,
        &id(root),
        Wanted {
            version: &version,
            narrow,
            admin_rooms: &admin_rooms,
            needs_power: None,
        },
    )
}

#[test]
fn rooms_go_first_and_spaces_from_the_leaves_up() {
    let rooms = told([
        room("top", "10", &["a", "mid", "top"]),
        room("mid", "10", &["b", "low", "top"]),
        room("low", "10", &["a", "c", "mid"]),
        room("a", "10", &[]),
        room("b", "10", &[]),
        room("c", "10", &[]),
    ]);
    let found = walked(&rooms, "top", &Narrow::default());
    let ranks: Vec<_> = found
        .members
        .iter()
        .map(|member| (member.room.as_str(), member.rank))
        .collect();
    assert_eq!(
        ranks,
        [
            ("!a:x", 0),
            ("!b:x", 0),
            ("!c:x", 0),
            ("!low:x", 1),
            ("!mid:x", 2),
            ("!top:x", 3),
        ]
    );
    assert!(found.left_out.is_empty());
}

#[test]
fn each_room_that_does_not_go_has_its_reason() {
    let mut gone = room("gone", "10", &[]);
    gone.put(
        ("m.room.tombstone".to_owned(), String::new()),
        "@maria:x".try_into().unwrap(),
        content(json!({"replacement_room": "!else:x"})),
    );
    let mut weak = room("weak", "10", &[]);
    weak.put(
        ("m.room.power_levels".to_owned(), String::new()),
        "@maria:x".try_into().unwrap(),
        content(json!({"events": {"m.room.tombstone": 100}})),
    );
    let rooms = told([
        room(
            "top",
            "12",
            &[
                "new", "newer", "gone", "away", "admin", "skipped", "weak", "fine",
            ],
        ),
        room("new", "12", &[]),
        room("newer", "13", &[]),
        gone,
        room("admin", "10", &[]),
        room("skipped", "10", &[]),
        weak,
        room("fine", "10", &[]),
    ]);
    let version = "12".try_into().unwrap();
    let narrow = Narrow {
        skip: BTreeSet::from([id("skipped")]),
        ..Narrow::default()
    };
    let moderator: OwnedUserId = "@ann:x".try_into().unwrap();
    let found = walk(
        &rooms,
        &id("top"),
        Wanted {
            version: &version,
            narrow: &narrow,
            admin_rooms: &BTreeSet::from([id("admin")]),
            needs_power: Some(&moderator),
        },
    );
    let why: BTreeMap<_, _> = found
        .left_out
        .iter()
        .map(|left| (left.room.as_str(), left.why.clone()))
        .collect();
    let newer = Why::IsNewer {
        version: "13".try_into().unwrap(),
    };
    assert_eq!(
        why,
        BTreeMap::from([
            ("!top:x", Why::HasVersion),
            ("!new:x", Why::HasVersion),
            ("!newer:x", newer),
            ("!gone:x", Why::Replaced),
            ("!away:x", Why::NotJoined),
            ("!admin:x", Why::AdminRoom),
            ("!skipped:x", Why::NotMeant),
            ("!weak:x", Why::NoTargetPower { needed: 100 }),
            ("!fine:x", Why::NoTargetPower { needed: 50 }),
        ])
    );
    assert_eq!(found.outside.len(), 1);
    assert_eq!(found.outside[0].via, ["x"]);
}

proptest! {
    /// However spaces are linked, each room comes once, and the walk ends.
    #[test]
    fn each_room_comes_once_whatever_contains_what(
        links in prop::collection::vec(prop::collection::vec(0..30_usize, 0..30), 1..30)
    ) {
        let names: Vec<_> = (0..links.len().max(30)).map(|index| format!("r{index}")).collect();
        let rooms = told(links.iter().enumerate().map(|(index, children)| {
            let children: Vec<_> = children.iter().map(|child| names[*child].as_str()).collect();
            room(&names[index], "10", &children)
        }));
        let found = walked(&rooms, "r0", &Narrow::default());
        let mut seen = BTreeSet::new();
        let left = found.left_out.iter().map(|left| &left.room);
        for room in found.members.iter().map(|member| &member.room).chain(left) {
            prop_assert!(seen.insert(room.clone()), "{room} twice");
        }
        for pair in found.members.windows(2) {
            prop_assert!(pair[0].rank <= pair[1].rank);
        }
        for member in &found.members {
            prop_assert_eq!(member.rank > 0, rooms[&member.room].is_space());
        }
    }
}

fn child(number: i64, rank: u32, phase: JobPhase) -> Child {
    Child {
        id: JobId(number),
        old_room: id(&format!("r{number}")),
        rank,
        phase,
        summary: Summary {
            asks: Asks::Campaign,
            hash: Some("h".to_owned()),
            seconds: 3,
            limited_seconds: 0,
            ..Summary::default()
        },
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn by() -> OwnedUserId {
    "@maria:x".try_into().unwrap()
}

/// A campaign that was confirmed, with these jobs planned.
fn running(children: &[Child]) -> State {
    let found = Found::default();
    let plan = plan("Top".to_owned(), children, 4, at(1000));
    let yes = confirmed(&plan, by(), None, at(1));
    State::fold(&[Entry::Found { found }, Entry::Planned { plan }])
        .and_then(|state| yes.iter().try_fold(state, State::after))
        .unwrap()
}

#[test]
fn jobs_begin_in_their_order_and_not_too_many() {
    use JobPhase::{Done, Failed, Planned, Running, Stuck};
    let planned: Vec<_> = (1..=3)
        .map(|n| child(n, u32::from(n == 3), Planned))
        .collect();
    let state = running(&planned);
    let next = |phases: [JobPhase; 3], concurrency| {
        let children: Vec<_> = phases
            .into_iter()
            .zip(&planned)
            .map(|(phase, child)| Child {
                phase,
                ..child.clone()
            })
            .collect();
        state.next_action(&children, concurrency, at(2))
    };
    let release = |jobs: &[i64]| Action::Release(jobs.iter().copied().map(JobId).collect());
    assert_eq!(next([Planned, Planned, Planned], 4), release(&[1, 2]));
    assert_eq!(next([Planned, Planned, Planned], 1), release(&[1]));
    assert_eq!(next([Running, Planned, Planned], 1), Action::AwaitJobs);
    assert_eq!(next([Running, Planned, Planned], 2), release(&[2]));
    // The space waits for its rooms; one that failed or is stuck holds up nobody.
    assert_eq!(next([Running, Done, Planned], 4), Action::AwaitJobs);
    assert_eq!(next([Failed, Stuck, Planned], 4), release(&[3]));
    assert_eq!(next([Done, Failed, Done], 4), Action::Link);
}

#[test]
fn a_wait_that_a_wrong_clock_wrote_is_over() {
    let children = [child(1, 0, JobPhase::Planned)];
    let next = |reason: WaitReason, now| {
        let until = at(10_000);
        let entry = Entry::Waiting {
            until,
            reason,
            refused: Vec::new(),
        };
        let state = running(&children).after(&entry).unwrap();
        state.next_action(&children, 4, at(now))
    };
    let wait = Action::Wait(at(10_000));
    assert_eq!(next(WaitReason::Unreachable, 9_500), wait);
    // An hour before, it would be longer than any that is ever written.
    let release = Action::Release(vec![JobId(1)]);
    assert_eq!(next(WaitReason::Unreachable, 6_400), release);
    // An agreed time comes when it comes.
    assert_eq!(next(WaitReason::Scheduled, 6_400), wait);
}

#[test]
fn one_that_only_invites_takes_no_place() {
    let mut inviting = child(1, 0, JobPhase::Running);
    let wait = |bucket| Some((at(60), WaitReason::RateLimit { bucket }));
    inviting.summary.waiting = wait(Bucket::Invitations);
    let next = child(2, 0, JobPhase::Planned);
    let state = running(&[child(1, 0, JobPhase::Planned), next.clone()]);
    let children = [inviting.clone(), next.clone()];
    let release = Action::Release(vec![JobId(2)]);
    assert_eq!(state.next_action(&children, 1, at(2)), release);
    inviting.summary.waiting = wait(Bucket::RoomCreation);
    let children = [inviting, next];
    assert_eq!(state.next_action(&children, 1, at(2)), Action::AwaitJobs);
}

#[test]
fn a_paused_campaign_begins_nothing_and_a_finished_one_looks_once_more() {
    let children = [child(1, 0, JobPhase::Planned)];
    let paused = running(&children)
        .after(&Entry::Paused { by: by() })
        .unwrap();
    assert_eq!(paused.next_action(&children, 4, at(2)), Action::AwaitResume);
    let resumed = paused.after(&Entry::Resumed { by: by() }).unwrap();
    let release = Action::Release(vec![JobId(1)]);
    assert_eq!(resumed.next_action(&children, 4, at(2)), release);
    let linked = |jobs: &[i64]| Entry::Linked {
        jobs: jobs.iter().copied().map(JobId).collect(),
        made: 0,
        todos: Vec::new(),
        added: Vec::new(),
    };
    let children = [child(1, 0, JobPhase::Done)];
    // Done while the job was stuck: when it is done later, links are compared again.
    let done = running(&[child(1, 0, JobPhase::Planned)])
        .after(&linked(&[]))
        .unwrap();
    assert_eq!(done.next_action(&children, 4, at(2)), Action::Link);
    let done = done.after(&linked(&[1])).unwrap();
    assert_eq!(done.next_action(&children, 4, at(2)), Action::Finished);
}

#[test]
fn the_pace_is_that_of_the_rooms_that_ended_last() {
    let mut children: Vec<_> = (1..=6).map(|n| child(n, 0, JobPhase::Planned)).collect();
    assert_eq!(pace(&children), Some(18), "as planned");
    for (index, child) in children.iter_mut().take(3).enumerate() {
        child.phase = JobPhase::Done;
        child.summary.new_room = Some(id("new"));
        child.summary.ended_at = Some(at(100 + 10 * i64::try_from(index).unwrap()));
    }
    assert_eq!(
        pace(&children),
        Some(30),
        "three more at one in ten seconds"
    );
    for child in &mut children {
        child.phase = JobPhase::Done;
    }
    assert_eq!(pace(&children), None);
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let room: &RoomId = ruma::room_id!("!r:x");
    let planned = [child(1, 0, JobPhase::Planned)];
    let made = plan("Top".to_owned(), &planned, 4, at(1000));
    let hash = made.hash.clone();
    let waiting = |reason: WaitReason| Entry::Waiting {
        until: at(50),
        reason,
        refused: Vec::new(),
    };
    prop_oneof![
        2 => Just(Entry::Found { found: Found::default() }),
        2 => Just(Entry::Planned { plan: made }),
        2 => Just(Entry::Confirmed { by: by(), hash, event: None }),
        1 => Just(Entry::Joined { room: room.to_owned(), joining: log::Joining::Done }),
        1 => Just(waiting(WaitReason::Settling)),
        1 => Just(waiting(WaitReason::Scheduled)),
        1 => prop::sample::select(vec![
            Entry::Begun,
            Entry::Expired,
            Entry::Superseded,
            Entry::Closed,
            Entry::Cancelled { by: by() },
            Entry::Paused { by: by() },
            Entry::Resumed { by: by() },
            Entry::Retried { by: by() },
        ]),
        1 => Just(Entry::Linked {
            jobs: BTreeSet::new(),
            made: 0,
            todos: Vec::new(),
            added: Vec::new(),
        }),
    ]
}

proptest! {
    /// Whatever happened, willing people and jobs that work bring it to an end.
    #[test]
    fn every_prefix_of_a_legal_log_leads_to_an_end(
        entries in prop::collection::vec(any_entry(), 0..40)
    ) {
        let mut state = State::default();
        for entry in entries {
            if let Ok(next) = state.clone().after(&entry) {
                state = next;
            }
        }
        let mut children = vec![child(1, 0, JobPhase::Planned), child(2, 1, JobPhase::Planned)];
        let plan = plan("Top".to_owned(), &children, 4, at(1000));
        for _ in 0..50 {
            let entry = match state.next_action(&children, 1, at(100)) {
                Action::Finished => return Ok(()),
                Action::Find => Entry::Found { found: Found::default() },
                Action::Show => Entry::Planned { plan: plan.clone() },
                Action::AwaitConfirmation(_) => Entry::Confirmed {
                    by: by(),
                    hash: state.plan.clone().unwrap().hash, event: None, },
                Action::Release(jobs) => {
                    for child in children.iter_mut().filter(|child| jobs.contains(&child.id)) {
                        child.phase = JobPhase::Done;
                    }
                    continue;
                }
                // Whoever stopped it has cancelled its jobs as well.
                Action::AwaitJobs => {
                    for child in &mut children {
                        child.phase = JobPhase::Cancelled;
                    }
                    continue;
                }
                Action::AwaitResume => Entry::Resumed { by: by() },
                Action::Begin => Entry::Begun,
                Action::Announce(until) => Entry::Waiting {
                    until,
                    reason: WaitReason::Scheduled,
                    refused: Vec::new(),
                },
                Action::Link => Entry::Linked {
                    jobs: children.iter().map(|child| child.id).collect(),
                    made: 0,
                    todos: Vec::new(),
                    added: Vec::new(),
                },
                action @ (Action::Wait(_) | Action::AwaitPlans) => panic!("{action:?}"),
            };
            state = state.after(&entry).expect("what an action asks for is legal");
        }
        prop_assert!(false, "no end from {state:?}");
    }
}
