//! A campaign as people read it: its plan, the one message that follows it, and how it ended.
//!
//! An event may be 64 kB, and an edit carries a text twice: long lists are cut, and what is left out
//! is counted. Left out: one room's own plan and report, which read like those of any other job.

mod follow_up;
mod plan;
mod progress;
mod report;

pub(crate) use follow_up::ended;
pub(crate) use plan::{Planned, Rooms, plan};
pub(crate) use progress::{planning, progress};
pub(crate) use report::{Open, report};

use jiff::Timestamp;
use ruma::{OwnedRoomId, OwnedServerName, UserId};

use super::doc::{Span, own, room};
use super::{count, finding, until};
use crate::campaign::rooms::{LeftOut, Why};
use crate::campaign::{Campaign, Child, Course, Found, Phase, State};
use crate::job::log::{Again, Hold};
use crate::job::{Phase as JobPhase, WaitReason};
use crate::model::CampaignId;

/// Rooms that are listed in a message that is edited; the rest is counted.
const ROOMS_SHOWN_MAX: usize = 40;

/// What people call the space of a campaign.
pub(crate) fn label(campaign: &Campaign, state: &State) -> String {
    let found = state
        .found
        .as_ref()
        .map(|found: &Found| found.label.clone());
    found.unwrap_or_else(|| campaign.request.named.name.to_string())
}

/// A campaign in a list.
pub(crate) fn line(
    campaign: &Campaign,
    state: &State,
    children: &[Child],
    now: Timestamp,
) -> Vec<Span> {
    let done = children.iter().filter(|child| child.is_moved()).count();
    let mut spans = vec![Span::Bold(format!(
        "{} {}: ",
        campaign.id,
        standing(state.phase, state.course)
    ))];
    spans.extend(room(&label(campaign, state), &campaign.request.space, &[]));
    spans.push(Span::Text(format!(
        ", {done} of {}, requested by {} {} ago",
        count(children.len(), "room", "rooms"),
        campaign.request.sender,
        until(now, campaign.created_at)
    )));
    spans
}

/// Where a campaign stands, in a word or two.
fn standing(phase: Phase, course: Course) -> &'static str {
    match (phase, course) {
        (Phase::Finding, _) => "looks for its rooms",
        (Phase::Planning, _) => "is being planned",
        (Phase::Planned, _) => "waits for a yes",
        (Phase::Running, Course::On) => "is at work",
        (Phase::Running, Course::Paused) => "is paused",
        (Phase::Running, Course::Stopped) => "is being stopped",
        (Phase::Done, Course::Stopped) => "was stopped",
        (Phase::Done, _) => "is done",
        (Phase::Closed, _) => "was only a plan",
        (Phase::Cancelled, _) => "was cancelled",
        (Phase::Expired, _) => "expired",
    }
}

/// A room of the campaign, by its label.
fn of_child(child: &Child, server: &OwnedServerName) -> Vec<Span> {
    let label = match child.summary.label.as_str() {
        "" => child.old_room.as_str(),
        label => label,
    };
    match &child.summary.new_room {
        Some(new) => room(label, new, std::slice::from_ref(server)),
        None => room(label, &child.old_room, &[]),
    }
}

/// Where a room of the campaign stands.
fn how(child: &Child, bot: &UserId, now: Timestamp) -> Vec<Span> {
    let id = child.id;
    let text = |text: &str| vec![Span::Text(text.to_owned())];
    let problem = || {
        let problem = child.summary.problem.clone().unwrap_or_default();
        vec![Span::Text(problem)]
    };
    match child.phase {
        JobPhase::Planning => text("its plan is being made"),
        JobPhase::Planned if child.asks_itself() => own(&format!(
            "has changed; confirm it separately: `!upgrade confirm {id}`"
        )),
        JobPhase::Planned => text("waits for its turn"),
        JobPhase::Running if child.summary.hold == Hold::Paused => {
            own(&format!("paused; `!upgrade resume {id}` makes it go on"))
        }
        JobPhase::Running => {
            let step = child.summary.step.map_or("", super::progress::doing);
            match &child.summary.waiting {
                Some((then, reason)) if *then > now => {
                    text(&format!("{step}; {} {}", waits(reason), until(*then, now)))
                }
                _ => text(step),
            }
        }
        JobPhase::InReview => own(&format!("waits for your yes: `!upgrade confirm {id}`")),
        JobPhase::RollingBack => text("is being taken back"),
        JobPhase::Stuck => [
            problem(),
            own(&format!(" It is stuck: `!upgrade retry {id}` goes on.")),
        ]
        .concat(),
        JobPhase::Done if child.summary.todos > 0 => own(&format!(
            "done; {} left for you: `!upgrade status {id}`",
            count(child.summary.todos, "thing", "things")
        )),
        JobPhase::Done => text("done"),
        JobPhase::Closed => match &child.summary.blocker {
            Some(blocker) => finding::line(blocker, bot),
            None => text("only planned"),
        },
        JobPhase::Cancelled => text("not done: it was cancelled"),
        JobPhase::Expired => {
            text("not done: nobody said yes in time, or another upgrade took its place")
        }
        JobPhase::Failed => match child.summary.again {
            Again::MayHelp => [
                problem(),
                own(&format!(" To try again: `!upgrade retry {id}`.")),
            ]
            .concat(),
            Again::Useless | Again::Overtaken => {
                own(child.summary.problem.as_deref().unwrap_or_default())
            }
        },
    }
}

