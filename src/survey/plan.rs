//! Makes the plan: what an upgrade would do, what stands in its way, and what it costs.
//!
//! Reads the few things that the room itself does not tell (versions the server offers, whether
//! creators exist, which server it is) and asks the rules in `room` for the rest. Left out: showing
//! it (`message`).

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Surroundings, observe, old_room};
use crate::clock::later;
use crate::config::UpgradeSettings;
use crate::homeserver::admin::RoomPower;
use crate::homeserver::pace::Allowance;
use crate::homeserver::{Existence, Homeserver, Result, RoomVersions};
use crate::job::{self, Asks, Counts, Plan, Request, Schedule};
use crate::model::{JobId, Method, MethodChoice, OwnAdminRoom, Review};
use crate::room::change::{Change, Observed};
use crate::room::diff::diff;
use crate::room::finding::{FalseWhy, Finding, MethodReason, Weight};
use crate::room::intent::Intent;
use crate::room::invitation::{self, Role};
use crate::room::policy::{self, Misplaced};
use crate::room::power::is_level;
use crate::room::state::{Membership, RoomState, Snapshot, Tombstone, is_encrypted, slot};
use crate::room::target::{self, Target, room_to_be};
use crate::room::{authority, creation, method, predict, transfer, versions};

/// Requests of an upgrade beside the changes: switch, reading both rooms twice, notice and pin.
const BASE_REQUESTS: usize = 14;

/// What an upgrade sends beside the changes: the new room, the tombstone, the notice and its pin.
const EVENTS_OF_ITS_OWN: usize = 4;

/// Time Synapse takes to copy one ban (measured: 1,000 in 27 s).
const MILLIS_PER_BAN: u64 = 27;

/// What a plan is made from beside the room itself.
pub struct Circumstances<'a> {
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
    /// Now.
    pub now: Timestamp,
    /// How fast the server answered up to now.
    pub pace: Pace,
    /// What surrounds it.
    pub around: &'a Surroundings,
}

/// What the room to be upgraded is to the bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Commands are taken there.
    AdminRoom,
    /// Any other room.
    Elsewhere,
}

/// How fast the homeserver answers.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time one request takes.
    pub per_request: Duration,
    /// What it lets the account send.
    pub sending: Allowance,
    /// Whom it lets the account invite.
    pub inviting: Allowance,
}

