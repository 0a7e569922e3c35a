//! What a caller may do to jobs, campaigns and rooms (P5): the one check that every command and reaction goes
//! through which changes any of them.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ruma::RoomId;

use super::lookup::Work;
use super::{Call, HandleError, HandlerContext};
use crate::command::Need;
use crate::config::TargetPower;
use crate::message::answer;
use crate::permissions::{self, Decision, Denial, Facts};
use crate::room::level::Allowance;
use crate::survey;

/// Rooms of a campaign whose power levels are read at a time.
const ROOMS_AT_ONCE: usize = 8;

impl HandlerContext {
    /// Refuses what the caller may not do to a job or campaign. For a campaign, what is asked for in a room
    /// is asked for in each of its rooms.
    pub(super) async fn authorise(
        &self,
        call: &Call<'_>,
        work: &Work,
        need: Need,
    ) -> Result<(), HandleError> {
        allowed(self.denial_of(call, work, need).await?)
    }

    /// Refuses what the caller may not do to a room.
    pub(super) async fn authorise_room(
        &self,
        call: &Call<'_>,
        need: Need,
        room: &RoomId,
    ) -> Result<(), HandleError> {
        allowed(self.denial(call, need, room).await?)
    }

    /// The same, apart from power in the room itself.
    pub(super) async fn authorise_in_scope(
        &self,
        call: &Call<'_>,
        need: Need,
        room: &RoomId,
    ) -> Result<(), HandleError> {
        allowed(self.denial_with(call, need, room, None).await?)
    }

    /// Whether the caller may change a job or campaign.
    pub(super) async fn may_change(
        &self,
        call: &Call<'_>,
        work: &Work,
    ) -> Result<bool, HandleError> {
        Ok(self.denial_of(call, work, Need::Change).await?.is_none())
    }

    async fn denial_of(
        &self,
        call: &Call<'_>,
        work: &Work,
        need: Need,
    ) -> Result<Option<Denial>, HandleError> {
        let campaign = match work {
            Work::Job(job, _) => return self.denial(call, need, &job.request.old_room).await,
            Work::Campaign(campaign, _) => campaign,
        };
        let space = &campaign.request.space;
        let rooms = self.store.children(campaign.id)?;
        if rooms.is_empty() {
            // They are still being looked for.
            return self.denial(call, need, space).await;
        }
        let denial = self.denial_with(call, need, space, None).await?;
        if denial.is_some() || !needs_target_power(call, need) {
            return Ok(denial);
        }
        let powers = stream::iter(rooms)
            .map(async |room| {
                survey::target_power(&*self.port, &room.old_room, call.sender()).await
            })
            .buffered(ROOMS_AT_ONCE);
        let denial = powers.try_filter_map(async |power| {
            Ok(match power {
                Some(Allowance::Short { needed, .. }) => Some(Denial::CampaignPower { needed }),
                // In a room that the bot is not in, it can do nothing either.
                Some(Allowance::Allowed) | None => None,
            })
        });
        Ok(Box::pin(denial).try_next().await?)
    }

    async fn denial(
        &self,
        call: &Call<'_>,
        need: Need,
        room: &RoomId,
    ) -> Result<Option<Denial>, HandleError> {
        let target = if needs_target_power(call, need) {
            let power = survey::target_power(&*self.port, room, call.sender()).await?;
            Some(power.unwrap_or(Allowance::UNKNOWN))
        } else {
            None
        };
        self.denial_with(call, need, room, target).await
    }

    async fn denial_with(
        &self,
        call: &Call<'_>,
        need: Need,
        room: &RoomId,
        target: Option<Allowance>,
    ) -> Result<Option<Denial>, HandleError> {
        let rules = &call.admin_room.rules;
        let within = survey::within(&*self.port, &rules.scope, room).await?;
        let facts = Facts {
            power: call.power.power(call.sender()),
            within,
            target,
        };
        Ok(match permissions::decide(rules, need, &facts) {
            Decision::Allow => None,
            Decision::Deny(denial) => Some(denial),
        })
    }
}

fn allowed(denial: Option<Denial>) -> Result<(), HandleError> {
    match denial {
        None => Ok(()),
        Some(denial) => Err(answer::denied(denial).into()),
    }
}

/// Whether the caller also needs power in the rooms themselves.
fn needs_target_power(call: &Call<'_>, need: Need) -> bool {
    need == Need::Change && call.admin_room.rules.target_power == TargetPower::Needed
}
