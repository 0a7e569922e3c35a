//! Scenes that are told one by one: each promise in a form that people can read, and what the random
//! simulations would meet too seldom.
//!
//! A scene that fails today is marked `should_panic` with its case, and is an error once it passes.

mod absent;
mod authority;
mod two_databases;
mod withdrawn;
mod worker;

use std::time::Duration;

use jiff::SignedDuration;
use roomlift::job::Phase;
use serde_json::json;

use crate::fault::{Endpoint, Fault, Request, Rule};
use crate::oracle::{self, Expect};
use crate::place::{Place, Setup};
use crate::sim::{Sim, react, say};
use crate::world::{ELSEWHERE, UpgradeStop, World};

/// A request that sets one type of state.
fn sets(kind: &'static str) -> impl Fn(&Request) -> bool + Send {
    move |request| request.endpoint == Endpoint::PutState && request.detail.starts_with(kind)
}

fn demote_deputy(world: &mut World, place: &Place) {
    let levels = world.rooms[&place.room].content("m.room.power_levels", "");
    let mut levels = levels.unwrap().clone();
    levels["users"][place.deputy.as_str()] = 0.into();
    let (moderator, kind) = (&place.moderator, "m.room.power_levels");
    world
        .put_state(moderator, &place.room, kind, "", &levels)
        .unwrap();
}

/// In the room that replaces the old one.
fn level_of_deputy(sim: &Sim) -> i64 {
    let world = sim.world();
    let new = world.rooms[&sim.place.room].successor().unwrap().to_owned();
    let new = &world.rooms[<&ruma::RoomId>::try_from(new.as_str()).unwrap()];
    crate::world::Levels::of(new).of_user(&sim.place.deputy)
}

/// Runs an upgrade with a fault; it must end well.
fn upgrade_with(method: &str, rule: Rule) -> Sim {
    let mut sim = Sim::new();
    let fired = sim.fault(rule);
    sim.say(&format!(
        "!upgrade #garden:sim.test 12 --method {method} --yes"
    ));
    sim.oracle.expect.all_done = true;
    sim.run();
    assert!(fired.count() > 0, "the fault happened");
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    sim
}

#[test]
fn a_lost_answer_to_upgrade_makes_no_second_room() {
    upgrade_with("server", Rule::on(Endpoint::Upgrade, Fault::LoseAnswer));
}

#[test]
fn a_gateway_timeout_after_create_room_makes_no_second_room() {
    upgrade_with(
        "staged",
        Rule::on(Endpoint::CreateRoom, Fault::PageAfter(504)),
    );
}

#[test]
fn a_create_room_that_never_arrived_is_repeated() {
    upgrade_with("staged", Rule::on(Endpoint::CreateRoom, Fault::Reset));
}