/// What was read of the room.
#[derive(Debug, Clone, Copy)]
pub enum Read<'a> {
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
pub async fn plan(port: &dyn Homeserver, read: Read<'_>, at: &Circumstances<'_>) -> Result<Plan> {
    let before = read.snapshot();
    let (intent, reason, software) = intent(port, read, at);
    let mut findings = Vec::new();
    match (at.place, at.request.options.own_admin_room) {
        (Place::AdminRoom, _) if intent.method == Method::Adopt => {
            findings.push(Finding::AdminRoomClosed);
        }
        (Place::AdminRoom, OwnAdminRoom::Spare) => findings.push(Finding::OwnAdminRoom),
        (Place::AdminRoom, OwnAdminRoom::Included) => findings.push(Finding::FollowsAdminRoom),
        (Place::Elsewhere, _) => {}
    }
    if let Some(job) = at.active_job {
        findings.push(Finding::ActiveJob { job });
    }
    if intent.method != Method::Adopt {
        findings.extend(version_findings(&at.around.server.versions, &intent));
        let from = before.map(|old| old.room.create().version);
        let from = from.filter(|from| versions::properties(from).is_none());
        findings.extend(from.map(|version| Finding::UnknownOldVersion { version }));
        let asked = at.request.options.creators.iter();
        let asked = asked.chain(&at.settings.additional_creators).collect();
        findings.extend(creator_findings(port, &intent.creators, &asked).await?);
        let room = before.map(|before| &before.room);
        findings.extend(room.map_or_else(Vec::new, |room| {
            authority::shut_out_creators(room, &intent.creators, &asked)
        }));
    }
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
        hash: if at.request.campaign.is_none() {
            fingerprint(target.as_ref(), &intent, successor.as_ref(), &findings)
        } else {
            // A campaign says yes to what is asked of each room and to what gets lost, not to what the
            // room is just then: its own other rooms change it, and hours may pass.
            let grave: Vec<_> = findings
                .iter()
                .filter(|finding| finding.weight() != Weight::Note)
                .cloned()
                .collect();
            fingerprint(None, &intent, successor.as_ref(), &grave)
        },
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

/// What an upgrade takes.
struct Cost {
    requests: usize,
    seconds: u64,
    /// How many of them the server's limits take at least.
    limited_seconds: u64,
}

/// What it takes.
fn cost(changes: &[Change], counts: &Counts, pace: Pace) -> Cost {
    let requests = BASE_REQUESTS
        + changes.iter().map(Change::requests).sum::<usize>()
        + counts.aliases
        + 2 * counts.pins
        + 4 * counts.spaces;
    let millis = pace.per_request.as_millis() * requests as u128
        + u128::from(MILLIS_PER_BAN) * counts.bans as u128;
    let seconds = u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX);
    let is_invitation = |change: &&Change| matches!(change, Change::Invite { .. });
    let is_sent =
        |change: &&Change| !matches!(change, Change::MoveAlias { .. } | Change::List { .. });
    let copies = counts.pins + usize::from(counts.pins > 0);
    let sent = EVENTS_OF_ITS_OWN
        + changes
            .iter()
            .filter(is_sent)
            .map(Change::requests)
            .sum::<usize>()
        + copies;
    let invited = changes.iter().filter(is_invitation).count();
    // Invitations count as messages, too: both go on at the same time.
    let limited = pace
        .sending
        .time_for(sent)
        .max(pace.inviting.time_for(invited));
    let limited_seconds = limited.as_secs();
    Cost {
        requests,
        seconds: seconds.max(limited_seconds),
        limited_seconds,
    }
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

/// What the method itself has to say.
fn method_findings(
    before: &Snapshot,
    intent: &Intent,
    reason: MethodReason,
    around: &Surroundings,
) -> Vec<Finding> {
    let server = &around.server;
    let room = &before.room;
    let create = room.create();
    let mut findings = vec![Finding::MethodChosen {
        method: intent.method,
        reason,
    }];
    if let Some(Tombstone {
        replacement,
        sender: by,
    }) = room.tombstone()
    {
        let known = replacement.as_ref().and_then(|to| around.rooms.get(to));
        let is_false = |to: &RoomState| to.create().predecessor.as_ref() != Some(&room.room_id);
        findings.push(match replacement {
            _ if room.replaced().is_none() => Finding::LeadsNowhere { by },
            replacement if known.is_some_and(is_false) => Finding::FalseSuccessor {
                room: replacement,
                by,
                why: FalseWhy::NotPredecessor,
            },
            replacement => Finding::AlreadyUpgraded { replacement, by },
        });
    }
    if intent.method != Method::Server {
        let is_sealed = server.encrypts.contains(&creation::preset(room));
        if is_sealed && !is_encrypted(room) {
            findings.push(Finding::ServerEncryptsAll);
        }
        return findings;
    }
    if method::server_encrypts(room, &server.encrypts) {
        findings.push(Finding::WillBeEncrypted);
    }
    if method::takes_creators_back(room, intent) {
        findings.push(Finding::CreatorsTakeBack {
            from: create.version.clone(),
            to: intent.version.clone(),
        });
    }
    let keys = creation::forgotten_by_server(room, server.software.as_deref());
    if !keys.is_empty() {
        findings.push(Finding::CreateKeysStay { keys });
    }
    let users = method::unbannable(room, intent);
    if !users.is_empty() {
        findings.push(Finding::UnbannableBans { users });
    }
    findings
}

fn version_findings(offered: &RoomVersions, intent: &Intent) -> Option<Finding> {
    let offered = &offered.available;
    let version = intent.version.clone();
    let known: Vec<_> = offered
        .iter()
        .filter(|version| versions::properties(version).is_some())
        .cloned()
        .collect();
    if versions::properties(&version).is_none() {
        Some(Finding::UnknownVersion {
            version,
            available: known,
        })
    } else if offered.contains(&version) {
        None
    } else {
        Some(Finding::VersionNotOffered {
            version,
            available: known,
        })
    }
}

/// Somebody of whom their server knows nothing may still be there, without a name and a picture. So only who
/// was `asked` for may be misspelt; creators of the old room were there at least once.
/// Source: Matrix specification, `GET /profile`, 404.
async fn creator_findings(
    port: &dyn Homeserver,
    creators: &BTreeSet<OwnedUserId>,
    asked: &BTreeSet<&OwnedUserId>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for user in creators {
        match port.user_exists(user).await? {
            Some(Existence::Known) => {}
            Some(Existence::Unknown) if !asked.contains(user) => {
                findings.push(Finding::UnknownCreator { user: user.clone() });
            }
            Some(Existence::Unknown) => findings.push(Finding::NoSuchUser { user: user.clone() }),
            None => findings.push(Finding::UnknownCreator { user: user.clone() }),
        }
    }
    Ok(findings)
}

/// What the room itself has to say.
fn room_findings(
    before: &Snapshot,
    intent: &Intent,
    target: &Target,
    changes: &[Change],
    now: &Observed,
) -> Vec<Finding> {
    let mut findings: Vec<_> = target
        .findings
        .iter()
        .filter_map(|finding| told(finding, intent))
        .collect();
    findings.extend(authority::findings(before, intent, changes, now));
    findings.extend(authority::nobody_enters(before, intent, target));
    findings.extend(authority::unseen_spaces(before));
    if versions::has_creators(&intent.version) && intent.method != Method::Adopt {
        findings.push(Finding::Creators {
            users: intent.all_creators().into_iter().collect(),
        });
        let levels = target.new_state.get(&slot("m.room.power_levels", ""));
        let level = levels
            .and_then(|levels| levels.get("events"))
            .and_then(|events| events.get("m.room.tombstone"))
            .and_then(serde_json::Value::as_i64);
        findings.extend(level.map(|level| Finding::TombstoneLevel { level }));
    }
    if before.room.is_space() {
        let count = before
            .room
            .of_kind("m.space.child")
            .filter(|child| target::is_link(&child.content))
            .count();
        findings.push(Finding::SpaceChildren { count });
    }
    if !before.room.pins().is_empty() {
        let why = [&now.new, &before.room]
            .into_iter()
            .find_map(transfer::unreadable_pins);
        findings.extend(why.map(|why| Finding::PinsStay { why }));
    }
    let waiting: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Knock { user } => Some(user.clone()),
            _ => None,
        })
        .collect();
    if !waiting.is_empty() {
        findings.push(Finding::KnocksWait { users: waiting });
    }
    let guests = |role| {
        changes
            .iter()
            .filter(|change| matches!(change, Change::Invite { role: of, .. } if *of == role))
            .count()
    };
    let (bots, creators, members) = (
        guests(Role::Bot),
        guests(Role::Creator),
        guests(Role::Member),
    );
    if bots + creators + members > 0 {
        findings.push(Finding::Invites {
            bots,
            creators,
            members,
        });
    }
    findings
}

/// A finding of the rules as it matters to this method.
fn told(finding: &Finding, intent: &Intent) -> Option<Finding> {
    match (finding, intent.method) {
        // The bot invites those who need it, and says how many.
        (Finding::InvitationsNeeded { .. }, _) if !target::invites_nobody(intent) => None,
        // Only the server's own upgrade fails at these.
        (Finding::NoPowerLevels, Method::Staged | Method::Adopt) => None,
        (Finding::BrokenPowerLevels { places }, Method::Staged | Method::Adopt) => {
            let places: Vec<_> = places
                .iter()
                .filter(|place| is_level(place))
                .cloned()
                .collect();
            (!places.is_empty()).then_some(Finding::LevelsDropped { places })
        }
        (finding, _) => Some(finding.clone()),
    }
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
