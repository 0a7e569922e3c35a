//! Reads rooms and their surroundings through the port: for plans, steps and verification alike.
//!
//! Only reads (P4). Turns what was read into plain data for the rules in `room`; a whole state is
//! read once instead of one request per type. Left out: deciding what to do about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ruma::{OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::config::{JoinRulePolicy, OldChildLink, Scope, UpgradeSettings};
use crate::homeserver::{Existence, Homeserver, HomeserverError, Result};
use crate::job::{Counts, Plan, Request};
use crate::model::{RoomName, RoomRef};
use crate::permissions::Within;
use crate::room::diff::{Observed, diff};
use crate::room::finding::{Finding, Weight};
use crate::room::power::{Allowance, Power, PowerLevels};
use crate::room::state::{Content, Listing, Membership, Slot, Snapshot};
use crate::room::target::{self, Intent, Target, room_to_be};
use crate::room::{authority, join_rules, predict, versions};

/// How many rooms a walk through nested spaces looks at before it gives up.
const SPACE_WALK_ROOMS_MAX: usize = 5_000;

/// Requests of an upgrade beside the changes: switch, reading both rooms twice, notice and pin.
const BASE_REQUESTS: usize = 14;

/// Time Synapse takes to copy one ban (measured: 1,000 in 27 s).
const MILLIS_PER_BAN: u64 = 27;

/// Finds the room that somebody named. `None`: the address leads nowhere.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn find(port: &dyn Homeserver, room: &RoomRef) -> Result<Option<OwnedRoomId>> {
    match &room.name {
        RoomName::Id(id) => Ok(Some(id.clone())),
        RoomName::Alias(alias) => follow(port, alias).await,
    }
}

/// Where an address leads. `None`: nowhere, or its own server does not say, which is nothing that
/// waiting here mends.
async fn follow(port: &dyn Homeserver, alias: &RoomAliasId) -> Result<Option<OwnedRoomId>> {
    match port.resolve(alias).await {
        Ok(found) => Ok(found.map(|found| found.room_id)),
        Err(error) if alias.server_name() == port.server_name() => Err(error),
        Err(
            HomeserverError::Refused { .. }
            | HomeserverError::Uncertain {
                status: Some(_), ..
            },
        ) => Ok(None),
        // Nobody answered. Is it ours that is away, or does it wait for the other one in vain?
        Err(HomeserverError::Uncertain { status: None, .. }) => {
            port.room_versions().await?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Power levels of a room. The whole state is read: who created a room, and so stands above all
/// levels in newer versions, is told by the sender of an event, which no smaller read gives.
///
/// # Errors
/// When the room cannot be read.
pub async fn power_in(port: &dyn Homeserver, room: &RoomId) -> Result<PowerLevels> {
    Ok(port.state(room).await?.power())
}

/// Whether a room is in a scope: named itself, or in one of its spaces, nested ones too. An address
/// in the scope that leads nowhere now puts nothing into it.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn within(port: &dyn Homeserver, scope: &Scope, room: &RoomId) -> Result<Within> {
    let Scope::Only(named) = scope else {
        return Ok(Within::Scope);
    };
    let mut queue: VecDeque<OwnedRoomId> = VecDeque::new();
    for name in named {
        queue.extend(match <&RoomId>::try_from(&**name) {
            Ok(id) => Some(id.to_owned()),
            Err(alias) => follow(port, alias).await?,
        });
    }
    let mut seen = BTreeSet::new();
    while let Some(next) = queue.pop_front() {
        if next == room {
            return Ok(Within::Scope);
        }
        if seen.len() < SPACE_WALK_ROOMS_MAX && seen.insert(next.clone()) {
            queue.extend(port.children(&next).await?);
        }
    }
    Ok(Within::Outside)
}

/// Whether somebody could send the tombstone of a room themselves. A room that cannot be read
/// gives nobody power.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn target_power(
    port: &dyn Homeserver,
    room: &RoomId,
    user: &UserId,
) -> Result<Allowance> {
    match power_in(port, room).await {
        Ok(power) => Ok(power.can_send_state(user, "m.room.tombstone")),
        Err(HomeserverError::Refused { .. }) => Ok(Allowance::Short {
            needed: 100,
            have: 0,
        }),
        Err(error) => Err(error),
    }
}

/// Reads a room and all that refers to it. `None`: the account is not in the room.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn snapshot(port: &dyn Homeserver, room: &RoomId) -> Result<Option<Snapshot>> {
    let state = match port.state(room).await {
        Ok(state) => state,
        Err(HomeserverError::Refused {
            status: 403 | 404, ..
        }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !state
        .members(Membership::Join)
        .any(|user| user == port.account())
    {
        return Ok(None);
    }
    Ok(Some(Snapshot {
        room: state,
        aliases: port.local_aliases(room).await?,
        listing: port.listing(room).await?,
        referrers: port.referrers(room).await?,
        joined_rooms: port.joined_rooms().await?,
    }))
}

/// Reads what the target speaks of, as it is now.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn observe(
    port: &dyn Homeserver,
    before: &Snapshot,
    target: &Target,
    new_room: &RoomId,
) -> Result<Observed> {
    let new = port.state(new_room).await?;
    let mut old = before.room.clone();
    for kind in ["m.room.power_levels", "m.room.canonical_alias"] {
        let content = port.state_event(&old.room_id, kind, "").await?;
        old.put(
            target::slot(kind, ""),
            port.account(),
            content.unwrap_or_default(),
        );
    }
    let mut aliases = BTreeMap::new();
    for alias in target.aliases.iter().chain(&target.remote_aliases) {
        let leads_to = follow(port, alias).await?;
        aliases.insert(alias.clone(), leads_to);
    }
    let mut others: BTreeMap<OwnedRoomId, BTreeMap<Slot, Content>> = BTreeMap::new();
    for (room, wanted) in &target.others {
        for slot in wanted.keys() {
            let content = match port.state_event(room, &slot.0, &slot.1).await {
                Ok(content) => content.unwrap_or_default(),
                // The bot is not there any more: it reads as empty, and becomes a to-do.
                Err(HomeserverError::Refused { .. }) => Content::new(),
                Err(error) => return Err(error),
            };
            others
                .entry(room.clone())
                .or_default()
                .insert(slot.clone(), content);
        }
    }
    let (old_listing, new_listing) = match target.listing {
        Listing::Private => (Listing::Private, Listing::Private),
        Listing::Public => (
            port.listing(&old.room_id).await?,
            port.listing(new_room).await?,
        ),
    };
    Ok(Observed {
        old,
        new,
        aliases,
        old_listing,
        new_listing,
        others,
    })
}

/// What a plan is made from beside the room itself.
pub struct Circumstances<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// What the configuration says.
    pub settings: &'a UpgradeSettings,
    /// Whether the room is one where the bot takes its orders.
    pub own_admin_room: OwnAdminRoom,
    /// Another job that is at work on the room.
    pub active_job: Option<crate::model::JobId>,
    /// Now.
    pub now: Timestamp,
    /// How long reading took so far, and how many requests that was.
    pub pace: Pace,
}

