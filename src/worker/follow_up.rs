//! What follows a finished upgrade: pings in the old room, and the end of that.
//!
//! As with steps, the log decides ([`FollowUp::decide`]) and is written before the first effect: a
//! ping's messages are named in it before one leaves, and have transaction ids made from it, so that a
//! ping that was cut off is sent to its end and nobody gets it twice (P3). Left out: who moved
//! (`census`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ruma::{OwnedServerName, OwnedUserId, RoomId, UserId};
use tracing::info;

use super::WorkerContext;
use super::inviter::{Invited, Inviter};
use super::steps::StepError;
use crate::census::{self, CensusError};
use crate::clock::later;
use crate::config::OldRoom;
use crate::homeserver::{Bucket, Homeserver, HomeserverError, MESSAGE};
use crate::job::follow_up::{
    Circumstances, Decision, Door, End, EndReason, OldRoomOutcome, Pause, PingOutcome, Stage,
    Timetable,
};
use crate::job::{Entry, FollowUp, FollowUpEvent, Job, Phase, Plan, State, is_incompatible};
use crate::message::follow_up::{ended, refused};
use crate::message::member::{Variables, render};
use crate::message::ping::{OtherRoom, parts, ping};
use crate::message::report::todos;
use crate::model::{InvitePolicy, JobId, Pings, Text};
use crate::room::join_rules::{self, JOIN_RULES};
use crate::room::moves::{Moves, Whereabouts};
use crate::room::state::{Content, Membership};
use crate::store::{Outgoing, Post, PostKey, StoreError, Write};
use crate::survey;
use crate::survey::surroundings::{next, told};

/// What is to be written.
#[derive(Default)]
pub(super) struct Doing {
    pub(super) events: Vec<FollowUpEvent>,
    pub(super) writes: Vec<Write>,
}

impl From<FollowUpEvent> for Doing {
    fn from(event: FollowUpEvent) -> Self {
        Self {
            events: vec![event],
            writes: Vec::new(),
        }
    }
}

/// Begins the follow-up of an upgrade that is finished now: it belongs into the same transaction as
/// the end of the job.
pub(super) fn begin(
    context: &WorkerContext,
    job: &Job,
    state: &State,
) -> Result<Doing, StoreError> {
    let settings = &context.setup.follow_up;
    let after = match &job.request.options.ping {
        Some(Pings::Off) => Vec::new(),
        Some(Pings::After(after)) => after.clone(),
        None => settings.after.clone(),
    };
    let (Some(new_room), false) = (state.new_room(), after.is_empty()) else {
        return Ok(Doing::default());
    };
    let now = context.clock.now();
    let before = context.store.snapshot(job.id)?;
    let members = before.map(|before| before.room.members(Membership::Join).collect());
    Ok(Doing {
        events: vec![FollowUpEvent::Scheduled {
            timetable: Timetable {
                from: job.switched_at().unwrap_or(now).min(now),
                after,
            },
            by: None,
        }],
        writes: vec![Write::Follow {
            job: job.id,
            old_room: job.request.old_room.clone(),
            new_room: new_room.clone(),
            members: members.unwrap_or_default(),
        }],
    })
}

/// Looks at a follow-up and does the next thing that is to be done now, if there is one.
pub(super) async fn run(
    context: &WorkerContext,
    job: &Job,
    state: &State,
) -> Result<Doing, StepError> {
    let (Some(follow_up), Some(plan), Some(new_room)) =
        (&state.follow_up, &state.plan, state.new_room())
    else {
        return Ok(Doing::default());
    };
    let follow_up_run = FollowUpRun {
        context,
        job,
        state,
        follow_up,
        plan,
        new_room,
    };
    match &follow_up.stage {
        Stage::Over | Stage::Checking(_) => Ok(Doing::default()),
        Stage::Closing(why) => follow_up_run.close(why).await,
        Stage::Open => match &follow_up.pinging {
            Some(parts) => follow_up_run.send(parts).await,
            None => follow_up_run.look().await,
        },
    }
}

/// When to look again after the homeserver failed.
pub(super) fn wait(follow_up: &FollowUp, error: &StepError, now: Timestamp) -> FollowUpEvent {
    let pause = match error {
        StepError::RateLimited { limit, .. } => limit.retry_after,
        _ => follow_up.patience(),
    };
    FollowUpEvent::Waiting {
        until: later(now, pause),
        pause: Pause::Homeserver,
    }
}

