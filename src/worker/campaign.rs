//! Looks at a campaign: asks its state what is next, given where its jobs stand, and does that.
//!
//! As with jobs, nothing is decided here: [`State::next_action`] does, from the log and the jobs, so
//! that a look after a crash is like any other. Every look also sees to it that the admin room is told.
//! Left out: moving rooms, which the jobs do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedRoomId, RoomId};
use tracing::{error, info, warn};

use super::failure;
use super::link::{self, LinkError};
use super::{Worker, look_again};
use crate::announce;
use crate::campaign::log::{Action, Joining, WAIT_MAX};
use crate::campaign::rooms::{self, LeftOut, Outside, Walk, Wanted, Why};
use crate::campaign::{self, Campaign, Child, Entry, Found, Phase, State};
use crate::clock::later;
use crate::config::{MissedStart, TargetPower};
use crate::homeserver::{Homeserver, HomeserverError, ensure_reachable};
use crate::job::schedule::{self, Sleep};
use crate::job::{
    Consent, Entry as JobEntry, Phase as JobPhase, Refusal, Request as JobRequest, Schedule, Todo,
    Turn, WaitReason,
};
use crate::message::campaign::{Open, Planned, Rooms, plan};
use crate::message::plan::PlanReason;
use crate::model::{CampaignId, Confirmation, JobId, RoomName, RoomRef, WorkId};
use crate::permissions;
use crate::room::state::RoomState;
use crate::store::{StoreError, Write};
use crate::survey::surroundings::told;
use crate::telemetry::chain;

/// Rooms that a campaign joins to look at them. A space may list any number of strangers' rooms.
const JOINS_MAX: usize = 50;

/// Longest pause between two tries at what a campaign does itself.
const BACKOFF_MAX: Duration = Duration::from_mins(2);

/// How often a campaign waits for sync to tell of rooms that it joined or made.
const SYNC_WAITS_MAX: u32 = 30;

/// How long each time.
const SYNC_WAIT: Duration = Duration::from_secs(1);

/// To-dos that a report can show; their jobs are read for it.
const OPEN_JOBS_READ_MAX: usize = 30;

/// A campaign as one look sees it.
struct Look {
    campaign: Campaign,
    state: State,
    children: Vec<Child>,
    now: Timestamp,
}

