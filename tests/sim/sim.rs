//! A simulation: a community, the bot in it, what goes wrong, and what people do; run to its end.
//!
//! The whole bot runs on its real database, in a runtime of its own for each life, with time that passes
//! only when everybody waits. Left out: whether it ended well (`oracle`).

use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use roomlift::app::{self, AppError, Loops};
use roomlift::config::Config;
use roomlift::homeserver::paced::Paced;
use roomlift::model::Claim;
use roomlift::store::{Lane, Store};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::SimClock;
use crate::fault::{Fired, Kill, Rule};
use crate::life::{Life, Shared};
use crate::oracle::Oracle;
use crate::place::{Place, Setup};
use crate::port::SimPort;
use crate::watch::Watching;
use crate::world::{Device, Event, World, content};

/// How long nothing may happen until it is quiet.
const QUIET: Duration = Duration::from_secs(3);

/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(500);

/// How often the bot looks for keys that are missing.
const LOOK_FOR_KEYS: SignedDuration = SignedDuration::from_secs(3);

/// How long the bot is away after a kill.
const AWAY: Duration = Duration::from_millis(700);

/// More lives than any simulation kills.
const LIVES_MAX: usize = 40;

/// A simulation that is being put together, or runs.
pub(crate) struct Sim {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    pub(crate) oracle: Oracle,
    config: String,
    dir: TempDir,
    end: Timestamp,
    /// How long the bot is away after a kill.
    pub(crate) away: Duration,
    /// What the bot does where the account works with another database.
    pub(crate) claim: Claim,
}

/// How a simulation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing is left to happen before its last moment.
    Quiet,
    /// Something still happened at its last moment.
    Busy,
}

enum LifeEnd {
    Killed,
    Over(End),
    Failed(AppError),
    Returned,
}

impl Sim {
    /// The usual community.
    pub(crate) fn new() -> Self {
        Self::with(&Setup::default())
    }

    /// A community that the bot has come to: it was started once and listens.
    pub(crate) fn with(setup: &Setup) -> Self {
        let mut sim = Self::untouched(setup);
        assert_eq!(sim.run(), End::Quiet, "the first start");
        sim.shared.count_from_here();
        sim
    }

    /// A community to which the bot was only invited.
    pub(crate) fn untouched(setup: &Setup) -> Self {
        let mut world = World::new(SimClock::new().true_now());
        let place = Place::make(&mut world, setup);
        Self::around(world, place)
    }

    /// A community that is there already.
    pub(crate) fn around(mut world: World, place: Place) -> Self {
        let clock = SimClock::new();
        let oracle = Oracle::watch(&mut world, &place);
        let end = clock.true_now() + SignedDuration::from_hours(2);
        let shared = Arc::new(Shared::new(clock, place.bot.clone(), world));
        Self {
            config: place.config(),
            shared,
            place,
            oracle,
            dir: scratch(),
            end,
            away: AWAY,
            claim: Claim::IfFree,
        }
    }

    /// A second bot with the same account, in the same world, with a database and a device of its own. Only
    /// one of the two can run at a time.
    pub(crate) fn beside(&self) -> Self {
        *self.shared.device() = Device::default();
        Self {
            shared: Arc::clone(&self.shared),
            place: self.place.clone(),
            oracle: Oracle::watch(&mut self.world(), &self.place),
            config: self.config.clone(),
            dir: scratch(),
            ..*self
        }
    }

    /// More lines of configuration.
    pub(crate) fn configure(&mut self, lines: &str) -> &mut Self {
        self.config += lines;
        self
    }

