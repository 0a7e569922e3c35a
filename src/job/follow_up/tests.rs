//! When pings come: one at each time, one after a long stop, none in quiet hours, and an end.

use proptest::prelude::*;

use super::*;

const DAY: i64 = 24 * 60 * 60;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn days(days: &[i64]) -> Timetable {
    let after = |day: &i64| Duration::from_secs(u64::try_from(day * DAY).unwrap());
    Timetable {
        from: at(0),
        after: days.iter().map(after).collect(),
    }
}

fn scheduled(timetable: Timetable) -> FollowUpEvent {
    FollowUpEvent::Scheduled {
        timetable,
        by: None,
    }
}

fn fold(events: &[FollowUpEvent]) -> Option<FollowUp> {
    let mut events = events.iter();
    let mut folded = FollowUp::after(None, events.next()?)?;
    for event in events {
        folded = FollowUp::after(Some(folded), event)?;
    }
    Some(folded)
}

fn ping(second: i64) -> [FollowUpEvent; 2] {
    [
        FollowUpEvent::Pinging {
            parts: vec![vec!["@a:x".try_into().unwrap()]],
            also: BTreeMap::new(),
            incompatible: BTreeSet::new(),
        },
        FollowUpEvent::Pinged {
            at: at(second),
            outcome: PingOutcome::Sent,
        },
    ]
}

fn some_moved() -> Tally {
    Tally {
        moved: 5,
        waiting: 5,
        ..Tally::default()
    }
}

fn given(now: i64) -> Circumstances<'static> {
    Circumstances {
        now: at(now),
        quiet_hours: None,
        tally: some_moved(),
        until_moved: 0.95,
    }
}

/// What a follow-up of 1, 3 and 7 days does when it is looked at on these days, by the day.
fn pings_on(looks: &[i64]) -> (Vec<i64>, FollowUp) {
    let mut events = vec![scheduled(days(&[1, 3, 7]))];
    let mut pinged = Vec::new();
    for day in looks {
        let now = day * DAY;
        if fold(&events).unwrap().decide(&given(now)) == Decision::Ping {
            events.extend(ping(now));
            pinged.push(*day);
        }
    }
    (pinged, fold(&events).unwrap())
}

#[test]
fn one_ping_at_each_time_and_one_after_a_long_stop() {
    for (looks, pings) in [
        (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], &[1, 3, 7][..]),
        (&[1, 1, 1], &[1]),
        // Stopped from the second to the twentieth day.
        (&[0, 1, 20, 20, 21], &[1, 20]),
        (&[30, 31, 32], &[30]),
        // The clock jumps to the fifth day and back again.
        (&[5, 2, 3, 4, 5, 7, 8], &[5, 7]),
    ] {
        assert_eq!(pings_on(looks).0, pings, "{looks:?}");
    }
}

#[test]
fn it_is_over_some_time_after_the_last_ping() {
    let (_, punctual) = pings_on(&[1, 3, 7]);
    assert_eq!(punctual.due(), Some(at(11 * DAY)));
    assert_eq!(
        punctual.decide(&given(10 * DAY)),
        Decision::Wait(at(11 * DAY))
    );
    assert_eq!(
        punctual.decide(&given(11 * DAY)),
        Decision::End(EndReason::Time)
    );
    // A ping that came late leaves people as much time.
    let (_, late) = pings_on(&[30]);
    assert_eq!(late.due(), Some(at(34 * DAY)));
    let only = fold(&[scheduled(days(&[2]))]).unwrap();
    assert_eq!(only.timetable.end(None), at(4 * DAY));
}

#[test]
fn enough_is_enough_and_everybody_is_everybody() {
    let open = fold(&[scheduled(days(&[1]))]).unwrap();
    let asked = fold(&[
        scheduled(days(&[1])),
        FollowUpEvent::Asked {
            by: "@mod:x".try_into().unwrap(),
            at: at(5),
        },
    ])
    .unwrap();
    let moved = |moved, waiting| Tally {
        moved,
        waiting,
        ..Tally::default()
    };
    let end = Decision::End(EndReason::Moved);
    for (follow_up, tally, decision) in [
        (&open, moved(95, 5), end.clone()),
        (&open, moved(94, 6), Decision::Wait(at(DAY))),
        (&open, moved(0, 0), end.clone()),
        // Who asks for a ping means those few who are left.
        (&asked, moved(99, 1), Decision::Ping),
        (&asked, moved(99, 0), end),
    ] {
        let circumstances = Circumstances { tally, ..given(10) };
        assert_eq!(follow_up.decide(&circumstances), decision, "{tally:?}");
    }
}

