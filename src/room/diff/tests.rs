//! What people decided is not undone, and what they led elsewhere is left to them.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, UserId};
use serde_json::json;

use super::super::intent::tests::intent;
use super::super::state::tests::room;
use super::super::state::{Snapshot, content};
use super::super::target::target;
use super::*;
use crate::room::addresses::showable;
use crate::room::change::{Change, Observed, Part, Side};

const CLOSED_AT: u64 = 1_000;

fn snapshot() -> Snapshot {
    let ban = json!({"membership": "ban"});
    Snapshot {
        room: room(
            "!old:x",
            &[
                (
                    "m.room.create",
                    "",
                    "@maria:x",
                    json!({"room_version": "10"}),
                ),
                ("m.room.topic", "", "@maria:x", json!({"topic": "before"})),
                ("m.room.member", "@spam:x", "@maria:x", ban),
            ],
        ),
        replaced: [].into(),
        aliases: ["#a:x".try_into().unwrap()].into(),
        listing: Listing::Private,
        referrers: Vec::new(),
        known_successors: BTreeSet::new(),
    }
}

/// The rooms right after somebody else's upgrade, with one event of the new room as given.
fn observed(event: Option<(Slot, &str, Value, u64)>) -> (Target, Observed) {
    let before = snapshot();
    let new_room: OwnedRoomId = "!new:x".try_into().unwrap();
    let target = target(&before, &intent("11"), &new_room);
    let mut new = RoomState::new(new_room.clone(), []);
    for (slot, content) in &target.new_state {
        new.put(slot.clone(), &target.bot, content.clone());
    }
    let ban = content(json!({"membership": "ban"}));
    new.put(slot("m.room.member", "@spam:x"), &target.bot, ban);
    if let Some((slot, sender, value, at)) = event {
        new.put(
            slot.clone(),
            <&UserId>::try_from(sender).unwrap(),
            content(value),
        );
        new.events.get_mut(&slot).unwrap().origin_server_ts = at;
    }
    let now = Observed {
        old: before.room.clone(),
        new,
        aliases: [("#a:x".try_into().unwrap(), Some(new_room))].into(),
        old_listing: Listing::Private,
        new_listing: Listing::Private,
        since: CLOSED_AT,
        others: BTreeMap::new(),
    };
    (target, now)
}

#[test]
fn what_people_decide_after_the_switch_stays_theirs() {
    let topic = || slot("m.room.topic", "");
    let spam = || slot("m.room.member", "@spam:x");
    let leave = || json!({"membership": "leave"});
    for (event, mended) in [
        (None, 0),
        // The other program left the topic out, or set it as it copied the room.
        (
            Some((topic(), "@maria:x", json!({"topic": "copied"}), 900)),
            1,
        ),
        // Somebody changed it afterwards.
        (
            Some((topic(), "@maria:x", json!({"topic": "after"}), 1_100)),
            0,
        ),
        (
            Some((topic(), "@bot:x", json!({"topic": "half"}), 1_100)),
            1,
        ),
        (Some((spam(), "@maria:x", leave(), 1_100)), 0),
        (Some((spam(), "@maria:x", leave(), 900)), 1),
        // A spammer who left by themselves is banned all the same.
        (Some((spam(), "@spam:x", leave(), 1_100)), 1),
    ] {
        let (target, now) = observed(event.clone());
        let changes = diff(&target, &now);
        let complete = changes
            .iter()
            .filter(|change| change.part() == Part::Complete)
            .count();
        assert_eq!(complete, mended, "{event:?}: {changes:?}");
    }
}

#[test]
fn an_address_that_was_led_elsewhere_is_left_to_people() {
    let (target, mut now) = observed(None);
    let old = now.old.room_id.clone();
    for (leads_to, ours) in [
        (None, true),
        (Some("!old:x"), true),
        (Some("!third:x"), false),
    ] {
        let leads_to = leads_to.map(|room| room.try_into().unwrap());
        now.aliases
            .insert("#a:x".try_into().unwrap(), leads_to.clone());
        let changes = diff(&target, &now);
        let moves: Vec<_> = changes
            .iter()
            .filter(|change| matches!(change, Change::MoveAlias { .. }))
            .collect();
        assert_eq!(moves.len(), 1, "{leads_to:?}");
        assert_eq!(!moves[0].is_for_people(&old), ours, "{leads_to:?}");
    }
}