    /// How much virtual time there is; two hours otherwise.
    pub(crate) fn lasts(&mut self, time: SignedDuration) -> &mut Self {
        self.end = self.shared.clock.true_now() + time;
        self
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// The moderator types into the admin room, a second after the scene begins.
    pub(crate) fn say(&self, text: &str) -> &Self {
        self.say_after(Duration::from_secs(1), text)
    }

    /// The moderator types into the admin room after a while.
    pub(crate) fn say_after(&self, wait: Duration, text: &str) -> &Self {
        let text = text.to_owned();
        self.after(wait, move |world, place| {
            say(world, &place.moderator, &place.admin_room, &text);
        })
    }

    /// Somebody does something after a while.
    pub(crate) fn after(
        &self,
        wait: Duration,
        act: impl FnOnce(&mut World, &Place) + Send + 'static,
    ) -> &Self {
        let place = self.place.clone();
        self.world().schedule(wait, move |world| act(world, &place));
        self
    }

    /// Somebody does something a second after the bot first said this in the admin room.
    pub(crate) fn when_said(
        &self,
        part: &str,
        act: impl FnOnce(&mut World, &Place, &Event) + Send + 'static,
    ) -> &Self {
        let (place, part) = (self.place.clone(), part.to_owned());
        let mut act = Some(act);
        self.world().watchers.on_event(move |world, event| {
            let is_it = event.sender == place.bot
                && event.room == place.admin_room
                && body(event).is_some_and(|body| body.contains(&part));
            let Some(act) = act.take_if(|_| is_it) else {
                return Watching::Still;
            };
            let (place, event) = (place.clone(), event.clone());
            world.schedule(Duration::from_secs(1), move |world| {
                act(world, &place, &event);
            });
            Watching::NoMore
        });
        self
    }

    /// The moderator says yes to the first plan.
    pub(crate) fn confirms(&self) -> &Self {
        self.when_said("Plan #1", |world, place, plan| {
            react(world, &place.moderator, &plan.room, &plan.id, "✅");
        })
    }

    pub(crate) fn fault(&self, rule: Rule) -> Fired {
        self.shared.faults().add(rule)
    }

    pub(crate) fn kill(&self, kill: Kill) -> &Self {
        self.shared.kills().push(kill);
        self
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// Where the process ends by itself, which it never may.
    pub(crate) fn run(&mut self) -> End {
        for _ in 0..LIVES_MAX {
            match self.live() {
                LifeEnd::Killed => {
                    let away = SignedDuration::try_from(self.away).unwrap_or_default();
                    self.oracle.killed(away);
                }
                LifeEnd::Over(end) => {
                    self.oracle
                        .end(&self.shared, &self.place, &self.store(), end);
                    return end;
                }
                LifeEnd::Failed(error) => {
                    let error = roomlift::telemetry::chain(&error);
                    self.oracle.process_ended(&error);
                    return End::Busy;
                }
                LifeEnd::Returned => {
                    self.oracle
                        .process_ended("it stopped without being told to");
                    return End::Busy;
                }
            }
        }
        panic!("more than {LIVES_MAX} lives");
    }

    /// Where the database is.
    pub(crate) fn database(&self) -> PathBuf {
        app::database(&self.dir.path().join("data"))
    }

    /// The database, to look into while nobody runs.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.database()).expect("the database opens")
    }

    fn live(&self) -> LifeEnd {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            self.shared.clock.begin_life();
            let ended = self.life().await;
            self.shared.clock.end_life(self.away);
            ended
        })
    }

    async fn life(&self) -> LifeEnd {
        let life = Life::new(Arc::clone(&self.shared));
        let config = Config::parse(&self.config, self.dir.path(), &|_| None);
        let config = config.expect("the configuration is right");
        let _lock = match app::lock(&config.data_dir) {
            Ok(lock) => lock,
            Err(error) => return LifeEnd::Failed(error),
        };
        let database = app::database(&config.data_dir);
        let store = match Store::open(&database) {
            Ok(store) => Arc::new(store.observed(Arc::clone(&life) as _)),
            Err(error) => return LifeEnd::Failed(error.into()),
        };
        let port = Arc::new(SimPort::new(Arc::clone(&life)));
        let clock: Arc<Shared> = Arc::clone(&self.shared);
        let loops = Loops {
            claim: self.claim,
            config,
            store: Arc::clone(&store),
            clock: Arc::new(ClockOf(clock)),
            port: Paced::new(Arc::clone(&port) as _, Arc::clone(&life.pacer)),
            source: port,
        };
        let stop = CancellationToken::new();
        tokio::select! {
            biased;
            () = life.death.notified() => LifeEnd::Killed,
            end = self.direct(&life, &store) => LifeEnd::Over(end),
            ended = loops.run(&stop) => {
                if life.is_dead() {
                    return LifeEnd::Killed;
                }
                match ended {
                    Ok(()) => LifeEnd::Returned,
                    Err(error) => LifeEnd::Failed(error),
                }
            }
        }
    }

    /// Has things happen when it is time, until nothing is left to happen.
    async fn direct(&self, life: &Life, store: &Store) -> End {
        let mut quiet_since: Option<Instant> = None;
        loop {
            let next_act = {
                let mut world = self.world();
                world.act();
                world.next_act()
            };
            let now = self.shared.clock.true_now();
            if now >= self.end {
                return End::Busy;
            }
            if self.is_busy(life, store) {
                quiet_since = None;
            } else {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= QUIET {
                    let Some(next) = self.next(store, next_act).filter(|next| *next < self.end)
                    else {
                        return End::Quiet;
                    };
                    let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
                    if wait > LOOK {
                        tokio::time::advance(wait).await;
                    }
                    quiet_since = None;
                }
            }
            let look = next_act.map_or(LOOK, |next| {
                Duration::try_from(next.duration_since(now))
                    .unwrap_or_default()
                    .min(LOOK)
            });
            tokio::time::sleep(look.max(Duration::from_millis(1))).await;
        }
    }

    /// Whether the bot has anything to do at once.
    fn is_busy(&self, life: &Life, store: &Store) -> bool {
        use std::sync::atomic::Ordering;
        let own = &self.shared.bot;
        let now = roomlift::clock::Clock::now(&self.shared.clock);
        if life.under_way.load(Ordering::SeqCst) > 0
            || life.pacer.is_waiting()
            || life.sync_fails.load(Ordering::SeqCst)
            || self.world().has_news(own, &self.shared.device())
        {
            return true;
        }
        let look = || -> Result<bool, roomlift::store::StoreError> {
            Ok(!store.received(Lane::Commands, 1)?.is_empty()
                || !store.received(Lane::Invitations, 1)?.is_empty()
                || store.next_post_due()?.is_some_and(|due| due <= now)
                || !store.due_work(now)?.is_empty())
        };
        look().unwrap_or(true)
    }

    /// When something happens next.
    fn next(&self, store: &Store, act: Option<Timestamp>) -> Option<Timestamp> {
        let now = roomlift::clock::Clock::now(&self.shared.clock);
        let off = now.duration_since(self.shared.clock.true_now());
        let work = store.next_work_due(now).ok().flatten();
        let post = store.next_post_due().ok().flatten();
        let now = self.shared.clock.true_now();
        let waits_for_keys = self.world().waits_for_keys(now);
        [work, post]
            .into_iter()
            .flatten()
            .map(|at| at - off)
            .chain(act)
            .chain(waits_for_keys.then(|| now + LOOK_FOR_KEYS))
            .min()
    }

    /// Everything the bot said in a room, in the form it has in the end.
    pub(crate) fn said(&self, room: &OwnedRoomId) -> Vec<String> {
        said(&self.world(), room, &self.place.bot)
    }

    /// Insists that the bot said this in the admin room.
    pub(crate) fn assert_said(&self, part: &str) {
        let said = self.said(&self.place.admin_room);
        assert!(
            said.iter().any(|text| text.contains(part)),
            "nobody said {part:?}; said was:\n{}",
            said.join("\n---\n")
        );
    }

    /// Insists on every promise of the design.
    pub(crate) fn assert_promises(&self) {
        let broken = self.oracle.broken();
        assert!(
            broken.is_empty(),
            "broken: {broken:#?}\nsaid:\n{}",
            self.said(&self.place.admin_room).join("\n---\n")
        );
    }
}

