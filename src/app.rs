//! Wiring: opens what the bot works with and runs its four loops until one ends.
//!
//! Receive, handle, work and send meet only in the store. Left out: the command line (`cli`).

mod admin_rooms;

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use self::admin_rooms::AdminRooms;
use crate::clock::{Clock, SystemClock};
use crate::command;
use crate::config::{Config, MakeRoomAdmin};
use crate::handlers::{self, Ended, HandlerContext};
use crate::health::{HealthError, Listener};
use crate::homeserver::HomeserverError;
use crate::homeserver::admin::RoomPower;
use crate::homeserver::pace::Priority;
use crate::homeserver::paced::Paced;
use crate::job::Job;
use crate::matrix::{
    self, Entered, ForUs, MatrixError, Port, Readiness, Receiver, Session, SyncSource,
};
use crate::message;
use crate::model::{Claim, Text};
use crate::permissions::AdminRoom;
use crate::store::{Filter, Store, StoreError};
use crate::survey;
use crate::telemetry::chain;
use crate::worker::{Setup, Shared, Worker, WorkerContext};

/// Name of the database in the data folder.
const DATABASE: &str = "roomlift.db";

/// Open work that is looked at for whether anything is to be finished.
const OPEN_MAX: usize = 1000;

/// Who may look into the data folder.
const OWNER_ONLY: u32 = 0o700;

/// Name of the lock in the data folder.
const LOCK: &str = "roomlift.lock";

