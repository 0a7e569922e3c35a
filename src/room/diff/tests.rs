//! What people decided is not undone, and what they led elsewhere is left to them.

use super::super::state::Snapshot;
use super::super::state::content;
use super::super::state::tests::room;
use super::super::target::target;
use super::super::target::tests::intent;
use super::*;

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
