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
        kinds: log
            .iter()
            .map(|seen| format!("{:?} {}\n", seen.kind, seen.path))
            .collect::<Vec<_>>()
            .concat(),
    }
}

/// What one upgrade costs, confirmation included. A change that makes it dearer has to say so here
/// (the old room is read whole again right before it is closed, and with the new one in the end, as nothing older
/// than that is written back; what is pinned in it and its power levels are read right before they are changed; 2
/// are for the lists of members that a follow-up begins with; 1 reads the whole state of the admin room, which
/// tells who is there, the bot included, and who may; 3 ask what the server is, in the plan and again at the
/// start; 1 reads the addresses of the old room right before the bot closes it, as somebody may have removed one);
/// `all` has room for three that a slow machine asks.
#[tokio::test]
async fn an_upgrade_costs_few_requests() {
    for (method, states, puts, all) in [("server", 6, 9, 38), ("staged", 6, 7, 38)] {
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
        assert!(
            cost.all <= all + 3,
            "{method}, requests: {}\n{}",
            cost.all,
            cost.kinds
        );
    }
}
