//! What follows a finished upgrade: when people who did not come are pinged, and when that ends.
//!
//! It is part of the job's own log, after `Done`; a job that ended before there were follow-ups has
//! none. Everything here is a function of the log, the settings, the time and how many people moved,
//! so that a stop of a month or a clock that jumps leads to the same answers as any other moment.
//! Left out: who moved (`room::moves`), and the pings themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedServerName, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use crate::clock::quiet_hours::QuietHours;
use crate::clock::{backoff, later};
use crate::model::JobId;
use crate::room::moves::Tally;

/// Longest wait for the homeserver. A longer one was written by a clock that was wrong.
pub const HOMESERVER_WAIT_MAX: Duration = Duration::from_hours(1);

/// First wait after the homeserver failed; doubles up to [`HOMESERVER_WAIT_MAX`].
const HOMESERVER_WAIT_FIRST: Duration = Duration::from_secs(5);

/// When pings are due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timetable {
    /// What is counted from: the switch, or the command that set it.
    pub from: Timestamp,
    /// How long after that, shortest first.
    pub after: Vec<Duration>,
}

impl Timetable {
    /// One that has no pings.
    #[must_use]
    pub fn empty(from: Timestamp) -> Self {
        Self {
            from,
            after: Vec::new(),
        }
    }

    /// The first time that is due later than the last ping. Times that passed while nobody pinged
    /// are one ping, not many.
    #[must_use]
    pub fn next(&self, last: Option<Timestamp>) -> Option<Timestamp> {
        self.after
            .iter()
            .map(|after| later(self.from, *after))
            .find(|due| last.is_none_or(|last| *due > last))
    }

    /// When it is over: as long after the last ping as that was after the one before, so that people
    /// have time to come.
    #[must_use]
    pub fn end(&self, last: Option<Timestamp>) -> Timestamp {
        let [before, end] = match *self.after.as_slice() {
            [] => [Duration::ZERO, Duration::ZERO],
            [only] => [Duration::ZERO, only],
            [.., before, end] => [before, end],
        };
        let pause = end.saturating_sub(before);
        let planned = later(self.from, end.saturating_add(pause));
        last.map_or(planned, |last| planned.max(later(last, pause)))
    }
}

/// What happened to a follow-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "follow_up", rename_all = "snake_case")]
pub enum FollowUpEvent {
    /// It begins, or goes on with other times.
    Scheduled {
        /// When pings are due.
        timetable: Timetable,
        /// Who set it; nobody where it follows from the configuration or the upgrade's options.
        by: Option<OwnedUserId>,
    },
    /// Somebody wants a ping now.
    Asked {
        /// Who.
        by: OwnedUserId,
        /// When.
        at: Timestamp,
    },
    /// A ping is about to be sent. Its messages are named here, before the first one leaves, so that
    /// a repeat is the same ones.
    Pinging {
        /// Whom each message mentions.
        parts: Vec<Vec<OwnedUserId>>,
        /// In a campaign: where else they have not come. They are told here, and not in those rooms.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        also: BTreeMap<OwnedUserId, Vec<JobId>>,
        /// Servers that turned out not to know the new room's version.
        incompatible: BTreeSet<OwnedServerName>,
    },
    /// The ping is in the old room, or was refused there.
    Pinged {
        /// When.
        at: Timestamp,
        /// What became of it.
        outcome: PingOutcome,
    },
    /// It goes on later.
    Waiting {
        /// When.
        until: Timestamp,
        /// Why.
        pause: Pause,
    },
    /// It comes to its end: the to-dos are checked a last time.
    Ending {
        /// When.
        at: Timestamp,
        /// Why.
        why: EndReason,
    },
    /// It is over.
    Ended {
        /// How it ended; not known of those that were written down before this was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<End>,
    },
}

/// How a follow-up ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Who moved.
    pub tally: Tally,
    /// What became of the new room's join rule.
    pub door: Door,
    /// What became of the old room.
    pub farewell: OldRoomOutcome,
}

/// What became of the new room's join rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// It did not let in members of the old room.
    #[default]
    WasShut,
    /// It does no more.
    Shut,
    /// The server did not let the bot change it.
    Refused {
        /// Its words.
        message: String,
    },
}

/// What became of the bot in the old room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldRoomOutcome {
    /// It is to stay there.
    #[default]
    Stays,
    /// It left.
    Left,
    /// It was to leave, and something needs it there.
    Needed {
        /// What.
        why: String,
    },
}

