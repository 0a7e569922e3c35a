//! Whether the bot may make a change, as far as power levels tell. Pure.
//!
//! Levels are read from the rooms themselves. What a server refuses for other reasons shows only
//! when it is tried.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedUserId, ServerName, UserId};
use serde_json::{Value, json};
use wildmatch::WildMatch;

use super::change::{Change, Observed, Obstacle, Side};
use super::finding::{Finding, Permission, ShutOut};
use super::intent::Intent;
use super::join_rules::JOIN_RULES;
use super::level::{Allowance, Power};
use super::state::{Membership, RoomState, Snapshot, slot};
use super::target::{self, Target};
use super::versions::has_creators;
use crate::model::Method;

/// What keeps the bot from making a change; `None` where its power is enough.
pub(crate) fn obstacle(
    change: &Change,
    now: &Observed,
    referrers: &[RoomState],
    bot: &UserId,
) -> Option<Obstacle> {
    let (room, kind) = match change {
        Change::RemoteAlias { .. } | Change::RemoteListing { .. } => {
            return Some(Obstacle::OtherServer);
        }
        Change::Arrival { .. }
        | Change::Knock { .. }
        | Change::UnseenSpace { .. }
        | Change::Uninvited { .. }
        | Change::Tombstone { .. } => return Some(Obstacle::TheirMove),
        Change::MoveAlias {
            now: Some(room), ..
        } if *room != now.old.room_id => {
            return Some(Obstacle::LeadsElsewhere { room: room.clone() });
        }
        Change::MoveAlias { .. }
        | Change::List { .. }
        | Change::Ban { .. }
        | Change::Invite { .. } => return None,
        Change::NewState { slot, .. } => (&now.new, slot.0.as_str()),
        Change::ShowAliases {
            side: Side::New, ..
        } => (&now.new, "m.room.canonical_alias"),
        Change::ShowAliases {
            side: Side::Old, ..
        } => (&now.old, "m.room.canonical_alias"),
        Change::Lock { .. } => (&now.old, "m.room.power_levels"),
        Change::OtherState { room, slot, .. } => (
            referrers
                .iter()
                .find(|referrer| referrer.room_id == *room)?,
            slot.0.as_str(),
        ),
    };
    shortage(room, bot, kind)
}

/// What is missing for the bot to send a type of state in a room.
pub(crate) fn shortage(room: &RoomState, bot: &UserId, kind: &str) -> Option<Obstacle> {
    let power = room.power();
    let Allowance::Short { needed, have } = power.can_send_state(bot, kind) else {
        return None;
    };
    Some(Obstacle::Power {
        room: room.room_id.clone(),
        label: room.label(),
        needed,
        have,
        holders: power.holders(needed, &people(room)),
    })
}

/// Who is in a room; where members were not read, everybody whom power levels name.
pub(crate) fn people(room: &RoomState) -> BTreeSet<OwnedUserId> {
    let joined: BTreeSet<_> = room.members(Membership::Join).collect();
    if joined.len() > 1 {
        return joined;
    }
    let power = room.power();
    power
        .users
        .into_keys()
        .chain(room.create().creators)
        .collect()
}

/// Somebody of a server who is in a room and has most power there: in whose name Synapse gives power
/// to others. `None` if that would be nobody with any.
/// Source: Synapse, `make_room_admin`; a creator gives 100.
pub(crate) fn local_helper(room: &RoomState, server: &ServerName) -> Option<OwnedUserId> {
    let power = room.power();
    room.members(Membership::Join)
        .filter(|user| user.server_name() == server)
        .max_by_key(|user| power.power(user))
        .filter(|user| power.power(user) > Power::Level(0))
}

