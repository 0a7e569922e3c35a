//! Policy rooms (ban lists): which rooms are some, and what somebody has to choose before one is upgraded. Pure.
//!
//! Bots and people elsewhere watch such a room. Whether they may stop watching the old one depends on what becomes
//! of its rules, so nobody can choose that for its moderators. Left out: how a rule is carried (`transfer`).
//!
//! Sources: MSC3784 (type of the room), MSC4321 (upgrades).

use serde_json::Value;

use super::finding::Finding;
use super::intent::Intent;
use super::state::RoomState;
use super::transfer::is_policy;
use crate::model::{Method, MethodChoice, Policies, RoomType, UpgradeOptions};

/// Key of a tombstone that says what became of the rules.
pub(crate) const UPGRADE_TYPE: &str = "org.matrix.msc4321.policy_room_upgrade_type";

/// Type of a policy room before it was specified.
const UNSTABLE_TYPE: &str = "support.feline.policy.lists.msc.v1";

/// Type of the event with which bots name the lists that they make.
/// Source: Mjolnir, `SHORTCODE_EVENT_TYPE`; Draupnir has it from there.
const SHORTCODE: &str = "org.matrix.mjolnir.shortcode";

/// Whether an option of policy rooms that is not for this one keeps it from being upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misplaced {
    /// It does: somebody named this room.
    Refuse,
    /// It does not: it was said of a whole space, and is for the policy rooms in it.
    PassOver,
}

/// How many policy rules a room has.
pub(crate) fn rules(room: &RoomState) -> usize {
    let events = room.events.values();
    events
        .filter(|event| is_policy(&event.kind) && !event.content.is_empty())
        .count()
}

/// Whether a room is a list and nothing else: by its type, or, where it has none, as it has rules and was made as
/// older lists were: with a short name, or so that who joins cannot talk there. The latter means nothing in a room
/// that was ever closed.
pub(crate) fn is_list(room: &RoomState) -> bool {
    if let Some(kind) = room.create().room_type {
        return kind == RoomType::Policy.name() || kind == UNSTABLE_TYPE;
    }
    let power = room.power();
    let is_mute = power.to_send_message("m.room.message") > power.users_default;
    let was_closed = room.event("m.room.tombstone", "").is_some();
    let is_made_so = room.event(SHORTCODE, "").is_some() || (is_mute && !was_closed);
    rules(room) > 0 && is_made_so
}

/// What was chosen for a room, as far as there is anything to choose. Where an upgrade is to be finished, its
/// tombstone may say it.
pub(crate) fn chosen(
    room: &RoomState,
    asked: &UpgradeOptions,
) -> (Option<Policies>, Option<RoomType>) {
    if !is_list(room) && rules(room) == 0 {
        return (None, None);
    }
    let said = || match room
        .content("m.room.tombstone", "")?
        .get(UPGRADE_TYPE)?
        .as_str()?
    {
        // The proposal has both words.
        "move" | "moved" => Some(Policies::Move),
        "transition" => Some(Policies::Transition),
        _ => None,
    };
    let policies = match asked.method {
        Some(MethodChoice::Adopt) => asked.policies.or_else(said),
        _ => asked.policies,
    };
    (policies, asked.room_type)
}

/// Whether the new room has to be made by the bot: the server's own upgrade copies no rules, keeps the type, and
/// cannot say in the tombstone what became of the rules.
pub(crate) fn needs_staged(room: &RoomState, intent: &Intent) -> bool {
    is_list(room) || intent.policies.is_some() || intent.room_type.is_some()
}

