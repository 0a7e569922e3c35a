//! Which jobs and campaigns a caller knows of, and what they may do to those and to rooms (P5): the one
//! check that every command and reaction goes through which changes any of them.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use ruma::RoomId;

use super::{Call, Desk, HandleError, folded, folded_campaign};
use crate::campaign::{Campaign, State as CampaignState};
use crate::command::Need;
use crate::config::TargetPower;
use crate::job::{Job, State};
use crate::message::answer;
use crate::model::{CampaignId, JobId, JobRef, Text, WorkId};
use crate::permissions::{self, Decision, Denial, Facts};
use crate::room::power::Allowance;
use crate::store::StoreError;
use crate::survey;

/// Rooms of a campaign whose power levels are read at a time.
const ROOMS_AT_ONCE: usize = 8;

/// What somebody wants to do something to.
#[derive(Clone, Copy)]
pub(super) enum Work<'a> {
    Job(&'a Job),
    Campaign(&'a Campaign),
}

impl Desk {
    /// Whether the caller may do something to a job or campaign; `Some` says why not. For a campaign, what
    /// is asked for in a room is asked for in each of its rooms.
    pub(super) async fn authorise(
        &self,
        call: &Call<'_>,
        work: Work<'_>,
        need: Need,
    ) -> Result<Option<Denial>, HandleError> {
        let campaign = match work {
            Work::Job(job) => return self.denial(call, need, &job.request.old_room).await,
            Work::Campaign(campaign) => campaign,
        };
        let space = &campaign.request.space;
        let rooms = self.store.children(campaign.id)?;
        if rooms.is_empty() {
            // They are still being looked for.
            return self.denial(call, need, space).await;
        }
        let denial = self.denial_in_scope(call, need, space).await?;
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

    /// Whether the caller may change a job or campaign.
    pub(super) async fn may_change(
        &self,
        call: &Call<'_>,
        work: Work<'_>,
    ) -> Result<bool, HandleError> {
        Ok(self.authorise(call, work, Need::Change).await?.is_none())
    }

    /// Whether the caller may do something to a room; `Some` says why not.
    pub(super) async fn denial(
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

    /// The same, apart from power in the room itself.
    pub(super) async fn denial_in_scope(
        &self,
        call: &Call<'_>,
        need: Need,
        room: &RoomId,
    ) -> Result<Option<Denial>, HandleError> {
        self.denial_with(call, need, room, None).await
    }

    async fn denial_with(
        &self,
        call: &Call<'_>,
        need: Need,
        room: &RoomId,
        target: Option<Allowance>,
    ) -> Result<Option<Denial>, HandleError> {
        let rules = &call.office.rules;
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

    /// A job of the caller's admin room; jobs of other admin rooms are none of theirs.
    pub(super) fn job(
        &self,
        call: &Call<'_>,
        id: JobId,
    ) -> Result<Option<(Job, State)>, StoreError> {
        let job = self
            .store
            .job(id)?
            .filter(|job| job.request.admin_room == call.office.room_id);
        job.map(folded).transpose()
    }

    /// A job of the caller's admin room that the caller may change; `Err` is what to answer.
    pub(super) async fn job_to_change(
        &self,
        call: &Call<'_>,
        id: JobId,
    ) -> Result<Result<(Job, State), Text>, HandleError> {
        let Some((job, state)) = self.job(call, id)? else {
            return Ok(Err(self.no_such(call, WorkId::Job(id))?));
        };
        let denial = self.authorise(call, Work::Job(&job), Need::Change);
        Ok(match denial.await? {
            Some(denial) => Err(answer::denied(denial)),
            None => Ok((job, state)),
        })
    }

    /// What is said of a number that nothing has in the caller's admin room: it may have been removed.
    pub(super) fn no_such(&self, call: &Call<'_>, id: WorkId) -> Result<Text, StoreError> {
        Ok(match (self.store.pruned(id, &call.office.room_id)?, id) {
            (Some(at), _) => answer::pruned(id, at),
            (None, WorkId::Job(id)) => answer::no_such_job(id),
            (None, WorkId::Campaign(id)) => answer::no_such_campaign(id),
        })
    }

    /// A campaign of the caller's admin room.
    pub(super) fn campaign(
        &self,
        call: &Call<'_>,
        id: CampaignId,
    ) -> Result<Option<(Campaign, CampaignState)>, StoreError> {
        let campaign = self
            .store
            .campaign(id)?
            .filter(|campaign| campaign.request.admin_room == call.office.room_id);
        campaign.map(folded_campaign).transpose()
    }

    /// A campaign of the caller's admin room that the caller may change; `Err` is what to answer.
    pub(super) async fn campaign_to_change(
        &self,
        call: &Call<'_>,
        id: CampaignId,
    ) -> Result<Result<(Campaign, CampaignState), Text>, HandleError> {
        let Some((campaign, state)) = self.campaign(call, id)? else {
            return Ok(Err(self.no_such(call, WorkId::Campaign(id))?));
        };
        let denial = self.authorise(call, Work::Campaign(&campaign), Need::Change);
        Ok(match denial.await? {
            Some(denial) => Err(answer::denied(denial)),
            None => Ok((campaign, state)),
        })
    }

    /// A job by number or room; `Err` is what to answer where there is none.
    pub(super) async fn named_job(
        &self,
        call: &Call<'_>,
        of: &JobRef,
    ) -> Result<Result<(Job, State), Text>, HandleError> {
        let room = match of {
            JobRef::Id(id) => {
                return Ok(match self.job(call, *id)? {
                    Some(found) => Ok(found),
                    None => Err(self.no_such(call, WorkId::Job(*id))?),
                });
            }
            JobRef::Campaign(id) => {
                return Ok(Err(self.no_such(call, WorkId::Campaign(*id))?));
            }
            JobRef::Room(room) => room,
        };
        let Some(id) = survey::find(&*self.port, room).await? else {
            return Ok(Err(answer::no_such_room(&room.name)));
        };
        let job = self.store.latest_job_for(&call.office.room_id, &id)?;
        Ok(job
            .map(folded)
            .transpose()?
            .ok_or_else(|| answer::no_job_for(&room.name)))
    }
}

/// Whether the caller also needs power in the rooms themselves.
fn needs_target_power(call: &Call<'_>, need: Need) -> bool {
    need == Need::Change && call.office.rules.target_power == TargetPower::Needed
}
