//! Nobody left behind: who moved, pings, commands about them, the picture, and the end.

use std::time::Duration;

use roomlift_testbed::{Entry, Fault, Kind, Rule, Seen, Timeline, User, Wanted, eventually, user};
use serde_json::{Value, json};

use crate::campaign;
use crate::scene::{SPEECH, Scene, said};

/// What every ping says.
const PING: &str = "goes on in a new room";

/// An upgraded room, what happens in the old one, and the id of the new one.
struct Moved {
    scene: Scene,
    old: Timeline,
    new: String,
}

impl Moved {
    async fn with(wanted: &Wanted, config: &str, options: &str) -> Self {
        let mut scene = Scene::with(wanted, config).await;
        let community = &scene.community;
        let old = community
            .moderator
            .timeline(&community.room)
            .await
            .within(SPEECH);
        scene.upgrade(&format!("12 {options}")).await;
        scene.hear("Upgrade #1 is done").await;
        let new = scene.community.replacement().await.expect("a new room");
        Self { scene, old, new }
    }

    async fn new() -> Self {
        Self::with(&Wanted::default(), "", "").await
    }

    fn member(&self, index: usize) -> &User {
        &self.scene.community.members[index]
    }

    /// The next ping: the event.
    async fn ping(&mut self) -> Value {
        let bot = self.scene.community.bot.user_id.clone();
        self.old
            .until("a ping", |event| {
                event["sender"] == bot.as_str() && user::text(event).contains(PING)
            })
            .await
    }

    /// Pings in the old room so far.
    async fn pings(&self) -> usize {
        let community = &self.scene.community;
        let said = said(community, &community.room).await;
        said.iter().filter(|text| text.contains(PING)).count()
    }

    /// Waits until the bot has stored what became of this many pings.
    async fn recorded(&self, pings: usize) {
        let path = self.scene.dir.path().join("data/roomlift.db");
        eventually("the ping is recorded", SPEECH, async || {
            let db = rusqlite::Connection::open(&path).expect("the database");
            let sql = "SELECT count(*) FROM job_log WHERE entry LIKE '%\"pinged\"%'";
            let count = db.query_row(sql, [], |row| row.get::<_, usize>(0));
            (count.expect("a count") >= pings).then_some(())
        })
        .await;
    }

    async fn membership(&self, of: &User) -> Option<String> {
        let moderator = &self.scene.community.moderator;
        let event = moderator
            .state_event(&self.new, "m.room.member", &of.user_id)
            .await?;
        Some(event["membership"].as_str()?.to_owned())
    }
}

fn mentioned(ping: &Value) -> Vec<String> {
    let users = ping["content"]["m.mentions"]["user_ids"].as_array();
    let mut users: Vec<_> = users
        .into_iter()
        .flatten()
        .filter_map(|user| user.as_str().map(ToOwned::to_owned))
        .collect();
    users.sort();
    users
}

/// Who came is told from sync; who was sent away, and the bot, are never pinged; and the picture.
#[tokio::test]
async fn exactly_the_stragglers_are_pinged() {
    let mut moved = Moved::new().await;
    let moderator = moved.scene.community.moderator.clone();
    moderator.join(&moved.new).await;
    for index in [0, 1] {
        moved.member(index).join(&moved.new).await;
    }
    moderator
        .kick(&moved.new, &moved.member(1).user_id, "spam")
        .await;
    let (here, sent_away, left_behind) = (
        moved.member(0).user_id.clone(),
        moved.member(1).user_id.clone(),
        moved.member(2).user_id.clone(),
    );

    moved.scene.say("!upgrade stragglers 1").await;
    let list = moved.scene.hear("Moved: 2 of 3.").await;
    let list = user::text(&list);
    assert!(!list.contains(&here), "{list}");
    assert!(
        list.contains(&format!("Sent away from the new room: `{sent_away}`")),
        "{list}"
    );
    assert!(
        list.contains(&format!("Not there yet: `{left_behind}`")),
        "{list}"
    );

    moved.scene.say("!upgrade ping 1 now").await;
    let ping = moved.ping().await;
    assert_eq!(mentioned(&ping), [left_behind.as_str()]);
    assert_eq!(ping["content"]["msgtype"], "m.text");
    let link = format!("https://matrix.to/#/{}?via=", moved.new);
    assert!(user::text(&ping).contains(&link), "{ping}");
    assert!(
        user::html(&ping).contains(&format!("<a href=\"{link}")),
        "{ping}"
    );

    moved.scene.say("!upgrade status 1").await;
    moved.scene.hear("Next ping: in ").await;
    let picture = moved
        .scene
        .chat
        .until("a picture", |event| {
            event["content"]["msgtype"] == "m.image"
        })
        .await;
    assert!(user::text(&picture).contains("Moved: 2 of 3."), "{picture}");
    let uri = picture["content"]["url"].as_str().expect("in the clear");
    let bytes = moderator.download(uri).await;
    assert!(bytes.starts_with(b"\x89PNG"), "{:?}", bytes.get(..8));

    // Who comes is not pinged again, and then there is nobody left.
    moved.member(2).join(&moved.new).await;
    moved.scene.hear("Nobody is left behind.").await;
    assert_eq!(moved.pings().await, 1);
}

