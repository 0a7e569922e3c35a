//! Short answers to commands.

use jiff::Timestamp;
use ruma::{RoomId, UserId};

use super::doc::{Doc, Span, lines, own, room};
use super::progress::progress;
use super::{moment, report, until};
use crate::campaign::{self, Course};
use crate::job::log::Hold;
use crate::job::schedule::sleeping;
use crate::job::{Job, Phase, State};
use crate::model::{CampaignId, DatabaseMark, JobId, RoomName, TakenBack, Text, WorkId};
use crate::permissions::Denial;

/// HTTP status of a request with too much in it, also from a proxy in front of the server.
const TOO_LARGE: u16 = 413;

/// Somebody may not do what they asked for.
pub(crate) fn denied(denial: Denial) -> Text {
    lines(&match denial {
        Denial::Level { needed } => {
            format!("Sorry, you need power level {needed} in this room for that.")
        }
        Denial::OutOfScope => {
            "Sorry, that room is not among those that can be upgraded from here. Whoever runs me \
             can add it (`scope` in the configuration)."
                .to_owned()
        }
        Denial::TargetPower { needed } => format!(
            "Sorry, you also need power level {needed} in the room itself, to upgrade it from here."
        ),
        Denial::CampaignPower { needed } => format!(
            "Sorry, you also need power level {needed} in each room of the campaign, and in one of them \
             yours is lower."
        ),
        Denial::Device => {
            "Sorry, in this room I take that only as an encrypted message from a device that you \
             have verified. Reactions are never encrypted: type `!upgrade confirm` or \
             `!upgrade cancel` with the number instead."
                .to_owned()
        }
    })
}

/// An address that leads nowhere.
pub(crate) fn no_such_room(name: &RoomName) -> Text {
    Doc::new()
        .line(&[
            Span::Text("I cannot find the room ".to_owned()),
            Span::Code(name.to_string()),
            Span::Text(". Please check the address, or give me the room's id.".to_owned()),
        ])
        .finish()
}

/// A number that no job of this room has.
pub(crate) fn no_such_job(id: JobId) -> Text {
    lines(&format!(
        "There is no upgrade #{id} in this room. `!upgrade list` shows those there are."
    ))
}

/// A number that no campaign of this room has.
pub(crate) fn no_such_campaign(id: CampaignId) -> Text {
    lines(&format!(
        "There is no campaign {id} in this room. `!upgrade list` shows those there are."
    ))
}

/// A job or campaign of which nothing is left.
pub(crate) fn pruned(id: WorkId, at: Timestamp) -> Text {
    let id = match id {
        WorkId::Job(id) => format!("#{id}"),
        WorkId::Campaign(id) => id.to_string(),
    };
    lines(&format!(
        "{id} ended long ago, and I removed its records on {}. Whoever runs me can have records kept longer \
         (`keep` in the configuration).",
        moment::moment(at, "UTC")
    ))
}

/// A space that the bot is not in.
pub(crate) fn not_in_space(name: &RoomName, bot: &UserId) -> Text {
    Doc::new()
        .line(&[
            Span::Text("I am not in the space ".to_owned()),
            Span::Code(name.to_string()),
            Span::Text(". Please invite me there: ".to_owned()),
            Span::Code(format!("/invite {bot}")),
        ])
        .finish()
}

/// A room that is no space.
pub(crate) fn no_space(name: &RoomName) -> Text {
    let mut doc = vec![
        Span::Code(name.to_string()),
        Span::Text(" is a room, not a space. To upgrade it, type ".to_owned()),
    ];
    doc.push(Span::Code(format!("!upgrade {name}")));
    doc.push(Span::Text(".".to_owned()));
    Doc::new().line(&doc).finish()
}

/// A job that goes with its campaign.
pub(crate) fn part_of_campaign(id: JobId, campaign: Option<CampaignId>) -> Text {
    lines(&match campaign {
        Some(campaign) => {
            format!("#{id} is part of {campaign}: use `!upgrade confirm {campaign}`.")
        }
        None => format!("#{id} waits for its turn."),
    })
}