/// What became of a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PingOutcome {
    /// It is in the room.
    Sent,
    /// The server did not let the bot.
    Refused {
        /// Its words.
        message: String,
    },
}

/// Why a follow-up waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// Nothing is due before.
    Planned,
    /// The homeserver asked for a pause, or did not answer.
    Homeserver,
}

/// Why a follow-up ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// As many came as were waited for.
    Moved,
    /// The last ping was a while ago.
    Time,
    /// Somebody said so.
    Off {
        /// Who.
        by: OwnedUserId,
    },
    /// The new room has been upgraded in turn.
    Replaced,
}

/// What a follow-up's events amount to.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUp {
    /// When pings are due.
    pub timetable: Timetable,
    /// When somebody asked for a ping that was not sent yet.
    pub asked: Option<Timestamp>,
    /// The ping that is being sent.
    pub pinging: Option<Vec<Vec<OwnedUserId>>>,
    /// Pings so far.
    pub pings: u32,
    /// The last one.
    pub last: Option<Timestamp>,
    /// Where else those who are being pinged have not come.
    pub also: BTreeMap<OwnedUserId, Vec<JobId>>,
    /// Who was mentioned so far, and in which ping last, counted from 1.
    pub mentioned: BTreeMap<OwnedUserId, u32>,
    /// Servers that do not know the new room's version.
    pub incompatible: BTreeSet<OwnedServerName>,
    /// Until when it waits, and why.
    pub waiting: Option<(Timestamp, Pause)>,
    /// Waits for the homeserver in a row.
    pub tries: u32,
    /// Where it stands.
    pub stage: Stage,
    /// How often it ended.
    pub ends: u32,
    /// How it ended last.
    pub end: Option<End>,
}

/// Where a follow-up stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Pings are due.
    Open,
    /// The to-dos are being checked a last time.
    Checking(EndReason),
    /// What is left is to close it.
    Closing(EndReason),
    /// It is over.
    Over,
}

/// What a follow-up calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A ping, now.
    Ping,
    /// Nothing before that.
    Wait(Timestamp),
    /// Its end.
    End(EndReason),
    /// Nothing.
    Rest,
}

/// What a decision depends on, beside the log.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The time.
    pub now: Timestamp,
    /// When nobody is to be disturbed.
    pub quiet_hours: Option<&'a QuietHours>,
    /// Who moved.
    pub tally: Tally,
    /// The part of those who could come that is enough.
    pub until_moved: f64,
}

impl FollowUp {
    fn new(timetable: Timetable) -> Self {
        Self {
            timetable,
            asked: None,
            pinging: None,
            pings: 0,
            last: None,
            also: BTreeMap::new(),
            mentioned: BTreeMap::new(),
            incompatible: BTreeSet::new(),
            waiting: None,
            tries: 0,
            stage: Stage::Open,
            ends: 0,
            end: None,
        }
    }

    /// The follow-up after one more event; `None` where the event cannot follow.
    pub(super) fn after(known: Option<Self>, event: &FollowUpEvent) -> Option<Self> {
        let mut this = match (known, event) {
            (Some(known), _) => known,
            (None, FollowUpEvent::Scheduled { timetable, .. }) => Self::new(timetable.clone()),
            (None, FollowUpEvent::Asked { at, .. } | FollowUpEvent::Ending { at, .. }) => {
                Self::new(Timetable::empty(*at))
            }
            (None, _) => return None,
        };
        match event {
            FollowUpEvent::Scheduled { timetable, .. } => {
                this.timetable = timetable.clone();
                this.stage = Stage::Open;
                this.waiting = None;
            }
            FollowUpEvent::Asked { at, .. } => {
                if this.stage == Stage::Over {
                    this.timetable = Timetable::empty(*at);
                    this.stage = Stage::Open;
                }
                this.asked = Some(*at);
                this.waiting = None;
            }
            FollowUpEvent::Pinging {
                parts,
                also,
                incompatible,
            } if this.stage == Stage::Open && this.pinging.is_none() => {
                this.pinging = Some(parts.clone());
                this.also.clone_from(also);
                this.incompatible.extend(incompatible.iter().cloned());
                this.waiting = None;
            }
            FollowUpEvent::Pinged { at, outcome } => {
                let parts = this.pinging.take()?;
                this.pings += 1;
                // A ping that was refused has reached nobody.
                if *outcome == PingOutcome::Sent {
                    let people = parts.into_iter().flatten();
                    this.mentioned.extend(people.map(|user| (user, this.pings)));
                }
                this.also.clear();
                this.last = Some(*at);
                this.asked = None;
                this.waiting = None;
                this.tries = 0;
            }
            FollowUpEvent::Waiting { until, pause } if this.stage != Stage::Over => {
                this.tries = match pause {
                    Pause::Planned => 0,
                    Pause::Homeserver => this.tries + 1,
                };
                this.waiting = Some((*until, *pause));
            }
            FollowUpEvent::Ending { why, .. } if this.pinging.is_none() => {
                this.stage = Stage::Checking(why.clone());
                this.asked = None;
                this.waiting = None;
            }
            FollowUpEvent::Ended { end } => {
                let Stage::Closing(_) = this.stage else {
                    return None;
                };
                this.stage = Stage::Over;
                this.asked = None;
                this.waiting = None;
                this.tries = 0;
                this.ends += 1;
                this.end.clone_from(end);
            }
            FollowUpEvent::Pinging { .. }
            | FollowUpEvent::Waiting { .. }
            | FollowUpEvent::Ending { .. } => return None,
        }
        Some(this)
    }