/// Other upgrades and other people change them as well: what they made of them stays.
#[test]
fn join_rules_of_other_rooms_are_made_from_what_is_there() {
    let rules = |rooms: &[&str]| {
        let allow: Vec<_> = rooms
            .iter()
            .map(|room| json!({"type": "m.room_membership", "room_id": room}))
            .collect();
        content(json!({"join_rule": "restricted", "allow": allow}))
    };
    let rule = |rule: &str| content(json!({"join_rule": rule}));
    let (mut target, mut now) = observed(None);
    let hall: OwnedRoomId = "!hall:x".try_into().unwrap();
    let place = slot(JOIN_RULES, "");
    let planned = [(place.clone(), rules(&["!new:x"]))];
    target.others = [(hall.clone(), planned.into())].into();
    for (there, sent) in [
        (rules(&["!old:x"]), Some(rules(&["!new:x"]))),
        (
            rules(&["!old:x", "!third:x"]),
            Some(rules(&["!new:x", "!third:x"])),
        ),
        (rules(&["!third:x", "!new:x"]), None),
        (rules(&["!old:x", "!new:x"]), None),
        (rule("public"), None),
        (rule("invite"), None),
        // It could not be read.
        (Content::new(), Some(rules(&["!new:x"]))),
    ] {
        let known = [(place.clone(), there.clone())];
        now.others = [(hall.clone(), known.into())].into();
        let changes = diff(&target, &now);
        let found = changes.iter().find_map(|change| match change {
            Change::OtherState { content, .. } => Some(content.clone()),
            _ => None,
        });
        assert_eq!(found, sent, "{there:?}");
    }
}

/// An address that cannot be moved does not keep the others from being shown.
#[test]
fn addresses_that_lead_to_the_new_room_are_shown_without_those_that_do_not() {
    let (mut target, mut now) = observed(None);
    let [main, stuck]: [OwnedRoomAliasId; 2] =
        ["#a:x", "#b:x"].map(|alias| alias.try_into().unwrap());
    target.aliases = [main.clone(), stuck.clone()].into();
    target.canonical.alias = Some(main);
    target.canonical.alternatives = vec![stuck.clone()].into_iter().collect();
    now.aliases
        .insert(stuck, Some("!old:x".try_into().unwrap()));
    let some = showable(&target, &now);
    assert_eq!(some, content(json!({"alias": "#a:x"})));
    let is_wanted = |now: &Observed| {
        let changes = diff(&target, now);
        changes.iter().any(|change| {
            matches!(
                change,
                Change::ShowAliases {
                    side: Side::New,
                    ..
                }
            )
        })
    };
    assert!(is_wanted(&now));
    let bot = target.bot.clone();
    now.new.put(slot("m.room.canonical_alias", ""), &bot, some);
    assert!(!is_wanted(&now), "all that is possible is there");
}

fn room_id(id: &str) -> OwnedRoomId {
    id.try_into().unwrap()
}

fn user_id(id: &str) -> OwnedUserId {
    id.try_into().unwrap()
}

fn alias_id(id: &str) -> OwnedRoomAliasId {
    id.try_into().unwrap()
}

fn other_state(room: &str, kind: &str, key: &str, value: Value) -> Change {
    Change::OtherState {
        room: room_id(room),
        slot: slot(kind, key),
        content: content(value),
    }
}

fn moved(alias: &str, now: Option<&str>) -> Change {
    Change::MoveAlias {
        alias: alias_id(alias),
        now: now.map(room_id),
    }
}

fn remote(alias: &str) -> Change {
    Change::RemoteAlias {
        alias: alias_id(alias),
        now: None,
        shown_by: None,
    }
}

fn listed(side: Side, listing: Listing) -> Change {
    Change::List { side, listing }
}

fn unseen(space: &str) -> Change {
    Change::UnseenSpace {
        space: room_id(space),
    }
}

fn invited(user: &str, role: Role) -> Change {
    let user = user_id(user);
    Change::Invite { user, role }
}

