//! The handle loop: what came in, who sent it, may they, and what is to be true then.
//!
//! One file per command, and one each for reactions, tombstones, invitations, and messages that
//! cannot be read. A handler reads and
//! decides; what it decides is a list of writes that the loop commits together with the mark that
//! the event was handled, so that an event is handled once, whatever happens in between (P1). Left
//! out: doing upgrades (`worker`).

mod asked;
mod authorise;
mod call;
mod cancel;
mod confirm;
mod doctor;
pub mod flood;
mod help;
mod invitation;
mod list;
mod pause;
mod ping;
mod queue;
mod reaction;
mod report;
mod resume;
mod retry;
mod rooms;
mod space;
mod status;
mod stragglers;
mod tombstone;
mod unreadable;
mod upgrade;
mod verify;
mod withdrawn;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ruma::{EventId, RoomId, RoomVersionId};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use self::call::Call;
use self::flood::{Asked, Turn};
pub use self::reaction::is_answer;
use crate::announce;
use crate::campaign::{self, Campaign, State as CampaignState};
use crate::census::{self, CensusError};
use crate::clock::Clock;
use crate::clock::quiet_hours::QuietHours;
use crate::command::{self, Command, Incoming, Need};
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::{Entry, Job, Phase, State};
use crate::message::{answer, emoji};
use crate::model::{CampaignId, DatabaseMark, Device, Text};
use crate::permissions::{self, Decision, Facts, Office, Within};
use crate::room::moves::Moves;
use crate::room::power::Power;
use crate::store::post_key::Unasked;
use crate::store::{
    Lane, Outgoing, Post, PostKey, Received, ReceivedKind, Store, StoreError, Write,
};
use crate::survey;
use crate::telemetry::chain;

/// How often an event is tried at which the homeserver fails, before the sender is told so: for a minute,
/// which a server takes to start again. One that does not answer at all is waited for without end.
const ATTEMPTS_MAX: u32 = 6;

/// The same where an admin room was closed: who misses that hears no commands any more. Ten minutes.
const ATTEMPTS_TO_FOLLOW_MAX: u32 = 24;

/// Longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How often the loop looks for events when nothing wakes it.
const POLL: Duration = Duration::from_secs(30);

/// What is said unasked is counted by the hour.
const HOUR_SECONDS: i64 = 60 * 60;

/// Why a handler does not do what it is asked.
#[derive(Debug)]
enum HandleError {
    /// The sender cannot have that, and is told why.
    Refused(Text),
    /// It cannot be told now.
    Failed(Failure),
}

impl From<Text> for HandleError {
    fn from(text: Text) -> Self {
        Self::Refused(text)
    }
}

impl<E: Into<Failure>> From<E> for HandleError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Why an event could not be handled now.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The homeserver could not be asked.
    #[error("cannot read what a command is about")]
    Homeserver(#[from] HomeserverError),
    /// The database failed.
    #[error("cannot store what a command asks for")]
    Store(#[from] StoreError),
}

impl From<CensusError> for Failure {
    fn from(error: CensusError) -> Self {
        match error {
            CensusError::Homeserver(error) => Self::Homeserver(error),
            CensusError::Store(error) => Self::Store(error),
        }
    }
}

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// Commands are taken in another room now: everything begins again with that one.
    Moved,
}

/// What follows an event that was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next event.
    Event,
    /// The loops, with other admin rooms.
    OtherRooms,
}

/// What handlers work with.
pub struct Desk {
    /// The database.
    pub store: Arc<Store>,
    /// The homeserver, for reading.
    pub port: Arc<dyn Homeserver>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Admin rooms.
    pub offices: Vec<Office>,
    /// How old a command may be when the bot gets to read it.
    pub max_command_age: Duration,
    /// When nobody is pinged.
    pub quiet_hours: Option<QuietHours>,
    /// The version that rooms are to have.
    pub version: RoomVersionId,
    /// The time zone of times without one.
    pub time_zone: Option<String>,
    /// Patterns of user ids whose invitations are accepted, beside those who may command.
    pub inviters: Vec<String>,
    /// Commands of the last minute.
    pub asked: Mutex<Asked>,
}

