//! What a job's change of state has to say in its admin room, and in the old room before it begins,
//! as writes for the store.
//!
//! Handlers and the worker both move jobs on, and know each other only through the store; this is
//! what they share. Pure. Left out: the texts of plans and reviews, which the worker makes; how
//! they are asked and answered is here ([`asking`]).

pub(crate) mod campaign;

use std::time::Duration;

use jiff::Timestamp;
use ruma::{EventId, OwnedEventId, RoomId};

use crate::clock::later;
use crate::config::Messages;
use crate::job::schedule::Sleep;
use crate::job::{Asks, Entry, Job, Phase, State, Step, StepEvent, WaitReason};
use crate::message::member::{self, TemplateError};
use crate::message::{emoji, moment, progress, report};
use crate::model::{Text, WorkId};
use crate::store::post_key::{Asked, Choice, Question};
use crate::store::{Outgoing, Post, PostKey, StoreError, Target, Write};

/// A job that is done in this time needs nobody to follow it: its report says it all.
const PROGRESS_AFTER: Duration = Duration::from_secs(3);

/// How long after the answer the clicked question is tidied up: work goes before talk.
const TIDY_AFTER: Duration = Duration::from_secs(2);

/// How often the plan with a hash was shown.
pub(crate) fn times_shown(job: &Job, hash: &str) -> usize {
    job.log
        .iter()
        .filter(|(_, entry)| matches!(entry, Entry::Planned { plan } if plan.hash == hash))
        .count()
}

fn question_of(job: &Job, asked: Asked, hash: &str) -> Question {
    Question {
        asked,
        work: job.request.key(),
        hash: hash.to_owned(),
    }
}

/// A message that asks for a yes, with both answers below it to be clicked.
pub(crate) fn asking(job: &Job, asked: Asked, hash: &str, text: Text) -> Vec<Write> {
    let about = question_of(job, asked, hash);
    question(&about, &job.request.admin_room, job.reply_to(), text)
}

/// Says that the server made a second room, which is taken back.
pub(crate) fn second_room(job: &Job, state: &State, room: &RoomId) -> Write {
    let (room_id, reply_to) = job.told_in(state);
    Write::Enqueue(Outgoing {
        key: PostKey::SecondRoom(job.request.key(), room.to_owned()),
        room_id: room_id.clone(),
        post: Post::Message {
            text: report::second_room(job, room),
            reply_to,
        },
    })
}

fn question(
    about: &Question,
    room_id: &RoomId,
    reply_to: Option<OwnedEventId>,
    text: Text,
) -> Vec<Write> {
    let key = PostKey::Question(about.clone());
    let mut writes = vec![Write::Enqueue(Outgoing {
        key: key.clone(),
        room_id: room_id.to_owned(),
        post: Post::Message { text, reply_to },
    })];
    writes.extend(CHOICES.map(|(choice, emoji)| {
        Write::Enqueue(Outgoing {
            key: PostKey::Choice(choice, about.clone()),
            room_id: room_id.to_owned(),
            post: Post::Reaction {
                to: Target::Post(key.clone()),
                emoji: emoji.to_owned(),
            },
        })
    }));
    writes
}

/// The answers below a question, and their emoji.
const CHOICES: [(Choice, &str); 2] = [(Choice::Yes, emoji::YES), (Choice::No, emoji::NO)];

/// Takes back both answers below a question that got one at that time.
fn tidied(question: &Question, room_id: &RoomId, answered: Timestamp) -> Vec<Write> {
    CHOICES
        .into_iter()
        .flat_map(|(choice, _)| {
            let key = PostKey::ChoiceGone(choice, question.clone());
            let post = Write::Enqueue(Outgoing {
                key: key.clone(),
                room_id: room_id.to_owned(),
                post: Post::Redaction {
                    of: Target::Post(PostKey::Choice(choice, question.clone())),
                },
            });
            let until = later(answered, TIDY_AFTER);
            [post, Write::Hold { key, until }]
        })
        .collect()
}

/// When somebody said yes to a job last.
fn begun(job: &Job) -> Option<Timestamp> {
    let mut confirmed = job.log.iter().rev();
    let confirmed = confirmed.find(|(_, entry)| matches!(entry, Entry::Confirmed { .. }));
    confirmed.map(|(at, _)| *at)
}

/// Tells the old room when an upgrade begins; the job sleeps until `next` afterwards.
///
/// # Errors
/// When a template cannot be rendered.
pub(crate) fn announcement(
    job: &Job,
    sleep: Sleep<'_>,
    messages: &Messages,
    next: Timestamp,
    now: Timestamp,
) -> Result<(Entry, Write), TemplateError> {
    let (plan, schedule) = (sleep.plan, sleep.schedule);
    let rest = moment::rest(schedule.start.at.duration_since(now));
    let text = member::announcement(&messages.announcement, plan, schedule, &rest)?;
    let if_called_off = member::announcement(&messages.called_off, plan, schedule, "")?;
    let told = job
        .log
        .iter()
        .filter(|(_, entry)| matches!(entry, Entry::Announced { .. }));
    let post = Write::Enqueue(Outgoing {
        key: PostKey::Announcement(job.request.key(), told.count()),
        room_id: job.request.old_room.clone(),
        post: Post::Message {
            text,
            reply_to: None,
        },
    });
    let entry = Entry::Announced {
        next,
        if_called_off,
    };
    Ok((entry, post))
}