/// Whether the room to be upgraded is an admin room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnAdminRoom {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// How fast the homeserver answers.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time one request takes.
    pub per_request: Duration,
}

/// Makes the plan for a room that was read; `None` for one the bot is not in.
///
/// # Errors
/// When the homeserver does not answer.
pub async fn plan(
    port: &dyn Homeserver,
    before: Option<&Snapshot>,
    at: &Circumstances<'_>,
) -> Result<Plan> {
    let options = &at.request.options;
    let version = options
        .version
        .clone()
        .unwrap_or_else(|| at.settings.version.clone());
    let old = before.map(|before| before.room.create());
    let creators = target::creators(
        &at.settings.additional_creators,
        &options.creators,
        old.as_ref()
            .map(|create| (&create.version, &create.creators)),
        &version,
        port.account(),
    );
    let intent = Intent {
        version,
        method: options.method.unwrap_or(at.settings.method),
        bot: port.account().to_owned(),
        creators,
        join_rule: match at.settings.join_rule {
            JoinRulePolicy::Restricted => join_rules::Setting::Restricted,
            JoinRulePolicy::Keep => join_rules::Setting::Keep,
        },
        old_child_link: match at.settings.old_child_link {
            OldChildLink::Remove => target::OldChildLink::Remove,
            OldChildLink::Keep => target::OldChildLink::Keep,
        },
        tombstone_level: at.settings.tombstone_level,
        reason: options.reason.clone(),
    };

    let mut findings = Vec::new();
    if at.own_admin_room == OwnAdminRoom::Yes {
        findings.push(Finding::OwnAdminRoom);
    }
    if let Some(job) = at.active_job {
        findings.push(Finding::ActiveJob { job });
    }
    findings.extend(version_findings(port, &intent).await?);
    findings.extend(creator_findings(port, &intent.creators).await?);
    let (counts, changes) = match before {
        None => {
            findings.push(Finding::NotJoined);
            (Counts::default(), 0)
        }
        Some(before) => {
            let (found, counts, changes) = room_findings(before, &intent);
            findings.extend(found);
            (counts, changes)
        }
    };
    findings.sort_by_key(Finding::weight);

    let requests = BASE_REQUESTS + changes + counts.aliases + 4 * counts.spaces;
    let millis = at.pace.per_request.as_millis() * requests as u128
        + u128::from(MILLIS_PER_BAN) * counts.bans as u128;
    Ok(Plan {
        old_room: at.request.old_room.clone(),
        label: before.map_or_else(|| at.request.named.name.to_string(), |old| old.room.label()),
        from: old.map(|create| create.version),
        hash: fingerprint(before, &intent, &findings),
        findings,
        counts,
        requests,
        seconds: u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX),
        expires_at: SignedDuration::try_from(at.settings.plan_expires)
            .ok()
            .and_then(|lifetime| at.now.checked_add(lifetime).ok())
            .unwrap_or(at.now),
        intent,
    })
}

