//! Runs a campaign: asks its state what is next, given where its jobs stand, and does that.
//!
//! As with jobs, nothing is decided here: [`State::next_action`] does, from the log and the jobs, so that
//! continuing after a crash is the same path as the first run. Every run also sees to it that the admin room is
//! told. Left out: moving rooms, which the jobs do.

mod find;
mod link;

use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::failure;
use super::{Worker, look_again};
use crate::announce;
use crate::campaign::log::{Action, WAIT_MAX};
use crate::campaign::{self, Campaign, Child, Entry, Phase, State};
use crate::clock::{backoff, later};
use crate::config::MissedStart;
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::schedule::{self, Sleep};
use crate::job::{Entry as JobEntry, Phase as JobPhase, Refusal, Schedule, WaitReason};
use crate::message::campaign::{Open, Planned, Rooms, plan};
use crate::message::plan::PlanReason;
use crate::model::{CampaignId, Confirmation, JobId, WorkId};
use crate::store::{StoreError, Write};
use crate::telemetry::chain;

/// How often a campaign waits for sync to tell of rooms that it joined or made.
const SYNC_WAITS_MAX: u32 = 30;

/// How long each time.
const SYNC_WAIT: Duration = Duration::from_secs(1);

/// To-dos that a report can show; their jobs are read for it.
const OPEN_JOBS_READ_MAX: usize = 30;

/// A campaign as one run sees it.
struct CampaignRun {
    campaign: Campaign,
    state: State,
    children: Vec<Child>,
    now: Timestamp,
}