/// Says why an upgrade begins late, where that is because the bot was not in the admin room.
pub(crate) fn late_start(job: &Job) -> Option<Write> {
    let since_yes = job.log.iter().rev();
    let was_away = since_yes
        .take_while(|(_, entry)| !matches!(entry, Entry::Confirmed { .. }))
        .any(|(_, entry)| {
            matches!(
                entry,
                Entry::Step {
                    event: StepEvent::Waiting {
                        reason: WaitReason::NotInAdminRoom,
                        ..
                    },
                    ..
                }
            )
        });
    let work = match &job.request.campaign {
        None => WorkId::Job(job.id),
        Some(turn) => WorkId::Campaign(turn.campaign),
    };
    // The rooms of a campaign come from one command: of them it is said once.
    was_away.then(|| {
        Write::Enqueue(Outgoing {
            key: PostKey::Late(job.request.command_event.clone()),
            room_id: job.request.admin_room.clone(),
            post: Post::Message {
                text: progress::late(work),
                reply_to: job.reply_to(),
            },
        })
    })
}

/// Adds entries to a job's log, with everything that people are to see of it.
///
/// # Errors
/// When the entries cannot follow.
pub(crate) fn advance(
    job: &Job,
    entries: Vec<Entry>,
    now: Timestamp,
) -> Result<Vec<Write>, StoreError> {
    let before = job.state()?;
    let mut writes = vec![job.append(entries.clone()).into()];
    let mut job = job.clone();
    job.log
        .extend(entries.into_iter().map(|entry| (now, entry)));
    let after = job.state()?;
    writes.extend(posts(&job, &before, &after, now));
    Ok(writes)
}

/// What was said before and does not hold any more: a question, and an announcement.
fn taken_back(job: &Job, before: &State, after: &State, now: Timestamp) -> Vec<Write> {
    let mut writes = Vec::new();
    // A question that was answered, or is good no more, is not to be clicked any longer.
    let asked = match before.phase {
        Phase::Planned => before.plan.as_ref().map(|plan| {
            let shown = times_shown(job, &plan.hash);
            Asked::Plan {
                shown_before: shown.saturating_sub(1),
            }
        }),
        Phase::InReview => Some(Asked::Review),
        _ => None,
    };
    if let (Some(asked), Some(plan)) = (asked, &before.plan)
        && before.phase != after.phase
        && plan.asks == Asks::Itself
    {
        let question = question_of(job, asked, &plan.hash);
        writes.extend(tidied(&question, job.told_in(after).0, now));
    }
    // Whoever was told that it comes is told that it does not.
    if before.phase != after.phase
        && after.phase.is_end()
        && after.phase != Phase::Done
        && let Some(text) = &after.announced
    {
        writes.push(Write::Enqueue(Outgoing {
            key: PostKey::CalledOff(job.request.key()),
            room_id: job.request.old_room.clone(),
            post: Post::Message {
                text: text.clone(),
                reply_to: None,
            },
        }));
    }
    writes
}

/// Messages and reactions that a change of state calls for.
fn posts(job: &Job, before: &State, after: &State, now: Timestamp) -> Vec<Write> {
    let command = &job.request.command_event;
    let work = job.request.key();
    let (room_id, reply_to) = job.told_in(after);
    let message = |key: PostKey, text: Text| Outgoing {
        key,
        room_id: room_id.clone(),
        post: Post::Message {
            text,
            reply_to: reply_to.clone(),
        },
    };
    let mut writes = taken_back(job, before, after, now);
    let progress_key = PostKey::Progress(work.clone());
    let at_work = |state: &State| {
        matches!(
            state.phase,
            Phase::Running | Phase::InReview | Phase::RollingBack | Phase::Stuck
        )
    };
    // To-dos that nobody looks after any more, or a last check that could not be made.
    if let Some((
        _,
        Entry::Step {
            step: Step::Verify,
            event: StepEvent::Failed { problem, .. },
        },
    )) = job.log.last()
        && before.phase == Phase::Done
    {
        let key = PostKey::Unchecked(work.clone(), job.log.len());
        let text = report::unchecked(job.id, problem);
        writes.push(Write::Enqueue(message(key, text)));
    }
    // A campaign tells about its jobs in one place. Only what cannot go on by itself speaks up.
    let in_campaign = job.request.campaign.is_some();
    if in_campaign && after.phase != Phase::Stuck {
        return writes;
    }
    if !in_campaign && (at_work(after) || at_work(before)) {
        let text = progress::progress(job, after, now);
        writes.push(Write::Revise(message(progress_key.clone(), text)));
        // At the end the report says all there is to say.
        writes.push(if after.phase.is_end() {
            Write::Withdraw(progress_key)
        } else {
            Write::Hold {
                key: progress_key,
                until: later(begun(job).unwrap_or(now), PROGRESS_AFTER),
            }
        });
    }
    let ended =
        before.phase != after.phase && (after.phase.is_end() || after.phase == Phase::Stuck);
    let verified = matches!(
        job.log.last(),
        Some((
            _,
            Entry::Step {
                step: Step::Verify,
                event: StepEvent::Succeeded { .. }
            }
        ))
    );
    // A plan that something stands in the way of, or that was only asked for, says so itself:
    // there is no report for it.
    if (ended || verified)
        && let Some(text) = report::report(job, after)
    {
        // Stuck twice is said twice, and who asks for another look gets an answer of their own;
        // otherwise a report whose to-dos tick themselves off is edited.
        let asked = job
            .log
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Retried { .. } | Entry::Rechecked { .. }));
        let key = PostKey::Report {
            phase: after.phase,
            work,
            asked: asked.count(),
        };
        writes.push(Write::Revise(message(key, text)));
    }
    if ended && after.phase.is_end() {
        let done = after.phase == Phase::Done
            || (after.phase == Phase::Closed
                && after.plan.as_ref().is_some_and(|plan| !plan.is_blocked()));
        let emoji = if done { emoji::YES } else { emoji::NO };
        writes.extend(ended_command(command, &job.asked_in, emoji));
    }
    writes
}

