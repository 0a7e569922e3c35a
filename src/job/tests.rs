//! Every prefix of a legal log leads to an end, and illegal entries are errors.

use jiff::Timestamp;
use proptest::prelude::*;

use super::follow_up::{End, EndReason, Pause, PingOutcome, Stage, Timetable};
use super::log::{Again, Hold, Kept};
use super::state::{Called, Direction};
use super::*;
use crate::model::{Bucket, Method, Review};
use crate::room::finding::Finding;
use crate::room::intent::Intent;
use crate::room::intent::tests::intent;
use crate::work::State as _;

/// More actions than any job needs from any point on.
const ACTIONS_MAX: usize = 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn plan(findings: Vec<Finding>) -> Plan {
    plan_by(Method::Server, Review::Skip, findings)
}

fn plan_by(method: Method, review: Review, findings: Vec<Finding>) -> Plan {
    Plan {
        old_room: "!old:x".try_into().unwrap(),
        label: "Old".to_owned(),
        from: Some("10".try_into().unwrap()),
        successor: None,
        intent: Intent {
            method,
            review,
            ..intent("12")
        },
        findings,
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

fn user() -> OwnedUserId {
    "@maria:x".try_into().unwrap()
}

fn step(step: Step, event: StepEvent) -> Entry {
    Entry::Step { step, event }
}

/// What the worker writes when everything goes well.
fn success(state: &State, now: Step) -> Entry {
    let output = match now {
        Step::Plan => {
            return Entry::Planned {
                plan: Box::new(plan(vec![])),
            };
        }
        Step::Snapshot => Output::Stored,
        Step::Create => Output::Created {
            new_room: "!new:x".try_into().unwrap(),
        },
        Step::Review => Output::Reviewed { until: at(2000) },
        Step::Pins => Output::Pinned {
            count: 1,
            lost: 0,
            unreadable: None,
        },
        Step::Switch => Output::Switched {
            new_room: "!new:x".try_into().unwrap(),
        },
        Step::Notice => Output::Noticed {
            event: None,
            refused: vec![],
        },
        Step::Verify => Output::Verified {
            todos: vec![],
            recheck_at: None,
            encryption: Encryption::AsBefore,
        },
        _ => Output::Closed {
            made: 1,
            refused: vec![],
        },
    };
    let _ = state;
    step(now, StepEvent::Succeeded { output })
}

/// Anything that may come next, legal or not.
fn any_entry() -> impl Strategy<Value = Entry> {
    let all = Step::of(Method::Staged, Review::Wanted);
    let steps = prop::sample::select([&[Step::Plan], all].concat());
    let plans = (
        prop::sample::select(vec![Method::Server, Method::Staged, Method::Adopt]),
        prop::sample::select(vec![Review::Skip, Review::Wanted]),
    );
    let reason = prop_oneof![
        Just(WaitReason::RateLimit {
            bucket: Bucket::Everything
        }),
        Just(WaitReason::Unreachable),
        Just(WaitReason::Settling),
        Just(WaitReason::Scheduled),
        Just(WaitReason::Problem {
            problem: "p".to_owned()
        }),
    ];
    let event = (steps, reason, 0..7_u8).prop_map(|(now, reason, which)| match which {
        0 | 1 => step(now, StepEvent::Started),
        2 => step(
            now,
            StepEvent::Waiting {
                until: at(5),
                reason,
                progress: None,
                kept: Kept::default(),
            },
        ),
        3 => step(
            now,
            StepEvent::Failed {
                again: Again::MayHelp,
                problem: "p".to_owned(),
            },
        ),
        4 => step(now, StepEvent::Called { at: at(1) }),
        5 => step(now, StepEvent::Undone),
        _ => success(&State::default(), now),
    });
    prop_oneof![
        8 => event,
        2 => plans.prop_map(|(method, review)| Entry::Planned {
            plan: Box::new(plan_by(method, review, vec![])),
        }),
        1 => Just(Entry::Planned { plan: Box::new(plan(vec![Finding::NotJoined])) }),
        2 => Just(Entry::Confirmed { by: user(), hash: "abc".to_owned(), event: None }),
        1 => Just(Entry::Confirmed { by: user(), hash: "other".to_owned(), event: None }),
        1 => Just(Entry::Cancelled { by: user() }),
        1 => Just(Entry::Retried { by: user() }),
        1 => Just(Entry::Paused { by: user() }),
        1 => Just(Entry::Resumed { by: user() }),
        1 => Just(Entry::Rechecked { by: user(), at: at(2) }),
        2 => any_follow_up().prop_map(|event| Entry::FollowUp { event }),
        1 => prop::sample::select(vec![Entry::Expired, Entry::Superseded, Entry::Closed]),
    ]
}

fn any_follow_up() -> impl Strategy<Value = FollowUpEvent> {
    let timetable = Timetable {
        from: at(1),
        after: vec![std::time::Duration::from_mins(1)],
    };
    prop::sample::select(vec![
        FollowUpEvent::Scheduled {
            timetable,
            by: None,
        },
        FollowUpEvent::Asked {
            by: user(),
            at: at(2),
        },
        FollowUpEvent::Pinging {
            parts: vec![vec![user()]],
            also: std::collections::BTreeMap::new(),
            incompatible: std::collections::BTreeSet::new(),
        },
        FollowUpEvent::Pinged {
            at: at(3),
            outcome: PingOutcome::Sent,
        },
        FollowUpEvent::Waiting {
            until: at(4),
            pause: Pause::Homeserver,
        },
        FollowUpEvent::Ending {
            at: at(5),
            why: EndReason::Moved,
        },
        FollowUpEvent::Ended {
            end: Some(End::default()),
        },
    ])
}

/// Goes on from a state as the worker and willing people do, until the end.
fn to_the_end(mut state: State) -> State {
    for _ in 0..ACTIONS_MAX {
        let entries = match state.next_action() {
            Action::Finished => return state,
            Action::Wait(now, _) if state.direction() == Direction::Back => {
                vec![step(now, StepEvent::Undone)]
            }
            Action::Run(now) | Action::Wait(now, _) => {
                vec![step(now, StepEvent::Started), success(&state, now)]
            }
            Action::RollBack(now) => {
                vec![step(now, StepEvent::Started), step(now, StepEvent::Undone)]
            }
            Action::AwaitConfirmation(_) => {
                vec![Entry::Confirmed {
                    by: user(),
                    hash: "abc".to_owned(),
                    event: None,
                }]
            }
            Action::AwaitRetry => vec![Entry::Retried { by: user() }],
            Action::FollowUp(_) => {
                let follow_up = state.follow_up.as_ref().expect("a follow-up");
                let event = match (&follow_up.stage, &follow_up.pinging) {
                    (Stage::Open, Some(_)) => FollowUpEvent::Pinged {
                        at: Timestamp::MAX,
                        outcome: PingOutcome::Sent,
                    },
                    (Stage::Open, None) => FollowUpEvent::Ending {
                        at: at(3),
                        why: EndReason::Time,
                    },
                    _ => FollowUpEvent::Ended {
                        end: Some(End::default()),
                    },
                };
                vec![Entry::FollowUp { event }]
            }
            Action::AwaitResume => vec![Entry::Resumed { by: user() }],
            Action::AwaitCampaign => vec![Entry::Closed],
        };
        for entry in entries {
            state = state
                .after(&entry)
                .expect("what an action asks for is legal");
        }
    }
    panic!("no end from {state:?}");
}

proptest! {
    #[test]
    fn every_prefix_of_a_legal_log_leads_to_an_end(
        entries in prop::collection::vec(any_entry(), 0..80)
    ) {
        let mut state = State::default();
        for entry in entries {
            // What is illegal changes nothing: the store refuses it.
            let Ok(next) = state.clone().after(&entry) else { continue };
            // Once the server may have begun, only forward.
            if !state.can_roll_back() && entry != step(Step::Switch, StepEvent::Undone) {
                prop_assert!(
                    !matches!(
                        next.phase,
                        Phase::Failed | Phase::Cancelled | Phase::Planned | Phase::RollingBack
                    ),
                    "{state:?} went back by {entry:?}"
                );
            }
            // What was made is never forgotten (P6): no end before it is taken back.
            if state.staged_room().is_some()
                && !matches!(entry, Entry::Step { event: StepEvent::Failed { .. }, .. })
                && entry != step(Step::Create, StepEvent::Undone)
            {
                prop_assert!(
                    !matches!(next.phase, Phase::Failed | Phase::Cancelled | Phase::Expired),
                    "{state:?} forgot its room by {entry:?}"
                );
            }
            // The room of a finished switch never changes.
            if let Some(room) = state.new_room() {
                prop_assert_eq!(Some(room), next.new_room());
            }
            state = next;
            prop_assert!(to_the_end(state.clone()).phase.is_end());
        }
    }

    #[test]
    fn what_is_stored_reads_back(entry in any_entry()) {
        let stored = serde_json::to_string(&entry).unwrap();
        prop_assert_eq!(serde_json::from_str::<Entry>(&stored).unwrap(), entry);
    }
}

#[test]
fn a_yes_counts_only_for_the_plan_that_was_shown() {
    let shown = State::fold(&[Entry::Planned {
        plan: Box::new(plan(vec![])),
    }])
    .unwrap();
    let yes = |hash: &str| Entry::Confirmed {
        by: user(),
        hash: hash.to_owned(),
        event: None,
    };
    assert!(shown.clone().after(&yes("other")).is_err());
    assert_eq!(shown.after(&yes("abc")).unwrap().phase, Phase::Running);
}

#[test]
fn a_step_that_was_begun_is_run_again() {
    let log = [
        Entry::Planned {
            plan: Box::new(plan(vec![])),
        },
        Entry::Confirmed {
            by: user(),
            hash: "abc".to_owned(),
            event: None,
        },
        step(Step::Snapshot, StepEvent::Started),
        success(&State::default(), Step::Snapshot),
        step(Step::Switch, StepEvent::Started),
        step(Step::Switch, StepEvent::Called { at: at(7) }),
    ];
    let state = State::fold(&log).unwrap();
    assert_eq!(state.next_action(), Action::Run(Step::Switch));
    assert_eq!(state.called(Step::Switch), Called::Perhaps);
    assert!(!state.can_roll_back());
}

#[test]
fn stored_entries_keep_their_form() {
    let entry = step(
        Step::Switch,
        StepEvent::Waiting {
            until: at(5),
            reason: WaitReason::RateLimit {
                bucket: Bucket::RoomCreation,
            },
            progress: None,
            kept: Kept::default(),
        },
    );
    insta::assert_snapshot!(
        serde_json::to_string(&entry).unwrap(),
        @r#"{"entry":"step","step":"switch","event":{"event":"waiting","until":"1970-01-01T00:00:05Z","reason":{"reason":"rate_limit","bucket":"room_creation"}}}"#
    );
}

#[test]
fn a_scheduled_job_sleeps_is_told_of_and_can_be_called_off() {
    use crate::model::{Announce, Start, Text, UpgradeOptions};
    let options = UpgradeOptions {
        start: Some(Start {
            at: at(1000),
            zone: "UTC".to_owned(),
        }),
        announce: Announce::Wanted,
        ..UpgradeOptions::default()
    };
    let before = [std::time::Duration::from_secs(100)];
    let mut plan = plan(vec![]);
    plan.schedule = Schedule::of(&options, &before);
    let planned = Entry::Planned {
        plan: Box::new(plan.clone()),
    };
    let text = Text {
        plain: "off".to_owned(),
        html: "off".to_owned(),
    };
    let announced = Entry::Announced {
        next: at(1000),
        if_called_off: text.clone(),
    };
    let mut log = vec![planned.clone()];
    assert!(State::fold(log.iter().chain([&announced])).is_err());
    log.extend(schedule::confirmed(
        Phase::Planned,
        &plan,
        user(),
        None,
        at(5),
    ));
    let state = State::fold(&log).unwrap();
    assert_eq!(state.next_action(), Action::Wait(Step::Snapshot, at(900)));
    assert_eq!((state.waits, state.announced.clone()), (0, None));
    log.push(announced.clone());
    let state = State::fold(&log).unwrap();
    assert_eq!(state.next_action(), Action::Wait(Step::Snapshot, at(1000)));
    assert_eq!(state.announced, Some(text.clone()));
    // A new plan does not forget who was told.
    let cancelled = Entry::Cancelled { by: user() };
    let ends = [vec![cancelled], vec![planned, Entry::Expired]];
    for end in ends {
        let state = State::fold(log.iter().chain(&end)).unwrap();
        assert!(state.phase.is_end(), "{end:?}");
        assert_eq!(state.announced, Some(text.clone()), "{end:?}");
    }
    // Once it has begun, nobody is told that it will.
    log.push(step(Step::Snapshot, StepEvent::Started));
    assert!(State::fold(log.iter().chain([&announced])).is_err());
    // A yes after the time begins at once, and so does one to a new room in review.
    for (phase, now) in [(Phase::Planned, 1000), (Phase::InReview, 5)] {
        assert_eq!(
            schedule::confirmed(phase, &plan, user(), None, at(now)).len(),
            1
        );
    }
}

/// A pause while the review is prepared outlasts it, and can be ended there.
#[test]
fn a_pause_can_be_ended_in_review() {
    let state = [
        Entry::Paused { by: user() },
        step(
            Step::Review,
            StepEvent::Succeeded {
                output: Output::Reviewed { until: at(2000) },
            },
        ),
    ]
    .iter()
    .try_fold(begun(Step::Review), State::after)
    .unwrap();
    assert_eq!((state.phase, state.hold), (Phase::InReview, Hold::Paused));
    let state = state.after(&Entry::Resumed { by: user() }).unwrap();
    assert_eq!(state.hold, Hold::Free);
}

/// A finished upgrade that cannot be looked at is tried more and more seldom, and not for ever.
#[test]
fn looks_after_the_end_are_counted() {
    let state = to_the_end(State::default());
    assert_eq!(state.phase, Phase::Done);
    let waiting = |reason| {
        let event = StepEvent::Waiting {
            until: at(10),
            reason,
            progress: None,
            kept: Kept::default(),
        };
        step(Step::Verify, event)
    };
    let problem = WaitReason::Problem {
        problem: "p".to_owned(),
    };
    let log = [waiting(problem), waiting(WaitReason::Unreachable)];
    let state = log.iter().try_fold(state, State::after).unwrap();
    assert_eq!((state.attempts, state.waits), (1, 2));
    let state = state.after(&success(&State::default(), Step::Verify));
    let state = state.unwrap();
    assert_eq!((state.attempts, state.waits), (0, 0));
}

/// A staged job with a review, at the beginning of a step.
fn begun(until: Step) -> State {
    let mut state = State::default();
    loop {
        let entries = match state.next_action() {
            Action::Run(now) if now == until => {
                return state.after(&step(now, StepEvent::Started)).unwrap();
            }
            Action::Run(Step::Plan) => vec![
                step(Step::Plan, StepEvent::Started),
                Entry::Planned {
                    plan: Box::new(plan_by(Method::Staged, Review::Wanted, vec![])),
                },
            ],
            Action::Run(now) => vec![step(now, StepEvent::Started), success(&state, now)],
            _ => vec![Entry::Confirmed {
                by: user(),
                hash: "abc".to_owned(),
                event: None,
            }],
        };
        for entry in entries {
            state = state.after(&entry).unwrap();
        }
    }
}

/// What follows a step that was begun, or was not, and what cannot.
#[test]
fn a_step_takes_only_what_can_follow() {
    let confirmed = |method, review| {
        let plan = plan_by(method, review, vec![]);
        let yes = Entry::Confirmed {
            by: user(),
            hash: plan.hash.clone(),
            event: None,
        };
        let planned = Entry::Planned {
            plan: Box::new(plan),
        };
        State::fold(&[planned, yes]).unwrap()
    };
    let done = |state: State, now| {
        let begun = state.after(&step(now, StepEvent::Started)).unwrap();
        begun.clone().after(&success(&begun, now)).unwrap()
    };
    let (called, lost) = (
        StepEvent::Called { at: at(1) },
        StepEvent::AnswerLost { at: at(2) },
    );
    let wrong = StepEvent::Succeeded {
        output: Output::Stored,
    };
    let begun = |state: State, now| state.after(&step(now, StepEvent::Started)).unwrap();
    let fits = |state: &State, now, event: &StepEvent| {
        let after = state.clone().after(&step(now, event.clone()));
        after.is_ok()
    };

    let snapshot = confirmed(Method::Staged, Review::Skip);
    let create = done(snapshot.clone(), Step::Snapshot);
    // Only what makes a room or closes one asks for something that cannot be asked twice, once it is begun.
    assert!(!fits(
        &begun(snapshot.clone(), Step::Snapshot),
        Step::Snapshot,
        &called
    ));
    assert!(!fits(&create, Step::Create, &called));
    let making = begun(create.clone(), Step::Create);
    assert!(fits(&making, Step::Create, &called));
    for event in [&lost, &StepEvent::Undone] {
        assert!(!fits(&making, Step::Create, event), "{event:?}");
    }
    let asked = making
        .clone()
        .after(&step(Step::Create, called.clone()))
        .unwrap();
    assert_eq!(asked.called(Step::Create), Called::Perhaps);
    let unsure = asked
        .clone()
        .after(&step(Step::Create, lost.clone()))
        .unwrap();
    assert_eq!(unsure.called(Step::Create), Called::AnswerLost(at(2)));
    let free = unsure
        .after(&step(Step::Create, StepEvent::Undone))
        .unwrap();
    assert_eq!(free.called(Step::Create), Called::Never);
    // Success is that of the step which was begun.
    assert!(!fits(
        &create,
        Step::Create,
        &StepEvent::Succeeded {
            output: Output::Created {
                new_room: "!new:x".try_into().unwrap()
            },
        }
    ));
    assert!(!fits(&making, Step::Create, &wrong));

    // A failure turns back what can turn back, and leaves the rest to people.
    let failed = |again| StepEvent::Failed {
        problem: "p".to_owned(),
        again,
    };
    let state =
        |state: &State, now, event: StepEvent| state.clone().after(&step(now, event)).unwrap();
    let ended = state(&making, Step::Create, failed(Again::Useless));
    assert_eq!((ended.phase, ended.again), (Phase::Failed, Again::Useless));
    let back = state(&asked, Step::Create, failed(Again::MayHelp));
    assert_eq!(back.phase, Phase::RollingBack);
    let overtaken = state(&back, Step::Create, failed(Again::Overtaken));
    assert_eq!(
        (overtaken.phase, overtaken.again),
        (Phase::Failed, Again::Overtaken)
    );
    assert_eq!(overtaken.problem.as_deref(), Some("p p"));
    let mut switched = confirmed(Method::Server, Review::Skip);
    for now in [Step::Snapshot, Step::Switch] {
        switched = done(switched, now);
    }
    let stuck = state(
        &begun(switched.clone(), Step::Complete),
        Step::Complete,
        failed(Again::MayHelp),
    );
    assert_eq!(
        (stuck.phase, stuck.problem.as_deref()),
        (Phase::Stuck, Some("p"))
    );

    // Looking at the new room, and the last step, are not followed by the next one.
    let mut looked = confirmed(Method::Staged, Review::Wanted);
    for now in [Step::Snapshot, Step::Create, Step::Populate, Step::Review] {
        assert_eq!(looked.phase, Phase::Running);
        looked = done(looked, now);
    }
    assert_eq!(looked.phase, Phase::InReview);
}
