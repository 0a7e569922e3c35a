//! What the new room and its surroundings should be, given the old room and what was asked for.
//!
//! Pure, and the one place where a rule about rooms is written. Whether something is there already
//! is the question of `diff`; what cannot be carried over comes out as a finding.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName,
    UserId,
};
use serde_json::{Value, json};

use super::finding::Finding;
use super::intent::Intent;
use super::invitation::{self, Guest};
use super::power::{self, PowerRule};
use super::state::{Content, Listing, Membership, RoomState, Slot, Snapshot, content, slot};
use super::transfer::{self, Fate};
use super::{join_rules, versions};
use crate::model::{InvitePolicy, OldChildLink, Policies};

/// Type of the event by which a room says that it is in a space.
const PARENT: &str = "m.space.parent";

#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The account that sees to it.
    pub bot: OwnedUserId,
    /// State of the new room, apart from addresses.
    pub new_state: BTreeMap<Slot, Content>,
    /// Who is banned from the new room, and why.
    pub bans: BTreeMap<String, Option<String>>,
    /// Addresses on the bot's server that should lead to the new room.
    pub aliases: BTreeSet<OwnedRoomAliasId>,
    /// Addresses on other servers; only people there can move them.
    pub remote_aliases: BTreeSet<OwnedRoomAliasId>,
    /// Main address and alternatives that the new room should show, once they lead to it.
    pub canonical: Canonical,
    /// Whether the directory should list the new room; the old one never.
    pub listing: Listing,
    /// State of other rooms: spaces that name the room, join rules that let its members in.
    pub others: BTreeMap<OwnedRoomId, BTreeMap<Slot, Content>>,
    /// Power levels of the old room once it is closed; `None` where they are high enough.
    pub lock: Option<Content>,
    /// Who should be invited to the new room, in this order.
    pub guests: Vec<Guest>,
    /// Who needs an invitation, and is not to be invited by the bot.
    pub uninvited: BTreeSet<OwnedUserId>,
    /// Spaces that the room names and that the bot is not in.
    pub unseen_spaces: BTreeSet<OwnedRoomId>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// The addresses a room shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Canonical {
    pub alias: Option<OwnedRoomAliasId>,
    pub alternatives: Vec<OwnedRoomAliasId>,
}

/// Whether nobody is to be invited.
pub(crate) fn invites_nobody(intent: &Intent) -> bool {
    intent.invite == InvitePolicy::None
}

/// A name for the new room while it has no id yet. Never sent.
pub(crate) fn room_to_be() -> OwnedRoomId {
    ruma::owned_room_id!("!room-to-be")
}

/// What the new room and its surroundings should be.
pub(crate) fn target(old: &Snapshot, intent: &Intent, new_room: &RoomId) -> Target {
    let room = &old.room;
    let (mut new_state, mut findings) = carried_over(old, intent, new_room);

    let creators = intent.all_creators();
    let rule = PowerRule {
        to: &intent.version,
        tombstone_level: creators
            .contains(&intent.bot)
            .then_some(intent.tombstone_level),
        creators: &creators,
    };
    let (levels, found) = power::carried(room, &rule);
    findings.extend(found);
    new_state.insert(slot("m.room.power_levels", ""), levels);

    let (rules, found) =
        join_rules::carried(room, &intent.version, intent.join_rule, &old.replaced);
    findings.extend(about_people(old, intent, found));
    let guests = invitation::guests(room, intent, &rules);
    let is_shut = findings
        .iter()
        .any(|finding| matches!(finding, Finding::InvitationsNeeded { .. }));
    let uninvited = if is_shut && invites_nobody(intent) {
        room.members(Membership::Join).collect()
    } else {
        BTreeSet::new()
    };
    new_state.insert(slot("m.room.join_rules", ""), rules);
    // A server's preset may open the room to guests where the old one was closed to them.
    new_state.insert(
        slot("m.room.guest_access", ""),
        transfer::guest_access(room),
    );
    // The specification's default, said aloud: a preset may say something else.
    new_state
        .entry(slot("m.room.history_visibility", ""))
        .or_insert_with(|| content(json!({"history_visibility": "shared"})));

    let (aliases, remote_aliases) = addresses(old, intent.server());
    findings.extend(remote_aliases.iter().map(|alias| Finding::RemoteAlias {
        alias: alias.clone(),
    }));
    let shown = room.published_aliases().into_iter();
    let stray = shown.filter(|alias| !aliases.contains(alias) && !remote_aliases.contains(alias));
    findings.extend(stray.map(|alias| Finding::StrayAddress { alias }));

    Target {
        bot: intent.bot.clone(),
        guests,
        uninvited,
        unseen_spaces: unseen_spaces(old),
        new_state,
        bans: room.bans(),
        aliases,
        remote_aliases,
        canonical: Canonical {
            alias: room.canonical_alias(),
            alternatives: room
                .published_aliases()
                .into_iter()
                .skip(usize::from(room.canonical_alias().is_some()))
                .collect(),
        },
        listing: old.listing,
        others: others(old, intent, new_room),
        lock: power::locked(room),
        findings,
    }
}