/// What is to be chosen, and what was chosen.
pub(crate) fn findings(
    room: &RoomState,
    intent: &Intent,
    asked: &UpgradeOptions,
    misplaced: Misplaced,
) -> Vec<Finding> {
    let count = rules(room);
    let is_list = is_list(room);
    if !is_list && count == 0 {
        let is_asked = asked.policies.is_some() || asked.room_type.is_some();
        let refused = is_asked && misplaced == Misplaced::Refuse;
        return refused
            .then_some(Finding::NoPolicyRoom)
            .into_iter()
            .collect();
    }
    let mut findings = Vec::new();
    let room_id = room.room_id.clone();
    findings.push(match intent.policies {
        None if is_list || intent.room_type.is_some() => Finding::PoliciesUndecided {
            room: room_id,
            version: (intent.method != Method::Adopt).then(|| intent.version.clone()),
            count,
        },
        None => Finding::PolicyRules { count },
        Some(Policies::Move) => Finding::PoliciesMove { count },
        Some(Policies::Transition) => Finding::PoliciesStay {
            room: room_id,
            count,
        },
    });
    if intent.method == Method::Server && needs_staged(room, intent) {
        findings.push(Finding::PoliciesNeedStaged);
    }
    let create = room.content("m.room.create", "");
    let kind = create.and_then(|create| create.get("type")?.as_str());
    if intent.method == Method::Staged && kind != Some(RoomType::Policy.name()) {
        let kind = kind.map(ToOwned::to_owned);
        match intent.room_type {
            Some(RoomType::Policy) => findings.push(Finding::BecomesPolicyRoom),
            None if is_list => findings.push(Finding::OtherPolicyType { kind }),
            None => {}
        }
    }
    findings
}

