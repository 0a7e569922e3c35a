//! What an upgrade costs. From which version to which: `versions`.

use roomlift_testbed::Kind;

use crate::scene::Scene;

/// Requests of an upgrade from its confirmation to its end, beside chat, sync, and what the SDK asks
/// for with it: keys of devices, and after each of those where the account keeps its secrets.
struct Cost {
    /// Rooms made: upgrades by the server, or rooms created.
    made: usize,
    /// Whole states read.
    states: usize,
    /// State events sent.
    puts: usize,
    /// All of them.
    all: usize,
    /// How often sync was asked.
    syncs: usize,
    /// What they were, for whoever has to find out why they became more.
    kinds: String,
}

async fn cost(method: &str) -> Cost {
    let mut scene = Scene::new().await;
    let alias = scene.community.alias.clone();
    let command = scene
        .say(&format!("!upgrade {alias} 12 --method {method}"))
        .await;
    scene.hear("Plan #1").await;
    scene.proxy.clear_log();
    scene.say("!upgrade confirm 1").await;
    let report = scene.hear("Upgrade #1 is done").await;
    scene.reacted(&command, "✅").await;
    let text = roomlift_testbed::user::text(&report);
    assert!(text.contains("Nothing is left to do."), "{text}");
    let log = scene.proxy.log();
    let count =
        |wanted: &dyn Fn(&Kind) -> bool| log.iter().filter(|seen| wanted(&seen.kind)).count();
    Cost {
        made: count(&|kind| matches!(kind, Kind::Upgrade | Kind::CreateRoom)),
        states: count(&|kind| *kind == Kind::ReadState),
        puts: count(&|kind| matches!(kind, Kind::PutState { .. })),
        all: count(&|kind| {
            let is_beside = matches!(
                kind,
                Kind::Sync | Kind::Keys | Kind::AccountData | Kind::Send { .. } | Kind::Redact
            );
            !is_beside
        }),
        syncs: count(&|kind| *kind == Kind::Sync),
        kinds: log
            .iter()
            .map(|seen| format!("{:?} {}\n", seen.kind, seen.path))
            .collect::<Vec<_>>()
            .concat(),
    }
}

/// Sync around an upgrade: with the yes, its acknowledgement and what is said in the end, and every two
/// seconds meanwhile. Each event of an upgrade would have it asked three times as often.
const SYNCS_MAX: usize = 12;

/// What one upgrade costs, confirmation included. A change that makes it dearer has to say so here
/// (the old room is read whole again right before it is closed, and with the new one in the end, as nothing older
/// than that is written back; what is pinned in it and its power levels are read right before they are changed; 2
/// are for the lists of members that a follow-up begins with; 1 reads the whole state of the admin room, which
/// tells who is there, the bot included, and who may); `all` has room for three that a slow machine asks.
#[tokio::test]
async fn an_upgrade_costs_few_requests() {
    for (method, states, puts, all) in [("server", 6, 9, 37), ("staged", 6, 7, 35)] {
        let cost = cost(method).await;
        assert_eq!(cost.made, 1, "{method}");
        assert!(
            cost.states <= states,
            "{method}, whole states read: {}",
            cost.states
        );
        assert!(
            cost.puts <= puts,
            "{method}, state events sent: {}",
            cost.puts
        );
        assert!(cost.syncs <= SYNCS_MAX, "{method}, syncs: {}", cost.syncs);
        assert!(
            cost.all <= all + 3,
            "{method}, requests: {}\n{}",
            cost.all,
            cost.kinds
        );
    }
}