/// As the times say, through a restart: those that passed while the bot was away are one ping. Then
/// it is over, and the old room opens the new one no longer.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_long_stop_is_followed_by_one_ping() {
    let mut moved = Moved::with(&Wanted::private(), "", "").await;
    let rules = |moved: &Moved| {
        let (moderator, new) = (moved.scene.community.moderator.clone(), moved.new.clone());
        async move {
            let rules = moderator.state_event(&new, "m.room.join_rules", "").await;
            rules.expect("join rules")
        }
    };
    let moderator = moved.scene.community.moderator.clone();
    moderator.join(&moved.new).await;
    assert_eq!(rules(&moved).await["join_rule"], "restricted");
    moved.scene.say("!upgrade ping 1 4s,5s,6s").await;
    moved.scene.hear("from now.").await;
    moved.scene.bot.kill();
    // Time itself is what is waited for.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(moved.pings().await, 0);
    moved.scene.bot.start_again();
    let ping = moved.ping().await;
    assert_eq!(mentioned(&ping).len(), 3);
    let end = moved.scene.hear("The follow-up of #1 is over").await;
    let end = user::text(&end);
    assert!(end.contains("The last ping was a while ago."), "{end}");
    assert!(end.contains("can no longer join by themselves"), "{end}");
    assert_eq!(moved.pings().await, 1);
    assert_eq!(rules(&moved).await, json!({"join_rule": "invite"}));
}

/// Killed with the ping in the room and its answer lost: one ping.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn a_ping_that_was_cut_off_is_not_posted_twice() {
    let mut moved = Moved::new().await;
    let killer = moved.scene.bot.killer();
    let room = moved.scene.community.room.clone();
    let in_old_room =
        move |seen: &Seen| matches!(seen.kind, Kind::Send { .. }) && seen.path.contains(&room);
    let fired = moved
        .scene
        .proxy
        .add(Rule::new(in_old_room, Fault::after(killer)));
    moved.scene.say("!upgrade ping 1 now").await;
    moved.ping().await;
    eventually("the bot was killed", SPEECH, async || {
        (fired.count() == 1 && !moved.scene.bot.is_running()).then_some(())
    })
    .await;
    moved.scene.restart().await;
    moved.recorded(1).await;
    assert_eq!(moved.pings().await, 1);
}

/// Everybody came: no ping, and a report at once.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn it_ends_when_everybody_came() {
    let wanted = Wanted {
        members: 1,
        ..Wanted::default()
    };
    let mut moved = Moved::with(&wanted, "", "").await;
    moved.scene.community.moderator.join(&moved.new).await;
    moved.member(0).join(&moved.new).await;
    let end = moved.scene.hear("The follow-up of #1 is over").await;
    assert!(user::text(&end).contains("Moved: 2 of 2."), "{end}");
    assert_eq!(moved.pings().await, 0);
}

/// Enough is enough: two of three are more than half.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn it_ends_when_enough_came() {
    let config = "\n[follow_up]\nuntil_moved = 0.5\n";
    let wanted = Wanted {
        members: 2,
        ..Wanted::default()
    };
    let mut moved = Moved::with(&wanted, config, "").await;
    moved.scene.community.moderator.join(&moved.new).await;
    moved.member(0).join(&moved.new).await;
    let end = moved.scene.hear("The follow-up of #1 is over").await;
    assert!(
        user::text(&end).contains("Enough people have come."),
        "{end}"
    );
}

