//! Makes the plan: what an upgrade would do, what stands in its way, and what it costs.
//!
//! Reads the few things that the room itself does not tell (versions the server offers, whether
//! creators exist, which server it is) and asks the rules in `room` for the rest. Left out: showing
//! it (`message`).

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use ruma::OwnedRoomId;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::cost::{Cost, Pace, cost};
use super::findings::{creator_findings, method_findings, room_findings, version_findings};
use super::{Surroundings, observe, old_room};
use crate::clock::later;
use crate::config::UpgradeSettings;
use crate::homeserver::admin::RoomPower;
use crate::homeserver::{Homeserver, Result};
use crate::job::{self, Asks, Counts, Plan, Request, Schedule};
use crate::model::{JobId, Method, MethodChoice, OwnAdminRoom, Review};
use crate::room::diff::diff;
use crate::room::finding::{Finding, MethodReason, Weight};
use crate::room::intent::Intent;
use crate::room::policy::{self, Misplaced};
use crate::room::state::{Membership, RoomState, Snapshot};
use crate::room::target::{self, Target, room_to_be};
use crate::room::{authority, invitation, method, predict, transfer, versions};

/// What a plan is made from beside the room itself.
pub(crate) struct Circumstances<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// What the configuration says.
    pub settings: &'a UpgradeSettings,
    /// How long before the start members are told, where they are to be.
    pub announce: &'a [Duration],
    /// Whether the room is one where the bot takes its orders.
    pub place: Place,
    /// Another job that is at work on the room.
    pub active_job: Option<JobId>,
    pub now: Timestamp,
    /// How fast the server answered up to now.
    pub pace: Pace,
    pub around: &'a Surroundings,
}

/// What the room to be upgraded is to the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Commands are taken there.
    AdminRoom,
    Elsewhere,
}

/// What was read of the room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read<'a> {
    /// The bot is not in it.
    NotJoined,
    /// It is to be upgraded.
    Old(&'a Snapshot),
    /// It was upgraded by somebody else, to this room.
    Succeeded(&'a Snapshot, &'a RoomState),
    /// It is to be adopted, and cannot be.
    Unfit(&'a Snapshot, &'a Finding),
}

impl<'a> Read<'a> {
    fn snapshot(self) -> Option<&'a Snapshot> {
        match self {
            Self::NotJoined => None,
            Self::Old(old) | Self::Succeeded(old, _) | Self::Unfit(old, _) => Some(old),
        }
    }
}

/// What a server admin's account can do where power is missing.
fn offer(
    port: &dyn Homeserver,
    request: &Request,
    before: Option<&Snapshot>,
    findings: &[Finding],
) -> Option<Finding> {
    let is_short = findings
        .iter()
        .any(|finding| matches!(finding, Finding::NoPower { .. } | Finding::NotJoined));
    let admin = port.admin().filter(|_| is_short)?;
    (admin.room_power() == RoomPower::WhenTold).then(|| Finding::ServerGivesPower {
        room: request.old_room.clone(),
        through: before
            .and_then(|before| authority::local_helper(&before.room, port.server_name())),
    })
}

