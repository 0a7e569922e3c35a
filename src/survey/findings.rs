//! What somebody should know before a room is upgraded, beyond what `room` finds by itself: it needs what the server
//! offers, what other jobs do, and who asked.

use std::collections::BTreeSet;

use ruma::OwnedUserId;

use super::Surroundings;
use crate::homeserver::{Existence, Homeserver, Result, RoomVersions};
use crate::model::Method;
use crate::room::change::{Change, Observed};
use crate::room::finding::{FalseWhy, Finding, MethodReason};
use crate::room::intent::Intent;
use crate::room::invitation::Role;
use crate::room::power::is_level;
use crate::room::state::{RoomState, Snapshot, Tombstone, is_encrypted, slot};
use crate::room::target::{self, Target};
use crate::room::{authority, creation, method, transfer, versions};

/// What the method itself has to say.
pub(super) fn method_findings(
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

pub(super) fn version_findings(offered: &RoomVersions, intent: &Intent) -> Option<Finding> {
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
pub(super) async fn creator_findings(
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
pub(super) fn room_findings(
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
pub(super) fn told(finding: &Finding, intent: &Intent) -> Option<Finding> {
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
