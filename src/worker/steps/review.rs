//! Shows the new room to the moderators before anything leads there: invites them, and says in the
//! admin room what is in it. The yes or no is a command or a reaction, as for a plan.

use std::time::Duration;

use super::super::inviter::{Invited, Inviter};
use super::close::{self, Stage};
use super::{Done, JobRun, StepError, plan_of, staged_room};
use crate::announce::asking;
use crate::clock::later;
use crate::job::{Job, Output, State, Step, Todo, why_missing};
use crate::message::review;
use crate::room::diff::diff;
use crate::room::level::Power;
use crate::room::state::Membership;
use crate::store::post_key::Asked;
use crate::{permissions, survey};

/// How long moderators may look before the room is taken back.
const REVIEW_MAX: Duration = Duration::from_hours(7 * 24);

/// Moderators who are invited; a management room with more has its own ways to share a link.
const INVITED_MAX: usize = 30;

const REASON: &str = "Please look at the new room before anybody is sent here";

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let plan = plan_of(state)?;
    let new_room = staged_room(state)?;
    let seen = close::read(job_run, job, plan, &new_room, Stage::Staged).await?;
    let admin_room = survey::joined_state(&*job_run.port, &job.request.admin_room).await?;
    let admin_room = admin_room.ok_or(StepError::NotInAdminRoom)?;
    let needed = permissions::admin_room(&job_run.setup.admin_rooms, &job.request.admin_room)
        .map_or(i64::MAX, |room| room.rules.command_level);
    let power = admin_room.power();
    let moderators = admin_room
        .members(Membership::Join)
        .filter(|user| power.power(user) >= Power::Level(needed))
        .filter(|user| seen.now.new.event("m.room.member", user.as_str()).is_none())
        .take(INVITED_MAX);
    let mut inviter = Inviter::new(&*job_run.port, &new_room, REASON);
    let mut missed = Vec::new();
    for user in moderators {
        match inviter.invite(&user).await? {
            Invited::Yes => {}
            // They are told the room's id, and can ask somebody inside.
            Invited::Refused { .. } | Invited::Away => missed.push(user),
        }
    }
    // What leads to the room comes with the switch, and is no part of this target.
    let refused = match state.outputs.get(&Step::Populate) {
        Some(Output::Closed { refused, .. }) => refused.as_slice(),
        _ => &[],
    };
    let differences: Vec<_> = diff(&seen.target, &seen.now)
        .into_iter()
        .map(|change| Todo {
            obstacle: why_missing(&change, refused),
            change,
        })
        .collect();
    let now = job_run.clock.now();
    let until = later(now, REVIEW_MAX);
    let shown = review::Shown {
        new_room: &new_room,
        state: &seen.now.new,
        differences: &differences,
        missed: &missed,
        until,
    };
    let text = review::review(job.id, plan, &shown, now);
    Ok(Done::Output {
        output: Output::Reviewed { until },
        writes: asking(job, Asked::Review, &plan.hash, text),
    })
}