impl From<CensusError> for StepError {
    fn from(error: CensusError) -> Self {
        match error {
            CensusError::Homeserver(error) => error.into(),
            CensusError::Store(error) => error.into(),
        }
    }
}

struct FollowUpRun<'a> {
    context: &'a WorkerContext,
    job: &'a Job,
    state: &'a State,
    follow_up: &'a FollowUp,
    plan: &'a Plan,
    new_room: &'a RoomId,
}

impl FollowUpRun<'_> {
    async fn moves(&self) -> Result<Moves, StepError> {
        let WorkerContext {
            store, port, clock, ..
        } = self.context;
        let moves = census::take(store, port, &**clock, self.job, self.state);
        Ok(moves.await?.unwrap_or_default())
    }

    /// Decides, and prepares a ping where one is due.
    async fn look(&self) -> Result<Doing, StepError> {
        let moves = self.moves().await?;
        let now = self.context.clock.now();
        let settings = &self.context.setup.follow_up;
        let decision = self.follow_up.decide(&Circumstances {
            now,
            quiet_hours: settings.quiet_hours.as_ref(),
            tally: moves.tally(),
            until_moved: settings.until_moved,
        });
        Ok(match decision {
            Decision::Rest => Doing::default(),
            // What is planned already need not be written down.
            Decision::Wait(until) if self.follow_up.due() == Some(until) => Doing::default(),
            Decision::Wait(until) => {
                let pause = Pause::Planned;
                FollowUpEvent::Waiting { until, pause }.into()
            }
            // Who is away from the admin room cannot be told to stop either.
            Decision::End(_) | Decision::Ping
                if !survey::is_here(&self.context.port, &self.job.request.admin_room).await? =>
            {
                return Err(StepError::NotInAdminRoom);
            }
            Decision::End(why) => FollowUpEvent::Ending { at: now, why }.into(),
            Decision::Ping => {
                let rooms = told(&self.context.port).await?;
                if next(&rooms, self.new_room).is_some() {
                    let why = EndReason::Replaced;
                    return Ok(FollowUpEvent::Ending { at: now, why }.into());
                }
                let incompatible = self.invite(&moves).await?;
                let known = &self.follow_up.mentioned;
                let siblings = self.siblings().await?;
                let number = self.follow_up.pings + 1;
                let is_told_elsewhere = |user: &OwnedUserId| {
                    let told = |sibling: &Sibling| sibling.follow_up.has_mentioned(user, number);
                    siblings.iter().any(told)
                };
                let people: Vec<_> = moves
                    .stragglers()
                    .map(|(user, _)| user)
                    .filter(|user| !incompatible.contains(user.server_name()))
                    .filter(|user| !is_told_elsewhere(user))
                    .collect();
                let mut also: BTreeMap<OwnedUserId, Vec<JobId>> = BTreeMap::new();
                for sibling in &siblings {
                    for user in people.iter().filter(|user| sibling.lacks(user)) {
                        also.entry((*user).clone()).or_default().push(sibling.id);
                    }
                }
                let mut parts = parts(
                    people.into_iter(),
                    settings.mention,
                    |user| known.contains_key(user),
                    |user| also.contains_key(user),
                );
                if parts.is_empty() {
                    // All of them are told elsewhere: the link stands here all the same.
                    parts.push(Vec::new());
                }
                also.retain(|user, _| parts.iter().flatten().any(|known| known == user));
                info!(messages = parts.len(), "a ping is due");
                FollowUpEvent::Pinging {
                    parts,
                    also,
                    incompatible,
                }
                .into()
            }
        })
    }

    /// The other rooms of the campaign with an open follow-up. Who lags in several of them is mentioned
    /// in one, by the first of their pings with the same number.
    async fn siblings(&self) -> Result<Vec<Sibling>, StepError> {
        let Some(turn) = &self.job.request.campaign else {
            return Ok(Vec::new());
        };
        let WorkerContext {
            store, port, clock, ..
        } = self.context;
        let mut siblings = Vec::new();
        for child in store.children(turn.campaign)? {
            if child.id == self.job.id || child.phase != Phase::Done {
                continue;
            }
            let Some(job) = store.job(child.id)? else {
                continue;
            };
            let Some(state) = super::readable(&job) else {
                continue;
            };
            let is_open = |it: &&FollowUp| it.stage == Stage::Open;
            let Some(follow_up) = state.follow_up.as_ref().filter(is_open).cloned() else {
                continue;
            };
            let moves = census::take(store, port, &**clock, &job, &state).await?;
            siblings.push(Sibling {
                id: job.id,
                follow_up,
                moves: moves.unwrap_or_default(),
            });
        }
        Ok(siblings)
    }

    /// Names and links of the other rooms that a ping speaks of.
    fn other_rooms(&self) -> Result<BTreeMap<OwnedUserId, Vec<OtherRoom>>, StepError> {
        let ids: BTreeSet<_> = self.follow_up.also.values().flatten().copied().collect();
        let mut rooms = BTreeMap::new();
        for id in ids {
            let Some(job) = self.context.store.job(id)? else {
                continue;
            };
            let Some(state) = super::readable(&job) else {
                continue;
            };
            if let (Some(plan), Some(new_room)) = (&state.plan, state.new_room()) {
                let server = self.context.port.server_name();
                let room = OtherRoom {
                    label: plan.label.clone(),
                    link: Variables::of(plan, new_room, server).new_link,
                };
                rooms.insert(id, room);
            }
        }
        let named = |ids: &Vec<JobId>| ids.iter().filter_map(|id| rooms.get(id).cloned()).collect();
        let also = self.follow_up.also.iter();
        Ok(also.map(|(user, ids)| (user.clone(), named(ids))).collect())
    }

    /// Invites those who cannot enter by themselves and have no invitation. Who said no, or was sent
    /// away, is not asked again. Returns servers that do not know the new room's version.
    async fn invite(&self, moves: &Moves) -> Result<BTreeSet<OwnedServerName>, StepError> {
        let port = &self.context.port;
        let mut incompatible = BTreeSet::new();
        if self.plan.intent.invite == InvitePolicy::None {
            return Ok(incompatible);
        }
        let rules = match port.state_event(self.new_room, JOIN_RULES, "").await {
            Ok(rules) => rules,
            // The bot is not in the new room any more, and can invite nobody.
            Err(HomeserverError::Refused { .. }) => return Ok(incompatible),
            Err(error) => return Err(error.into()),
        };
        if rules.is_some_and(|rules| join_rules::lets_in(&rules, &self.job.request.old_room)) {
            return Ok(incompatible);
        }
        let variables = Variables::of(self.plan, self.new_room, port.server_name());
        let reason = render(&self.context.setup.messages.invite, &variables)?;
        let mut inviter = Inviter::new(port, self.new_room, &reason);
        let (mut made, mut refused) = (0, 0);
        for (user, at) in moves.stragglers() {
            if at != Whereabouts::Waiting || incompatible.contains(user.server_name()) {
                continue;
            }
            match inviter.invite(user).await {
                Ok(Invited::Yes) => made += 1,
                Ok(Invited::Refused { code, .. }) => {
                    refused += 1;
                    if is_incompatible(&code) {
                        incompatible.insert(user.server_name().to_owned());
                    }
                }
                Ok(Invited::Away) => refused += 1,
                // After the wait the same would be refused again: the ping does not wait for that.
                Err(HomeserverError::RateLimited { .. }) if made == 0 && refused > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(incompatible)
    }

    /// Sends the messages of a ping that the log names, without those who moved meanwhile.
    async fn send(&self, parts: &[Vec<OwnedUserId>]) -> Result<Doing, StepError> {
        let port = &self.context.port;
        let moves = self.moves().await?;
        let is_left = |user: &&OwnedUserId| {
            let at = moves.people.get(*user);
            at.is_some_and(|at| at.is_straggler())
        };
        let variables = Variables::of(self.plan, self.new_room, port.server_name());
        let template = &self.context.setup.messages.ping;
        let mention = self.context.setup.follow_up.mention;
        let also = self.other_rooms()?;
        let number = self.follow_up.pings + 1;
        let mut outcome = PingOutcome::Sent;
        for (part, people) in (1..).zip(parts) {
            let left: Vec<_> = people.iter().filter(is_left).cloned().collect();
            if left.is_empty() && !people.is_empty() {
                continue;
            }
            let content: Content = ping(template, &variables, &left, mention, &also)?;
            let key = self.job.request.key();
            let transaction = format!("ping.{key}.{number}.{part}");
            let old_room = &self.job.request.old_room;
            match port
                .send_event(old_room, MESSAGE, &transaction, &content)
                .await
            {
                Ok(_) => {}
                Err(HomeserverError::Refused { message, .. }) => {
                    outcome = PingOutcome::Refused { message };
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut doing = Doing::from(FollowUpEvent::Pinged {
            at: self.context.clock.now(),
            outcome: outcome.clone(),
        });
        if let PingOutcome::Refused { message } = &outcome {
            // One key: however often it is refused, it is said once.
            let text = refused(self.job, &self.plan.label, message);
            doing
                .writes
                .push(self.say(PostKey::PingRefused(self.job.request.key()), text));
        }
        info!(?outcome, "pinged");
        Ok(doing)
    }

    /// Shuts the door behind those who came, perhaps leaves, and reports.
    async fn close(&self, why: &EndReason) -> Result<Doing, StepError> {
        let port = &self.context.port.counting();
        let old_room = &self.job.request.old_room;
        let tally = self.moves().await?.tally();
        // Before the rules are read, so that nothing is older than the moment it is written (P12).
        port.reserve(Bucket::Everything).await?;
        let rules = match port.state_event(self.new_room, JOIN_RULES, "").await {
            Ok(rules) => rules.unwrap_or_default(),
            // The bot is not in the new room any more.
            Err(HomeserverError::Refused { .. }) => Content::new(),
            Err(error) => return Err(error.into()),
        };
        let mut door = Door::WasShut;
        if let Some(shut) = join_rules::without(&rules, old_room) {
            match port.put_state(self.new_room, JOIN_RULES, "", &shut).await {
                Ok(_) => door = Door::Shut,
                Err(HomeserverError::Refused { message, .. }) => door = Door::Refused { message },
                Err(error) => return Err(error.into()),
            }
        }
        let farewell = match self.context.setup.follow_up.old_room {
            OldRoom::Stay => OldRoomOutcome::Stays,
            OldRoom::Leave => {
                if let Some(why) = self.needs_the_old_room(&door).await? {
                    let why = why.to_owned();
                    OldRoomOutcome::Needed { why }
                } else {
                    port.leave(old_room).await?;
                    OldRoomOutcome::Left
                }
            }
        };
        let end = End {
            tally,
            door,
            farewell,
        };
        let mut writes = vec![Write::Unfollow(self.job.id)];
        // Rooms of a campaign have a closing report together, which the campaign makes.
        if self.job.request.campaign.is_none() {
            let text = ended(self.job, self.state, why, &end);
            let key = PostKey::FollowUpEnded(self.follow_up.ends, self.job.request.key());
            writes.push(self.say(key, text));
        }
        info!(?why, "follow-up ended");
        Ok(Doing {
            events: vec![FollowUpEvent::Ended { end: Some(end) }],
            writes,
        })
    }

    /// Why the bot has to stay in the old room.
    async fn needs_the_old_room(&self, door: &Door) -> Result<Option<&'static str>, StepError> {
        let old_room = &self.job.request.old_room;
        if self
            .context
            .setup
            .admin_rooms
            .iter()
            .any(|room| room.room_id == *old_room)
        {
            return Ok(Some("I take commands there"));
        }
        if matches!(door, Door::Refused { .. }) {
            return Ok(Some("members of it are let in to the new room through me"));
        }
        if !todos(self.state).is_empty() {
            return Ok(Some("something is left to do"));
        }
        let rooms = told(&self.context.port).await?;
        // Of the new room, sync has not told yet that it was shut just now; closed rooms let in nobody.
        let is_needed = rooms.values().any(|room| {
            room.room_id != *old_room
                && room.room_id != *self.new_room
                && room.replaced().is_none()
                && join_rules::rooms(room).contains(old_room)
        });
        Ok(is_needed.then_some("another room lets in its members"))
    }

    fn say(&self, key: PostKey, text: Text) -> Write {
        let (room_id, reply_to) = self.job.told_in(self.state);
        Write::Enqueue(Outgoing {
            key,
            room_id: room_id.clone(),
            post: Post::Message { text, reply_to },
        })
    }
}

/// Another room of the same campaign.
struct Sibling {
    id: JobId,
    follow_up: FollowUp,
    moves: Moves,
}

impl Sibling {
    /// Whether somebody has not come from there.
    fn lacks(&self, user: &UserId) -> bool {
        let at = self.moves.people.get(user);
        at.is_some_and(|at| at.is_straggler())
    }
}

/// The entries of a job's log.
pub(super) fn entries(events: Vec<FollowUpEvent>) -> Vec<Entry> {
    events
        .into_iter()
        .map(|event| Entry::FollowUp { event })
        .collect()
}