#[test]
fn quiet_hours_hold_up_what_is_planned_but_not_what_is_asked_for() {
    // From the beginning of 1970: 12:00 UTC is within them.
    let hours: QuietHours = "11:00-13:00 UTC".parse().unwrap();
    let half = DAY / 2;
    let timetable = Timetable {
        from: at(half),
        after: vec![Duration::from_mins(1)],
    };
    let open = fold(&[scheduled(timetable.clone())]).unwrap();
    let quiet = |now| Circumstances {
        quiet_hours: Some(&hours),
        ..given(now)
    };
    let morning = at(half + 3600);
    assert_eq!(open.next_ping(Some(&hours)), Some(morning));
    assert_eq!(open.decide(&quiet(half)), Decision::Wait(morning));
    assert_eq!(open.decide(&quiet(half + 61)), Decision::Wait(morning));
    assert_eq!(open.decide(&quiet(half + 3600)), Decision::Ping);
    let asked = FollowUpEvent::Asked {
        by: "@mod:x".try_into().unwrap(),
        at: at(half),
    };
    let asked = fold(&[scheduled(timetable), asked]).unwrap();
    assert_eq!(asked.decide(&quiet(half)), Decision::Ping);
}

#[test]
fn a_wait_for_the_homeserver_is_kept_unless_a_clock_made_it_up() {
    let wait = |until| {
        fold(&[
            scheduled(days(&[1])),
            FollowUpEvent::Waiting {
                until: at(until),
                pause: Pause::Homeserver,
            },
        ])
        .unwrap()
    };
    assert_eq!(
        wait(DAY + 60).decide(&given(DAY)),
        Decision::Wait(at(DAY + 60))
    );
    // Written while the clock stood a year ahead.
    assert_eq!(wait(366 * DAY).decide(&given(DAY)), Decision::Ping);
    let mut tired = wait(DAY + 60);
    for _ in 0..40 {
        tired.tries += 1;
        assert!(tired.patience() <= HOMESERVER_WAIT_MAX);
    }
}

#[test]
fn the_end_comes_in_order_and_can_be_taken_up_again() {
    let off = FollowUpEvent::Ending {
        at: at(9),
        why: EndReason::Off {
            by: "@mod:x".try_into().unwrap(),
        },
    };
    let begun = [scheduled(days(&[1])), off.clone()];
    let mut ending = fold(&begun).unwrap();
    assert_eq!(ending.due(), None, "the to-dos come first");
    assert_eq!(
        FollowUp::after(
            Some(ending.clone()),
            &FollowUpEvent::Ended {
                end: Some(End::default())
            }
        ),
        None
    );
    ending.checked();
    assert_eq!(ending.due(), Some(Timestamp::MIN));
    let over = FollowUp::after(
        Some(ending),
        &FollowUpEvent::Ended {
            end: Some(End::default()),
        },
    )
    .unwrap();
    assert_eq!(
        (over.due(), over.decide(&given(DAY))),
        (None, Decision::Rest)
    );
    let asked = FollowUpEvent::Asked {
        by: "@mod:x".try_into().unwrap(),
        at: at(10),
    };
    let again = FollowUp::after(Some(over), &asked).unwrap();
    assert_eq!(again.decide(&given(11)), Decision::Ping);
    let [pinging, pinged] = ping(12);
    let again = FollowUp::after(Some(again), &pinging).unwrap();
    assert_eq!(
        FollowUp::after(Some(again.clone()), &pinging),
        None,
        "one ping at a time"
    );
    assert_eq!(
        FollowUp::after(Some(again.clone()), &off),
        None,
        "it is sent to its end"
    );
    let again = FollowUp::after(Some(again), &pinged).unwrap();
    assert_eq!(again.decide(&given(12)), Decision::End(EndReason::Time));
}