fn arrives(user: &str, role: Role) -> Change {
    let user = user_id(user);
    Change::Arrival { user, role }
}

fn shows(side: Side, shown: Value, missing: &[&str]) -> Change {
    Change::ShowAliases {
        side,
        content: content(shown),
        missing: missing.iter().map(|alias| alias_id(alias)).collect(),
    }
}

/// The plan's estimate is made of them.
#[test]
fn requests_are_those_that_the_bot_makes() {
    for (change, expected) in [
        // It leads nowhere; it has to be taken away first.
        (moved("#a:x", None), 1),
        (moved("#a:x", Some("!old:x")), 2),
        (invited("@a:x", Role::Member), 1),
        (listed(Side::New, Listing::Public), 1),
        (remote("#a:y"), 0),
        (arrives("@a:x", Role::Bot), 0),
        (unseen("!space:x"), 0),
        (Change::Uninvited { people: 3 }, 0),
    ] {
        assert_eq!(change.requests(), expected, "{change:?}");
    }
}

/// The old room leaves a list once the new one is there (P11).
#[test]
fn what_has_no_replacement_yet_is_taken_down_too_early() {
    let (_, mut now) = observed(None);
    let link = content(json!({"via": ["x"]}));
    let gone = |key: &str| other_state("!space:x", "m.space.child", key, json!({}));
    let private = listed(Side::Old, Listing::Private);
    for (links, listing, change, expected) in [
        (None, Listing::Private, private.clone(), true),
        (None, Listing::Public, private, false),
        (
            None,
            Listing::Private,
            listed(Side::New, Listing::Public),
            false,
        ),
        (None, Listing::Private, gone("!old:x"), true),
        (Some("!new:x"), Listing::Private, gone("!old:x"), false),
        (Some("!third:x"), Listing::Private, gone("!old:x"), true),
        // Of another room, another kind, and what is put there.
        (None, Listing::Private, gone("!third:x"), false),
        (
            None,
            Listing::Private,
            other_state("!space:x", "m.space.parent", "!old:x", json!({})),
            false,
        ),
        (
            None,
            Listing::Private,
            other_state("!space:x", "m.space.child", "!old:x", json!({"via": ["x"]})),
            false,
        ),
    ] {
        let known = links.map(|room| (slot("m.space.child", room), link.clone()));
        now.others = [(room_id("!space:x"), known.into_iter().collect())].into();
        now.new_listing = listing;
        assert_eq!(change.is_too_early(&now), expected, "{change:?} {links:?}");
    }
}

/// A to-do is looked up by what it is about, whatever is wanted of it now.
#[test]
fn changes_are_about_the_same_thing_or_not() {
    let state = |kind: &str, value: Value| Change::NewState {
        slot: slot(kind, ""),
        content: content(value),
    };
    let ban = |user: &str, reason: Option<&str>| Change::Ban {
        user: user.to_owned(),
        reason: reason.map(ToOwned::to_owned),
    };
    let knock = |user: &str| Change::Knock {
        user: user_id(user),
    };
    let listing = |server: &str| Change::RemoteListing {
        server: server.try_into().unwrap(),
    };
    let tombstone = |to: Option<&str>| Change::Tombstone {
        now: to.map(room_id),
        by: None,
    };
    let lock = |value: Value| Change::Lock {
        content: content(value),
    };
    let rules = |room: &str, value: Value| other_state(room, JOIN_RULES, "", value);
    // Each row is about a thing of its own, in all its forms.
    let things = [
        vec![
            state("m.room.name", json!({})),
            state("m.room.name", json!({"name": "A"})),
        ],
        vec![state("m.room.topic", json!({}))],
        vec![ban("@a:x", None), ban("@a:x", Some("spam"))],
        vec![ban("@b:x", None)],
        vec![invited("@a:x", Role::Bot), arrives("@a:x", Role::Creator)],
        vec![invited("@b:x", Role::Bot)],
        vec![knock("@a:x")],
        vec![knock("@b:x")],
        vec![
            moved("#a:x", None),
            moved("#a:x", Some("!old:x")),
            remote("#a:x"),
        ],
        vec![remote("#b:x")],
        vec![
            shows(Side::Old, json!({}), &[]),
            shows(Side::Old, json!({}), &["#a:x"]),
        ],
        vec![shows(Side::New, json!({}), &[])],
        vec![
            listed(Side::Old, Listing::Public),
            listed(Side::Old, Listing::Private),
        ],
        vec![listed(Side::New, Listing::Public)],
        vec![listing("x"), listing("x")],
        vec![listing("y")],
        // Such a space can be seen by now.
        vec![unseen("!a:x"), rules("!a:x", json!({}))],
        vec![unseen("!b:x"), unseen("!b:x")],
        vec![
            rules("!c:x", json!({})),
            rules("!c:x", json!({"join_rule": "public"})),
        ],
        vec![other_state("!c:x", "m.space.child", "!old:x", json!({}))],
        vec![other_state("!c:x", "m.space.child", "!new:x", json!({}))],
        vec![lock(json!({})), lock(json!({"invite": 50}))],
        vec![
            Change::Uninvited { people: 1 },
            Change::Uninvited { people: 2 },
        ],
        vec![tombstone(None), tombstone(Some("!third:x"))],
    ];
    for (row, one) in things.iter().enumerate() {
        for (other_row, other) in things.iter().enumerate() {
            for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                assert_eq!(a.is_about_the_same(b), row == other_row, "{a:?} {b:?}");
            }
        }
    }
}