    /// The to-dos were checked, or cannot be.
    pub(super) fn checked(&mut self) {
        if let Stage::Checking(why) = &self.stage {
            self.stage = Stage::Closing(why.clone());
        }
    }

    /// Whether something is still to come of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stage != Stage::Over
    }

    /// When it is to be looked at; the past means at once.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let waiting = self.waiting.map(|(until, _)| until);
        match self.stage {
            Stage::Over | Stage::Checking(_) => None,
            Stage::Closing(_) => Some(waiting.unwrap_or(Timestamp::MIN)),
            Stage::Open => Some(waiting.unwrap_or_else(|| {
                if self.pinging.is_some() {
                    return Timestamp::MIN;
                }
                self.asked
                    .or_else(|| self.timetable.next(self.last))
                    .unwrap_or_else(|| self.timetable.end(self.last))
            })),
        }
    }

    /// The next ping that is planned, quiet hours considered.
    #[must_use]
    pub fn next_ping(&self, quiet_hours: Option<&QuietHours>) -> Option<Timestamp> {
        if self.stage != Stage::Open {
            return None;
        }
        let next = self.timetable.next(self.last)?;
        Some(quiet_hours.map_or(next, |hours| hours.after(next)))
    }

    /// Whether somebody is mentioned by the ping with a number, or was by a later one.
    #[must_use]
    pub fn has_mentioned(&self, user: &UserId, ping: u32) -> bool {
        let before = self.mentioned.get(user).is_some_and(|last| *last >= ping);
        let now = self.pinging.iter().flatten().flatten();
        before || (self.pings + 1 >= ping && now.into_iter().any(|known| known == user))
    }

    /// How long to wait once more for the homeserver.
    #[must_use]
    pub fn patience(&self) -> Duration {
        backoff(HOMESERVER_WAIT_FIRST, HOMESERVER_WAIT_MAX, self.tries)
    }

    /// What to do now.
    #[must_use]
    pub fn decide(&self, given: &Circumstances<'_>) -> Decision {
        if self.stage != Stage::Open {
            return Decision::Rest;
        }
        let now = given.now;
        if let Some((until, Pause::Homeserver)) = self.waiting
            && until > now
            && until <= later(now, HOMESERVER_WAIT_MAX)
        {
            return Decision::Wait(until);
        }
        // Who asks gets a ping as long as there is somebody to be pinged, at any hour.
        if self.asked.is_some() {
            return if given.tally.stragglers() == 0 {
                Decision::End(EndReason::Moved)
            } else {
                Decision::Ping
            };
        }
        if given.tally.has_moved(given.until_moved) {
            return Decision::End(EndReason::Moved);
        }
        let Some(due) = self.timetable.next(self.last) else {
            let end = self.timetable.end(self.last);
            return if end > now {
                Decision::Wait(end)
            } else {
                Decision::End(EndReason::Time)
            };
        };
        let loud = |moment| {
            given
                .quiet_hours
                .map_or(moment, |hours| hours.after(moment))
        };
        if due > now {
            Decision::Wait(loud(due))
        } else if loud(now) > now {
            Decision::Wait(loud(now))
        } else {
            Decision::Ping
        }
    }
}

#[cfg(test)]
mod tests;