/// Makes the plan for a room that was read.
///
/// # Errors
/// When the homeserver does not answer.
pub(crate) async fn plan(
    port: &dyn Homeserver,
    read: Read<'_>,
    at: &Circumstances<'_>,
) -> Result<Plan> {
    let before = read.snapshot();
    let (intent, reason, software) = intent(port, read, at);
    let mut findings = first_findings(port, before, &intent, at).await?;
    let successor = match read {
        Read::Succeeded(_, new) => Some(new.room_id.clone()),
        _ => None,
    };
    let new_room = successor.clone().unwrap_or_else(room_to_be);
    let target = before.map(|before| target::target(before, &intent, &new_room));
    let misplaced = match at.request.campaign {
        None => Misplaced::Refuse,
        Some(_) => Misplaced::PassOver,
    };
    let policies = |room| policy::findings(room, &intent, &at.request.options, misplaced);
    let mut counts = Counts::default();
    let mut changes = Vec::new();
    match (read, &target) {
        (Read::Unfit(_, finding), _) => findings.push(finding.clone()),
        (Read::Succeeded(before, new), Some(target)) => {
            let old = old_room(port, &before.room.room_id).await?;
            let old = old.unwrap_or_else(|| before.room.clone());
            let now = observe(port, before, old, target, &new.room_id).await?;
            changes = diff(target, &now);
            findings.extend(room_findings(before, &intent, target, &changes, &now));
            findings.extend(policies(&before.room));
            counts = counted(before, &intent, target);
        }
        (Read::Old(before), Some(target)) => {
            let now = predict::after_switch(before, &intent, target, &new_room);
            changes = diff(target, &now);
            findings.extend(method_findings(before, &intent, reason, at.around));
            let room = &before.room;
            let people = method::leaves_settings(room, &intent, software.as_deref());
            findings.extend(people.map(|people| Finding::SettingsStay { people }));
            findings.extend(room_findings(before, &intent, target, &changes, &now));
            findings.extend(policies(&before.room));
            counts = counted(before, &intent, target);
        }
        _ => findings.push(Finding::NotJoined),
    }
    findings.extend(offer(port, at.request, before, &findings));
    findings.sort_by_key(Finding::weight);

    let Cost {
        requests,
        seconds,
        limited_seconds,
    } = cost(&changes, &counts, at.pace);
    Ok(Plan {
        old_room: at.request.old_room.clone(),
        label: before.map_or_else(|| at.request.named.name.to_string(), |old| old.room.label()),
        from: before.map(|old| old.room.create().version),
        hash: hash(at, target.as_ref(), &intent, successor.as_ref(), &findings),
        successor,
        findings,
        counts,
        requests,
        seconds,
        limited_seconds,
        expires_at: later(at.now, at.settings.plan_expires),
        asks: Asks::default(),
        schedule: Schedule::of(&at.request.options, at.announce),
        intent,
    })
}

/// What is wanted, with everything that was left open filled in; why this method; and the server's
/// software, where that matters.
fn intent(
    port: &dyn Homeserver,
    read: Read<'_>,
    at: &Circumstances<'_>,
) -> (Intent, MethodReason, Option<String>) {
    let (options, settings) = (&at.request.options, at.settings);
    let bot = port.account().to_owned();
    let old = read.snapshot().map(|before| &before.room);
    let create = old.map(RoomState::create);
    let adopted = match read {
        Read::Succeeded(_, new) => Some(new.create()),
        _ => None,
    };
    let version = match &adopted {
        Some(new) => new.version.clone(),
        None => options
            .version
            .clone()
            .unwrap_or_else(|| settings.version.clone()),
    };
    let creators = match adopted {
        Some(new) if versions::has_creators(&version) => new.creators,
        Some(_) => BTreeSet::new(),
        None => target::creators(
            &settings.additional_creators,
            &options.creators,
            create
                .as_ref()
                .map(|create| (&create.version, &create.creators)),
            &version,
            &bot,
        ),
    };
    let choice = options.method.unwrap_or(settings.method);
    let mut intent = Intent {
        version,
        method: Method::Server,
        review: options.review,
        bot,
        creators,
        join_rule: options.join_rule.unwrap_or(settings.join_rule),
        invite: options.invite.unwrap_or(settings.invite),
        bots: settings.bots.clone(),
        old_child_link: settings.old_child_link,
        tombstone_level: settings.tombstone_level,
        policies: None,
        room_type: None,
        reason: options.reason.clone(),
    };
    if let Some(old) = old {
        (intent.policies, intent.room_type) = policy::chosen(old, options);
    }
    let software = match (choice, options.review) {
        (MethodChoice::Adopt, _) | (MethodChoice::Server, Review::Skip) => None,
        _ => at.around.server.software.clone(),
    };
    let server = method::Server {
        software: software.as_deref(),
        encrypts: &at.around.server.encrypts,
    };
    let (method, reason) = method::choose(choice, options.review, old, &intent, server);
    intent.method = method;
    (intent, reason, software)
}

