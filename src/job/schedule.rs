//! When a job begins, and when the people in its room are told before. Pure.
//!
//! A job that waits for its time is one that was confirmed and whose first step waits: it can be
//! cancelled, survives a kill and is shown like any other wait. It wakes for each announcement, and
//! in the end to begin. Left out: the texts (`message`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ruma::{OwnedEventId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::log::Kept;
use super::{Entry, Phase, Plan, State, Step, StepEvent, WaitReason};
use crate::model::{Announce, Start, UpgradeOptions};

/// How late a start may be without counting as missed: a restart, or a server that is slow.
const MISSED_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// When a job begins, and when that is announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// When it begins.
    pub start: Start,
    /// When the old room is told of it, in order.
    pub announcements: Vec<Timestamp>,
}

/// A job that waits for its time.
#[derive(Debug, Clone, Copy)]
pub struct Sleep<'a> {
    /// What was confirmed.
    pub plan: &'a Plan,
    /// The schedule in it.
    pub schedule: &'a Schedule,
    /// When it wakes next.
    pub until: Timestamp,
}

/// What a job that waits for its time is to do when it wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Tell the old room, and sleep on.
    Tell {
        /// Until when.
        next: Timestamp,
    },
    /// Begin.
    Begin,
}

/// Whether a job begins at the time that was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Punctuality {
    /// It does, or none was agreed.
    OnTime,
    /// The bot was away then.
    Missed,
}

impl Schedule {
    /// What options amount to. `before`: how long before the start announcements are made.
    #[must_use]
    pub fn of(options: &UpgradeOptions, before: &[Duration]) -> Option<Self> {
        let start = options.start.clone()?;
        let mut announcements: Vec<_> = match options.announce {
            Announce::Silent => vec![],
            Announce::Wanted => before
                .iter()
                .filter_map(|before| start.at.checked_sub(*before).ok())
                .collect(),
        };
        announcements.sort_unstable();
        announcements.dedup();
        Some(Self {
            start,
            announcements,
        })
    }

    /// Until when a job that is confirmed `now` sleeps first; `None` where it begins at once.
    /// Announcements that are overdue by then are one, which is made at once.
    #[must_use]
    pub fn first_wake(&self, now: Timestamp) -> Option<Timestamp> {
        if self.start.at <= now {
            return None;
        }
        let overdue = self.announcements.iter().any(|at| *at <= now);
        Some(if overdue { now } else { self.next_after(now) })
    }

    /// What is to be done by a job that slept until `due`. However late it wakes, it announces once,
    /// and nothing that is over.
    #[must_use]
    pub fn wake(&self, due: Timestamp, now: Timestamp) -> Wake {
        if due >= self.start.at || now >= self.start.at {
            return Wake::Begin;
        }
        Wake::Tell {
            next: self.next_after(now),
        }
    }

    /// Whether it is too late by now to begin without asking again.
    #[must_use]
    pub fn is_missed(&self, now: Timestamp) -> bool {
        now.duration_since(self.start.at) > MISSED_AFTER
    }

    fn next_after(&self, now: Timestamp) -> Timestamp {
        let next = self.announcements.iter().find(|at| **at > now);
        next.copied().unwrap_or(self.start.at)
    }
}

/// What a yes puts into the log: also that the job sleeps until its time, if that is still to come.
/// Seeing a new room in review has no time to wait for.
#[must_use]
pub fn confirmed(
    phase: Phase,
    plan: &Plan,
    by: OwnedUserId,
    event: Option<OwnedEventId>,
    now: Timestamp,
) -> Vec<Entry> {
    let yes = Entry::Confirmed {
        by,
        hash: plan.hash.clone(),
        event,
    };
    let schedule = plan.schedule.as_ref().filter(|_| phase != Phase::InReview);
    let sleep = schedule.and_then(|schedule| {
        Some(Entry::Step {
            step: Step::Snapshot,
            event: StepEvent::Waiting {
                until: schedule.first_wake(now)?,
                reason: WaitReason::Scheduled,
                progress: None,
                kept: Kept::default(),
            },
        })
    });
    [yes].into_iter().chain(sleep).collect()
}

/// The sleep of a job until its time; `None` where it is awake.
#[must_use]
pub fn sleeping(state: &State) -> Option<Sleep<'_>> {
    let (Some((until, WaitReason::Scheduled)), Some(plan)) = (&state.waiting, &state.plan) else {
        return None;
    };
    Some(Sleep {
        plan,
        schedule: plan.schedule.as_ref()?,
        until: *until,
    })
}