/// State that comes along as it is, and what is left behind.
fn carried_over(
    old: &Snapshot,
    intent: &Intent,
    new_room: &RoomId,
) -> (BTreeMap<Slot, Content>, Vec<Finding>) {
    let room = &old.room;
    let mut findings = Vec::new();
    let mut new_state = BTreeMap::new();

    for (slot, event) in &room.events {
        if intent.policies == Some(Policies::Transition) && transfer::is_policy(&event.kind) {
            continue;
        }
        match transfer::fate(event, &intent.bot, &intent.version) {
            Fate::Carry(content) => {
                let slot = space_now(old, slot);
                // What the room says of the newer space itself counts.
                if slot == (event.kind.clone(), event.state_key.clone()) {
                    new_state.insert(slot, content);
                } else {
                    new_state.entry(slot).or_insert(content);
                }
            }
            Fate::LeaveBehind(Some(why)) => findings.push(Finding::NotCarried {
                kind: slot.0.clone(),
                state_key: slot.1.clone(),
                why,
            }),
            Fate::OwnRule | Fate::LeaveBehind(None) => {}
        }
    }
    if let Some(server) = transfer::policy_server(room) {
        findings.push(Finding::PolicyServer { server });
    }
    for space in public_spaces(old, new_room) {
        let named = json!({"via": [intent.server()]});
        let parent = slot(PARENT, space.as_str());
        new_state.entry(parent).or_insert_with(|| content(named));
    }
    (new_state, findings)
}

/// What is said of people who have to be invited, without the bot and the accounts of bridges.
fn about_people(old: &Snapshot, intent: &Intent, found: Vec<Finding>) -> Vec<Finding> {
    let bridges = invitation::bridges(&old.room, &intent.bots);
    let without_ghosts = |finding| match finding {
        Finding::InvitationsNeeded { count } => {
            let is_bot_here = old
                .room
                .members(Membership::Join)
                .any(|user| user == intent.bot);
            let count = count.saturating_sub(bridges.ghosts.len() + usize::from(is_bot_here));
            (count > 0).then_some(Finding::InvitationsNeeded { count })
        }
        finding => Some(finding),
    };
    let mut findings: Vec<_> = found.into_iter().filter_map(without_ghosts).collect();
    if !bridges.ghosts.is_empty() {
        findings.push(Finding::BridgeAccounts {
            count: bridges.ghosts.len(),
            bots: bridges.bots.into_iter().collect(),
        });
    }
    findings
}

/// Local and remote addresses of the old room.
fn addresses(
    old: &Snapshot,
    server: &ServerName,
) -> (BTreeSet<OwnedRoomAliasId>, BTreeSet<OwnedRoomAliasId>) {
    let remote = old
        .room
        .published_aliases()
        .into_iter()
        .filter(|alias| alias.server_name() != server)
        .collect();
    (old.aliases.clone(), remote)
}

/// Where the new room says that it is in a space, which may have been replaced since the old one said so.
fn space_now(old: &Snapshot, slot: &Slot) -> Slot {
    let (kind, key) = slot;
    let space = <&RoomId>::try_from(key.as_str()).ok();
    let now = space.and_then(|space| old.replaced.get(space));
    match now.filter(|_| kind == PARENT) {
        Some(now) => (kind.clone(), now.to_string()),
        None => slot.clone(),
    }
}

/// Spaces that list the old room, and that everybody can see: the new room may say that it is in them. Which
/// of them is the main one, only people say.
/// Source: Matrix specification, "`m.space.parent` relationships": the space has to list the room as well.
fn public_spaces<'a>(
    old: &'a Snapshot,
    new_room: &RoomId,
) -> impl Iterator<Item = &'a OwnedRoomId> {
    let lists = |space: &RoomState| {
        let link = space.content("m.space.child", old.room.room_id.as_str());
        link.is_some_and(is_link)
    };
    let is_public = |space: &RoomState| {
        let rules = space.content(join_rules::JOIN_RULES, "");
        rules.and_then(|rules| rules.get("join_rule")?.as_str()) == Some("public")
    };
    let spaces = old.referrers.iter().filter(move |space| {
        space.room_id != *new_room && space.is_space() && space.tombstone().is_none()
    });
    spaces
        .filter(move |space| lists(space) && is_public(space))
        .map(|space| &space.room_id)
}

/// Spaces that a room says it is in.
pub(crate) fn parents(room: &RoomState) -> Vec<OwnedRoomId> {
    room.of_kind(PARENT)
        .filter(|parent| is_link(&parent.content))
        .filter_map(|parent| parent.state_key.parse().ok())
        .collect()
}

