//! Finds the rooms of a campaign's space, joins those that it may, and makes their jobs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ruma::{OwnedRoomId, RoomId};
use tracing::info;

use super::super::Worker;
use super::{CampaignRun, SYNC_WAIT, SYNC_WAITS_MAX};
use crate::campaign::log::Joining;
use crate::campaign::rooms::{self, Outside, Walk, Wanted};
use crate::campaign::{Entry, Found};
use crate::config::TargetPower;
use crate::homeserver::{Homeserver, HomeserverError, ensure_reachable};
use crate::job::{Consent, Request as JobRequest, Turn, WaitReason};
use crate::model::{Confirmation, RoomName, RoomRef};
use crate::permissions;
use crate::room::state::RoomState;
use crate::store::{StoreError, Write};
use crate::survey::surroundings::told;

/// Rooms that a campaign joins to look at them. A space may list any number of strangers' rooms.
const JOINS_MAX: usize = 50;

/// What came of a walk through the space.
enum Walked {
    Found { label: String, walk: Walk },
    Joined(Vec<Entry>),
    Awaits,
}

impl Worker {
    /// Looks for the rooms of the space, and makes their jobs.
    pub(super) async fn find(&self, run: &CampaignRun) -> Result<(), StoreError> {
        match self.walk(run).await {
            Ok(Walked::Found { label, walk }) => {
                let request = &run.campaign.request;
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
                            campaign: run.campaign.id,
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
                info!(campaign = %run.campaign.id, rooms = found.rooms, "rooms found");
                self.note(run, vec![Entry::Found { found }], writes)
            }
            Ok(Walked::Joined(entries)) => self.note(run, entries, vec![]),
            Ok(Walked::Awaits) => self.wait(run, SYNC_WAIT, WaitReason::Settling, vec![]),
            Err(error) => self.trouble(run, &error, vec![]),
        }
    }

    async fn walk(&self, run: &CampaignRun) -> Result<Walked, HomeserverError> {
        let request = &run.campaign.request;
        let port = &self.context.port;
        let joined = joined(&run.campaign.log);
        port.until_told(&joined, SYNC_WAIT).await;
        let rooms = told(port).await?;
        let walk = self.walked(run, &rooms);
        // Only looking at a plan makes the bot join nothing.
        let may_join = request.confirmation != Confirmation::PlanOnly;
        let left = JOINS_MAX.saturating_sub(run.state.tried.len());
        let mut entries = Vec::new();
        let outside = walk
            .outside
            .iter()
            .filter(|outside| may_join && !run.state.tried.contains(&outside.room));
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
        if !joined.iter().all(is_told) && run.state.waits < SYNC_WAITS_MAX {
            return Ok(Walked::Awaits);
        }
        let label = rooms.get(&request.space).map(RoomState::label);
        Ok(Walked::Found {
            label: label.unwrap_or_else(|| request.named.name.to_string()),
            walk,
        })
    }

    pub(super) fn walked(
        &self,
        run: &CampaignRun,
        told: &BTreeMap<OwnedRoomId, RoomState>,
    ) -> Walk {
        let request = &run.campaign.request;
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
        let space = run
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