impl Worker {
    /// Takes a campaign as far as it goes now.
    pub(super) async fn look(&self, id: CampaignId) -> Result<(), StoreError> {
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
            let look = Look {
                children: store.children(id)?,
                now: self.context.clock.now(),
                campaign,
                state,
            };
            self.say(&look)?;
            let concurrency = self.context.setup.upgrade.concurrency;
            let action = look
                .state
                .next_action(&look.children, concurrency, look.now);
            let result = match action {
                Action::Find => self.find(&look).await,
                Action::Show => self.show(&look, PlanReason::Asked),
                Action::Announce(next) => self.announce(&look, next).await,
                Action::Begin if self.is_missed(&look) => self.show(&look, PlanReason::StartMissed),
                Action::Begin => self.note(&look, vec![Entry::Begun], vec![]),
                Action::AwaitConfirmation(at) if at <= look.now => {
                    let jobs = store.open_jobs_of(id)?;
                    let entry = Entry::Expired;
                    let late = &JobEntry::Superseded;
                    announce::campaign::end(&look.campaign, &jobs, entry, late, look.now)
                        .and_then(|writes| store.commit(look.now, &writes))
                }
                Action::Release(jobs) => self.release(&look, &jobs),
                Action::Link => self.link(&look).await,
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
    fn say(&self, look: &Look) -> Result<(), StoreError> {
        let open = if look.state.phase == Phase::Done {
            self.open(&look.children)?
        } else {
            Vec::new()
        };
        let writes = announce::campaign::told(
            &look.campaign,
            &look.state,
            &look.children,
            &open,
            self.context.port.account(),
            look.now,
        );
        self.context.store.commit(look.now, &writes)
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
        look: &Look,
        entries: Vec<Entry>,
        mut writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        writes.insert(0, look.campaign.append(entries).into());
        self.context.store.commit(look.now, &writes)
    }

    /// Looks for the rooms of the space, and makes their jobs.
    async fn find(&self, look: &Look) -> Result<(), StoreError> {
        match self.walk(look).await {
            Ok(Walked::Found { label, walk }) => {
                let request = &look.campaign.request;
                let members = walk.members.iter().map(|member| {
                    Write::CreateJob(Box::new(JobRequest {
                        named: RoomRef {
                            name: RoomName::Id(member.room.clone()),
                            via: Vec::new(),
                        },
                        old_room: member.room.clone(),
                        options: request.options.clone(),
                        confirmation: Confirmation::Ask,
                        sender: request.sender.clone(),
                        admin_room: request.admin_room.clone(),
                        command_event: request.command_event.clone(),
                        campaign: Some(Turn {
                            campaign: look.campaign.id,
                            rank: member.rank,
                            consent: Consent::Campaign,
                        }),
                    }))
                });
                let writes = members.collect();
                let found = Found {
                    label,
                    rooms: walk.members.len(),
                    left_out: walk.left_out,
                };
                info!(campaign = %look.campaign.id, rooms = found.rooms, "rooms found");
                self.note(look, vec![Entry::Found { found }], writes)
            }
            Ok(Walked::Joined(entries)) => self.note(look, entries, vec![]),
            Ok(Walked::Awaits) => self.wait(look, SYNC_WAIT, WaitReason::Settling, vec![]),
            Err(error) => self.trouble(look, &error, vec![]),
        }
    }

    async fn walk(&self, look: &Look) -> Result<Walked, HomeserverError> {
        let request = &look.campaign.request;
        let port = &self.context.port;
        let joined = joined(&look.campaign.log);
        port.until_told(&joined, SYNC_WAIT).await;
        let rooms = told(port).await?;
        let walk = self.walked(look, &rooms);
        // Only looking at a plan makes the bot join nothing.
        let may_join = request.confirmation != Confirmation::PlanOnly;
        let left = JOINS_MAX.saturating_sub(look.state.tried.len());
        let mut entries = Vec::new();
        let outside = walk
            .outside
            .iter()
            .filter(|outside| may_join && !look.state.tried.contains(&outside.room));
        for Outside { room, via } in outside.take(left) {
            let named = RoomRef {
                name: RoomName::Id(room.clone()),
                via: via.clone(),
            };
            let joining = match port.join(&named).await {
                Ok(_) => Joining::Done,
                Err(HomeserverError::Refused { .. }) => Joining::Refused,
                Err(HomeserverError::Uncertain { .. }) if ensure_reachable(port).await.is_ok() => {
                    Joining::Refused
                }
                // What was joined so far is noted, and the rest tried later.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            };
            entries.push(Entry::Joined {
                room: room.clone(),
                joining,
            });
        }
        if !entries.is_empty() {
            return Ok(Walked::Joined(entries));
        }
        let is_told = |room: &&RoomId| rooms.contains_key(*room);
        if !joined.iter().all(is_told) && look.state.waits < SYNC_WAITS_MAX {
            return Ok(Walked::Awaits);
        }
        let label = rooms.get(&request.space).map(RoomState::label);
        Ok(Walked::Found {
            label: label.unwrap_or_else(|| request.named.name.to_string()),
            walk,
        })
    }

    fn walked(&self, look: &Look, told: &BTreeMap<OwnedRoomId, RoomState>) -> Walk {
        let request = &look.campaign.request;
        let setup = &self.context.setup;
        let admin_rooms: BTreeSet<_> = setup
            .admin_rooms
            .iter()
            .map(|room| room.room_id.clone())
            .collect();
        let admin_room = permissions::admin_room(&setup.admin_rooms, &request.admin_room);
        let needs_power =
            admin_room.is_some_and(|room| room.rules.target_power == TargetPower::Needed);
        // Once the space itself was moved, its rooms are in the new one.
        let space = look
            .children
            .iter()
            .find(|child| child.old_room == request.space)
            .and_then(|child| child.summary.new_room.clone());
        let wanted = Wanted {
            version: request
                .options
                .version
                .as_ref()
                .unwrap_or(&setup.upgrade.version),
            narrow: &request.narrow,
            admin_rooms: &admin_rooms,
            needs_power: needs_power.then_some(&request.sender),
        };
        rooms::walk(told, space.as_ref().unwrap_or(&request.space), wanted)
    }

    /// All rooms are planned: shows the plan.
    fn show(&self, look: &Look, occasion: PlanReason) -> Result<(), StoreError> {
        let campaign = &look.campaign;
        let settings = &self.context.setup.upgrade;
        let found = look.state.found.clone().unwrap_or_default();
        let expires_at = later(look.now, settings.plan_expires);
        let mut made = campaign::plan(
            found.label.clone(),
            &look.children,
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
        for child in &look.children {
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
        let failed: Vec<_> = look
            .children
            .iter()
            .filter(|child| child.phase == JobPhase::Failed)
            .collect();
        let rooms = Rooms {
            planned: &planned,
            failed: &failed,
        };
        let text = plan(campaign, &found, &made, rooms, occasion, bot, look.now);
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
                    let ends = announce::campaign::end(&open, &jobs, entry, late, look.now)?;
                    writes.extend(ends);
                }
            }
        }
        match confirmation {
            _ if nothing => entries.push(Entry::Closed),
            Confirmation::PlanOnly => {
                entries.push(Entry::Closed);
                for job in &jobs {
                    writes.extend(announce::campaign::let_go(
                        job,
                        &JobEntry::Closed,
                        look.now,
                    )?);
                }
            }
            Confirmation::Given if occasion == PlanReason::Asked => {
                let by = campaign.request.sender.clone();
                entries.extend(campaign::log::confirmed(&made, by, None, look.now));
            }
            Confirmation::Given | Confirmation::Ask => {}
        }
        self.note(look, entries, writes)
    }

    /// Whether the bot was away at the agreed time, and is to ask again.
    fn is_missed(&self, look: &Look) -> bool {
        let schedule = look
            .state
            .plan
            .as_ref()
            .and_then(|plan| plan.schedule.as_ref());
        self.context.setup.schedule.missed_start == MissedStart::Ask
            && schedule.is_some_and(|schedule| schedule.is_missed(look.now))
    }

    /// Tells the old rooms when it begins, and sleeps on (P3: at once, or not).
    async fn announce(&self, look: &Look, next: Timestamp) -> Result<(), StoreError> {
        let asleep = |until| Entry::Waiting {
            until,
            reason: WaitReason::Scheduled,
            refused: Vec::new(),
        };
        if self.is_away_from(&look.campaign.request.admin_room).await {
            return self.note(look, vec![asleep(next.min(look_again(look.now)))], vec![]);
        }
        let messages = &self.context.setup.messages;
        let mut writes = Vec::new();
        for child in &look.children {
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
            match announce::announcement(&job, sleep, messages, next, look.now) {
                Ok((entry, write)) => {
                    writes.extend(announce::advance(&job, vec![entry], look.now)?);
                    writes.push(write);
                }
                // The configuration was checked: a bug, which must not keep it from its time.
                Err(error) => error!(error = chain(&error), "cannot announce"),
            }
        }
        info!(campaign = %look.campaign.id, "members are told when it begins");
        self.note(look, vec![asleep(next)], writes)
    }

    /// Lets jobs begin, as confirmed with the campaign. Each of them looks for itself who may.
    fn release(&self, look: &Look, jobs: &[JobId]) -> Result<(), StoreError> {
        let Some(by) = &look.state.confirmed_by else {
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
            let confirmed = schedule::confirmed(state.phase, &plan, by.clone(), None, look.now);
            let writes = announce::advance(&job, confirmed, look.now)?;
            match self.context.store.commit(look.now, &writes) {
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(StoreError::ActiveJob) => {
                    warn!(job = %id, "another job is at work on the room; this one is dropped");
                    let writes = announce::advance(&job, vec![JobEntry::Superseded], look.now)?;
                    self.context.store.commit(look.now, &writes)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All jobs are done: compares links and join rules between the rooms once more. Rooms that were
    /// moved side by side, or around a crash, may still name each other's old ones.
    async fn link(&self, look: &Look) -> Result<(), StoreError> {
        let mut refused = look.state.refused.clone();
        match self.links(look, &mut refused).await {
            Ok(Linking::Awaits) => self.wait(look, SYNC_WAIT, WaitReason::Settling, refused),
            Ok(Linking::Done { made, todos, added }) => {
                let done = look
                    .children
                    .iter()
                    .filter(|child| child.phase == JobPhase::Done);
                let entry = Entry::Linked {
                    jobs: done.map(|child| child.id).collect(),
                    made,
                    todos,
                    added,
                };
                info!(campaign = %look.campaign.id, links = made, "campaign done");
                self.note(look, vec![entry], vec![])
            }
            Err(LinkError::Store(error)) => Err(error),
            Err(LinkError::Homeserver(error)) => self.trouble(look, &error, refused),
        }
    }

    async fn links(&self, look: &Look, refused: &mut Vec<Refusal>) -> Result<Linking, LinkError> {
        let moved: Vec<_> = look
            .children
            .iter()
            .filter_map(|child| Some((child, child.summary.new_room.as_ref()?)))
            .collect();
        // What the last jobs changed in their new rooms counts, too.
        self.context.port.until_now(SYNC_WAIT).await;
        let rooms = told(&self.context.port).await?;
        let is_told = |new: &OwnedRoomId| rooms.contains_key(new);
        if !moved.iter().all(|(_, new)| is_told(new)) && look.state.waits < SYNC_WAITS_MAX {
            return Ok(Linking::Awaits);
        }
        let mut made = 0;
        for (child, new_room) in &moved {
            made += link::close(&self.context, child, new_room, &rooms, refused).await?;
        }
        let todos = refused.iter().cloned().map(Todo::from).collect();
        let known = |room: &OwnedRoomId| look.children.iter().any(|child| child.old_room == *room);
        let added = self
            .walked(look, &rooms)
            .members
            .into_iter()
            .filter(|member| !known(&member.room))
            .map(|member| LeftOut {
                label: rooms
                    .get(&member.room)
                    .map_or_else(|| member.room.to_string(), RoomState::label),
                room: member.room,
                why: Why::NotMeant,
            })
            .collect();
        Ok(Linking::Done { made, todos, added })
    }

    fn wait(
        &self,
        look: &Look,
        pause: Duration,
        reason: WaitReason,
        refused: Vec<Refusal>,
    ) -> Result<(), StoreError> {
        let entry = Entry::Waiting {
            until: later(look.now, pause.min(WAIT_MAX)),
            reason,
            refused,
        };
        self.note(look, vec![entry], vec![])
    }

    /// The homeserver fails at what the campaign itself asks: it waits, without end (P8). Somebody
    /// can cancel it.
    fn trouble(
        &self,
        look: &Look,
        error: &HomeserverError,
        refused: Vec<Refusal>,
    ) -> Result<(), StoreError> {
        warn!(campaign = %look.campaign.id, error = chain(error), "the campaign waits");
        let doubled = Duration::from_secs(1) * 2_u32.saturating_pow(look.state.waits.min(16));
        let pause = doubled.min(BACKOFF_MAX);
        match error {
            HomeserverError::RateLimited { limit, .. } => {
                self.wait(look, limit.retry_after, (*limit).into(), refused)
            }
            error => self.wait(look, pause, failure::away(error), refused),
        }
    }
}

/// Rooms that a campaign made the bot join.
fn joined(log: &[(Timestamp, Entry)]) -> Vec<&RoomId> {
    let joined = log.iter().filter_map(|(_, entry)| match entry {
        Entry::Joined {
            room,
            joining: Joining::Done,
        } => Some(&**room),
        _ => None,
    });
    joined.collect()
}

enum Walked {
    Found { label: String, walk: Walk },
    Joined(Vec<Entry>),
    Awaits,
}

enum Linking {
    Done {
        made: usize,
        todos: Vec<Todo>,
        added: Vec<LeftOut>,
    },
    Awaits,
}