#[test]
fn a_server_that_crashes_before_the_tombstone_is_finished_by_hand() {
    let mut sim = Sim::new();
    sim.world().upgrade_stops = Some(UpgradeStop::BeforeTombstone);
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

#[test]
fn a_rate_limit_on_every_kind_of_request_is_waited_out() {
    for endpoint in [
        Endpoint::Upgrade,
        Endpoint::PutState,
        Endpoint::Send,
        Endpoint::State,
    ] {
        let wait = Fault::TooMany(Some(Duration::from_secs(40)));
        upgrade_with("server", Rule::on(endpoint, wait).times(2));
    }
}

/// The address stays where it is where the server does not let the bot make it.
#[test]
fn an_address_that_may_not_be_made_leads_to_the_old_room() {
    let mut sim = Sim::new();
    let bot = sim.place.bot.clone();
    sim.world().denies_aliases_to.insert(bot);
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    sim.assert_promises();
    let (world, place) = (sim.world(), &sim.place);
    assert_eq!(world.aliases[&place.alias].room, place.room);
    let shown = world.rooms[&place.room].content("m.room.canonical_alias", "");
    assert_eq!(shown.unwrap()["alias"], json!(place.alias));
}

/// A limit so tight that each wait lets one request through, and some of those are refused.
#[test]
fn refusals_under_a_tight_limit_do_not_stop_an_upgrade() {
    let mut sim = Sim::with(&Setup {
        bot_level_around: 0,
        ..Setup::default()
    });
    sim.world().limits =
        crate::limits::Limits::none().with(crate::limits::Kind::Messages, 1.0, 1.0);
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.oracle.expect.all_done = true;
    sim.run();
    sim.assert_promises();
}

#[test]
fn a_tombstone_by_somebody_else_ends_the_job() {
    let mut sim = Sim::new();
    let moderator = sim.place.moderator.clone();
    let room = sim.place.room.clone();
    sim.fault(Rule::before(
        |request| request.endpoint == Endpoint::Upgrade,
        move |world| {
            world.upgrade(&moderator, &room, "11", &[].into()).unwrap();
        },
    ));
    sim.say("!upgrade #garden:sim.test 12 --method server --yes");
    sim.run();
    let made = sim.world().rooms[&sim.place.room]
        .successor()
        .unwrap()
        .to_owned();
    assert_eq!(
        oracle::jobs(&sim.place, &sim.store())[0].1.phase,
        Phase::Failed
    );
    sim.assert_said(&made);
}

#[test]
fn a_moderator_who_was_demoted_begins_nothing() {
    let mut sim = Sim::new();
    sim.lasts(SignedDuration::from_hours(6));
    sim.say("!upgrade #garden:sim.test 12 --method server --in 2h --yes");
    sim.after(Duration::from_mins(10), |world, place| {
        let levels = world.rooms[&place.admin_room].content("m.room.power_levels", "");
        let mut levels = levels.unwrap().clone();
        levels["users"][place.moderator.as_str()] = 0.into();
        world
            .put_state(
                &place.moderator,
                &place.admin_room,
                "m.room.power_levels",
                "",
                &levels,
            )
            .unwrap();
    });
    sim.run();
    sim.assert_promises();
    assert_eq!(sim.world().rooms[&sim.place.room].successor(), None);
}

#[test]
fn commands_that_are_delivered_again_are_carried_out_once() {
    let mut sim = Sim::new();
    sim.world().repeats = 20;
    sim.say("!upgrade #garden:sim.test 12 --method staged");
    sim.confirms();
    sim.after(Duration::from_secs(40), |world, place| {
        say(world, &place.reader, &place.admin_room, "!upgrade help");
    });
    sim.run();
    sim.assert_promises();
    assert_eq!(oracle::jobs(&sim.place, &sim.store()).len(), 1);
    sim.assert_said("Upgrade #1 is done");
}

/// The old room is read again where a limit held up its closing.
#[test]
fn power_lost_during_a_wait_before_the_switch_is_not_given_back() {
    let mut sim = Sim::new();
    let wait = Fault::TooMany(Some(Duration::from_mins(1)));
    let place = sim.place.clone();
    sim.fault(Rule::before(sets("m.room.tombstone"), move |world| {
        let place = place.clone();
        world.schedule(Duration::from_secs(20), move |world| {
            demote_deputy(world, &place);
        });
    }));
    sim.fault(Rule::when(sets("m.room.tombstone"), wait));
    sim.say("!upgrade #garden:sim.test 11 --method staged --yes");
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    assert_eq!(level_of_deputy(&sim), 0);
}

/// People look at the new room for a minute, and somebody loses power meanwhile.
#[test]
fn power_lost_during_a_review_is_not_given_back() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 11 --method staged --review --yes");
    sim.when_said("please look at the new room", |world, place, asked| {
        demote_deputy(world, place);
        let (place, asked) = (place.clone(), asked.clone());
        world.schedule(Duration::from_mins(1), move |world| {
            react(world, &place.moderator, &asked.room, &asked.id, "✅");
        });
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
    assert_eq!(level_of_deputy(&sim), 0);
}

/// Who has too little power in the admin room neither begins, stops nor drops anything.
#[test]
fn a_reader_changes_nothing() {
    let mut sim = Sim::new();
    sim.say("!upgrade #garden:sim.test 12 --method server --in 30m");
    sim.when_said("Plan #1", |world, place, plan| {
        react(world, &place.reader, &plan.room, &plan.id, "✅");
        let commands = [
            "confirm 1",
            "cancel 1",
            "pause",
            "#garden:sim.test 11 --yes",
        ];
        for command in commands {
            let text = format!("!upgrade {command}");
            say(world, &place.reader, &place.admin_room, &text);
        }
    });
    sim.say_after(Duration::from_mins(1), "!upgrade confirm 1");
    sim.run();
    sim.assert_promises();
    let jobs = oracle::jobs(&sim.place, &sim.store());
    let phases: Vec<_> = jobs.iter().map(|(_, state)| state.phase).collect();
    assert_eq!(phases, [Phase::Done]);
    let confirmed = &jobs[0].1.confirmed_by;
    assert_eq!(confirmed.as_ref(), Some(&sim.place.moderator));
}

#[test]
fn two_admin_rooms_replace_each_others_plans() {
    let mut sim = Sim::with(&Setup {
        has_second_admin_room: true,
        ..Setup::default()
    });
    sim.say("!upgrade #garden:sim.test 12 --method staged");
    sim.after(Duration::from_secs(20), |world, place| {
        let second = place.second_admin_room.clone().unwrap();
        say(
            world,
            &place.moderator,
            &second,
            "!upgrade #garden:sim.test 11 --yes",
        );
    });
    sim.say_after(Duration::from_mins(1), "!upgrade confirm 1");
    sim.run();
    sim.assert_promises();
    let jobs = oracle::jobs(&sim.place, &sim.store());
    let phases: Vec<_> = jobs.iter().map(|(_, state)| state.phase).collect();
    assert_eq!(phases, [Phase::Expired, Phase::Done]);
}

/// Nobody is mentioned by two rooms of a campaign, however many there are.
#[test]
fn pings_of_a_large_campaign_mention_nobody_twice() {
    let mut sim = Sim::with(&Setup {
        siblings: 12,
        pins: 0,
        ..Setup::default()
    });
    sim.lasts(SignedDuration::from_hours(60));
    let space = sim.place.space.clone();
    sim.say(&format!(
        "!upgrade space {space} 12 --method server --ping 1d --yes"
    ));
    sim.run();
    sim.assert_promises();
    let world = sim.world();
    let member = &sim.place.members[0];
    let mentions = world
        .rooms
        .values()
        .flat_map(|room| &room.events)
        .filter(|event| event.sender == sim.place.bot)
        .filter(|event| {
            let users = event
                .content
                .get("m.mentions")
                .and_then(|mentions| mentions.get("user_ids"));
            users
                .and_then(|users| users.as_array())
                .is_some_and(|users| users.contains(&json!(member)))
        });
    assert_eq!(mentions.count(), 1);
}

#[test]
fn commands_sent_while_the_bot_was_down_are_carried_out() {
    let mut sim = Sim::new();
    sim.away = Duration::from_mins(10);
    sim.kill(crate::fault::Kill::AfterRequest(0));
    sim.say("!upgrade help");
    sim.after(Duration::from_mins(2), |world, place| {
        for number in 0..120 {
            say(
                world,
                &place.deputy,
                &place.admin_room,
                &format!("noise {number}"),
            );
        }
        say(
            world,
            &place.moderator,
            &place.admin_room,
            "!upgrade #garden:sim.test 12 --yes",
        );
    });
    sim.run();
    sim.assert_promises();
    sim.assert_said("Upgrade #1 is done");
}

#[test]
fn a_second_process_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let held = roomlift::app::lock(&data).unwrap();
    let error = roomlift::app::lock(&data).unwrap_err().to_string();
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    drop(held);
    roomlift::app::lock(&data).unwrap();
}

#[test]
fn an_answer_that_needs_no_server_comes_within_a_second() {
    let mut sim = Sim::new();
    sim.oracle.expect = Expect {
        prompt: true,
        ..Expect::default()
    };
    sim.say("!upgrade help");
    sim.run();
    sim.assert_promises();
}

/// A server that answers, elsewhere, is no trouble.
#[test]
fn an_address_elsewhere_is_looked_up() {
    let mut sim = Sim::new();
    {
        let mut world = sim.world();
        let far = world.register(&format!("far:{ELSEWHERE}"));
        let alias = format!("#far:{ELSEWHERE}");
        let room = sim.place.room.clone();
        world.join(&far, &room).unwrap();
        world
            .create_alias(&far, alias.as_str().try_into().unwrap(), &room)
            .unwrap();
    }
    sim.say(&format!("!upgrade plan #far:{ELSEWHERE} 12"));
    sim.run();
    sim.assert_said("Plan #1");
}

/// The old room stays in the directory where the new one cannot be put there.
#[test]
fn a_listing_that_is_refused_leaves_the_old_one() {
    let mut sim = Sim::new();
    sim.fault(Rule::on(
        Endpoint::SetListing,
        Fault::Refuse(403, "M_FORBIDDEN"),
    ));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    let broken = sim.oracle.broken();
    assert!(broken.is_empty(), "P11: {broken:?}");
}

/// The space keeps the old room where the new one cannot be put there.
#[test]
fn a_link_that_is_refused_leaves_the_old_one() {
    let mut sim = Sim::new();
    let refused = Fault::Refuse(403, "M_FORBIDDEN");
    sim.fault(Rule::when(sets("m.space.child"), refused));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    let broken = sim.oracle.broken();
    assert!(broken.is_empty(), "P11: {broken:?}");
}

/// The old room stops showing its main address as soon as that is moved; the new one does not wait for the
/// second to show it.
#[test]
fn a_wait_between_two_addresses_hides_neither() {
    let mut sim = Sim::new();
    let wait = Fault::TooMany(Some(Duration::from_secs(90)));
    sim.fault(Rule::on(Endpoint::CreateAlias, wait).skip(2));
    sim.say("!upgrade #garden:sim.test 12 --method staged --yes");
    sim.run();
    let broken = sim.oracle.broken();
    assert!(broken.is_empty(), "P11: {broken:?}");
}