/// What the plan has to say about power: a blocker where the upgrade itself needs it, a loss where
/// a change around it does.
pub(crate) fn findings(
    old: &Snapshot,
    intent: &Intent,
    changes: &[Change],
    predicted: &Observed,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(Obstacle::Power {
        needed,
        have,
        holders,
        ..
    }) = shortage(&old.room, &intent.bot, "m.room.tombstone")
        && intent.method != Method::Adopt
    {
        found.push(Finding::NoPower {
            what: Permission::SendTombstone,
            needed,
            have,
            holders,
        });
    }
    if let Some(Obstacle::Power {
        room,
        label,
        needed,
        have,
        holders,
    }) = shortage(&old.room, &intent.bot, "m.room.pinned_events")
    {
        found.push(Finding::CannotEdit {
            room,
            label,
            deed: Permission::Pin,
            needed,
            have,
            holders,
        });
    }
    let mut named: BTreeSet<(OwnedRoomId, &'static str)> = BTreeSet::new();
    for change in changes {
        let deed = match change {
            Change::OtherState { slot, .. } if slot.0 == "m.space.child" => Permission::EditSpace,
            Change::OtherState { slot, .. } if slot.0 == "m.space.parent" => Permission::EditParent,
            Change::OtherState { .. } => Permission::EditJoinRules,
            // A room that the bot makes itself gives it all the power it needs.
            Change::NewState { slot, .. } if intent.method == Method::Adopt => {
                Permission::SendState {
                    kind: slot.0.clone(),
                }
            }
            Change::Lock { .. } => Permission::ChangePowerLevels,
            Change::ShowAliases {
                side: Side::Old, ..
            } => Permission::ChangeAliases,
            _ => continue,
        };
        let Some(Obstacle::Power {
            room,
            label,
            needed,
            have,
            holders,
        }) = obstacle(change, predicted, &old.referrers, &intent.bot)
        else {
            continue;
        };
        let tag = match deed {
            Permission::EditSpace => "space",
            Permission::EditParent => "parent",
            Permission::EditJoinRules => "rules",
            Permission::ChangeAliases => "aliases",
            Permission::SendState { .. } => "state",
            _ => "lock",
        };
        if named.insert((room.clone(), tag)) {
            found.push(Finding::CannotEdit {
                room,
                label,
                deed,
                needed,
                have,
                holders,
            });
        }
    }
    found
}

/// Whether nobody could ever enter the new room: below version 12, the bot is alone in it with the power that
/// it has in the old one, and somebody in there has to be able to invite, also for who may come in as a member
/// of the old room.
/// Source: Matrix specification, room version 8, authorization rules, `join_authorised_via_users_server`.
pub(crate) fn nobody_enters(old: &Snapshot, intent: &Intent, target: &Target) -> Option<Finding> {
    let rules = target.new_state.get(&slot(JOIN_RULES, ""));
    let rule = rules.and_then(|rules| rules.get("join_rule")?.as_str());
    if has_creators(&intent.version) || intent.method == Method::Adopt || rule == Some("public") {
        return None;
    }
    let power = old.room.power();
    let Allowance::Short { needed, have } = power.reaches(&intent.bot, power.invite) else {
        return None;
    };
    Some(Finding::NoPower {
        what: Permission::Invite,
        needed,
        have,
        holders: power.holders(needed, &people(&old.room)),
    })
}

/// Creators for ever who cannot be in the room: whoever is `asked` for can be left out, those of the old room
/// stay creators.
pub(crate) fn shut_out_creators(
    old: &RoomState,
    creators: &BTreeSet<OwnedUserId>,
    asked: &BTreeSet<&OwnedUserId>,
) -> Vec<Finding> {
    let shut_out = creators
        .iter()
        .filter_map(|user| Some((user.clone(), shut_out(old, user)?)));
    shut_out
        .map(|(user, why)| {
            if asked.contains(&user) {
                Finding::ShutOutCreator { user, why }
            } else {
                Finding::AbsentCreator { user, why }
            }
        })
        .collect()
}

/// What keeps somebody out of a room, whoever would let them in.
/// Source: Matrix specification, authorization rules; "Server Access Control Lists".
fn shut_out(room: &RoomState, user: &UserId) -> Option<ShutOut> {
    let server = user.server_name();
    if room.bans().contains_key(user.as_str()) {
        return Some(ShutOut::Banned);
    }
    let create = room.event("m.room.create", "")?;
    let federates = create.content.get("m.federate") != Some(&json!(false));
    if !federates && create.sender.server_name() != server {
        return Some(ShutOut::NotFederated);
    }
    let rules = room.content("m.room.server_acl", "")?;
    let host = server.host();
    let is_named = |key: &str| {
        let patterns = rules.get(key).and_then(Value::as_array);
        let mut patterns = patterns.into_iter().flatten().filter_map(Value::as_str);
        patterns.any(|pattern| WildMatch::new_case_insensitive(pattern).matches(host))
    };
    let literals = rules.get("allow_ip_literals") != Some(&json!(false));
    let is_denied = is_named("deny") || !is_named("allow") || (server.is_ip_literal() && !literals);
    is_denied.then_some(ShutOut::ServerDenied)
}

/// Spaces that the room says it is in, and that the bot is not in: it does not know whether they list it.
pub(crate) fn unseen_spaces(old: &Snapshot) -> Vec<Finding> {
    target::unseen_spaces(old)
        .into_iter()
        .map(|space| Finding::UnseenSpace { space })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::intent::tests::intent;
    use super::super::state::Listing;
    use super::super::state::tests::room;
    use super::super::target::{room_to_be, target};
    use super::*;

    fn snapshot(rule: &str, invite: i64) -> Snapshot {
        let levels = json!({"users": {"@admin:x": 100, "@bot:x": 50}, "invite": invite});
        let link = json!({"via": ["x"]});
        let events: [(&str, &str, &str, Value); 5] = [
            (
                "m.room.create",
                "",
                "@admin:x",
                json!({"room_version": "10"}),
            ),
            ("m.room.power_levels", "", "@admin:x", levels),
            (
                "m.room.join_rules",
                "",
                "@admin:x",
                json!({"join_rule": rule}),
            ),
            ("m.space.parent", "!seen:x", "@admin:x", link.clone()),
            ("m.space.parent", "!unseen:x", "@admin:x", link),
        ];
        Snapshot {
            room: room("!old:x", &events),
            replaced: [].into(),
            aliases: BTreeSet::new(),
            listing: Listing::Private,
            referrers: vec![room("!seen:x", &[])],
            known_successors: BTreeSet::new(),
        }
    }

    #[test]
    fn a_room_that_nobody_could_enter_is_not_made() {
        for (version, rule, invite, is_shut) in [
            ("11", "invite", 100, true),
            ("11", "restricted", 100, true),
            ("11", "invite", 50, false),
            ("11", "public", 100, false),
            // The bot is its creator.
            ("12", "invite", 100, false),
        ] {
            let old = snapshot(rule, invite);
            let intent = intent(version);
            let target = target(&old, &intent, &room_to_be());
            let found = nobody_enters(&old, &intent, &target);
            assert_eq!(found.is_some(), is_shut, "{version} {rule} {invite}");
        }
    }

    #[test]
    fn creators_who_cannot_be_in_the_room_are_found() {
        let acl = |allow: &[&str], deny: &[&str]| json!({"allow": allow, "deny": deny, "allow_ip_literals": false});
        let everybody = acl(&["*"], &[]);
        for (user, federate, rules, why) in [
            ("@spam:x", true, everybody.clone(), Some(ShutOut::Banned)),
            ("@a:y", true, everybody.clone(), None),
            (
                "@a:y",
                false,
                everybody.clone(),
                Some(ShutOut::NotFederated),
            ),
            ("@a:x", false, everybody.clone(), None),
            (
                "@a:evil.Y",
                true,
                acl(&["*"], &["*.y"]),
                Some(ShutOut::ServerDenied),
            ),
            (
                "@a:y:8448",
                true,
                acl(&["*"], &["y"]),
                Some(ShutOut::ServerDenied),
            ),
            ("@a:y", true, acl(&["x"], &[]), Some(ShutOut::ServerDenied)),
            ("@a:1.2.3.4", true, everybody, Some(ShutOut::ServerDenied)),
        ] {
            let old = room(
                "!old:x",
                &[
                    (
                        "m.room.create",
                        "",
                        "@admin:x",
                        json!({"room_version": "12", "m.federate": federate}),
                    ),
                    (
                        "m.room.member",
                        "@spam:x",
                        "@admin:x",
                        json!({"membership": "ban"}),
                    ),
                    ("m.room.server_acl", "", "@admin:x", rules),
                ],
            );
            let user: OwnedUserId = user.try_into().unwrap();
            let creators = BTreeSet::from([user.clone()]);
            let asked = shut_out_creators(&old, &creators, &[&user].into());
            let kept = shut_out_creators(&old, &creators, &BTreeSet::new());
            let expected = |found: fn(OwnedUserId, ShutOut) -> Finding| {
                why.map(|why| found(user.clone(), why))
                    .into_iter()
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                asked,
                expected(|user, why| Finding::ShutOutCreator { user, why })
            );
            assert_eq!(
                kept,
                expected(|user, why| Finding::AbsentCreator { user, why })
            );
        }
    }

    /// Each room is named once for each thing that the bot may not do there.
    #[test]
    fn what_the_bot_may_not_change_around_the_room_is_found() {
        let mut old = snapshot("public", 0);
        let levels = |to_change: i64| json!({"users": {"@bot:x": 50}, "state_default": to_change});
        let referrer = |id: &str, to_change: i64| {
            room(
                id,
                &[("m.room.power_levels", "", "@a:x", levels(to_change))],
            )
        };
        old.referrers = vec![referrer("!seen:x", 60), referrer("!free:x", 50)];
        let change = |room: &str, kind: &str, key: &str| Change::OtherState {
            room: room.try_into().unwrap(),
            slot: slot(kind, key),
            content: super::super::state::Content::new(),
        };
        let changes = [
            change("!seen:x", "m.space.child", "!new:x"),
            change("!seen:x", "m.space.child", "!old:x"),
            change("!seen:x", "m.space.parent", "!new:x"),
            change("!seen:x", JOIN_RULES, ""),
            change("!free:x", JOIN_RULES, ""),
        ];
        let intent = intent("11");
        let made = target(&old, &intent, &room_to_be());
        let now = super::super::predict::after_switch(&old, &intent, &made, &room_to_be());
        let found = findings(&old, &intent, &changes, &now);
        let found: Vec<_> = found
            .iter()
            .filter_map(|finding| match finding {
                Finding::CannotEdit {
                    room,
                    deed,
                    needed,
                    have,
                    ..
                } if *room != old.room.room_id => Some((room.as_str(), deed, *needed, *have)),
                _ => None,
            })
            .collect();
        let expected = [
            Permission::EditSpace,
            Permission::EditParent,
            Permission::EditJoinRules,
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|deed| ("!seen:x", deed, 60, 50))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_space_that_the_bot_cannot_see_is_named() {
        let unseen = Finding::UnseenSpace {
            space: "!unseen:x".try_into().unwrap(),
        };
        assert_eq!(unseen_spaces(&snapshot("public", 0)), [unseen]);
    }
}