/// A command that does not fit where the campaign stands.
pub(crate) fn wrong_moment_of(id: CampaignId, phase: campaign::Phase, course: Course) -> Text {
    use crate::campaign::Phase;
    lines(&match (phase, course) {
        (Phase::Finding | Phase::Planning, _) => {
            format!("The plan of {id} is still being made.")
        }
        (Phase::Planned, _) => format!("{id} waits for a yes: `!upgrade confirm {id}`."),
        (Phase::Running, Course::On) => {
            format!("{id} is at work. See `!upgrade status {id}`.")
        }
        (Phase::Running, Course::Paused) => {
            format!("{id} is paused; `!upgrade resume {id}` makes it go on.")
        }
        (Phase::Running, Course::Stopped) => {
            format!("{id} is being stopped. See `!upgrade status {id}`.")
        }
        (Phase::Done, _) => format!("{id} is done. An upgrade cannot be undone."),
        (Phase::Closed, _) => {
            format!("{id} was only a plan. Send `!upgrade space` with the space again.")
        }
        (Phase::Cancelled, _) => {
            format!("{id} was cancelled. Send the command again to make a new plan.")
        }
        (Phase::Expired, _) => {
            format!("The plan {id} is no longer good. Send the command again.")
        }
    })
}

/// Nothing is at work that could be held.
pub(crate) fn nothing_to_pause() -> Text {
    lines("Nothing is running. See `!upgrade status`.")
}

pub(crate) fn nothing_paused() -> Text {
    lines("Nothing is paused. See `!upgrade status`.")
}

/// Every room of a campaign went well, or is still at work.
pub(crate) fn nothing_to_retry(id: CampaignId) -> Text {
    lines(&format!(
        "No room of {id} failed or is stuck. See `!upgrade status {id}`."
    ))
}

/// No room of a campaign has anything left to do.
pub(crate) fn nothing_to_verify(id: CampaignId, phase: campaign::Phase) -> Text {
    lines(&if phase == campaign::Phase::Done {
        format!("Nothing is left to do in the rooms of {id}.")
    } else {
        format!("No room of {id} is waiting to be checked. See `!upgrade status {id}`.")
    })
}

/// This is not held.
pub(crate) fn not_paused(id: WorkId) -> Text {
    lines(&format!("{id} is not paused. See `!upgrade status {id}`."))
}

/// A room that no job of this room is about.
pub(crate) fn no_job_for(name: &RoomName) -> Text {
    Doc::new()
        .line(&[
            Span::Text("I know of no upgrade of ".to_owned()),
            Span::Code(name.to_string()),
            Span::Text(" from this room.".to_owned()),
        ])
        .finish()
}

/// A command that does not fit where the job stands.
pub(crate) fn wrong_moment(id: JobId, state: &State) -> Text {
    lines(&match state.phase {
        Phase::Planning => format!("The plan of #{id} is still being made."),
        Phase::Planned => format!("#{id} waits for a yes: `!upgrade confirm {id}`."),
        Phase::Running => match (state.hold, sleeping(state)) {
            (Hold::Paused, _) => {
                format!("#{id} is paused; `!upgrade resume {id}` makes it go on.")
            }
            (Hold::Free, Some(sleep)) => format!(
                "#{id} waits until {}; `!upgrade cancel {id}` calls it off.",
                moment::start(&sleep.schedule.start)
            ),
            (Hold::Free, None) => format!("#{id} is at work. See `!upgrade status {id}`."),
        },
        Phase::InReview => {
            format!("#{id} shows you the new room and waits for a yes: `!upgrade confirm {id}`.")
        }
        Phase::RollingBack => {
            format!("#{id} is taking back what it made. See `!upgrade status {id}`.")
        }
        Phase::Stuck => format!("#{id} is stuck; `!upgrade retry {id}` makes it go on."),
        Phase::Done => format!("#{id} is done. An upgrade cannot be undone."),
        Phase::Closed => return plan_only(id),
        Phase::Cancelled => {
            format!("#{id} was cancelled. Send the command again to make a new plan.")
        }
        Phase::Expired => return no_longer_good(id),
        Phase::Failed => {
            format!("#{id} ended without changing the old room; `!upgrade retry {id}` tries again.")
        }
    })
}

