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
mod context;
mod doctor;
mod error;
pub(crate) mod flood;
mod help;
mod invitation;
mod list;
mod lookup;
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

use std::sync::PoisonError;
use std::time::Duration;

use ruma::EventId;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use self::call::Call;
use crate::message::doc::lines;

pub(crate) use self::context::HandlerContext;
use self::error::{Failure, HandleError};
use self::flood::Turn;
pub(crate) use self::reaction::is_answer;
use crate::clock::earlier;
use crate::command::{self, Command, Incoming, Need};
use crate::homeserver::HomeserverError;
use crate::message::{answer, emoji};
use crate::model::Device;
use crate::permissions::{self, AdminRoom, Decision, Facts, Within};
use crate::room::level::Power;
use crate::store::{Lane, Received, ReceivedKind, StoreError, Write};
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

/// Why the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to stop.
    Stopped,
    /// Commands are taken in another room now: everything begins again with that one.
    Moved,
}

/// What follows an event that was handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Event,
    /// The loops, with other admin rooms.
    OtherRooms,
}

impl HandlerContext {
    /// Handles events until told to stop.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub(crate) async fn run(&self, stop: CancellationToken) -> Result<Ended, StoreError> {
        // Invitations are answered at the pace that the server and others allow: commands do not wait for
        // that. What is cut off in one lane when the other ends is handled again.
        tokio::select! {
            biased;
            ended = Box::pin(self.run_lane(Lane::Commands, &stop)) => ended,
            ended = Box::pin(self.run_lane(Lane::Invitations, &stop)) => ended,
        }
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
            Err(Failure::Homeserver(error))
                if is_final(&error, self.retry_budget(received, attempts)) =>
            {
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

    fn retry_budget(&self, received: &Received, attempts: u32) -> RetryBudget {
        let is_admin_room = permissions::admin_room(&self.admin_rooms, &received.room_id).is_some();
        let most = match received.kind {
            ReceivedKind::Tombstone { .. } if is_admin_room => ATTEMPTS_TO_FOLLOW_MAX,
            _ => ATTEMPTS_MAX,
        };
        if attempts + 1 < most {
            RetryBudget::Left
        } else {
            RetryBudget::Spent
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
        let Some(admin_room) = permissions::admin_room(&self.admin_rooms, &received.room_id) else {
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
                return withdrawn::run(self, received, admin_room, event, how);
            }
            _ => {}
        }
        if let ReceivedKind::Reaction { to, key } = &received.kind {
            return self.reaction(received, admin_room, to, key).await;
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
        let now = self.clock.now();
        if received.sent_at < earlier(now, self.max_command_age) {
            let age = now.duration_since(received.sent_at);
            let age = crate::message::duration(age.as_secs().unsigned_abs());
            return Err(answer::too_old(&age).into());
        }
        match self.turn(received, admin_room).await? {
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
            Need::Ask => self.call_as_told(received, admin_room).await?,
            Need::Change => self.call(received, admin_room).await?,
        };
        let call = call.ok_or_else(answer::not_here)?;
        let facts = Facts {
            power: call.power.power(call.sender()),
            within: Within::NoRoom,
            target: None,
        };
        let mut decision = permissions::decide(&admin_room.rules, need, &facts);
        if decision == Decision::Allow {
            decision = permissions::decide_by_device(&admin_room.rules, need, *device);
        }
        if let Decision::Deny(denial) = decision {
            info!(sender = %received.sender, ?denial, "command denied");
            return Err(answer::denied(denial).into());
        }
        match parsed {
            Err(error) => Err(lines(&error.to_string()).into()),
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
            Command::Doctor(action) => doctor::run(self, call, action).await,
            Command::Stragglers(of) => stragglers::run(self, call, &of).await,
            Command::Ping(of, what) => ping::run(self, call, &of, what).await,
            Command::Help(topic) => Ok(help::run(call, topic.as_ref())),
        }
    }

    /// Whether somebody has sent too many commands lately.
    async fn turn(&self, received: &Received, admin_room: &AdminRoom) -> Result<Turn, HandleError> {
        let told = self.port.known_state(&admin_room.room_id).await?;
        let power = told.map(|told| told.power().power(&received.sender));
        let may_command = power >= Some(Power::Level(admin_room.rules.command_level));
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
        admin_room: &AdminRoom,
        to: &EventId,
        key: &str,
    ) -> Result<Vec<Write>, HandleError> {
        // Most reactions are none of the bot's business: no request for those.
        let Some(meaning) = reaction::meaning(self, to, key)? else {
            return Ok(vec![]);
        };
        let call = self.call(received, admin_room).await?;
        let call = call.ok_or_else(answer::not_here)?;
        // Reactions are never encrypted: they prove no device.
        let by_device =
            permissions::decide_by_device(&admin_room.rules, Need::Change, Device::Unknown);
        if let Decision::Deny(denial) = by_device {
            return Err(answer::denied(denial).into());
        }
        reaction::run(self, &call, meaning).await
    }

    /// `None`: the bot is not in the admin room any more, and cannot see who may what there.
    async fn call<'a>(
        &self,
        received: &'a Received,
        admin_room: &'a AdminRoom,
    ) -> Result<Option<Call<'a>>, HandleError> {
        let power = survey::power_in(&*self.port, &admin_room.room_id).await?;
        Ok(power.map(|power| Call {
            received,
            admin_room,
            power,
        }))
    }

    /// The same by what sync has told, for who only asks: their answer needs no request (P14).
    async fn call_as_told<'a>(
        &self,
        received: &'a Received,
        admin_room: &'a AdminRoom,
    ) -> Result<Option<Call<'a>>, HandleError> {
        let told = self.port.known_state(&admin_room.room_id).await?;
        Ok(told.map(|told| Call {
            received,
            admin_room,
            power: told.power(),
        }))
    }
}

/// Whether an event may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryBudget {
    Left,
    /// This was the last time.
    Spent,
}

/// Whether trying an event again makes no sense any more.
fn is_final(error: &HomeserverError, budget: RetryBudget) -> bool {
    match error {
        HomeserverError::RateLimited { .. }
        | HomeserverError::Uncertain { .. }
        // With the next session, or once the account may act again, the same may go well.
        | HomeserverError::AccountBlocked { .. } => false,
        HomeserverError::Refused { .. } => true,
        HomeserverError::Unusable { .. } => budget == RetryBudget::Spent,
    }
}