/// Who has no invitation and needs one gets it; who said no or was sent away does not.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn invitations_are_repeated_only_where_they_are_wanted() {
    let wanted = Wanted {
        entry: Entry::Invite,
        ..Wanted::private()
    };
    let mut scene = Scene::with(&wanted, "").await;
    let members = scene.community.members.clone();
    // The third one's invitation is refused at first.
    let third = members[2].user_id.clone();
    let invites_third = move |seen: &Seen| {
        let invited = seen.body.as_ref().map(|body| &body["user_id"]);
        seen.kind == Kind::Invite && invited.is_some_and(|user| *user == third.as_str())
    };
    let fault = Fault::error(403, "M_FORBIDDEN");
    let refused = scene.proxy.add(Rule::new(invites_third, fault).for_ever());
    let community = &scene.community;
    let old = community
        .moderator
        .timeline(&community.room)
        .await
        .within(SPEECH);
    let moderator = community.moderator.clone();
    scene.upgrade("12 --join-rule keep").await;
    scene.hear("Upgrade #1 is done").await;
    assert!(refused.count() > 0);
    let new = scene.community.replacement().await.expect("a new room");
    scene.proxy.clear_rules();
    moderator.join(&new).await;
    let mut moved = Moved { scene, old, new };
    moved.member(0).leave(&moved.new).await;
    moderator
        .kick(&moved.new, &moved.member(1).user_id, "no")
        .await;
    moved.scene.say("!upgrade ping 1 now").await;
    let ping = moved.ping().await;
    let mut expected = [members[0].user_id.clone(), members[2].user_id.clone()];
    expected.sort();
    assert_eq!(
        mentioned(&ping),
        expected,
        "who declined is told, and not invited"
    );
    for (index, membership) in [(0, "leave"), (1, "leave"), (2, "invite")] {
        let found = moved.membership(moved.member(index)).await;
        assert_eq!(found.as_deref(), Some(membership), "member {index}");
    }
}

/// The bot may not write in the old room any more: said once, and it goes on when it may.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn power_that_was_taken_is_told_once() {
    let mut moved = Moved::new().await;
    let room = moved.scene.community.room.clone();
    let in_old_room =
        move |seen: &Seen| matches!(seen.kind, Kind::Send { .. }) && seen.path.contains(&room);
    let fault = Fault::error(403, "M_FORBIDDEN");
    let refused = moved
        .scene
        .proxy
        .add(Rule::new(in_old_room, fault).for_ever());
    for times in 1..=2 {
        moved.scene.say("!upgrade ping 1 now").await;
        moved.recorded(times).await;
        assert!(refused.count() >= times);
    }
    moved.scene.proxy.clear_rules();
    moved.scene.say("!upgrade ping 1 now").await;
    moved.ping().await;
    let community = &moved.scene.community;
    let told = said(community, &community.admin_room).await;
    let told = told.iter().filter(|text| text.contains("I cannot ping"));
    assert_eq!(told.count(), 1);
}

/// `off` ends it with a report; the bot leaves if it is to, and a job without pings says so.
#[tokio::test]
async fn off_is_the_end_and_the_bot_can_leave() {
    let config = "\n[follow_up]\nleave_old_room = true\n";
    let mut moved = Moved::with(&Wanted::default(), config, "").await;
    moved.scene.say("!upgrade ping 1 off").await;
    let end = moved.scene.hear("The follow-up of #1 is over").await;
    let maria = &moved.scene.community.moderator.user_id;
    let text = user::text(&end);
    assert!(text.contains(&format!("Ended by `{maria}`.")), "{text}");
    assert!(text.contains("I left the old room."), "{text}");
    let rooms = moved.scene.community.bot.joined_rooms().await;
    assert!(!rooms.contains(&moved.scene.community.room), "{rooms:?}");
    moved.scene.say("!upgrade ping 1").await;
    moved.scene.hear("The follow-up is over.").await;
}

/// No pings asked for: none, and nothing ends.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn without_pings_nothing_follows() {
    let mut moved = Moved::with(&Wanted::private(), "", "--ping off").await;
    moved.scene.say("!upgrade ping 1").await;
    moved.scene.hear("No pings are planned for #1").await;
    // It can still be asked for, once.
    moved.scene.say("!upgrade ping 1 now").await;
    let ping = moved.ping().await;
    assert_eq!(mentioned(&ping).len(), 4);
}