/// The reaction to a command whose work has ended, in place of the one to its start.
fn ended_command(command: &EventId, asked_in: &RoomId, emoji: &str) -> [Write; 2] {
    [
        Write::Enqueue(Outgoing {
            key: PostKey::AcknowledgedGone(command.to_owned()),
            room_id: asked_in.to_owned(),
            post: Post::Redaction {
                of: Target::Post(PostKey::Acknowledged(command.to_owned())),
            },
        }),
        Write::Enqueue(Outgoing {
            key: PostKey::Ended(command.to_owned()),
            room_id: asked_in.to_owned(),
            post: Post::Reaction {
                to: Target::Event(command.to_owned()),
                emoji: emoji.to_owned(),
            },
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Request;
    use crate::model::{Confirmation, JobId, RoomName, RoomRef, UpgradeOptions};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + millis).unwrap()
    }

    fn confirmed_at(confirmed: Timestamp) -> Job {
        let old_room = ruma::owned_room_id!("!old:x");
        Job {
            id: JobId(7),
            asked_in: ruma::owned_room_id!("!admin:x"),
            request: Request {
                named: RoomRef {
                    name: RoomName::Id(old_room.clone()),
                    via: vec![],
                },
                old_room,
                options: UpgradeOptions::default(),
                confirmation: Confirmation::Ask,
                sender: ruma::owned_user_id!("@maria:x"),
                admin_room: ruma::owned_room_id!("!admin:x"),
                command_event: ruma::owned_event_id!("$command"),
                campaign: None,
            },
            created_at: at(0),
            log: vec![(
                confirmed,
                Entry::Confirmed {
                    by: ruma::owned_user_id!("@maria:x"),
                    hash: "abc".to_owned(),
                    event: None,
                },
            )],
        }
    }

    fn in_phase(phase: Phase) -> State {
        let mut state = State::default();
        state.phase = phase;
        state
    }

    /// What becomes of the progress message.
    fn progress_of(writes: &[Write]) -> Vec<String> {
        let is_progress = |key: &PostKey| matches!(key, PostKey::Progress(_));
        let of = |write: &Write| match write {
            Write::Revise(out) if is_progress(&out.key) => Some("revise".to_owned()),
            Write::Hold { key, until } if is_progress(key) => {
                let after = until.duration_since(at(0)).as_millis();
                Some(format!("hold until {after}"))
            }
            Write::Withdraw(key) if is_progress(key) => Some("withdraw".to_owned()),
            _ => None,
        };
        writes.iter().filter_map(of).collect()
    }

    #[test]
    fn a_quick_upgrade_has_no_progress_and_a_slow_one_has() {
        let job = confirmed_at(at(100));
        let (running, done) = (in_phase(Phase::Running), in_phase(Phase::Done));
        let posts_at = |after: &State, now| progress_of(&posts(&job, &running, after, now));
        assert_eq!(posts_at(&running, at(500)), ["revise", "hold until 3100"]);
        // The same moment, however often it is revised: a slow one is not put off again and again.
        assert_eq!(posts_at(&running, at(900)), ["revise", "hold until 3100"]);
        assert_eq!(posts_at(&running, at(9_000)), ["revise", "hold until 3100"]);
        assert_eq!(posts_at(&done, at(3_000)), ["revise", "withdraw"]);
        // One that needs somebody stays in sight.
        let stuck = in_phase(Phase::Stuck);
        assert_eq!(posts_at(&stuck, at(3_000)), ["revise", "hold until 3100"]);
    }
}