#[test]
fn entries_are_stored_like_this() {
    let entries = [
        scheduled(days(&[1])),
        FollowUpEvent::Waiting {
            until: at(1),
            pause: Pause::Homeserver,
        },
        FollowUpEvent::Ending {
            at: at(2),
            why: EndReason::Time,
        },
        FollowUpEvent::Ended {
            end: Some(End::default()),
        },
    ]
    .into_iter()
    .chain(ping(3));
    let lines: Vec<_> = entries
        .map(|entry| {
            let json = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<FollowUpEvent>(&json).unwrap(), entry);
            json
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r##"
    {"follow_up":"scheduled","timetable":{"from":"1970-01-01T00:00:00Z","after":[{"secs":86400,"nanos":0}]},"by":null}
    {"follow_up":"waiting","until":"1970-01-01T00:00:01Z","pause":"homeserver"}
    {"follow_up":"ending","at":"1970-01-01T00:00:02Z","why":"time"}
    {"follow_up":"ended","end":{"tally":{"moved":0,"invited":0,"waiting":0,"declined":0,"cannot_follow":0,"left":0,"removed":0},"door":"was_shut","farewell":"stays"}}
    {"follow_up":"pinging","parts":[["@a:x"]],"incompatible":[]}
    {"follow_up":"pinged","at":"1970-01-01T00:00:03Z","outcome":"sent"}
    "##);
    // As it was written before it said how it ended.
    let before: FollowUpEvent = serde_json::from_str(r#"{"follow_up":"ended"}"#).unwrap();
    assert_eq!(before, FollowUpEvent::Ended { end: None });
}

proptest! {
    /// At whatever moments it is looked at: no burst, and an end after finitely many pings.
    #[test]
    fn there_are_never_more_pings_than_times(
        mut looks in proptest::collection::vec(-5_i64..400, 1..60), is_steady in any::<bool>()) {
        if is_steady {
            looks.sort_unstable();
        }
        let (pinged, follow_up) = pings_on(&looks);
        prop_assert!(pinged.len() <= 3);
        prop_assert_eq!(follow_up.pings as usize, pinged.len());
        let twice = pinged.windows(2).any(|pair| pair[0] == pair[1]);
        prop_assert!(!twice);
    }
}

/// People who lag in several rooms of a campaign are mentioned in another one where the bot cannot write.
#[test]
fn a_ping_that_was_refused_has_mentioned_nobody() {
    let [pinging, _] = ping(DAY);
    let pinged = |outcome| FollowUpEvent::Pinged {
        at: at(DAY),
        outcome,
    };
    let refused = PingOutcome::Refused {
        message: "no power".to_owned(),
    };
    for (outcome, mentioned) in [(PingOutcome::Sent, true), (refused, false)] {
        let events = [scheduled(days(&[1])), pinging.clone(), pinged(outcome)];
        let follow_up = fold(&events).unwrap();
        let FollowUpEvent::Pinging { parts, .. } = &pinging else {
            unreachable!()
        };
        assert_eq!(follow_up.has_mentioned(&parts[0][0], 1), mentioned);
    }
}

/// `off` while a ping is being sent, and `now` while the end is being made.
#[test]
fn off_and_now_come_at_any_moment() {
    let no_more = scheduled(Timetable::empty(at(DAY)));
    let [pinging, pinged] = ping(DAY);
    let begun = scheduled(days(&[1, 3, 7]));
    let off = fold(&[begun.clone(), pinging, no_more.clone(), pinged]).unwrap();
    assert_eq!(off.decide(&given(DAY + 1)), Decision::End(EndReason::Time));

    let ending = FollowUpEvent::Ending {
        at: at(1),
        why: EndReason::Time,
    };
    let asked = FollowUpEvent::Asked {
        by: "@mod:x".try_into().unwrap(),
        at: at(2),
    };
    let now = fold(&[begun, ending, no_more, asked]).unwrap();
    assert_eq!(now.decide(&given(2)), Decision::Ping);
}