/// The bot's clock.
struct ClockOf(Arc<Shared>);

impl roomlift::clock::Clock for ClockOf {
    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

/// A folder for a database: in memory where there is one, as no power is ever cut here.
fn scratch() -> TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("roomlift-sim-");
        builder
    };
    let made = builder()
        .tempdir_in(memory)
        .or_else(|_| builder().tempdir());
    made.expect("a folder")
}

/// The text of a message; of an edit, the new one.
pub(crate) fn body(event: &Event) -> Option<&str> {
    if event.kind != "m.room.message" {
        return None;
    }
    let new = event.content.get("m.new_content");
    new.and_then(|new| new.get("body")?.as_str())
        .or_else(|| event.text("body"))
}

/// What somebody said in a room, edits applied.
pub(crate) fn said(world: &World, room: &OwnedRoomId, by: &OwnedUserId) -> Vec<String> {
    let mut said: Vec<(OwnedEventId, String)> = Vec::new();
    for event in &world.rooms[room].events {
        if event.sender != *by || event.redacted_because.is_some() {
            continue;
        }
        let Some(body) = body(event) else { continue };
        match event.relation() {
            Some(("m.replace", original)) => {
                if let Some(entry) = said.iter_mut().find(|(id, _)| id == original) {
                    body.clone_into(&mut entry.1);
                }
            }
            _ => said.push((event.id.clone(), body.to_owned())),
        }
    }
    said.into_iter().map(|(_, text)| text).collect()
}

/// Somebody types a message.
pub(crate) fn say(
    world: &mut World,
    by: &OwnedUserId,
    room: &OwnedRoomId,
    text: &str,
) -> Option<OwnedEventId> {
    let message = content(json!({ "msgtype": "m.text", "body": text }));
    let transaction = format!("say{}", world.stream());
    // Those who left say nothing.
    let sent = world.send(by, room, "m.room.message", &transaction, &message);
    sent.ok()
}

/// Somebody reacts.
pub(crate) fn react(
    world: &mut World,
    by: &OwnedUserId,
    room: &OwnedRoomId,
    to: &OwnedEventId,
    key: &str,
) {
    let relation = json!({ "rel_type": "m.annotation", "event_id": to, "key": key });
    let reaction = content(json!({ "m.relates_to": relation }));
    let transaction = format!("react{}", world.stream());
    // The same reaction twice is refused, and what was left cannot be reacted in.
    let _answer = world.send(by, room, "m.reaction", &transaction, &reaction);
}
