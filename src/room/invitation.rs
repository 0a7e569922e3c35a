//! Who is to be invited to the new room, and in which order. Pure.
//!
//! Bots come first: they check who invites them, and need to be there before the members. Who can
//! enter by themselves is not bothered, nor are accounts that a bridge makes: it brings them itself. Left out: who of them is there already (`diff`).

use std::cmp::Reverse;
use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::intent::Intent;
use super::join_rules::lets_in;
use super::level::Power;
use super::state::{Content, Membership, RoomState};
use super::transfer::BRIDGE_RECORDS;
use crate::model::InvitePolicy;

/// Somebody who should be invited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    pub user: OwnedUserId,
    pub role: Role,
}

/// As what somebody is invited; in the order in which they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A program: it does not follow links.
    Bot,
    /// A creator of the new room.
    Creator,
    Member,
}

/// Who should be invited to a room with these join rules: bots, creators, then members with most
/// power first.
pub(crate) fn guests(old: &RoomState, intent: &Intent, rules: &Content) -> Vec<Guest> {
    if intent.invite == InvitePolicy::None {
        return Vec::new();
    }
    let bridges = bridges(old, &intent.bots);
    let needs_invitation = intent.invite == InvitePolicy::All || !lets_in(rules, &old.room_id);
    let patterns: Vec<_> = intent.bots.iter().map(|bot| WildMatch::new(bot)).collect();
    let is_bot = |user: &UserId| {
        bridges.bots.contains(user) || patterns.iter().any(|bot| bot.matches(user.as_str()))
    };
    let power = old.power();
    let creators = intent.creators.iter().map(|user| Guest {
        user: user.clone(),
        role: Role::Creator,
    });
    let mut joined: Vec<_> = old
        .members(Membership::Join)
        .filter(|user| needs_invitation || is_bot(user))
        .collect();
    joined.sort_by_key(|user| Reverse(power.power(user)));
    // An invitation to a room that is left behind is worth nothing any more, and does not open the
    // new one: only members of the old room are let in.
    let invited = old.members(Membership::Invite);
    let members = joined.into_iter().chain(invited);
    let members = members.filter(|user| !bridges.ghosts.contains(user));
    let members = members.map(|user| Guest {
        role: if is_bot(&user) {
            Role::Bot
        } else {
            Role::Member
        },
        user,
    });
    let mut guests: Vec<Guest> = Vec::new();
    for guest in creators.chain(members) {
        let is_new = guests.iter().all(|known| known.user != guest.user);
        if guest.user != intent.bot && is_new {
            guests.push(guest);
        }
    }
    guests.sort_by_key(|guest| guest.role);
    guests
}

/// Accounts of bridges in a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bridges {
    /// Those by which bridges do their work: they bring the others.
    pub bots: BTreeSet<OwnedUserId>,
    /// Those that stand for people elsewhere. An invitation says nothing to them, and nobody reads it.
    pub ghosts: BTreeSet<OwnedUserId>,
}

