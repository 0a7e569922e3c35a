//! The kill matrix (P2, P3): for each request that changes something, the bot is killed before the
//! request leaves, and again after its effect and before the answer is recorded. It is started
//! again; rooms and messages must end equal to an undisturbed run.
//!
//! Between two requests there is nothing outside the bot's own database that a kill could hurt, so
//! that these are all the instants there are. The proxy kills; the bot has no hook for it.
//!
//! The whole matrix is in the outer ring; the inner one has one kill for each method.

use roomlift_testbed::proxy::Fired;
use roomlift_testbed::{Fault, Kind, Rule, Seen};

use crate::scene::{Scene, reactions, said};

/// How the room is upgraded.
#[derive(Clone, Copy, Debug)]
enum Method {
    Server,
    Staged,
    Adopt,
}

impl Method {
    /// What the moderator does and types; the version that the room ends with.
    async fn begin(self, scene: &Scene) -> &'static str {
        let alias = scene.community.alias.clone();
        match self {
            Self::Server => {
                scene
                    .say(&format!("!upgrade {alias} 12 --method server --yes"))
                    .await;
                "12"
            }
            Self::Staged => {
                scene
                    .say(&format!("!upgrade {alias} 12 --method staged --yes"))
                    .await;
                "12"
            }
            // In a version without creators: the bot has only what power levels give it.
            Self::Adopt => {
                let room = scene.community.room.clone();
                scene.community.moderator.upgrade(&room, "11").await;
                scene.say(&format!("!upgrade adopt {room} --yes")).await;
                "11"
            }
        }
    }

    /// Requests that make a room, and how often they are to be carried out.
    fn made(self) -> (Kind, usize) {
        match self {
            Self::Server => (Kind::Upgrade, 1),
            Self::Staged => (Kind::CreateRoom, 1),
            Self::Adopt => (Kind::Upgrade, 0),
        }
    }
}

/// How many tests share the matrix, so that they run side by side.
const SHARES: usize = 4;

/// More than an upgrade needs; the matrix ends where no request is left to kill at.
const REQUESTS_MAX: usize = 80;

#[derive(Clone, Copy, Debug)]
enum Instant {
    BeforeRequest,
    AfterEffect,
}

/// Requests that change something in a room. Those of the bot's own chat are among them.
fn is_effect(seen: &Seen) -> bool {
    seen.is_write()
}