/// A yes to what is no question.
pub(crate) fn plan_only(id: JobId) -> Text {
    lines(&format!(
        "#{id} cannot be confirmed: it was a preview or was blocked. Send `!upgrade <room>` again."
    ))
}

/// A yes that comes too late.
pub(crate) fn no_longer_good(id: JobId) -> Text {
    lines(&format!("Plan #{id} has expired. Send the command again."))
}

/// A yes to a plan that another one took the place of.
pub(crate) fn newer_plan(id: JobId) -> Text {
    lines(&format!(
        "There is a newer plan of #{id}. React to that one, or type `!upgrade confirm {id}`."
    ))
}

/// A cancellation that comes too late.
pub(crate) fn past_rolling_back(id: JobId) -> Text {
    lines(&format!(
        "#{id} can no longer be cancelled; it has to be finished. See \
         `!upgrade status {id}`."
    ))
}

/// Another upgrade of the same room is at work.
pub(crate) fn room_is_busy() -> Text {
    lines("Another upgrade of this room is running. See `!upgrade status`.")
}

/// A message that cannot be decrypted, and may have been a command.
pub(crate) fn unreadable() -> Text {
    lines(
        "I cannot decrypt this message: its key was not sent to me. If it was a command, please send \
         it again. If that does not help, your client may send keys to verified devices only: \
         `!upgrade doctor` says whether mine is.",
    )
}

/// A file that cannot be sent. `status` is the server's answer, `said` its own words.
pub(crate) fn file_not_sent(name: &str, status: Option<u16>, said: Option<&str>) -> Text {
    let why = match (status, said) {
        (Some(TOO_LARGE), _) => "it is too large for this server".to_owned(),
        (_, Some(said)) => format!("the server refused it: {said}"),
        (Some(status), None) => format!("the server answers with error {status}"),
        (None, None) => "the server does not answer".to_owned(),
    };
    Doc::new()
        .line(&[
            Span::Text("I could not send the file ".to_owned()),
            Span::Code(name.to_owned()),
            Span::Text(format!(
                ": {why}. The server's admin may know more. To try again, send the command once more."
            )),
        ])
        .finish()
}

/// A command that lay about while the bot was away.
pub(crate) fn too_old(age: &str) -> Text {
    lines(&format!(
        "I was offline and saw this {age} late, so I ignored it. Send it again if you still want it."
    ))
}

/// A command that was read in a room that the bot was not in any more.
pub(crate) fn not_here() -> Text {
    lines(
        "I was not in this room any more when I got to this, and could not see who may command here, so \
         I did nothing. Please send it again if you still want it.",
    )
}

/// A command that was edited before it was read.
pub(crate) fn edited() -> Text {
    lines(
        "You edited this before I got to it, so I did nothing. If you want it, please send the command \
         again as a new message.",
    )
}

/// A command, or a yes, that was taken back before the upgrade had begun.
pub(crate) fn taken_back(id: WorkId, by: &UserId, how: TakenBack) -> Text {
    let what = match id {
        WorkId::Job(id) => format!("upgrade #{id}"),
        WorkId::Campaign(id) => format!("campaign {id}"),
    };
    let how = match how {
        TakenBack::Edited => "edited",
        TakenBack::Removed => "removed",
    };
    Doc::new()
        .line(&[
            Span::Code(by.to_string()),
            Span::Text(format!(
                " {how} the message or reaction that {what} rests on, before it began. So {what} is \
                 cancelled, and nothing was changed. To have it after all, please send the command again."
            )),
        ])
        .finish()
}

/// Another database has taken over the account.
pub(crate) fn replaced(by: &DatabaseMark) -> Text {
    lines(&format!(
        "Another Roomlift works with my account now: with the database {}, since {}. I finish what I have \
         begun, begin nothing else, and take no more commands. Whoever runs me can stop me then. If it \
         should be me instead: stop the other one, and start me with `roomlift run --take-over`.",
        by.database,
        moment::moment(by.since, "UTC")
    ))
}