/// Accounts of bridges that are in a room or invited to it: the bots that records of bridges name, and the
/// ghosts, as far as configured `patterns` of bots match them. Whoever has power, or a name that ends in
/// `bot`, is no ghost.
/// Sources: MSC2346, `bridgebot`; Matrix specification, application services: their namespaces should begin
/// with an underscore after the sigil.
pub(crate) fn bridges(room: &RoomState, patterns: &[String]) -> Bridges {
    let records = BRIDGE_RECORDS.iter().flat_map(|kind| room.of_kind(kind));
    let named: BTreeSet<OwnedUserId> = records
        .filter_map(|record| record.content.get("bridgebot")?.as_str()?.parse().ok())
        .collect();
    let patterns: Vec<_> = patterns.iter().map(|bot| WildMatch::new(bot)).collect();
    let power = room.power();
    let anybody = Power::Level(power.users_default);
    let is_ghost = |user: &OwnedUserId| {
        let name = user.localpart();
        name.starts_with('_')
            && !name.to_ascii_lowercase().ends_with("bot")
            && !named.contains(user)
            && power.power(user) <= anybody
            && patterns.iter().any(|bot| bot.matches(user.as_str()))
    };
    let joined = room.members(Membership::Join);
    let there: BTreeSet<_> = joined.chain(room.members(Membership::Invite)).collect();
    let ghosts: BTreeSet<_> = there
        .iter()
        .filter(|user| is_ghost(user))
        .cloned()
        .collect();
    let is_of_bridge = |user: &&OwnedUserId| {
        let matches = || patterns.iter().any(|bot| bot.matches(user.as_str()));
        named.contains(*user)
            || (user.localpart().starts_with('_') && !ghosts.contains(*user) && matches())
    };
    Bridges {
        bots: there.iter().filter(is_of_bridge).cloned().collect(),
        ghosts,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::intent::tests::intent;
    use super::super::state::content;
    use super::super::state::tests::room;
    use super::*;

    #[test]
    fn bots_before_creators_before_members_and_nobody_twice() {
        let member = |membership: &str| json!({"membership": membership});
        let old = room(
            "!old:x",
            &[
                (
                    "m.room.power_levels",
                    "",
                    "@bot:x",
                    json!({"users": {"@mod:x": 50}}),
                ),
                ("m.room.member", "@a:x", "@a:x", member("join")),
                ("m.room.member", "@backup:x", "@backup:x", member("join")),
                ("m.room.member", "@bot:x", "@bot:x", member("join")),
                ("m.room.member", "@draupnir:y", "@d:y", member("join")),
                ("m.room.member", "@gone:x", "@gone:x", member("leave")),
                ("m.room.member", "@mod:x", "@mod:x", member("join")),
                ("m.room.member", "@pending:x", "@a:x", member("invite")),
                ("m.room.member", "@spam:x", "@a:x", member("ban")),
            ],
        );
        let open = json!({"join_rule": "restricted",
            "allow": [{"type": "m.room_membership", "room_id": "!old:x"}]});
        let other = json!({"join_rule": "restricted",
            "allow": [{"type": "m.room_membership", "room_id": "!space:x"}]});
        let few = ["@draupnir:y", "@backup:x", "@pending:x"];
        let all = ["@draupnir:y", "@backup:x", "@mod:x", "@a:x", "@pending:x"];
        for (policy, rules, expected) in [
            (InvitePolicy::Auto, json!({"join_rule": "public"}), &few[..]),
            (InvitePolicy::Auto, open.clone(), &few[..]),
            (InvitePolicy::Auto, other, &all[..]),
            (InvitePolicy::Auto, json!({"join_rule": "invite"}), &all[..]),
            (InvitePolicy::Auto, json!({}), &all[..]),
            (InvitePolicy::All, open.clone(), &all[..]),
            (InvitePolicy::None, open, &[]),
        ] {
            let mut intent = intent("12");
            intent.invite = policy;
            intent.bots = vec!["@draupnir:*".to_owned()];
            intent.creators = ["@backup:x".try_into().unwrap()].into();
            let guests = guests(&old, &intent, &content(rules.clone()));
            let users: Vec<_> = guests.iter().map(|guest| guest.user.as_str()).collect();
            assert_eq!(users, expected, "{policy:?} {rules}");
        }
    }

    #[test]
    fn accounts_of_bridges_are_told_from_bots_and_people() {
        let join = || json!({"membership": "join"});
        let record = |bot: Value| json!({"bridgebot": bot});
        let levels = json!({"users": {"@_xmpp_gate:x": 50}, "users_default": 10});
        let members = [
            "@_irc_nick:x",
            "@_irc_Bot:x",
            "@_xmpp_gate:x",
            "@_slack_main:x",
            "@irc:x",
            "@jo_:x",
            "@draupnir:x",
        ];
        let mut events = vec![
            ("m.room.power_levels", "", "@a:x", levels),
            ("m.bridge", "slack", "@a:x", record(json!("@_slack_main:x"))),
            (
                "uk.half-shot.bridge",
                "irc",
                "@a:x",
                record(json!("@irc:x")),
            ),
            ("m.bridge", "odd", "@a:x", record(json!(7))),
            ("m.bridge", "gone", "@a:x", record(json!("@gone:x"))),
        ];
        events.extend(members.map(|user| ("m.room.member", user, user, join())));
        let old = room("!old:x", &events);
        let patterns = ["@draupnir:*".to_owned(), "@_*:*".to_owned()];
        let found = bridges(&old, &patterns);
        let names = |users: &BTreeSet<OwnedUserId>| -> Vec<String> {
            users.iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(&found.ghosts), ["@_irc_nick:x"]);
        assert_eq!(
            names(&found.bots),
            ["@_irc_Bot:x", "@_slack_main:x", "@_xmpp_gate:x", "@irc:x"]
        );
        // Without a pattern for them, they may be people.
        assert_eq!(names(&bridges(&old, &patterns[..1]).ghosts), [""; 0]);
    }
}