impl Worker {
    /// Takes a campaign as far as it goes now.
    pub(super) async fn run_campaign(&self, id: CampaignId) -> Result<(), StoreError> {
        loop {
            let store = &self.context.store;
            if self.is_held_back(WorkId::Campaign(id))? {
                return Ok(());
            }
            let woken = store.campaign_woken(id)?;
            let Some(campaign) = store.campaign(id)? else {
                return Ok(());
            };
            let state = campaign.state()?;
            let run = CampaignRun {
                children: store.children(id)?,
                now: self.context.clock.now(),
                campaign,
                state,
            };
            self.say(&run)?;
            let concurrency = self.context.setup.upgrade.concurrency;
            let action = run.state.next_action(&run.children, concurrency, run.now);
            let result = match action {
                Action::Find => self.find(&run).await,
                Action::Show => self.show(&run, PlanReason::Asked),
                Action::Announce(next) => self.announce(&run, next).await,
                Action::Begin if self.is_missed(&run) => self.show(&run, PlanReason::StartMissed),
                Action::Begin => self.note(&run, vec![Entry::Begun], vec![]),
                Action::AwaitConfirmation(at) if at <= run.now => {
                    let jobs = store.open_jobs_of(id)?;
                    let entry = Entry::Expired;
                    let late = &JobEntry::Superseded;
                    announce::campaign::end(&run.campaign, &jobs, entry, late, run.now)
                        .and_then(|writes| store.commit(run.now, &writes))
                }
                Action::Release(jobs) => self.release(&run, &jobs),
                Action::Link => self.link(&run).await,
                Action::Wait(at) | Action::AwaitConfirmation(at) => {
                    return store.campaign_rests(id, woken, Some(at));
                }
                Action::AwaitPlans | Action::AwaitJobs | Action::AwaitResume | Action::Finished => {
                    return store.campaign_rests(id, woken, None);
                }
            };
            match result {
                // Somebody was faster: decide again on what is there now.
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sees to it that the admin room says what it should.
    fn say(&self, run: &CampaignRun) -> Result<(), StoreError> {
        let open = if run.state.phase == Phase::Done {
            self.open(&run.children)?
        } else {
            Vec::new()
        };
        let writes = announce::campaign::posts(
            &run.campaign,
            &run.state,
            &run.children,
            &open,
            self.context.port.account(),
            run.now,
        );
        self.context.store.commit(run.now, &writes)
    }

    /// What is left to do in the rooms of a campaign.
    fn open(&self, children: &[Child]) -> Result<Vec<Open>, StoreError> {
        let mut open = Vec::new();
        let with_todos = children.iter().filter(|child| child.summary.todos > 0);
        for child in with_todos.take(OPEN_JOBS_READ_MAX) {
            let Some(job) = self.context.store.job(child.id)? else {
                continue;
            };
            let Some(state) = super::readable(&job) else {
                continue;
            };
            let Some(new_room) = state.new_room() else {
                continue;
            };
            open.extend(
                crate::message::report::todos(&state)
                    .iter()
                    .map(|todo| Open {
                        label: child.summary.label.clone(),
                        new_room: new_room.clone(),
                        todo: todo.clone(),
                    }),
            );
        }
        Ok(open)
    }

    fn note(
        &self,
        run: &CampaignRun,
        entries: Vec<Entry>,
        mut writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        writes.insert(0, run.campaign.append(entries).into());
        self.context.store.commit(run.now, &writes)
    }

    /// All rooms are planned: shows the plan.
    fn show(&self, run: &CampaignRun, occasion: PlanReason) -> Result<(), StoreError> {
        let campaign = &run.campaign;
        let settings = &self.context.setup.upgrade;
        let found = run.state.found.clone().unwrap_or_default();
        let expires_at = later(run.now, settings.plan_expires);
        let mut made = campaign::plan(
            found.label.clone(),
            &run.children,
            settings.concurrency,
            expires_at,
        );
        made.schedule = match occasion {
            PlanReason::StartMissed => None,
            PlanReason::Asked | PlanReason::RoomChanged => Schedule::of(
                &campaign.request.options,
                &self.context.setup.schedule.announce,
            ),
        };
        let mut planned = Vec::new();
        let mut jobs = Vec::new();
        for child in &run.children {
            let Some(job) = self.context.store.job(child.id)? else {
                continue;
            };
            let Some(state) = super::readable(&job) else {
                continue;
            };
            planned.extend(state.plan.map(|plan| Planned {
                child: child.clone(),
                plan,
            }));
            jobs.push(job);
        }
        let bot = self.context.port.account();
        let failed: Vec<_> = run
            .children
            .iter()
            .filter(|child| child.phase == JobPhase::Failed)
            .collect();
        let rooms = Rooms {
            planned: &planned,
            failed: &failed,
        };
        let text = plan(campaign, &found, &made, rooms, occasion, bot, run.now);
        let mut writes = announce::campaign::asking(campaign, &made.hash, text);
        let nothing = made.rooms == 0;
        info!(campaign = %campaign.id, rooms = made.rooms, "campaign planned");
        let mut entries = vec![Entry::Planned { plan: made.clone() }];
        let confirmation = campaign.request.confirmation;
        let asks = match occasion {
            // The yes was to another time, even where it was given beforehand.
            PlanReason::StartMissed => Confirmation::Ask,
            PlanReason::Asked | PlanReason::RoomChanged => confirmation,
        };
        if nothing || asks != Confirmation::Ask {
            // Nothing to say yes to: only the message.
            writes.truncate(1);
        }
        // A plan that nobody can say yes to takes no other plan's place.
        if !nothing && confirmation != Confirmation::PlanOnly {
            for open in self.context.store.open_campaigns(&campaign.request.space)? {
                if open.id < campaign.id {
                    let jobs = self.context.store.open_jobs_of(open.id)?;
                    let (entry, late) = (Entry::Superseded, &JobEntry::Superseded);
                    let ends = announce::campaign::end(&open, &jobs, entry, late, run.now)?;
                    writes.extend(ends);
                }
            }
        }
        match confirmation {
            _ if nothing => entries.push(Entry::Closed),
            Confirmation::PlanOnly => {
                entries.push(Entry::Closed);
                for job in &jobs {
                    writes.extend(announce::campaign::let_go(job, &JobEntry::Closed, run.now)?);
                }
            }
            Confirmation::Given if occasion == PlanReason::Asked => {
                let by = campaign.request.sender.clone();
                entries.extend(campaign::log::confirmed(&made, by, None, run.now));
            }
            Confirmation::Given | Confirmation::Ask => {}
        }
        self.note(run, entries, writes)
    }

    /// Whether the bot was away at the agreed time, and is to ask again.
    fn is_missed(&self, run: &CampaignRun) -> bool {
        let schedule = run
            .state
            .plan
            .as_ref()
            .and_then(|plan| plan.schedule.as_ref());
        self.context.setup.schedule.missed_start == MissedStart::Ask
            && schedule.is_some_and(|schedule| schedule.is_missed(run.now))
    }

    /// Tells the old rooms when it begins, and sleeps on (P3: at once, or not).
    async fn announce(&self, run: &CampaignRun, next: Timestamp) -> Result<(), StoreError> {
        let asleep = |until| Entry::Waiting {
            until,
            reason: WaitReason::Scheduled,
            refused: Vec::new(),
        };
        if self.is_away_from(&run.campaign.request.admin_room).await {
            return self.note(run, vec![asleep(next.min(look_again(run.now)))], vec![]);
        }
        let messages = &self.context.setup.messages;
        let mut writes = Vec::new();
        for child in &run.children {
            let waits = child.is_waiting_for_its_turn();
            let Some(job) = self.context.store.job(child.id)?.filter(|_| waits) else {
                continue;
            };
            let Some(state) = super::readable(&job) else {
                continue;
            };
            let Some(plan) = &state.plan else { continue };
            let Some(schedule) = &plan.schedule else {
                continue;
            };
            let sleep = Sleep {
                plan,
                schedule,
                until: next,
            };
            match announce::announcement(&job, sleep, messages, next, run.now) {
                Ok((entry, write)) => {
                    writes.extend(announce::advance(&job, vec![entry], run.now)?);
                    writes.push(write);
                }
                // The configuration was checked: a bug, which must not keep it from its time.
                Err(error) => error!(error = chain(&error), "cannot announce"),
            }
        }
        info!(campaign = %run.campaign.id, "members are told when it begins");
        self.note(run, vec![asleep(next)], writes)
    }

    /// Lets jobs begin, as confirmed with the campaign. Each of them looks for itself who may.
    fn release(&self, run: &CampaignRun, jobs: &[JobId]) -> Result<(), StoreError> {
        let Some(by) = &run.state.confirmed_by else {
            return Ok(());
        };
        for id in jobs {
            let Some(job) = self.context.store.job(*id)? else {
                continue;
            };
            let Some(state) = super::readable(&job) else {
                continue;
            };
            let Some(plan) = state.plan.filter(|_| state.phase == JobPhase::Planned) else {
                continue;
            };
            let confirmed = schedule::confirmed(state.phase, &plan, by.clone(), None, run.now);
            let writes = announce::advance(&job, confirmed, run.now)?;
            match self.context.store.commit(run.now, &writes) {
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(StoreError::ActiveJob) => {
                    warn!(job = %id, "another job is at work on the room; this one is dropped");
                    let writes = announce::advance(&job, vec![JobEntry::Superseded], run.now)?;
                    self.context.store.commit(run.now, &writes)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(
        &self,
        run: &CampaignRun,
        pause: Duration,
        reason: WaitReason,
        refused: Vec<Refusal>,
    ) -> Result<(), StoreError> {
        let entry = Entry::Waiting {
            until: later(run.now, pause.min(WAIT_MAX)),
            reason,
            refused,
        };
        self.note(run, vec![entry], vec![])
    }

    /// The homeserver fails at what the campaign itself asks: it waits, without end (P8). Somebody
    /// can cancel it.
    fn trouble(
        &self,
        run: &CampaignRun,
        error: &HomeserverError,
        refused: Vec<Refusal>,
    ) -> Result<(), StoreError> {
        warn!(campaign = %run.campaign.id, error = chain(error), "the campaign waits");
        let pause = backoff(
            Duration::from_secs(1),
            failure::BACKOFF_MAX,
            run.state.waits,
        );
        match error {
            HomeserverError::RateLimited { limit, .. } => {
                self.wait(run, limit.retry_after, (*limit).into(), refused)
            }
            error => self.wait(run, pause, failure::away(error), refused),
        }
    }
}