/// Something went wrong that the log explains.
pub(crate) fn unexpected() -> Text {
    lines(
        "Something unexpected went wrong, and I did nothing. Whoever runs me finds the cause in the log.",
    )
}

/// A command is about something whose log cannot be read.
pub(crate) fn unreadable_work() -> Text {
    lines(
        "I cannot read what is stored of that, so I changed nothing. Was it written by a newer version of Roomlift? Then run that one. My log says more.",
    )
}

/// Work in a list whose log cannot be read.
pub(crate) fn unreadable_line(id: WorkId) -> Vec<Span> {
    let id = match id {
        WorkId::Job(id) => format!("#{id}: "),
        WorkId::Campaign(id) => format!("{id}: "),
    };
    let words = "I cannot read what is stored of it; my log says more";
    vec![Span::Bold(id), Span::Text(words.to_owned())]
}

/// Somebody sends more commands than are answered.
pub(crate) fn too_many(sender: &UserId) -> Text {
    lines(&format!(
        "`{sender}`, these are too many commands. I do not answer more of yours for a minute; please send \
         them again then."
    ))
}

/// The bot is not in another admin room any more.
pub(crate) fn admin_room_lost(room: &RoomId, bot: &UserId) -> Text {
    lines(&format!(
        "I am not in the admin room `{room}`, so commands there are not heard. To mend that, somebody there \
         invites me: `/invite {bot}`. Here, everything continues."
    ))
}

pub(crate) fn status(job: &Job, state: &State, now: Timestamp) -> Text {
    report::report(job, state).unwrap_or_else(|| progress(job, state, now))
}

/// Campaigns, as lines that are made already, and jobs, a line each; and when older ones were removed last.
pub(crate) fn list(
    campaigns: &[Vec<Span>],
    jobs: &[(Job, State)],
    removed: Option<Timestamp>,
    now: Timestamp,
    nothing: &str,
) -> Text {
    if jobs.is_empty() && campaigns.is_empty() && removed.is_none() {
        return lines(nothing);
    }
    let mut doc = Doc::new();
    for line in campaigns {
        doc = doc.item(line);
    }
    for (job, state) in jobs {
        let label = state.plan.as_ref().map_or_else(
            || job.request.named.name.to_string(),
            |plan| plan.label.clone(),
        );
        let mut line = vec![Span::Bold(format!("#{} {}: ", job.id, standing(state)))];
        line.extend(room(&label, &job.request.old_room, &[]));
        let todos = report::todos(state).len();
        if todos > 0 {
            line.push(Span::Text(format!(
                ", {} left for you",
                super::count(todos, "thing", "things")
            )));
        }
        line.push(Span::Text(format!(
            ", requested by {} {} ago",
            job.request.sender,
            until(now, job.created_at)
        )));
        doc = doc.item(&line);
    }
    if let Some(at) = removed {
        doc = doc.line(&own(&format!(
            "I removed the records of upgrades that ended long ago, the last on {}.",
            moment::moment(at, "UTC")
        )));
    }
    doc.finish()
}

fn standing(state: &State) -> String {
    match (state.hold, sleeping(state)) {
        (Hold::Paused, _) if state.phase == Phase::Running => "paused".to_owned(),
        (_, Some(sleep)) => format!("scheduled for {}", moment::start(&sleep.schedule.start)),
        (_, None) => phase(state.phase).to_owned(),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Planning => "being planned",
        Phase::Planned => "waits for a yes",
        Phase::Running => "at work",
        Phase::InReview => "waits for a yes to the new room",
        Phase::RollingBack => "being taken back",
        Phase::Stuck => "stuck",
        Phase::Done => "done",
        Phase::Closed => "preview",
        Phase::Cancelled => "cancelled",
        Phase::Expired => "expired",
        Phase::Failed => "not done",
    }
}