/// Everything people saw, with ids and names that differ from run to run taken out.
async fn story(scene: &Scene) -> String {
    let community = &scene.community;
    let new = community.replacement().await.unwrap_or_default();
    let mut story = String::new();
    for (place, room) in [("admin", &community.admin_room), ("old", &community.room)] {
        for text in said(community, room).await {
            // Only an upgrade that takes a while has a message that follows it.
            if is_progress(&text) {
                continue;
            }
            story.extend([place, ": ", &text, "\n"]);
        }
    }
    let mut marks: Vec<_> = reactions(community)
        .await
        .into_iter()
        .map(|(emoji, _)| emoji)
        .collect();
    marks.sort();
    story.extend(["reactions: ", &marks.join(" "), "\n"]);
    let mut names = vec![
        (new.as_str(), "!NEW"),
        (community.room.as_str(), "!OLD"),
        (community.space.as_str(), "!SPACE"),
        (community.bot.user_id.as_str(), "@BOT"),
        (community.moderator.user_id.as_str(), "@MODERATOR"),
        (community.alias.as_str(), "#ALIAS"),
    ];
    names.retain(|(name, _)| !name.is_empty());
    for (name, stand_in) in names {
        story = story.replace(name, stand_in);
    }
    // How much the bot itself had to mend differs when a step was begun twice.
    story
        .lines()
        .filter(|line| {
            !line.contains("I compared settings") && !line.starts_with("It will take about ")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_progress(text: &str) -> bool {
    text.starts_with("Upgrade #1: ")
}

/// One upgrade with a kill at the `nth` of certain requests; `None` when there is no such request.
async fn killed_at(
    method: Method,
    is_it: fn(&Seen) -> bool,
    nth: usize,
    instant: Instant,
) -> Option<String> {
    let mut scene = Scene::new().await;
    let killer = scene.bot.killer();
    let fault = match instant {
        Instant::BeforeRequest => Fault::before(killer),
        Instant::AfterEffect => Fault::after(killer),
    };
    let fired = scene.proxy.add(Rule::new(is_it, fault).skip(nth));
    let version = method.begin(&scene).await;
    if kill_or_end(&scene, &fired).await == Hit::Ended {
        return None;
    }
    scene.bot.start_again();
    scene.hear("Upgrade #1 is done").await;
    settled(&scene).await;
    scene.community.assert_moved(version).await;
    let (kind, times) = method.made();
    let done = |seen: &Seen| seen.kind == kind && seen.status == Some(200);
    let made = scene.proxy.log().into_iter().filter(done).count();
    assert_eq!(
        made, times,
        "{method:?} killed {instant:?} {nth}: rooms that were made"
    );
    Some(story(&scene).await)
}

#[derive(PartialEq, Eq)]
enum Hit {
    Killed,
    Ended,
}

async fn kill_or_end(scene: &Scene, fired: &Fired) -> Hit {
    roomlift_testbed::eventually("a kill or the end", crate::scene::SPEECH, async || {
        if fired.count() > 0 && !scene.bot.is_running() {
            return Some(Hit::Killed);
        }
        let ended = is_settled(scene).await;
        (ended && fired.count() == 0).then_some(Hit::Ended)
    })
    .await
}

/// Whether the last thing the bot does for an upgrade is there: ✅ on the command.
async fn is_settled(scene: &Scene) -> bool {
    let marks = reactions(&scene.community).await;
    let commands = scene
        .community
        .moderator
        .messages(&scene.community.admin_room, 100)
        .await;
    let command = commands.iter().find(|event| {
        event["content"]["body"]
            .as_str()
            .is_some_and(|body| body.starts_with("!upgrade"))
    });
    let id = command
        .and_then(|event| event["event_id"].as_str())
        .unwrap_or_default()
        .to_owned();
    let ended = marks.iter().any(|(emoji, to)| emoji == "✅" && *to == id);
    let acked = marks.iter().any(|(emoji, to)| emoji == "⏳" && *to == id);
    let mut progress = said(&scene.community, &scene.community.admin_room).await;
    progress.retain(|text| is_progress(text));
    ended && !acked && progress.iter().all(|text| text.contains("Done."))
}

async fn settled(scene: &Scene) {
    roomlift_testbed::eventually("✅ in place of ⏳", crate::scene::SPEECH, async || {
        is_settled(scene).await.then_some(())
    })
    .await;
}

async fn undisturbed(method: Method) -> String {
    let mut scene = Scene::new().await;
    method.begin(&scene).await;
    scene.hear("Upgrade #1 is done").await;
    settled(&scene).await;
    story(&scene).await
}

async fn share(method: Method, share: usize) {
    let expected = undisturbed(method).await;
    for nth in (0..REQUESTS_MAX).filter(|nth| nth % SHARES == share) {
        let mut ended = true;
        for instant in [Instant::BeforeRequest, Instant::AfterEffect] {
            if let Some(story) = killed_at(method, is_effect, nth, instant).await {
                ended = false;
                assert_eq!(story, expected, "{method:?} killed {instant:?} {nth}");
            }
        }
        if ended {
            assert!(nth >= 16, "an upgrade changes more than {nth} things");
            return;
        }
    }
    panic!("no end after {REQUESTS_MAX} requests");
}

/// One kill in the middle.
async fn once(method: Method, is_it: fn(&Seen) -> bool, nth: usize) {
    let (expected, story) = tokio::join!(
        undisturbed(method),
        killed_at(method, is_it, nth, Instant::AfterEffect)
    );
    assert_eq!(story, Some(expected), "{method:?}");
}

#[tokio::test]
async fn after_the_server_made_the_room() {
    once(Method::Server, |seen| seen.kind == Kind::Upgrade, 0).await;
}

#[tokio::test]
async fn after_the_bot_made_the_room() {
    once(Method::Staged, |seen| seen.kind == Kind::CreateRoom, 0).await;
}

/// The second of the changes that complete somebody else's upgrade.
#[tokio::test]
async fn between_the_changes_of_an_adoption() {
    let puts = |seen: &Seen| matches!(seen.kind, Kind::PutState { .. });
    once(Method::Adopt, puts, 1).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn server_a() {
    share(Method::Server, 0).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn server_b() {
    share(Method::Server, 1).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn server_c() {
    share(Method::Server, 2).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn server_d() {
    share(Method::Server, 3).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn staged_a() {
    share(Method::Staged, 0).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn staged_b() {
    share(Method::Staged, 1).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn staged_c() {
    share(Method::Staged, 2).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn staged_d() {
    share(Method::Staged, 3).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn adopt_a() {
    share(Method::Adopt, 0).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn adopt_b() {
    share(Method::Adopt, 1).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn adopt_c() {
    share(Method::Adopt, 2).await;
}

#[tokio::test]
#[ignore = "outer ring: takes minutes"]
async fn adopt_d() {
    share(Method::Adopt, 3).await;
}