async fn version_findings(port: &dyn Homeserver, intent: &Intent) -> Result<Option<Finding>> {
    let offered = port.room_versions().await?.available;
    let version = intent.version.clone();
    let known: Vec<_> = offered
        .iter()
        .filter(|version| versions::properties(version).is_some())
        .cloned()
        .collect();
    Ok(if versions::properties(&version).is_none() {
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
    })
}

async fn creator_findings(
    port: &dyn Homeserver,
    creators: &BTreeSet<OwnedUserId>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for user in creators {
        match port.user_exists(user).await? {
            Some(Existence::Known) => {}
            Some(Existence::Unknown) => findings.push(Finding::NoSuchUser { user: user.clone() }),
            None => findings.push(Finding::UnknownCreator { user: user.clone() }),
        }
    }
    Ok(findings)
}

/// Everything that the room itself has to say, how much there is, and the requests it takes.
fn room_findings(before: &Snapshot, intent: &Intent) -> (Vec<Finding>, Counts, usize) {
    let room = &before.room;
    let create = room.create();
    let mut findings = Vec::new();

    if let Some(tombstone) = room.tombstone() {
        findings.push(Finding::AlreadyUpgraded {
            replacement: tombstone.replacement,
            by: tombstone.sender,
        });
    }
    if versions::has_creators(&create.version) && !versions::has_creators(&intent.version) {
        findings.push(Finding::CreatorsTakeBack {
            from: create.version.clone(),
            to: intent.version.clone(),
        });
    }
    let power = room.power();
    // Without creators above all levels, the server bans with the bot's own level.
    if !versions::has_creators(&intent.version) {
        let own = power.power(&intent.bot);
        let users: Vec<_> = room
            .bans()
            .into_keys()
            .filter(|user| power.power(user) >= own || own < Power::Level(power.ban))
            .collect();
        if !users.is_empty() {
            findings.push(Finding::UnbannableBans { users });
        }
    }

    let to_be = room_to_be();
    let target = target::target(before, intent, &to_be);
    findings.extend(target.findings.iter().cloned());
    let predicted = predict::after_server_upgrade(before, intent, &to_be);
    let changes = diff(&target, &predicted);
    findings.extend(authority::findings(before, intent, &changes, &predicted));

    if versions::has_creators(&intent.version) {
        findings.push(Finding::Creators {
            users: intent.all_creators().into_iter().collect(),
        });
        let levels = target
            .new_state
            .get(&target::slot("m.room.power_levels", ""));
        let level = levels
            .and_then(|levels| levels.get("events"))
            .and_then(|events| events.get("m.room.tombstone"))
            .and_then(serde_json::Value::as_i64);
        findings.extend(level.map(|level| Finding::TombstoneLevel { level }));
    }
    if create.room_type.as_deref() == Some("m.space") {
        let count = room
            .of_kind("m.space.child")
            .filter(|child| target::is_link(&child.content))
            .count();
        findings.push(Finding::SpaceChildren { count });
    }

    let servers: BTreeSet<_> = room
        .members(Membership::Join)
        .map(|user| user.server_name().to_owned())
        .collect();
    let counts = Counts {
        members: room.members(Membership::Join).count(),
        servers: servers.len(),
        bans: target.bans.len(),
        state: target.new_state.len(),
        aliases: before.aliases.len(),
        spaces: target
            .others
            .values()
            .filter(|wanted| wanted.keys().any(|slot| slot.0 == "m.space.child"))
            .count(),
    };
    (
        findings,
        counts,
        changes
            .iter()
            .map(crate::room::diff::Change::requests)
            .sum(),
    )
}

/// Fingerprint of all that somebody says yes to. Members and bans are left out: they come and go
/// in a busy room, and are carried over as they are when the job begins.
fn fingerprint(before: Option<&Snapshot>, intent: &Intent, findings: &[Finding]) -> String {
    let wanted = before.map(|before| {
        let target = target::target(before, intent, &room_to_be());
        let state: Vec<_> = target.new_state.into_iter().collect();
        let others: Vec<_> = target
            .others
            .into_iter()
            .map(|(room, slots)| (room, slots.into_iter().collect::<Vec<_>>()))
            .collect();
        json!([state, others, target.aliases, target.listing])
    });
    let lasting: Vec<_> = findings
        .iter()
        .filter(|finding| {
            finding.weight() == Weight::Blocker
                || !matches!(finding, Finding::InvitationsNeeded { .. })
        })
        .collect();
    let digest = Sha256::digest(json!([intent, wanted, lasting]).to_string());
    let mut hash = String::with_capacity(16);
    for byte in digest.iter().take(8) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}
