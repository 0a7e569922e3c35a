//! The jobs, campaigns and rooms that a caller means. What is not there, or is none of theirs, is refused.

use ruma::OwnedRoomId;
use tracing::error;

use super::authorise::Work;
use super::{Call, HandleError, HandlerContext};
use crate::campaign::{Campaign, State as CampaignState};
use crate::census;
use crate::command::Need;
use crate::job::{Job, Phase, State};
use crate::message::answer;
use crate::model::{CampaignId, JobId, JobRef, RoomRef, WorkId};
use crate::room::moves::Moves;
use crate::store::StoreError;
use crate::survey;
use crate::telemetry::chain;
use crate::work::{self, Logged};

impl HandlerContext {
    /// A job of the caller's admin room; jobs of other admin rooms are none of theirs.
    pub(super) fn job(&self, call: &Call<'_>, id: JobId) -> Result<(Job, State), HandleError> {
        let job = self
            .store
            .job(id)?
            .filter(|job| job.request.admin_room == call.admin_room.room_id);
        match job {
            Some(job) => Ok(with_state(job)?),
            None => Err(self.no_such(call, WorkId::Job(id))?),
        }
    }

    /// A job of the caller's admin room that the caller may change.
    pub(super) async fn job_to_change(
        &self,
        call: &Call<'_>,
        id: JobId,
    ) -> Result<(Job, State), HandleError> {
        let (job, state) = self.job(call, id)?;
        self.authorise(call, Work::Job(&job), Need::Change).await?;
        Ok((job, state))
    }

    /// A campaign of the caller's admin room.
    pub(super) fn campaign(
        &self,
        call: &Call<'_>,
        id: CampaignId,
    ) -> Result<(Campaign, CampaignState), HandleError> {
        let campaign = self
            .store
            .campaign(id)?
            .filter(|campaign| campaign.request.admin_room == call.admin_room.room_id);
        match campaign {
            Some(campaign) => Ok(with_state(campaign)?),
            None => Err(self.no_such(call, WorkId::Campaign(id))?),
        }
    }

    /// A campaign of the caller's admin room that the caller may change.
    pub(super) async fn campaign_to_change(
        &self,
        call: &Call<'_>,
        id: CampaignId,
    ) -> Result<(Campaign, CampaignState), HandleError> {
        let (campaign, state) = self.campaign(call, id)?;
        let work = Work::Campaign(&campaign);
        self.authorise(call, work, Need::Change).await?;
        Ok((campaign, state))
    }

    /// What is said of a number that nothing has in the caller's admin room: it may have been removed.
    fn no_such(&self, call: &Call<'_>, id: WorkId) -> Result<HandleError, StoreError> {
        let text = match (self.store.pruned(id, &call.admin_room.room_id)?, id) {
            (Some(at), _) => answer::pruned(id, at),
            (None, WorkId::Job(id)) => answer::no_such_job(id),
            (None, WorkId::Campaign(id)) => answer::no_such_campaign(id),
        };
        Ok(text.into())
    }

    /// A job by number or room.
    pub(super) async fn named_job(
        &self,
        call: &Call<'_>,
        of: &JobRef,
    ) -> Result<(Job, State), HandleError> {
        let room = match of {
            JobRef::Id(id) => return self.job(call, *id),
            JobRef::Campaign(id) => return Err(self.no_such(call, WorkId::Campaign(*id))?),
            JobRef::Room(room) => room,
        };
        let id = self.find(room).await?;
        let job = self.store.latest_job_for(&call.admin_room.room_id, &id)?;
        Ok(with_state(
            job.ok_or_else(|| answer::no_job_for(&room.name))?,
        )?)
    }

    /// The id of a room that was named.
    pub(super) async fn find(&self, room: &RoomRef) -> Result<OwnedRoomId, HandleError> {
        let id = survey::find(&*self.port, room).await?;
        Ok(id.ok_or_else(|| answer::no_such_room(&room.name))?)
    }

    /// Jobs of a campaign that stand at one of these, whole.
    pub(super) fn children_in(
        &self,
        id: CampaignId,
        phases: &[Phase],
    ) -> Result<Vec<(Job, State)>, StoreError> {
        let children = self.store.children(id)?;
        children
            .iter()
            .filter(|child| phases.contains(&child.phase))
            .filter_map(|child| self.store.job(child.id).transpose())
            .filter_map(|job| match job.and_then(with_state) {
                Err(error) if error.is_about_one_row() => {
                    error!(
                        error = chain(&error),
                        "a job cannot be read, and is left out"
                    );
                    None
                }
                found => Some(found),
            })
            .collect()
    }

    /// The finished jobs of a campaign whose members are followed.
    pub(super) fn followed_in(&self, id: CampaignId) -> Result<Vec<(Job, State)>, StoreError> {
        let mut followed = Vec::new();
        for (job, state) in self.children_in(id, &[Phase::Done])? {
            if self.store.is_followed(job.id)? {
                followed.push((job, state));
            }
        }
        Ok(followed)
    }

    /// Who of a finished upgrade's old room has come to the new one.
    pub(super) async fn moves(&self, job: &Job, state: &State) -> Result<Moves, HandleError> {
        let moves = self.moves_if_done(job, state).await?;
        Ok(moves.ok_or_else(|| answer::wrong_moment(job.id, state))?)
    }

    pub(super) async fn moves_if_done(
        &self,
        job: &Job,
        state: &State,
    ) -> Result<Option<Moves>, HandleError> {
        if state.phase != Phase::Done {
            return Ok(None);
        }
        let moves = census::take(&self.store, &*self.port, &*self.clock, job, state);
        Ok(moves.await?)
    }
}

fn with_state<S: work::State>(work: Logged<S>) -> Result<(Logged<S>, S), StoreError> {
    let state = work.state()?;
    Ok((work, state))
}