/// What leads to the new room is left where it is, and what it shows of that already is not missing.
#[test]
fn only_addresses_that_do_not_lead_to_the_new_room_are_changes() {
    let (mut target, mut now) = observed(None);
    target.aliases = [alias_id("#a:x"), alias_id("#b:x")].into();
    target.remote_aliases = [alias_id("#c:y"), alias_id("#d:y")].into();
    target.canonical.alias = Some(alias_id("#a:x"));
    target.canonical.alternatives = vec![alias_id("#c:y"), alias_id("#d:y")];
    now.aliases = [
        (alias_id("#a:x"), Some(room_id("!new:x"))),
        (alias_id("#b:x"), Some(room_id("!old:x"))),
        (alias_id("#c:y"), Some(room_id("!new:x"))),
        (alias_id("#d:y"), None),
    ]
    .into();
    let shown = content(json!({"alias": "#a:x"}));
    now.new
        .put(slot("m.room.canonical_alias", ""), &target.bot, shown);
    let aliases: Vec<_> = diff(&target, &now)
        .into_iter()
        .filter(|change| change.part() == Part::Aliases)
        .collect();
    let expected = [
        moved("#b:x", Some("!old:x")),
        remote("#d:y"),
        shows(
            Side::New,
            json!({"alias": "#a:x", "alt_aliases": ["#c:y"]}),
            &["#c:y"],
        ),
    ];
    assert_eq!(aliases, expected);
}

/// Who came needs nothing; who declined or was removed is left alone.
#[test]
fn a_guest_lacks_an_invitation_or_has_still_to_come() {
    let (mut target, mut now) = observed(None);
    for (membership, role, expected) in [
        (None, Role::Member, Some(invited("@g:x", Role::Member))),
        (
            Some("knock"),
            Role::Member,
            Some(invited("@g:x", Role::Member)),
        ),
        (Some("invite"), Role::Member, None),
        (Some("invite"), Role::Bot, Some(arrives("@g:x", Role::Bot))),
        (
            Some("invite"),
            Role::Creator,
            Some(arrives("@g:x", Role::Creator)),
        ),
        (Some("join"), Role::Bot, None),
        (Some("leave"), Role::Bot, None),
        (Some("ban"), Role::Creator, None),
    ] {
        let place = slot("m.room.member", "@g:x");
        now.new.events.remove(&place);
        if let Some(membership) = membership {
            let member = content(json!({"membership": membership}));
            now.new.put(place, &target.bot, member);
        }
        let user = user_id("@g:x");
        target.guests = vec![Guest { user, role }];
        let found = diff(&target, &now).into_iter().next_back();
        let found = found.filter(|change| change.part() == Part::Invite);
        assert_eq!(found, expected, "{membership:?} {role:?}");
    }
}