/// What a new room's tombstone of the old one says of the rules.
pub(crate) fn of_tombstone(policies: Policies) -> (String, Value) {
    (UPGRADE_TYPE.to_owned(), policies.name().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::intent::tests::intent;
    use super::super::state::tests::room;
    use super::*;

    const RULE: (&str, &str) = ("m.policy.rule.user", "r1");

    /// A room of a type, with a level that it takes to talk, and with rules.
    fn of(kind: Option<&str>, to_talk: i64, rules: &[(&str, &str)]) -> RoomState {
        let create = match kind {
            Some(kind) => json!({"room_version": "10", "type": kind}),
            None => json!({"room_version": "10"}),
        };
        let levels = json!({"events_default": to_talk});
        let mut events = vec![
            ("m.room.create", "", "@maria:x", create),
            ("m.room.power_levels", "", "@maria:x", levels),
        ];
        let rule = || json!({"entity": "@bad:x"});
        events.extend(
            rules
                .iter()
                .map(|(kind, key)| (*kind, *key, "@maria:x", rule())),
        );
        room("!old:x", &events)
    }

    #[test]
    fn a_list_has_its_type_or_rules_where_nobody_talks() {
        for (kind, to_talk, rules, expected) in [
            (Some("m.policy"), 0, &[][..], true),
            (Some(UNSTABLE_TYPE), 0, &[], true),
            (Some("m.space"), 50, &[RULE], false),
            (None, 50, &[RULE], true),
            (None, 50, &[("m.room.rule.server", "r")], true),
            (None, 0, &[RULE], false),
            (None, 50, &[], false),
            (None, 0, &[RULE, (SHORTCODE, "")], true),
            (None, 0, &[(SHORTCODE, "")], false),
            // It may be so only since it was closed.
            (None, 50, &[RULE, ("m.room.tombstone", "")], false),
            (Some("m.policy"), 50, &[("m.room.tombstone", "")], true),
        ] {
            let room = of(kind, to_talk, rules);
            assert_eq!(is_list(&room), expected, "{kind:?} {to_talk} {rules:?}");
        }
        let mut taken_back = of(None, 50, &[RULE]);
        let slot = (RULE.0.to_owned(), RULE.1.to_owned());
        taken_back.put(slot, &intent("12").bot, super::super::state::Content::new());
        assert!(!is_list(&taken_back));
    }

    #[test]
    fn what_is_found_follows_from_the_room_and_what_was_chosen() {
        use Method::{Adopt, Server, Staged};
        let (list, talk) = (of(None, 50, &[RULE]), of(None, 0, &[RULE]));
        let typed = of(Some("m.policy"), 0, &[]);
        let (kept, none) = (of(Some(UNSTABLE_TYPE), 0, &[RULE]), of(None, 50, &[]));
        let (moves, stays) = (Some(Policies::Move), Some(Policies::Transition));
        let other = |kind: Option<&str>| Finding::OtherPolicyType {
            kind: kind.map(ToOwned::to_owned),
        };
        let undecided = |version: Option<&str>, count| Finding::PoliciesUndecided {
            room: "!old:x".try_into().unwrap(),
            version: version.map(|version| version.try_into().unwrap()),
            count,
        };
        let stay = Finding::PoliciesStay {
            room: "!old:x".try_into().unwrap(),
            count: 1,
        };
        let moving = |count| Finding::PoliciesMove { count };
        let becomes = Some(RoomType::Policy);
        for (room, method, policies, kind, expected) in [
            (&none, Staged, None, None, vec![]),
            (&none, Staged, moves, None, vec![Finding::NoPolicyRoom]),
            (&none, Staged, None, becomes, vec![Finding::NoPolicyRoom]),
            (
                &talk,
                Server,
                None,
                None,
                vec![Finding::PolicyRules { count: 1 }],
            ),
            (&talk, Staged, stays, None, vec![stay.clone()]),
            (
                &talk,
                Server,
                moves,
                None,
                vec![moving(1), Finding::PoliciesNeedStaged],
            ),
            (
                &talk,
                Staged,
                None,
                becomes,
                vec![undecided(Some("12"), 1), Finding::BecomesPolicyRoom],
            ),
            (
                &list,
                Staged,
                None,
                None,
                vec![undecided(Some("12"), 1), other(None)],
            ),
            (
                &list,
                Server,
                None,
                None,
                vec![undecided(Some("12"), 1), Finding::PoliciesNeedStaged],
            ),
            (
                &list,
                Staged,
                moves,
                becomes,
                vec![moving(1), Finding::BecomesPolicyRoom],
            ),
            (&list, Adopt, None, None, vec![undecided(None, 1)]),
            (&list, Adopt, stays, None, vec![stay]),
            (
                &kept,
                Staged,
                moves,
                None,
                vec![moving(1), other(Some(UNSTABLE_TYPE))],
            ),
            (&typed, Staged, moves, becomes, vec![moving(0)]),
            (&typed, Staged, None, None, vec![undecided(Some("12"), 0)]),
        ] {
            let asked = UpgradeOptions {
                policies,
                room_type: kind,
                ..UpgradeOptions::default()
            };
            let (policies, room_type) = chosen(room, &asked);
            let intent = Intent {
                method,
                policies,
                room_type,
                ..intent("12")
            };
            let found = findings(room, &intent, &asked, Misplaced::Refuse);
            assert_eq!(found, expected, "{method:?} {policies:?} {kind:?}");
            let refused = [Finding::NoPolicyRoom];
            let passed = findings(room, &intent, &asked, Misplaced::PassOver);
            assert!(!passed.iter().any(|finding| refused.contains(finding)));
        }
    }

    #[test]
    fn a_tombstone_says_what_became_of_the_rules() {
        let (moves, stays) = (Some(Policies::Move), Some(Policies::Transition));
        for (mark, asked, expected) in [
            (json!("move"), None, moves),
            (json!("moved"), None, moves),
            (json!("transition"), None, stays),
            (json!("transition"), moves, moves),
            (json!("both"), None, None),
            (json!(1), None, None),
        ] {
            let mut room = of(None, 50, &[RULE]);
            let tombstone = super::super::state::content(json!({UPGRADE_TYPE: mark}));
            let slot = ("m.room.tombstone".to_owned(), String::new());
            room.put(slot, &intent("12").bot, tombstone);
            let mut asked = UpgradeOptions {
                policies: asked,
                method: Some(MethodChoice::Adopt),
                ..UpgradeOptions::default()
            };
            assert_eq!(chosen(&room, &asked).0, expected, "{mark}");
            // One that leads nowhere says nothing of an upgrade to come.
            asked.method = None;
            assert_eq!(chosen(&room, &asked).0, asked.policies);
        }
    }
}
