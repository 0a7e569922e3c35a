//! Rooms with many people in them, or many kept out: everybody is asked once, also under a limit
//! and over a kill.

use std::collections::BTreeMap;
use std::time::Duration;

use roomlift_testbed::{
    Community, Entry, Kind, Outcome, Proxy, Synapse, SynapseOptions, User, Wanted, eventually, user,
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::scene::{SPEECH, Scene};

/// More than what the bot sends along with the making of a room, and not too many for every run.
const BANS: usize = 320;

/// A ban list of a large community.
const BANS_OF_MANY_YEARS: usize = 2_000;

/// Enough for a large room, and not too many for every run.
const MEMBERS: usize = 400;

/// Members of a very large room.
const MEMBERS_OF_A_CITY: usize = 1_500;

/// Longest wait for the upgrade of the largest rooms.
const LONG_SPEECH: Duration = Duration::from_mins(15);

/// How many requests are on their way at once while the room is filled.
const AT_ONCE: usize = 8;

/// Invitations that the server lets through at once, in the test of its limit.
const BURST: u32 = 4;

/// Does something many times, some at once.
async fn many<F>(times: usize, act: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..times {
        if running.len() == AT_ONCE {
            running.join_next().await.expect("one").expect("it is done");
        }
        running.spawn(act(number));
    }
    while let Some(done) = running.join_next().await {
        done.expect("it is done");
    }
}

/// Invitations that the server took, by person.
fn invitations(proxy: &Proxy) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seen in proxy.log_of(&Kind::Invite) {
        let user = seen.body.as_ref().and_then(|body| body["user_id"].as_str());
        if let (Some(200), Some(user)) = (seen.status, user) {
            *counts.entry(user.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Closes the room to those who are not invited; says who is in it, but for the bot.
async fn close_door(community: &Community) -> Vec<String> {
    let (moderator, room) = (&community.moderator, &community.room);
    let closed = json!({"join_rule": "invite"});
    moderator
        .put_state(room, "m.room.join_rules", "", closed)
        .await;
    let mut people: Vec<_> = moderator
        .state(room)
        .await
        .into_iter()
        .filter(|event| {
            event["type"] == "m.room.member" && event["content"]["membership"] == "join"
        })
        .filter_map(|event| Some(event["state_key"].as_str()?.to_owned()))
        .filter(|user| *user != community.bot.user_id)
        .collect();
    people.sort();
    people
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn a_long_ban_list_arrives_whole() {
    bans_arrive(BANS).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn a_ban_list_of_two_thousand_arrives_whole() {
    bans_arrive(BANS_OF_MANY_YEARS).await;
}

async fn bans_arrive(bans: usize) {
    let mut scene = Scene::new().await;
    let community = &scene.community;
    let (moderator, room) = (community.moderator.clone(), community.room.clone());
    let server = community
        .alias
        .split_once(':')
        .expect("a server")
        .1
        .to_owned();
    let spammer = move |number: usize| format!("@spammer.{number}:{server}");
    many(bans, |number| {
        let (moderator, room) = (moderator.clone(), room.clone());
        let user = spammer(number);
        async move {
            let reason = format!("spam no. {number}");
            moderator.ban(&room, &user, &reason).await;
        }
    })
    .await;
    scene.chat = scene.chat.within(LONG_SPEECH);
    scene.upgrade("12 --method staged").await;
    let report = scene.hear("Upgrade #1 is done").await;
    let text = user::text(&report);
    assert!(text.contains("Nothing is left to do."), "{text}");
    let new = scene.community.assert_moved("12").await;
    let state = scene.community.bot.state(&new).await;
    let banned: BTreeMap<_, _> = state
        .iter()
        .filter(|event| event["content"]["membership"] == "ban")
        .map(|event| {
            (
                event["state_key"].clone().to_string(),
                &event["content"]["reason"],
            )
        })
        .collect();
    assert_eq!(banned.len(), bans + scene.community.banned.len());
    for number in 0..bans {
        let reason = banned.get(&json!(spammer(number)).to_string());
        assert_eq!(reason, Some(&&json!(format!("spam no. {number}"))));
    }
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn many_members_are_invited_once_each() {
    members_are_invited(MEMBERS).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn fifteen_hundred_members_are_invited_once_each() {
    members_are_invited(MEMBERS_OF_A_CITY).await;
}

async fn members_are_invited(members: usize) {
    let synapse = Synapse::shared().await;
    let mut scene = Scene::new().await;
    let room = scene.community.room.clone();
    many(members, |_| {
        let room = room.clone();
        async move {
            let member: User = synapse.register("crowd").await;
            member.join(&room).await;
        }
    })
    .await;
    let people = close_door(&scene.community).await;
    assert!(people.len() > members);
    scene.chat = scene.chat.within(LONG_SPEECH);
    scene.upgrade("12 --join-rule keep").await;
    scene.hear("Upgrade #1 is done").await;
    let invited = invitations(&scene.proxy);
    assert_eq!(
        invited.keys().collect::<Vec<_>>(),
        people.iter().collect::<Vec<_>>()
    );
    assert!(invited.values().all(|times| *times == 1), "{invited:?}");
}

/// P8 and P3 together: the server lets few invitations through, the job waits and says how far it
/// is, and goes on where a kill interrupted it.
#[tokio::test]
async fn a_limit_on_invitations_is_waited_out_over_a_kill() {
    let no_limit = json!({"per_second": 10_000, "burst_count": 10_000});
    let limits = json!({
        "per_room": no_limit,
        "per_user": no_limit,
        "per_issuer": {"per_second": 0.5, "burst_count": BURST},
    });
    let options = SynapseOptions::default().with("rc_invites", limits);
    let synapse = Synapse::start(options).await;
    let wanted = Wanted {
        members: 12,
        entry: Entry::Public,
        ..Wanted::default()
    };
    let community = Community::make(&synapse, &wanted).await;
    let people = close_door(&community).await;
    let mut scene = Scene::around(community, &synapse, "").await;
    scene.upgrade("12 --join-rule keep").await;
    let burst = usize::try_from(BURST).expect("a small number");
    let said = scene.hear("inviting people (").await;
    // Where the machine is slow, the first number that is shown may be a later one.
    let shown = (burst..people.len())
        .map(|done| format!("inviting people ({done} of {})", people.len()))
        .any(|progress| user::text(&said).contains(&progress));
    assert!(shown, "{}", user::text(&said));
    let more = burst + 2;
    eventually("some more are invited", SPEECH, async || {
        (invitations(&scene.proxy).len() >= more).then_some(())
    })
    .await;
    assert!(
        invitations(&scene.proxy).len() < people.len(),
        "in the middle"
    );
    scene.restart().await;
    scene.hear("Upgrade #1 is done").await;
    let invited = invitations(&scene.proxy);
    assert_eq!(
        invited.keys().collect::<Vec<_>>(),
        people.iter().collect::<Vec<_>>()
    );
    assert!(invited.values().all(|times| *times == 1), "{invited:?}");
    let new = scene.community.replacement().await.expect("a replacement");
    let failed: Vec<_> = scene
        .community
        .checks(&new, "12")
        .await
        .into_iter()
        .filter(|check| check.holds == Outcome::Fails)
        .map(|check| check.what)
        .collect();
    assert_eq!(
        failed,
        ["join rule"],
        "which is by invitation, as asked for"
    );
}