impl Desk {
    /// Handles events until told to stop.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn run(&self, stop: CancellationToken) -> Result<Ended, StoreError> {
        // Invitations are answered at the pace that the server and others allow: commands do not wait for
        // that. What is cut off in one lane when the other ends is handled again.
        tokio::select! {
            biased;
            ended = Box::pin(self.work(Lane::Commands, &stop)) => ended,
            ended = Box::pin(self.work(Lane::Invitations, &stop)) => ended,
        }
    }

    /// Says in each admin room, once, that another database has taken over.
    fn say_replaced(&self, by: &DatabaseMark) -> Result<(), StoreError> {
        let posts = self.offices.iter().map(|office| {
            Write::Enqueue(Outgoing {
                key: PostKey::Replaced {
                    told: office.room_id.clone(),
                    since: by.since,
                },
                room_id: office.room_id.clone(),
                post: Post::Message {
                    text: answer::replaced(by),
                    reply_to: None,
                },
            })
        });
        self.store
            .commit(self.clock.now(), &posts.collect::<Vec<_>>())
    }

    async fn handle_one(&self, received: &Received, attempts: u32) -> Result<Next, Failure> {
        let mut writes = match self.handle(received).await {
            Ok(writes) => writes,
            Err(Failure::Store(error)) if error.is_about_one_row() => {
                error!(
                    event_id = %received.event_id,
                    error = chain(&error),
                    "what a command is about cannot be read"
                );
                call::sorry(received, answer::unreadable_work())
            }
            Err(Failure::Homeserver(error)) if is_final(&error, self.tried(received, attempts)) => {
                error!(
                    event_id = %received.event_id,
                    error = &error as &dyn std::error::Error,
                    "gave up handling an event"
                );
                call::sorry(received, answer::unexpected())
            }
            Err(error) => return Err(error),
        };
        if matches!(
            received.kind,
            ReceivedKind::Message { .. } | ReceivedKind::Reaction { .. }
        ) {
            writes.push(Write::Counts(received.event_id.clone()));
        }
        writes.push(Write::Handled(received.event_id.clone()));
        let moves = writes
            .iter()
            .any(|write| matches!(write, Write::MoveAdminRoom { .. }));
        let next = if moves { Next::OtherRooms } else { Next::Event };
        match self.store.commit(self.clock.now(), &writes) {
            Err(StoreError::ActiveJob) => {
                let busy = [
                    call::reply(received, answer::room_is_busy()),
                    Write::Handled(received.event_id.clone()),
                ];
                self.store.commit(self.clock.now(), &busy)?;
                Ok(Next::Event)
            }
            result => {
                result?;
                Ok(next)
            }
        }
    }

    fn tried(&self, received: &Received, attempts: u32) -> Tried {
        let is_office = permissions::office(&self.offices, &received.room_id).is_some();
        let most = match received.kind {
            ReceivedKind::Tombstone { .. } if is_office => ATTEMPTS_TO_FOLLOW_MAX,
            _ => ATTEMPTS_MAX,
        };
        if attempts + 1 < most {
            Tried::Seldom
        } else {
            Tried::Enough
        }
    }

    async fn handle(&self, received: &Received) -> Result<Vec<Write>, Failure> {
        match self.respond(received).await {
            Ok(writes) => Ok(writes),
            Err(HandleError::Refused(text)) => Ok(call::refuse(received, text)),
            Err(HandleError::Failed(failure)) => Err(failure),
        }
    }

    async fn respond(&self, received: &Received) -> Result<Vec<Write>, HandleError> {
        if let ReceivedKind::Tombstone { replacement } = &received.kind {
            return tombstone::run(self, received, replacement.as_ref()).await;
        }
        if received.kind == ReceivedKind::Invitation {
            return invitation::run(self, received).await;
        }
        let Some(office) = permissions::office(&self.offices, &received.room_id) else {
            debug!(room_id = %received.room_id, "not an admin room");
            return Ok(vec![]);
        };
        if let ReceivedKind::Unreadable { event } = &received.kind {
            return unreadable::run(self, received, event);
        }
        match received.kind {
            ReceivedKind::Edited => return Err(answer::edited().into()),
            // It may have been acknowledged by then.
            ReceivedKind::Removed => return Ok(vec![call::unack(received)]),
            ReceivedKind::TakenBack { ref event, how } => {
                return withdrawn::run(self, received, office, event, how);
            }
            _ => {}
        }
        if let ReceivedKind::Reaction { to, key } = &received.kind {
            return self.reaction(received, office, to, key).await;
        }
        let ReceivedKind::Message {
            body,
            formatted_body,
            device,
            ..
        } = &received.kind
        else {
            return Ok(vec![]);
        };
        let incoming = Incoming {
            body,
            formatted_body: formatted_body.as_deref(),
        };
        let Some(parsed) = command::parse(&incoming) else {
            return Ok(vec![]);
        };
        let age = self.clock.now().duration_since(received.sent_at);
        let acceptable = jiff::SignedDuration::try_from(self.max_command_age)
            .is_ok_and(|longest| age <= longest);
        if !acceptable {
            let age = crate::message::duration(age.as_secs().unsigned_abs());
            return Err(answer::too_old(&age).into());
        }
        match self.turn(received, office).await? {
            Turn::Taken => {}
            Turn::Refused => return Err(answer::too_many(&received.sender).into()),
            Turn::Ignored => return Ok(vec![]),
        }
        if matches!(parsed, Ok(Command::Upgrade(_) | Command::Space(_))) {
            // At once: the reads below may take a while.
            self.store
                .commit(self.clock.now(), &[call::react(received, emoji::WORKING)])?;
        }
        let need = parsed.as_ref().map_or(Need::Ask, Command::needs);
        let call = match need {
            Need::Ask => self.call_as_told(received, office).await?,
            Need::Change => self.call(received, office).await?,
        };
        let call = call.ok_or_else(answer::not_here)?;
        let facts = Facts {
            power: call.power.power(call.sender()),
            within: Within::NoRoom,
            target: None,
        };
        let mut decision = permissions::decide(&office.rules, need, &facts);
        if decision == Decision::Allow {
            decision = permissions::decide_by_device(&office.rules, need, *device);
        }
        if let Decision::Deny(denial) = decision {
            info!(sender = %received.sender, ?denial, "command denied");
            return Err(answer::denied(denial).into());
        }
        match parsed {
            Err(error) => Err(answer::lines(&error.to_string()).into()),
            Ok(command) => self.carry_out(&call, command).await,
        }
    }

    /// Carries out a command that its sender may give.
    async fn carry_out(
        &self,
        call: &Call<'_>,
        command: Command,
    ) -> Result<Vec<Write>, HandleError> {
        match command {
            Command::Upgrade(wanted) => upgrade::run(self, call, wanted).await,
            Command::Space(wanted) => space::run(self, call, wanted).await,
            Command::Confirm(id) => confirm::run(self, call, id, confirm::Plan::Current).await,
            Command::Cancel(id) => cancel::run(self, call, id).await,
            Command::Pause(of) => pause::run(self, call, of).await,
            Command::Resume(of) => resume::run(self, call, of).await,
            Command::Status(of) => status::run(self, call, of).await,
            Command::List(scope) => list::run(self, call, scope),
            Command::Retry(id) => retry::run(self, call, id).await,
            Command::Verify(of) => verify::run(self, call, &of).await,
            Command::Rooms(space) => rooms::run(self, call, space.as_ref()).await,
            Command::Report(id) => report::run(self, call, id),
            Command::Doctor(treatment) => doctor::run(self, call, treatment).await,
            Command::Stragglers(of) => stragglers::run(self, call, &of).await,
            Command::Ping(of, what) => ping::run(self, call, &of, what).await,
            Command::Help(topic) => Ok(help::run(call, topic.as_ref())),
        }
    }

    /// Whether somebody has sent too many commands lately.
    async fn turn(&self, received: &Received, office: &Office) -> Result<Turn, HandleError> {
        let told = self.port.known_state(&office.room_id).await?;
        let power = told.map(|told| told.power().power(&received.sender));
        let may_command = power >= Some(Power::Level(office.rules.command_level));
        let most = if may_command {
            flood::COMMANDING_MAX
        } else {
            flood::ASKING_MAX
        };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = asked.count(received, most, self.clock.now());
        if turn == Turn::Refused {
            info!(sender = %received.sender, "too many commands");
        }
        Ok(turn)
    }

    async fn reaction(
        &self,
        received: &Received,
        office: &Office,
        to: &EventId,
        key: &str,
    ) -> Result<Vec<Write>, HandleError> {
        // Most reactions are none of the bot's business: no request for those.
        let Some(meaning) = reaction::meaning(self, to, key)? else {
            return Ok(vec![]);
        };
        let call = self.call(received, office).await?;
        let call = call.ok_or_else(answer::not_here)?;
        // Reactions are never encrypted: they prove no device.
        let by_device = permissions::decide_by_device(&office.rules, Need::Change, Device::Unknown);
        if let Decision::Deny(denial) = by_device {
            return Err(answer::denied(denial).into());
        }
        reaction::run(self, &call, meaning).await
    }

    /// `None`: the bot is not in the admin room any more, and cannot see who may what there.
    async fn call<'a>(
        &self,
        received: &'a Received,
        office: &'a Office,
    ) -> Result<Option<Call<'a>>, HandleError> {
        let power = survey::power_in(&*self.port, &office.room_id).await?;
        Ok(power.map(|power| Call {
            received,
            office,
            power,
        }))
    }

    /// The same by what sync has told, for who only asks: their answer needs no request (P14).
    async fn call_as_told<'a>(
        &self,
        received: &'a Received,
        office: &'a Office,
    ) -> Result<Option<Call<'a>>, HandleError> {
        let told = self.port.known_state(&office.room_id).await?;
        Ok(told.map(|told| Call {
            received,
            office,
            power: told.power(),
        }))
    }

    /// Jobs of a campaign that stand at one of these, whole.
    fn children_in(
        &self,
        id: CampaignId,
        phases: &[Phase],
    ) -> Result<Vec<(Job, State)>, StoreError> {
        let children = self.store.children(id)?;
        children
            .iter()
            .filter(|child| phases.contains(&child.phase))
            .filter_map(|child| self.store.job(child.id).transpose())
            .filter_map(|job| match job.and_then(folded) {
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

    /// Ends a campaign before it began, and the jobs that waited for it.
    fn end_campaign(
        &self,
        campaign: &Campaign,
        entry: campaign::Entry,
        jobs: &Entry,
    ) -> Result<Vec<Write>, StoreError> {
        let open = self.store.open_jobs_of(campaign.id)?;
        announce::campaign::end(campaign, &open, entry, jobs, self.clock.now())
    }

    /// The key of something that is said unasked: so often in an hour and room, and then no more.
    /// `None`: it was said often enough.
    fn said_seldom(
        &self,
        about: Unasked,
        room: &RoomId,
        most: usize,
    ) -> Result<Option<PostKey>, StoreError> {
        let hour = self.clock.now().as_second().div_euclid(HOUR_SECONDS);
        for nth in 0..most {
            let key = PostKey::RateLimited {
                about,
                told: room.to_owned(),
                hour,
                nth,
            };
            if !self.store.is_enqueued(&key)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The finished jobs of a campaign whose members are followed.
    fn followed_in(&self, id: CampaignId) -> Result<Vec<(Job, State)>, StoreError> {
        let mut followed = Vec::new();
        for (job, state) in self.children_in(id, &[Phase::Done])? {
            if self.store.is_followed(job.id)? {
                followed.push((job, state));
            }
        }
        Ok(followed)
    }

    /// Who of a finished upgrade's old room has come to the new one.
    async fn moves(&self, job: &Job, state: &State) -> Result<Moves, HandleError> {
        let moves = self.moves_if_done(job, state).await?;
        Ok(moves.ok_or_else(|| answer::wrong_moment(job.id, state))?)
    }

    async fn moves_if_done(&self, job: &Job, state: &State) -> Result<Option<Moves>, HandleError> {
        if state.phase != Phase::Done {
            return Ok(None);
        }
        let moves = census::take(&self.store, &*self.port, &*self.clock, job, state);
        Ok(moves.await?)
    }

    /// The writes that move a job on.
    fn advance(&self, job: &Job, entry: Entry) -> Result<Vec<Write>, StoreError> {
        announce::advance(job, vec![entry], self.clock.now())
    }
}

fn folded(job: Job) -> Result<(Job, State), StoreError> {
    match job.state() {
        Ok(state) => Ok((job, state)),
        Err(source) => Err(StoreError::Illegal {
            job: job.id,
            source,
        }),
    }
}

fn folded_campaign(campaign: Campaign) -> Result<(Campaign, CampaignState), StoreError> {
    match campaign.state() {
        Ok(state) => Ok((campaign, state)),
        Err(source) => Err(StoreError::IllegalCampaign {
            campaign: campaign.id,
            source,
        }),
    }
}

/// How often an event has been tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// Not often enough yet.
    Seldom,
    /// It was the last time.
    Enough,
}

/// Whether trying an event again makes no sense any more.
fn is_final(error: &HomeserverError, tried: Tried) -> bool {
    match error {
        HomeserverError::RateLimited { .. }
        | HomeserverError::Uncertain { .. }
        // With the next session, or once the account may act again, the same may go well.
        | HomeserverError::AccountBlocked { .. } => false,
        HomeserverError::Refused { .. } => true,
        HomeserverError::Unusable { .. } => tried == Tried::Enough,
    }
}
