//! One life of the bot's process, and what ends it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomlift::homeserver::pace::Pacer;
use roomlift::store::CommitObserver;
use ruma::OwnedUserId;
use tokio::sync::Notify;

use crate::clock::SimClock;
use crate::fault::{Faults, Kill, Request};
use crate::world::{Device, World};

/// What outlives the process.
pub(crate) struct Shared {
    pub(crate) clock: SimClock,
    pub(crate) bot: OwnedUserId,
    world: Mutex<World>,
    device: Mutex<Device>,
    faults: Mutex<Faults>,
    kills: Mutex<Vec<Kill>>,
    requests: AtomicU64,
    commits: AtomicU64,
    log: Mutex<Vec<Logged>>,
}

/// A request of the bot, as the server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) request: Request,
    pub(crate) at: jiff::Timestamp,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(clock: SimClock, bot: OwnedUserId, world: World) -> Self {
        Self {
            clock,
            bot,
            world: Mutex::new(world),
            device: Mutex::default(),
            faults: Mutex::default(),
            kills: Mutex::default(),
            requests: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            log: Mutex::default(),
        }
    }

    /// The world, at the present time.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = held(&self.world);
        world.now = self.clock.true_now();
        world
    }

    pub(crate) fn device(&self) -> MutexGuard<'_, Device> {
        held(&self.device)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        held(&self.faults)
    }

    pub(crate) fn kills(&self) -> MutexGuard<'_, Vec<Kill>> {
        held(&self.kills)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Vec<Logged>> {
        held(&self.log)
    }

    /// Counts from here: what was before is no part of the scene.
    pub(crate) fn count_from_here(&self) {
        self.requests.store(0, Ordering::SeqCst);
        self.commits.store(0, Ordering::SeqCst);
        self.log().clear();
    }

    /// Requests with an effect, and commits, so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |number: &AtomicU64| number.load(Ordering::SeqCst);
        (count(&self.requests), count(&self.commits))
    }
}

/// One life.
pub(crate) struct Life {
    pub(crate) shared: Arc<Shared>,
    dead: AtomicBool,
    pub(crate) death: Notify,
    /// Requests under way, but for sync.
    pub(crate) under_way: AtomicU64,
    /// The limits of the account, as the bot knows them.
    pub(crate) pacer: Arc<Pacer>,
    /// Whether the last sync failed, or the reading back that follows it.
    pub(crate) sync_fails: AtomicBool,
}

impl Life {
    pub(crate) fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            dead: AtomicBool::new(false),
            death: Notify::new(),
            under_way: AtomicU64::new(0),
            pacer: Arc::default(),
            sync_fails: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.death.notify_one();
    }

    /// Kills the process if this is an instant for it.
    fn passes(&self, instant: Kill) -> bool {
        let mut kills = self.shared.kills();
        if let Some(at) = kills.iter().position(|kill| *kill == instant) {
            kills.remove(at);
            self.kill();
        }
        !self.is_dead()
    }

    /// The number of the next request with an effect.
    pub(crate) fn number(&self) -> u64 {
        self.shared.requests.fetch_add(1, Ordering::SeqCst)
    }

    /// Does not return in a process that is dead, or dies now.
    pub(crate) async fn live(&self, instant: Option<Kill>) {
        let lives = instant.map_or(!self.is_dead(), |instant| self.passes(instant));
        if !lives {
            std::future::pending::<()>().await;
        }
    }
}

impl CommitObserver for Life {
    fn before_commit(&self, _operation: &'static str) -> bool {
        if self.is_dead() {
            return false;
        }
        let number = self.shared.commits.load(Ordering::SeqCst);
        if !self.passes(Kill::BeforeCommit(number)) {
            // It counts all the same, or the next life would be killed at the same commit.
            self.shared.commits.fetch_add(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    fn after_commit(&self, _operation: &'static str) {
        let number = self.shared.commits.fetch_add(1, Ordering::SeqCst);
        self.passes(Kill::AfterCommit(number));
    }
}
