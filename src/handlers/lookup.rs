//! The jobs, campaigns and rooms that a caller means. What is not there, or is none of theirs, is refused.

use ruma::OwnedRoomId;
use tracing::error;

use super::{Call, HandleError, HandlerContext};
use crate::campaign::{Campaign, State as CampaignState};
use crate::census;
use crate::command::Need;
use crate::job::{Job, Phase, State};
use crate::message::answer;
use crate::model::{CampaignId, JobRef, RoomRef, Text, WorkId};
use crate::room::moves::Moves;
use crate::store::{Filter, StoreError, Write};
use crate::survey;
use crate::telemetry::chain;
use crate::work::{self, Logged};

/// Jobs, and campaigns, that are changed at once by a command without a number.
const ALL_MAX: usize = 1000;

/// What a command is about.
#[expect(clippy::large_enum_variant, reason = "a command has one of them")]
pub(super) enum Work {
    Job(Job, State),
    /// Those of a space.
    Campaign(Campaign, CampaignState),
}

impl From<(Job, State)> for Work {
    fn from((job, state): (Job, State)) -> Self {
        Self::Job(job, state)
    }
}

impl From<(Campaign, CampaignState)> for Work {
    fn from((campaign, state): (Campaign, CampaignState)) -> Self {
        Self::Campaign(campaign, state)
    }
}

impl Work {
    /// What is said where a command does not fit the phase.
    pub(super) fn wrong_moment(&self) -> Text {
        match self {
            Self::Job(job, state) => answer::wrong_moment(job.id, state),
            Self::Campaign(campaign, state) => {
                answer::wrong_moment_of(campaign.id, state.phase, state.course)
            }
        }
    }

    pub(super) fn id(&self) -> WorkId {
        match self {
            Self::Job(job, _) => job.id.into(),
            Self::Campaign(campaign, _) => campaign.id.into(),
        }
    }
}

impl HandlerContext {
    /// Work of the caller's admin room; that of other admin rooms is none of theirs.
    pub(super) fn work(&self, call: &Call<'_>, id: WorkId) -> Result<Work, HandleError> {
        let here = &call.admin_room.room_id;
        let work = match id {
            WorkId::Job(id) => {
                let job = self.store.job(id)?;
                let job = job.filter(|job| job.request.admin_room == *here);
                job.map(with_state).transpose()?.map(Work::from)
            }
            WorkId::Campaign(id) => {
                let campaign = self.store.campaign(id)?;
                let campaign = campaign.filter(|campaign| campaign.request.admin_room == *here);
                campaign.map(with_state).transpose()?.map(Work::from)
            }
        };
        work.map_or_else(|| Err(self.no_such(call, id)?), Ok)
    }

    /// Work of the caller's admin room that the caller may change.
    pub(super) async fn to_change(&self, call: &Call<'_>, id: WorkId) -> Result<Work, HandleError> {
        let work = self.work(call, id)?;
        self.authorise(call, &work, Need::Change).await?;
        Ok(work)
    }

    /// Changes everything of the caller's admin room that may still do something. What they may not change by
    /// its number, they may not change along with others either.
    pub(super) async fn change_all(
        &self,
        call: &Call<'_>,
        change: impl Fn(&Work) -> Result<Option<Vec<Write>>, HandleError>,
    ) -> Result<Vec<Write>, HandleError> {
        let here = &call.admin_room.room_id;
        let campaigns = self.store.campaigns(here, Filter::Active, ALL_MAX)?;
        let jobs = self.store.jobs(here, Filter::Active, ALL_MAX)?;
        let campaigns = campaigns
            .into_iter()
            .map(|campaign| with_state(campaign).map(Work::from));
        let jobs = jobs.into_iter().map(|job| with_state(job).map(Work::from));
        let mut writes = Vec::new();
        // What cannot be read is left out.
        for work in campaigns.chain(jobs).flatten() {
            if let Some(more) = change(&work)?
                && self.may_change(call, &work).await?
            {
                writes.extend(more);
            }
        }
        Ok(writes)
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

    /// Work by number or room.
    pub(super) async fn named(&self, call: &Call<'_>, of: &JobRef) -> Result<Work, HandleError> {
        let room = match of {
            JobRef::Id(id) => return self.work(call, WorkId::Job(*id)),
            JobRef::Campaign(id) => return self.work(call, WorkId::Campaign(*id)),
            JobRef::Room(room) => room,
        };
        let id = self.find(room).await?;
        let job = self.store.latest_job_for(&call.admin_room.room_id, &id)?;
        let job = job.ok_or_else(|| answer::no_job_for(&room.name))?;
        Ok(with_state(job)?.into())
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