/// What there is to be moved, as far as the bot may move it.
fn counted(before: &Snapshot, intent: &Intent, target: &Target) -> Counts {
    let room = &before.room;
    let may = |room: &RoomState, kind: &str| authority::shortage(room, &intent.bot, kind).is_none();
    // The server moves them by itself, whatever the bot may do.
    let moves_addresses = intent.method == Method::Server || may(room, "m.room.canonical_alias");
    let may_edit = |space: &OwnedRoomId| {
        let space = before.referrers.iter().find(|room| room.room_id == *space);
        space.is_some_and(|space| may(space, "m.space.child"))
    };
    let ghosts = invitation::bridges(room, &intent.bots).ghosts;
    let servers: BTreeSet<_> = room
        .members(Membership::Join)
        .map(|user| user.server_name().to_owned())
        .collect();
    Counts {
        members: room
            .members(Membership::Join)
            .filter(|user| *user != target.bot && !ghosts.contains(user))
            .count(),
        servers: servers.len(),
        bans: target.bans.len(),
        state: target.new_state.len(),
        aliases: if moves_addresses {
            before.aliases.len()
        } else {
            0
        },
        pins: match transfer::unreadable_pins(room) {
            None => room.pins().len(),
            Some(_) => 0,
        },
        spaces: target
            .others
            .iter()
            .filter(|(_, wanted)| wanted.keys().any(|slot| slot.0 == "m.space.child"))
            .filter(|(space, _)| may_edit(space))
            .count(),
    }
}

/// Fingerprint of all that somebody says yes to. Members and bans are left out: they come and go
/// in a busy room, and are carried over as they are when the job begins.
fn fingerprint(
    target: Option<&Target>,
    intent: &Intent,
    successor: Option<&OwnedRoomId>,
    findings: &[Finding],
) -> String {
    let wanted = target.map(|target| {
        let state: Vec<_> = target.new_state.iter().collect();
        let others: Vec<_> = target
            .others
            .iter()
            .map(|(room, slots)| (room, slots.iter().collect::<Vec<_>>()))
            .collect();
        json!([state, others, target.aliases, target.listing])
    });
    let lasting: Vec<_> = findings
        .iter()
        .filter(|finding| finding.weight() == Weight::Blocker || finding.is_lasting())
        .collect();
    let given = json!([intent, successor, wanted, lasting]).to_string();
    job::plan::fingerprint(Sha256::new_with_prefix(given))
}

/// What a yes to the plan is bound to.
fn hash(
    at: &Circumstances<'_>,
    target: Option<&Target>,
    intent: &Intent,
    successor: Option<&OwnedRoomId>,
    findings: &[Finding],
) -> String {
    if at.request.campaign.is_none() {
        return fingerprint(target, intent, successor, findings);
    }
    // A campaign says yes to what is asked of each room and to what gets lost, not to what the
    // room is just then: its own other rooms change it, and hours may pass.
    let grave = findings
        .iter()
        .filter(|finding| finding.weight() != Weight::Note);
    fingerprint(None, intent, successor, &grave.cloned().collect::<Vec<_>>())
}

/// What is found whatever the room is like: where it was asked for, other jobs, the version, creators.
async fn first_findings(
    port: &dyn Homeserver,
    before: Option<&Snapshot>,
    intent: &Intent,
    at: &Circumstances<'_>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    match (at.place, at.request.options.own_admin_room) {
        (Place::AdminRoom, _) if intent.method == Method::Adopt => {
            findings.push(Finding::AdminRoomClosed);
        }
        (Place::AdminRoom, OwnAdminRoom::Spare) => findings.push(Finding::OwnAdminRoom),
        (Place::AdminRoom, OwnAdminRoom::Included) => findings.push(Finding::FollowsAdminRoom),
        (Place::Elsewhere, _) => {}
    }
    findings.extend(at.active_job.map(|job| Finding::ActiveJob { job }));
    if intent.method == Method::Adopt {
        return Ok(findings);
    }
    findings.extend(version_findings(&at.around.server.versions, intent));
    let from = before.map(|old| old.room.create().version);
    let from = from.filter(|from| versions::properties(from).is_none());
    findings.extend(from.map(|version| Finding::UnknownOldVersion { version }));
    let asked = at.request.options.creators.iter();
    let asked = asked.chain(&at.settings.additional_creators).collect();
    findings.extend(creator_findings(port, &intent.creators, &asked).await?);
    if let Some(before) = before {
        let shut_out = authority::shut_out_creators(&before.room, &intent.creators, &asked);
        findings.extend(shut_out);
    }
    Ok(findings)
}