/// Nobody is woken at night, and the room can be called instead of people.
#[tokio::test]
#[ignore = "outer ring: logic that needs no real server"]
async fn quiet_hours_and_mentions_are_as_configured() {
    // All day but for a minute twelve hours from now, so that it is quiet whenever the test runs.
    let now = std::process::Command::new("date")
        .args(["-u", "-d", "12 hours", "+%H:%M"])
        .output()
        .expect("date");
    let end = String::from_utf8(now.stdout)
        .expect("a time")
        .trim()
        .to_owned();
    let (hours, minutes) = end.split_once(':').expect("a time");
    let begin =
        (hours.parse::<u32>().expect("hours") * 60 + minutes.parse::<u32>().expect("minutes") + 1)
            % (24 * 60);
    let config = format!(
        "\n[follow_up]\nafter = [\"1s\"]\nmention = \"room\"\nquiet_hours = \"{:02}:{:02}-{end} UTC\"\n",
        begin / 60,
        begin % 60
    );
    let mut moved = Moved::with(&Wanted::default(), &config, "").await;
    moved.scene.say("!upgrade ping 1").await;
    moved.scene.hear("Next ping: in 12h").await;
    assert_eq!(moved.pings().await, 0);
    moved.scene.say("!upgrade ping 1 now").await;
    let ping = moved.ping().await;
    assert_eq!(ping["content"]["m.mentions"], json!({"room": true}));
}

/// In a campaign, who lags in several rooms is mentioned in one, which names the others; each old room
/// gets its message, and the picture shows all rooms.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "outer ring: logic that needs no real server"]
async fn nobody_is_mentioned_in_two_rooms_of_a_campaign() {
    let community = campaign::community().await;
    let space = campaign::space(&community, "Garden").await;
    let mut rooms = Vec::new();
    for name in ["Roses", "Tulips"] {
        rooms.push(campaign::child(&community, &space, name, json!({})).await);
    }
    let lagging = community.members[0].clone();
    for room in &rooms {
        lagging.join(room).await;
    }
    // The space itself moves as well.
    let mut scene = campaign::scene(community, "").await;
    let command = scene.say(&format!("!upgrade space {space} 12 --yes")).await;
    scene.reacted(&command, "✅").await;
    let listed = scene.say("!upgrade list").await;
    scene.reacted(&listed, "✅").await;
    let moderator = scene.community.moderator.clone();
    let number = said(&scene.community, &scene.community.admin_room)
        .await
        .iter()
        .filter_map(|text| text.split("Plan C").nth(1)?.split(':').next()?.parse().ok())
        .max()
        .unwrap_or(0_u32);
    scene.say(&format!("!upgrade ping C{number} now")).await;
    let bot = scene.community.bot.user_id.clone();
    let pings = async || {
        let mut pings = Vec::new();
        for room in &rooms {
            let events = moderator.messages(room, 50).await;
            pings.extend(events.into_iter().filter(|event| {
                event["sender"] == bot.as_str() && user::text(event).contains(PING)
            }));
        }
        (pings.len() == rooms.len()).then_some(pings)
    };
    let pings = eventually("a ping in each room", SPEECH, pings).await;
    let to_them: Vec<_> = pings
        .iter()
        .filter(|ping| mentioned(ping).contains(&lagging.user_id))
        .collect();
    assert_eq!(to_them.len(), 1, "{pings:#?}");
    let text = user::text(to_them[0]);
    assert!(
        text.contains(&format!("{}, also:", lagging.user_id)),
        "{text}"
    );
    scene.say(&format!("!upgrade status C{number}")).await;
    let picture = scene
        .chat
        .until("a picture", |event| {
            event["content"]["msgtype"] == "m.image"
        })
        .await;
    assert!(
        user::text(&picture).starts_with("Garden: Moved: "),
        "{picture}"
    );
    scene.say(&format!("!upgrade stragglers C{number}")).await;
    scene.hear(&format!("`{}`", lagging.user_id)).await;

    // One report in the end, for all of them.
    scene.say(&format!("!upgrade ping C{number} off")).await;
    let end = scene
        .hear(&format!("The follow-up of campaign C{number} is over"))
        .await;
    let end = user::text(&end);
    for name in ["Roses", "Tulips", "Garden"] {
        assert!(end.contains(name), "{end}");
    }
    let told = said(&scene.community, &scene.community.admin_room).await;
    let told = told.iter().filter(|text| text.contains("The follow-up of"));
    assert_eq!(told.count(), 1);
}