/// Whether a job whose first step has begun did so at the agreed time. Asked of the log, so that the
/// answer is the same after a kill.
#[must_use]
pub fn punctuality(log: &[(Timestamp, Entry)], schedule: &Schedule) -> Punctuality {
    let slept = |entry: &Entry| {
        matches!(
            entry,
            Entry::Step {
                event: StepEvent::Waiting {
                    reason: WaitReason::Scheduled,
                    ..
                },
                ..
            }
        )
    };
    // A later yes was given in the knowledge of the time.
    let last_yes = log
        .iter()
        .rposition(|(_, entry)| matches!(entry, Entry::Confirmed { .. }));
    let since = log.get(last_yes.unwrap_or(0)..).unwrap_or_default();
    if !since.iter().any(|(_, entry)| slept(entry)) {
        return Punctuality::OnTime;
    }
    let begun = since.iter().find(|(_, entry)| {
        matches!(
            entry,
            Entry::Step {
                event: StepEvent::Started,
                ..
            }
        )
    });
    match begun {
        Some((at, _)) if at.duration_since(schedule.start.at) > MISSED_AFTER => Punctuality::Missed,
        _ => Punctuality::OnTime,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Begins at 1000; people are told at 400 and at 900.
    fn schedule() -> Schedule {
        let options = UpgradeOptions {
            start: Some(Start {
                at: at(1000),
                zone: "UTC".to_owned(),
            }),
            announce: Announce::Wanted,
            ..UpgradeOptions::default()
        };
        let before = [100, 600, 600].map(Duration::from_secs);
        Schedule::of(&options, &before).unwrap()
    }

    #[test]
    fn a_schedule_is_what_was_asked_for() {
        assert_eq!(schedule().announcements, [at(400), at(900)]);
        let of = |start: Option<Start>, announce, before| {
            let options = UpgradeOptions {
                start,
                announce,
                ..UpgradeOptions::default()
            };
            Schedule::of(&options, &[before])
        };
        let (start, second) = (Some(schedule().start), Duration::from_secs(1));
        assert_eq!(of(None, Announce::Wanted, second), None);
        let silent = of(start.clone(), Announce::Silent, second).unwrap();
        assert_eq!(silent.announcements, []);
        assert_eq!(silent.first_wake(at(5)), Some(at(1000)));
        // Longer before than time goes back.
        let odd = of(start, Announce::Wanted, Duration::MAX).unwrap();
        assert_eq!(odd.announcements, []);
    }

    #[test]
    fn the_first_sleep() {
        for (now, expected) in [
            (0, Some(400)),
            (399, Some(400)),
            // Overdue: at once. Both overdue: one.
            (400, Some(400)),
            (500, Some(500)),
            (950, Some(950)),
            (999, Some(999)),
            (1000, None),
            (5000, None),
        ] {
            assert_eq!(schedule().first_wake(at(now)), expected.map(at), "{now}");
        }
    }

    #[test]
    fn what_follows_a_sleep() {
        let tell = |next| Wake::Tell { next: at(next) };
        for (due, now, expected) in [
            (400, 400, tell(900)),
            (400, 899, tell(900)),
            // Away over the second: both are one.
            (400, 900, tell(1000)),
            (500, 500, tell(900)),
            (950, 950, tell(1000)),
            (900, 999, tell(1000)),
            // What is over is not announced.
            (400, 1000, Wake::Begin),
            (900, 99_999, Wake::Begin),
            (1000, 1000, Wake::Begin),
        ] {
            assert_eq!(schedule().wake(at(due), at(now)), expected, "{due} {now}");
        }
    }

    #[test]
    fn a_start_is_missed_when_the_first_step_begins_too_late() {
        let yes = Entry::Confirmed {
            by: "@a:x".try_into().unwrap(),
            hash: "h".to_owned(),
            event: None,
        };
        let step = |event| Entry::Step {
            step: Step::Snapshot,
            event,
        };
        let waits = |reason| {
            step(StepEvent::Waiting {
                until: at(1000),
                reason,
                progress: None,
                kept: Kept::default(),
            })
        };
        let (sleeps, started) = (waits(WaitReason::Scheduled), step(StepEvent::Started));
        let late = 1000 + MISSED_AFTER.as_secs() + 1;
        let log = |entries: &[(i64, &Entry)]| -> Vec<(Timestamp, Entry)> {
            let entries = entries.iter();
            entries
                .map(|(second, entry)| (at(*second), (*entry).clone()))
                .collect()
        };
        for (case, log, expected) in [
            (
                "on time",
                log(&[(0, &yes), (0, &sleeps), (1000, &started)]),
                Punctuality::OnTime,
            ),
            (
                "a bit late",
                log(&[(0, &yes), (0, &sleeps), (late - 1, &started)]),
                Punctuality::OnTime,
            ),
            (
                "missed",
                log(&[(0, &yes), (0, &sleeps), (late, &started)]),
                Punctuality::Missed,
            ),
            (
                "missed, and killed",
                log(&[(0, &yes), (0, &sleeps), (late, &started), (late, &started)]),
                Punctuality::Missed,
            ),
            (
                "begun in time, and the server was away",
                log(&[
                    (0, &yes),
                    (0, &sleeps),
                    (1000, &started),
                    (1001, &waits(WaitReason::Unreachable)),
                    (late, &started),
                ]),
                Punctuality::OnTime,
            ),
            (
                "never slept",
                log(&[(late, &yes), (late, &started)]),
                Punctuality::OnTime,
            ),
            (
                "a yes after it was missed",
                log(&[
                    (0, &yes),
                    (0, &sleeps),
                    (late, &started),
                    (late, &yes),
                    (late, &started),
                ]),
                Punctuality::OnTime,
            ),
        ] {
            assert_eq!(punctuality(&log, &schedule()), expected, "{case}");
        }
    }

    proptest! {
        #[test]
        fn each_announcement_is_made_at_most_once_and_then_it_begins(
            yes in 0..1200_i64,
            late in proptest::collection::vec(0..700_i64, 10),
        ) {
            let schedule = schedule();
            let mut told = 0;
            let mut now = at(yes);
            let mut due = schedule.first_wake(now);
            for late in late {
                let Some(until) = due else { break };
                now = now.max(until) + SignedDuration::from_secs(late);
                due = match schedule.wake(until, now) {
                    Wake::Tell { next } => {
                        prop_assert!(now < schedule.start.at && next > now);
                        told += 1;
                        Some(next)
                    }
                    Wake::Begin => {
                        prop_assert!(now >= schedule.start.at);
                        None
                    }
                };
            }
            prop_assert_eq!(due, None);
            prop_assert!(told <= schedule.announcements.len());
        }
    }
}
