//! A test's scene: a community on the shared server, a proxy in front of it, the bot behind that.

use std::path::Path;
use std::time::Duration;

use roomlift_testbed::{Bot, Community, Proxy, Synapse, Timeline, Wanted, user};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for the bot to be ready.
pub(crate) const START: Duration = Duration::from_mins(1);

/// What the bot logs once it is ready.
pub(crate) const READY: &str = "ready for commands";

/// Longest wait for what the bot says next; an upgrade with a lost answer settles for 150 s.
pub(crate) const SPEECH: Duration = Duration::from_mins(5);

/// A community with the bot in it.
pub(crate) struct Scene {
    pub(crate) community: Community,
    pub(crate) proxy: Proxy,
    pub(crate) bot: Bot,
    pub(crate) chat: Timeline,
    pub(crate) dir: TempDir,
}

impl Scene {
    /// The usual community, and the bot ready for commands.
    pub(crate) async fn new() -> Self {
        Self::with(&Wanted::default(), "").await
    }

    /// A community to measure, and more lines of configuration.
    pub(crate) async fn with(wanted: &Wanted, config: &str) -> Self {
        let synapse = Synapse::shared().await;
        let community = Community::make(synapse, wanted).await;
        Self::around(community, synapse, config).await
    }

    /// The bot and a proxy for a community that is there.
    pub(crate) async fn around(community: Community, synapse: &Synapse, config: &str) -> Self {
        Self::around_as(community, synapse, |text| text + config).await
    }

    /// The same with a configuration that is changed.
    pub(crate) async fn around_as(
        community: Community,
        synapse: &Synapse,
        changed: impl FnOnce(String) -> String,
    ) -> Self {
        let proxy = Proxy::start(&synapse.base_url());
        let dir = tempfile::tempdir().expect("a folder for the bot");
        let text = changed(community.config(&proxy.base_url()));
        write_config(dir.path(), &text);
        let bot = start_bot(dir.path());
        let chat = community
            .moderator
            .timeline(&community.admin_room)
            .await
            .within(SPEECH);
        bot.until_logged(READY, START).await;
        Self {
            community,
            proxy,
            bot,
            chat,
            dir,
        }
    }

    /// Types into the management room as the moderator.
    pub(crate) async fn say(&self, text: &str) -> String {
        self.community
            .moderator
            .send_text(&self.community.admin_room, text)
            .await
    }

    /// Waits for a message of the bot, new or edited, that has this in it.
    pub(crate) async fn hear(&mut self, part: &str) -> Value {
        let bot = self.community.bot.user_id.clone();
        self.chat
            .until(part, |event| {
                event["sender"] == bot.as_str()
                    && event["type"] == "m.room.message"
                    && user::text(event).contains(part)
            })
            .await
    }

    /// Waits for a reaction of the bot to an event.
    pub(crate) async fn reacted(&mut self, to: &str, emoji: &str) {
        let bot = self.community.bot.user_id.clone();
        self.chat
            .until(&format!("{emoji} on {to}"), |event| {
                event["sender"] == bot.as_str()
                    && event["type"] == "m.reaction"
                    && event["content"]["m.relates_to"]["event_id"] == to
                    && event["content"]["m.relates_to"]["key"] == emoji
            })
            .await;
    }

    /// Types an upgrade of the room and confirms the plan by command.
    pub(crate) async fn upgrade(&mut self, options: &str) {
        self.say(&format!("!upgrade {} {options}", self.community.alias))
            .await;
        self.hear("Plan #1").await;
        self.say("!upgrade confirm 1").await;
    }

    /// Starts the bot again and waits until it is ready.
    pub(crate) async fn restart(&self) {
        self.bot.kill();
        self.start_again().await;
    }

    /// Starts the bot, which has ended, and waits until it is ready.
    pub(crate) async fn start_again(&self) {
        let times = || self.bot.log().matches(READY).count();
        let before = times();
        self.bot.start_again();
        roomlift_testbed::eventually("ready again", START, async || {
            (times() > before).then_some(())
        })
        .await;
    }
}

/// Writes the configuration.
pub(crate) fn write_config(dir: &Path, text: &str) {
    std::fs::write(dir.join("config.toml"), text).expect("the configuration is written");
}

/// Starts the bot in a folder with its configuration.
pub(crate) fn start_bot(dir: &Path) -> Bot {
    let binary = Path::new(env!("CARGO_BIN_EXE_roomlift"));
    Bot::start(binary, ["run", "--config", "config.toml"], dir)
}

/// Everything the bot said in a room, in the form it has now: edits applied, oldest first.
pub(crate) async fn said(community: &Community, room: &str) -> Vec<String> {
    let mut events = community.moderator.messages(room, 500).await;
    events.reverse();
    let mut said: Vec<(String, String)> = Vec::new();
    for event in &events {
        if event["sender"] != community.bot.user_id.as_str() || event["type"] != "m.room.message" {
            continue;
        }
        let text = user::text(event).to_owned();
        if user::is_edit(event) {
            let original = event["content"]["m.relates_to"]["event_id"]
                .as_str()
                .unwrap_or_default();
            if let Some(entry) = said.iter_mut().find(|(id, _)| id == original) {
                entry.1 = text;
            }
        } else {
            said.push((
                event["event_id"].as_str().unwrap_or_default().to_owned(),
                text,
            ));
        }
    }
    said.into_iter().map(|(_, text)| text).collect()
}

/// Reactions of the bot that stand, as (emoji, event).
pub(crate) async fn reactions(community: &Community) -> Vec<(String, String)> {
    let events = community
        .moderator
        .messages(&community.admin_room, 500)
        .await;
    events
        .iter()
        .rev()
        .filter(|event| {
            event["type"] == "m.reaction" && event["sender"] == community.bot.user_id.as_str()
        })
        .filter_map(|event| {
            let relates = &event["content"]["m.relates_to"];
            Some((
                relates["key"].as_str()?.to_owned(),
                relates["event_id"].as_str()?.to_owned(),
            ))
        })
        .collect()
}