/// What a wait is for, before a length of time.
fn waits(reason: &WaitReason) -> String {
    match reason {
        WaitReason::RateLimit { bucket } => {
            format!("the server limits {bucket}, and lets it go on in")
        }
        WaitReason::Scheduled => "it begins in".to_owned(),
        WaitReason::Unreachable => "the server does not answer; next try in".to_owned(),
        WaitReason::ServerError { status } => {
            format!("the server answers with error {status}; next try in")
        }
        WaitReason::AccountBlocked { code } => {
            format!("the server does not let my account do anything ({code}); next try in")
        }
        WaitReason::Settling => "the server may still be working; next look in".to_owned(),
        WaitReason::NotInAdminRoom => "I was not in this room; next look in".to_owned(),
        WaitReason::Problem { problem } => format!("{problem} Next try in"),
    }
}

/// Why a room is left out.
fn why(left: &LeftOut, id: CampaignId) -> String {
    match &left.why {
        Why::HasVersion => "has that version already".to_owned(),
        Why::IsNewer { version } => format!("has the newer version {version}"),
        Why::Replaced => "was replaced already".to_owned(),
        Why::NotJoined => "I am not in it".to_owned(),
        Why::NoTargetPower { needed } => {
            format!("it takes power level {needed} there, and yours is lower")
        }
        Why::AdminRoom => format!(
            "admin room; upgrade it separately: `!upgrade {} --yes-this-room`",
            left.room
        ),
        Why::NotMeant => "not asked for".to_owned(),
        Why::TooMany => format!("too many for one campaign; run the command again after {id}"),
    }
}

/// A room that is left out.
fn of_left_out(left: &LeftOut) -> Vec<Span> {
    room(&left.label, &left.room, &[])
}

/// Rooms with something behind each, cut at a limit.
fn listed<T>(
    doc: super::doc::Doc,
    summary: &str,
    rooms: &[T],
    max: usize,
    line: impl Fn(&T) -> Vec<Span>,
) -> super::doc::Doc {
    let mut items: Vec<_> = rooms.iter().take(max).map(line).collect();
    if rooms.len() > max {
        items.push(own(&format!("and {} more", rooms.len() - max)));
    }
    doc.folded(summary, &items)
}

/// The server that new rooms are reached by.
fn server(bot: &UserId) -> OwnedServerName {
    bot.server_name().to_owned()
}

/// The old space or the new one: the one that a link should lead to now.
pub(crate) fn space_now(campaign: &Campaign, children: &[Child]) -> OwnedRoomId {
    children
        .iter()
        .find(|child| child.old_room == campaign.request.space)
        .and_then(|child| child.summary.new_room.clone())
        .unwrap_or_else(|| campaign.request.space.clone())
}

#[cfg(test)]
mod fixture {
    use super::*;
    use crate::campaign::{Narrow, Request};
    use crate::model::{Confirmation, RoomName, RoomRef, UpgradeOptions};

    pub(super) fn campaign() -> Campaign {
        let space: OwnedRoomId = "!space:x".try_into().unwrap();
        Campaign {
            id: CampaignId(1),
            request: Request {
                named: RoomRef {
                    name: RoomName::Id(space.clone()),
                    via: Vec::new(),
                },
                space,
                options: UpgradeOptions::default(),
                narrow: Narrow::default(),
                confirmation: Confirmation::Ask,
                sender: "@maria:x".try_into().unwrap(),
                admin_room: "!admin:x".try_into().unwrap(),
                command_event: "$command".try_into().unwrap(),
            },
            asked_in: "!admin:x".try_into().unwrap(),
            created_at: Timestamp::UNIX_EPOCH,
            log: Vec::new(),
        }
    }
}