/// Why the bot does not run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data folder cannot be made.
    #[error("cannot create the data folder {}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The lock cannot be taken for another reason than that it is held.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process uses the data folder (P10).
    #[error("Roomlift is already running (process {holder}) on {}; stop it first, or use another data_dir", path.display())]
    Running {
        /// The data folder.
        path: PathBuf,
        /// Its process id, as it wrote it down.
        holder: String,
    },
    /// The database cannot be used.
    #[error(
        "the database cannot be used; nothing is lost, and the bot goes on where it was once this is mended"
    )]
    Store(#[from] StoreError),
    /// Two entries of the configuration mean one room; which rules hold there is not for the bot
    /// to guess.
    #[error("two of the [[admin_room]] entries name the same room; remove one of them")]
    SameRoom,
    /// The homeserver or the session cannot be used.
    #[error(transparent)]
    Matrix(MatrixError),
    /// Health and metrics cannot be told.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// The homeserver did not answer what `doctor` asks.
    #[error("cannot finish looking")]
    Checkup(#[from] HomeserverError),
}

impl From<MatrixError> for AppError {
    /// A database that fails says the same, whichever loop found out.
    fn from(error: MatrixError) -> Self {
        match error {
            MatrixError::Inbox(error) | MatrixError::Outbox(error) => Self::Store(error),
            error => Self::Matrix(error),
        }
    }
}

/// Runs the bot until the token is cancelled.
///
/// # Errors
/// When it cannot start, or when something breaks that it cannot wait out: its database, or its
/// login.
pub async fn run(config: Config, claim: Claim, stop: CancellationToken) -> Result<(), AppError> {
    let Some(bot) = Bot::open(config, Telling::Health, &stop).await? else {
        info!("stopped");
        return Ok(());
    };
    bot.loops(claim).run(&stop).await?;
    info!("stopped");
    Ok(())
}

/// How the bot is, as `!upgrade doctor` says it, for whoever runs a bot that does not answer. Joins
/// the admin rooms as [`run`] would, and does nothing else. Rooms are as they were when it ran last.
///
/// # Errors
/// When it cannot start, as [`run`], or the homeserver does not answer.
pub async fn doctor(config: Config, stop: CancellationToken) -> Result<Option<Text>, AppError> {
    let Some(bot) = Bot::open(config, Telling::Nothing, &stop).await? else {
        return Ok(None);
    };
    let loops = bot.loops(Claim::IfFree);
    let Some(admin_rooms) = loops.enter(&stop).await? else {
        return Ok(None);
    };
    let database = bot.store.facts()?;
    let wanted = &loops.config.upgrade.version;
    let now = bot.clock.now();
    let found = survey::checkup::checkup(&loops.port, &admin_rooms, wanted, database, now).await?;
    Ok(Some(message::doctor::report(&found)))
}

/// What stays while admin rooms come and go.
struct Bot {
    config: Config,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    session: Session,
    /// Ends with the rest.
    _listening: Option<AbortOnDropHandle<()>>,
    /// Held as long as the rest is in use.
    _lock: File,
}

/// Whether health and metrics are told meanwhile.
enum Telling {
    /// They are, if the configuration says where.
    Health,
    /// They are not: another process may.
    Nothing,
}

impl Bot {
    /// Opens the data folder and the session. `None`: told to stop meanwhile.
    async fn open(
        config: Config,
        telling: Telling,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, AppError> {
        let data_dir = config.data_dir.clone();
        let lock = lock(&data_dir)?;
        let store = Arc::new(Store::open(&database(&data_dir))?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // Before the homeserver is asked, which may be away.
        let listening = match (telling, config.listen) {
            (Telling::Health, Some(address)) => {
                let listener = Listener::bind(address).await?;
                info!(%address, "telling health and metrics");
                let serving = listener.serve(Arc::clone(&store), Arc::clone(&clock), stop.clone());
                Some(AbortOnDropHandle::new(tokio::spawn(serving)))
            }
            _ => None,
        };
        let session = match matrix::connect(&config.account, &data_dir, stop).await {
            Err(MatrixError::Stopped) => return Ok(None),
            result => result?,
        };
        Ok(Some(Self {
            config,
            store,
            clock,
            session,
            _listening: listening,
            _lock: lock,
        }))
    }

    fn port(&self) -> Port {
        let port = Port::new(&self.session, Arc::clone(&self.clock));
        match self.config.synapse_admin.map(|admin| admin.make_room_admin) {
            None => port,
            Some(MakeRoomAdmin::Never) => port.of_admin(RoomPower::Never),
            Some(MakeRoomAdmin::WhenTold) => port.of_admin(RoomPower::WhenTold),
        }
    }

    fn loops(&self, claim: Claim) -> Loops {
        Loops {
            claim,
            config: self.config.clone(),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            port: Paced::new(Arc::new(self.port()), Arc::default()),
            source: Arc::new(self.session.clone()),
        }
    }
}

/// The four loops, and what they work with. Whatever is outside the process is behind a trait, so that
/// tests can run the whole bot in a simulated world.
pub struct Loops {
    /// What to do where the account works with another database.
    pub claim: Claim,
    /// The configuration.
    pub config: Config,
    /// The database.
    pub store: Arc<Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What may be asked of the homeserver.
    pub port: Paced,
    /// What it tells.
    pub source: Arc<dyn SyncSource>,
}

impl Loops {
    /// Enters the admin rooms and runs the loops until told to stop.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn run(&self, stop: &CancellationToken) -> Result<(), AppError> {
        // An admin room that moved is a start like any other, but for the login.
        let mut claim = self.claim;
        while self.run_once(claim, stop).await? == Ended::Moved {
            info!("an admin room moved; starting again with the new one");
            claim = Claim::IfFree;
        }
        Ok(())
    }

    /// Enters the admin rooms. `None`: told to stop meanwhile.
    async fn enter(&self, stop: &CancellationToken) -> Result<Option<Vec<AdminRoom>>, AppError> {
        let rules = &self.config.admin_rooms;
        let named: Vec<_> = rules.iter().map(|room| room.room.clone()).collect();
        let entered = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            entered = matrix::enter(&self.port, &self.store, &named) => entered?,
        };
        let mut admin_rooms = Vec::new();
        let mut lost = Vec::new();
        for (entered, rules) in entered.into_iter().zip(rules) {
            let room_id = match entered {
                Entered::In(room) => room,
                Entered::Lost { room, error } => {
                    error!(error = chain(&error), "an admin room is lost");
                    lost.push(error);
                    // Whoever invites the bot there again is heard.
                    let Some(room) = room else { continue };
                    room
                }
            };
            if admin_rooms
                .iter()
                .any(|room: &AdminRoom| room.room_id == room_id)
            {
                return Err(AppError::SameRoom);
            }
            admin_rooms.push(AdminRoom {
                room_id,
                rules: rules.clone(),
            });
        }
        match lost.pop() {
            // There is nobody to talk to, and nothing to finish (P3).
            Some(error) if lost.len() + 1 == rules.len() && !self.has_begun(&admin_rooms)? => {
                Err(error.into())
            }
            _ => Ok(Some(admin_rooms)),
        }
    }

    /// Whether an upgrade is under way that was asked for in one of these rooms.
    fn has_begun(&self, admin_rooms: &[AdminRoom]) -> Result<bool, AppError> {
        for AdminRoom { room_id, .. } in admin_rooms {
            let jobs = self.store.jobs(room_id, Filter::Active, OPEN_MAX)?;
            let has_begun = |job: &Job| job.state().is_ok_and(|state| state.has_begun());
            if jobs.iter().any(has_begun) {
                return Ok(true);
            }
            for campaign in self.store.campaigns(room_id, Filter::Active, OPEN_MAX)? {
                if self.store.open_jobs_of(campaign.id)?.iter().any(has_begun) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn worker(&self, admin_rooms: Vec<AdminRoom>) -> Arc<Worker> {
        let config = &self.config;
        let setup = Setup {
            upgrade: config.upgrade.clone(),
            follow_up: config.follow_up.clone(),
            schedule: config.schedule.clone(),
            messages: config.messages.clone(),
            admin_rooms,
            keep: config.keep,
        };
        Arc::new(Worker::new(WorkerContext {
            store: Arc::clone(&self.store),
            port: self.port.clone(),
            clock: Arc::clone(&self.clock),
            setup,
            surroundings: Shared::default(),
        }))
    }

    /// Enters the admin rooms and runs the loops until one ends.
    async fn run_once(&self, claim: Claim, stop: &CancellationToken) -> Result<Ended, AppError> {
        let (config, store, clock) = (&self.config, &self.store, &self.clock);
        let Some(admin_rooms) = self.enter(stop).await? else {
            return Ok(Ended::Stopped);
        };
        let rooms = admin_rooms.iter().map(|room| room.room_id.clone());

        let (ready, mut readiness) = watch::channel(Readiness::Starting);
        let receiver = Receiver {
            source: Arc::clone(&self.source),
            store: Arc::clone(store),
            admin_rooms: Arc::new(rooms.collect()),
            clock: Arc::clone(clock),
            max_age: config.upgrade.max_command_age,
            for_us: ForUs {
                body: command::concerns_us,
                addressed: command::addressed,
                reaction: handlers::is_answer,
            },
            claim,
            ready,
        };
        let context = HandlerContext {
            store: Arc::clone(store),
            port: Arc::new(self.port.at(Priority::Answer)),
            clock: Arc::clone(clock),
            admin_rooms: admin_rooms.clone(),
            max_command_age: config.upgrade.max_command_age,
            quiet_hours: config.follow_up.quiet_hours.clone(),
            version: config.upgrade.version.clone(),
            time_zone: config.schedule.time_zone.clone(),
            inviters: config.account.accept_invites_from.clone(),
            asked: Mutex::default(),
        };
        let worker = self.worker(admin_rooms);

        // Whichever loop ends first takes the others with it, in order.
        let all = stop.child_token();
        let receive = async {
            let result = receiver.run(all.clone()).await.map_err(AppError::from);
            all.cancel();
            result
        };
        let rest = async {
            // Spaces and permissions are read from what sync told: nothing is decided before it has.
            tokio::select! {
                biased;
                () = all.cancelled() => return Ok(Ended::Stopped),
                _ = readiness.wait_for(|readiness| *readiness == Readiness::Ready) => {}
            }
            info!(rooms = context.admin_rooms.len(), "ready for commands");
            let handle = async {
                let ended = context.run(all.clone()).await?;
                all.cancel();
                Ok::<_, AppError>(ended)
            };
            let watch = AdminRooms {
                store,
                port: &self.port,
                clock: &**clock,
                configured: &config.admin_rooms,
                entered: &context.admin_rooms,
            };
            let result = tokio::try_join!(
                handle,
                async {
                    let ended = watch.run(&all).await?;
                    if ended == Ended::Moved {
                        all.cancel();
                    }
                    Ok(ended)
                },
                async { worker.run(all.clone()).await.map_err(AppError::from) },
                async {
                    matrix::send(
                        self.port.clone(),
                        Arc::clone(store),
                        Arc::clone(clock),
                        all.clone(),
                    )
                    .await
                    .map_err(AppError::from)
                },
            );
            all.cancel();
            result.map(|(handled, watched, (), ())| match watched {
                Ended::Moved => watched,
                Ended::Stopped => handled,
            })
        };
        let (heard, done) = tokio::join!(receive, rest);
        heard.and(done)
    }
}

/// Where the database is.
#[must_use]
pub fn database(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE)
}

/// One process per data folder, which is made for its owner alone: the encryption keys are in it. Held
/// as long as the file is open, and let go by the system however the process ends.
///
/// # Errors
/// [`AppError::Running`] when another process has it, others when it cannot be had.
pub fn lock(data_dir: &Path) -> Result<File, AppError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(data_dir);
    let access = made.and_then(|()| data_dir.metadata());
    let access = access.map_err(|source| AppError::DataDir {
        path: data_dir.to_owned(),
        source,
    })?;
    if access.permissions().mode() & !OWNER_ONLY & 0o777 != 0 {
        warn!(
            path = %data_dir.display(),
            "other users of this machine can look into the data folder, where the encryption keys are; \
             type: chmod 700"
        );
    }
    let path = data_dir.join(LOCK);
    let failed = |source| AppError::Lock {
        path: path.clone(),
        source,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            return Err(AppError::Running {
                path: data_dir.to_owned(),
                holder: holder.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    file.flush().map_err(failed)?;
    Ok(file)
}
