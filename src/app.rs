//! Wiring: opens what the bot works with and runs its four loops until one ends.
//!
//! Receive, handle, work and send meet only in the store. Left out: the command line (`cli`).

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::{Clock, SystemClock};
use crate::command;
use crate::config::Config;
use crate::handlers::{Desk, Ended};
use crate::homeserver::Homeserver;
use crate::homeserver::gate::Gate;
use crate::matrix::{self, MatrixError, Port, Readiness, Receiver, Session};
use crate::permissions::Office;
use crate::store::{Store, StoreError};
use crate::worker::{Means, Setup, Shared, Worker};

/// Name of the database in the data folder.
const DATABASE: &str = "roomlift.db";

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
    #[error("another roomlift (process {holder}) uses {}; stop it first, or use another data_dir", path.display())]
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
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), AppError> {
    let data_dir = config.data_dir.clone();
    std::fs::create_dir_all(&data_dir).map_err(|source| AppError::DataDir {
        path: data_dir.clone(),
        source,
    })?;
    let _lock = lock(&data_dir)?;
    let store = Arc::new(Store::open(&data_dir.join(DATABASE))?);

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let gate = Arc::new(Gate::default());
    let session = match matrix::connect(&config.account, &data_dir, &stop).await {
        Err(MatrixError::Stopped) => return Ok(()),
        result => result?,
    };
    let bot = Bot {
        config,
        store,
        clock,
        gate,
        session,
    };
    // An admin room that moved is a start like any other, but for the login.
    while bot.run(&stop).await? == Ended::Moved {
        info!("an admin room moved; starting again with the new one");
    }
    info!("stopped");
    Ok(())
}

/// What stays while admin rooms come and go.
struct Bot {
    config: Config,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
    session: Session,
}

impl Bot {
    /// Enters the admin rooms and runs the loops until one ends.
    async fn run(&self, stop: &CancellationToken) -> Result<Ended, AppError> {
        let (config, store, clock) = (&self.config, &self.store, &self.clock);
        let port = Arc::new(Port::new(
            &self.session,
            Arc::clone(&self.gate),
            Arc::clone(clock),
        ));
        let named: Vec<_> = config
            .admin_rooms
            .iter()
            .map(|room| room.room.clone())
            .collect();
        let entered = tokio::select! {
            entered = matrix::enter(&self.session, &*port, store, &named) => entered?,
            () = stop.cancelled() => return Ok(Ended::Stopped),
        };
        if entered.len() != named.len() {
            return Err(AppError::SameRoom);
        }
        let offices: Vec<Office> = entered
            .iter()
            .zip(&config.admin_rooms)
            .map(|(room_id, rules)| Office {
                room_id: room_id.clone(),
                rules: rules.clone(),
            })
            .collect();

        let (ready, mut readiness) = watch::channel(Readiness::Starting);
        let receiver = Receiver {
            session: self.session.clone(),
            store: Arc::clone(store),
            admin_rooms: Arc::new(entered),
            clock: Arc::clone(clock),
            max_age: config.upgrade.max_command_age,
            concerns_us: command::concerns_us,
            ready,
        };
        let port: Arc<dyn Homeserver> = port;
        let desk = Desk {
            store: Arc::clone(store),
            port: Arc::clone(&port),
            clock: Arc::clone(clock),
            offices: offices.clone(),
            max_command_age: config.upgrade.max_command_age,
            quiet_hours: config.follow_up.quiet_hours.clone(),
            version: config.upgrade.version.clone(),
            time_zone: config.schedule.time_zone.clone(),
        };
        let setup = Setup {
            upgrade: config.upgrade.clone(),
            follow_up: config.follow_up.clone(),
            schedule: config.schedule.clone(),
            messages: config.messages.clone(),
            offices,
        };
        let worker = Arc::new(Worker::new(Means {
            store: Arc::clone(store),
            port,
            clock: Arc::clone(clock),
            setup,
            surroundings: Shared::default(),
        }));

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
                _ = readiness.wait_for(|readiness| *readiness == Readiness::Ready) => {}
                () = all.cancelled() => return Ok(Ended::Stopped),
            }
            info!(rooms = desk.offices.len(), "ready for commands");
            let handle = async {
                let ended = desk.run(all.clone()).await?;
                all.cancel();
                Ok::<_, AppError>(ended)
            };
            let result = tokio::try_join!(
                handle,
                async { worker.run(all.clone()).await.map_err(AppError::from) },
                async {
                    let (session, gate) = (self.session.clone(), Arc::clone(&self.gate));
                    matrix::send(
                        session,
                        Arc::clone(store),
                        gate,
                        Arc::clone(clock),
                        all.clone(),
                    )
                    .await
                    .map_err(AppError::from)
                },
            );
            all.cancel();
            result.map(|(ended, (), ())| ended)
        };
        let (heard, done) = tokio::join!(receive, rest);
        heard.and(done)
    }
}

/// One process per data folder. Held as long as the file is open, and let go by the system however
/// the process ends.
fn lock(data_dir: &Path) -> Result<File, AppError> {
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