/// What other rooms should say: the new room where they named the old one.
fn others(
    old: &Snapshot,
    intent: &Intent,
    new_room: &RoomId,
) -> BTreeMap<OwnedRoomId, BTreeMap<Slot, Content>> {
    let old_id = &old.room.room_id;
    let mut others = BTreeMap::new();
    // The new room may let in members of the old one; that is its own join rule.
    for referrer in old
        .referrers
        .iter()
        .filter(|room| room.room_id != *new_room)
    {
        let mut wanted = BTreeMap::new();
        let link = referrer.content("m.space.child", old_id.as_str());
        if let Some(link) = link.filter(|link| is_link(link)) {
            let mut moved = link.clone();
            moved.insert("via".to_owned(), json!([intent.server()]));
            wanted.insert(slot("m.space.child", new_room.as_str()), moved);
            if intent.old_child_link == OldChildLink::Remove {
                wanted.insert(slot("m.space.child", old_id.as_str()), Content::new());
            }
        }
        let parent = referrer.content("m.space.parent", old_id.as_str());
        if let Some(parent) = parent.filter(|parent| is_link(parent)) {
            let mut moved = parent.clone();
            moved.insert("via".to_owned(), json!([intent.server()]));
            wanted.insert(slot("m.space.parent", new_room.as_str()), moved);
            wanted.insert(slot("m.space.parent", old_id.as_str()), Content::new());
        }
        let rules = referrer
            .content("m.room.join_rules", "")
            .and_then(|rules| join_rules::repointed(rules, old_id, new_room));
        if let Some(rules) = rules {
            wanted.insert(slot("m.room.join_rules", ""), rules);
        }
        if !wanted.is_empty() {
            others.insert(referrer.room_id.clone(), wanted);
        }
    }
    others
}

/// Spaces that the room says it is in, and that the bot is not in: it does not know whether they list it.
pub(crate) fn unseen_spaces(old: &Snapshot) -> BTreeSet<OwnedRoomId> {
    let is_seen = |space: &OwnedRoomId| old.referrers.iter().any(|room| room.room_id == *space);
    parents(&old.room)
        .into_iter()
        .map(|space| old.replaced.get(&space).cloned().unwrap_or(space))
        .filter(|space| !is_seen(space))
        .collect()
}

/// Whether the content of `m.space.child` or `m.space.parent` makes a link: one without servers to
/// go by does not. Source: Matrix specification, "Spaces".
pub(crate) fn is_link(content: &Content) -> bool {
    content
        .get("via")
        .and_then(Value::as_array)
        .is_some_and(|via| !via.is_empty())
}

/// Whether a room names another in its links or join rules.
pub(crate) fn names(room: &RoomState, other: &RoomId) -> bool {
    ["m.space.child", "m.space.parent"]
        .into_iter()
        .any(|kind| room.content(kind, other.as_str()).is_some_and(is_link))
        || join_rules::rooms(room).iter().any(|named| named == other)
}

/// Servers in a link's `via`.
pub(crate) fn via_of(content: &Content) -> Vec<OwnedServerName> {
    content
        .get("via")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|server| server.as_str()?.parse().ok())
        .collect()
}

/// Creators beside the bot: those configured, those asked for, and from a room with creators to
/// another the old ones, who could not be made creators later.
pub(crate) fn creators(
    configured: &[OwnedUserId],
    asked: &[OwnedUserId],
    old: Option<(&RoomVersionId, &BTreeSet<OwnedUserId>)>,
    to: &RoomVersionId,
    bot: &UserId,
) -> BTreeSet<OwnedUserId> {
    if !versions::has_creators(to) {
        return BTreeSet::new();
    }
    let old = old
        .filter(|(from, _)| versions::has_creators(from))
        .map(|(_, creators)| creators.iter().cloned())
        .into_iter()
        .flatten();
    configured
        .iter()
        .chain(asked)
        .cloned()
        .chain(old)
        .filter(|user| user != bot)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creators_are_who_was_asked_for_and_those_of_a_room_that_had_some() {
        let users = |ids: &[&str]| -> Vec<OwnedUserId> {
            ids.iter().map(|id| (*id).try_into().unwrap()).collect()
        };
        let before: BTreeSet<_> = users(&["@old:x", "@bot:x"]).into_iter().collect();
        for (from, to, expected) in [
            (Some("12"), "12", &["@asked:x", "@old:x", "@set:x"][..]),
            // Whoever made a room of a version without creators is none.
            (Some("11"), "12", &["@asked:x", "@set:x"]),
            (None, "12", &["@asked:x", "@set:x"]),
            (Some("12"), "11", &[]),
        ] {
            let from = from.map(|from| from.try_into().unwrap());
            let found = creators(
                &users(&["@set:x"]),
                &users(&["@asked:x", "@bot:x"]),
                from.as_ref().map(|from| (from, &before)),
                &to.try_into().unwrap(),
                <&UserId>::try_from("@bot:x").unwrap(),
            );
            assert_eq!(
                found,
                users(expected).into_iter().collect(),
                "{from:?} {to}"
            );
        }
    }
}
