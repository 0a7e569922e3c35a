//! SQLite: everything that must survive a kill. The only user of rusqlite.
//!
//! One connection behind a lock; each method is one transaction, and none is held across an
//! `await`. Handlers and the worker say what is to be true in a list of [`Write`]s; it becomes true
//! all at once or not at all. Left out: what any of it means.

mod backup;
mod campaigns;
mod count;
mod inbox;
mod jobs;
mod members;
mod outbox;
pub mod post_key;
mod records;
mod work;

pub use backup::{backup, restore};
pub use campaigns::Woken;
pub use count::Counts;
pub use inbox::{Lane, Received, ReceivedKind, Withdrawal};
pub use members::Unread;
pub use outbox::{Due, End, HOLDS_UP_TRIES, Outgoing, POST_WAIT_MAX, Post, Sent, Target, Wanted};
pub use post_key::PostKey;
pub use records::Round;
pub use work::Filter;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use rusqlite_migration::{M, Migrations};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::campaign;
use crate::checkup::DatabaseFacts;
use crate::job;
use crate::model::{DatabaseMark, JobId, WorkId};
use crate::room::state::Snapshot;
use crate::work::{Append, IllegalLog};

/// How long a statement waits for another process (a backup) to let go of the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const MIGRATION_STEPS: &[M<'_>] = &[
    M::up(include_str!("../../migrations/001_start.sql")),
    M::up(include_str!("../../migrations/002_staged.sql")),
    M::up(include_str!("../../migrations/003_admin_room_moved.sql")),
    M::up(include_str!("../../migrations/004_campaigns.sql")),
    M::up(include_str!("../../migrations/005_follow_up.sql")),
    M::up(include_str!("../../migrations/006_reactions.sql")),
    M::up(include_str!("../../migrations/007_growth.sql")),
];

/// The form of the database that this program writes; each migration makes the next one.
pub const SCHEMA_VERSION: usize = MIGRATION_STEPS.len();

const MIGRATIONS: Migrations<'_> = Migrations::from_slice(MIGRATION_STEPS);

/// Why the database could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: String,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// It cannot be brought to the form this program expects.
    #[error("cannot migrate the database {path}; a backup is the way back")]
    Migrate {
        /// The file.
        path: String,
        /// What went wrong.
        #[source]
        source: Box<rusqlite_migration::Error>,
    },
    /// It was written by a newer program.
    #[error("the database {path} is from a newer version of roomlift; run that version")]
    Newer {
        /// The file.
        path: String,
    },
    /// The file is some other database.
    #[error("{} is not a database of roomlift", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A copy that is not whole.
    #[error("{} is damaged ({verdict}); use another backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        verdict: String,
    },
    /// A copy cannot be made or put in its place.
    #[error("cannot write {}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A read or write failed; nothing was changed.
    #[error("cannot {operation}")]
    Sql {
        /// What was being done.
        operation: &'static str,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// A [`CommitObserver`] did not let a transaction through; nothing was changed.
    #[error("rolled back")]
    RolledBack,
    /// SQLite refused inside a transaction; names the operation only when it leaves the store.
    #[error("statement failed")]
    Statement(#[from] rusqlite::Error),
    /// A stored value is not what its column holds.
    #[error("{column} holds something else than it should")]
    Corrupt {
        /// Table and column.
        column: &'static str,
        /// What was wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value could not be turned into JSON.
    #[error("cannot store a value")]
    Encode(#[source] serde_json::Error),
    /// The work moved on since it was read.
    #[error("{} {work} changed meanwhile", work.kind())]
    Conflict {
        /// What.
        work: WorkId,
    },
    /// The event was edited or removed since it was read.
    #[error("the event was edited or removed meanwhile")]
    Withdrawn,
    /// Another job is at work on the room.
    #[error("another job is at work on this room")]
    ActiveJob,
    /// A log makes no sense, or would.
    #[error("the log cannot be continued")]
    Illegal(#[from] IllegalLog),
}

impl StoreError {
    /// Whether it is about what one row says, while the database is as it should be.
    #[must_use]
    pub fn is_about_one_row(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::Illegal(_))
    }
}

/// Result of a store operation.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Something that is to be true after a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// This event was handled and is not to be handled again.
    Handled(OwnedEventId),
    /// This event still asks for what it asked for when it was read: nothing of the list holds otherwise.
    Counts(OwnedEventId),
    /// There is a job for this request. Asking twice makes one.
    CreateJob(Box<job::Request>),
    /// The log of a job is longer by these, provided that it did not grow meanwhile.
    Job(Append<job::State>),
    /// There is a campaign for this request. Asking twice makes one.
    CreateCampaign(Box<campaign::Request>),
    /// The same of a campaign.
    Campaign(Append<campaign::State>),
    /// The old room was like this when the job began.
    Snapshot {
        /// The job.
        job: JobId,
        /// The room.
        snapshot: Box<Snapshot>,
    },
    /// Commands are taken in another room from now on, and what is to be said goes there.
    MoveAdminRoom {
        /// Where they were taken.
        from: OwnedRoomId,
        /// Where they are.
        to: OwnedRoomId,
    },
    /// The members of a job's rooms are of interest from now on.
    Follow {
        /// The job.
        job: JobId,
        /// The old room.
        old_room: OwnedRoomId,
        /// The new one.
        new_room: OwnedRoomId,
        /// Who was in the old room when the upgrade began.
        members: Vec<OwnedUserId>,
    },
    /// They are of no interest any more.
    Unfollow(JobId),
    /// This is posted, once.
    Enqueue(Outgoing),
    /// This is posted, or what was posted under its key reads like this now.
    Revise(Outgoing),
    /// What is to be posted under this key is not posted before that time, and holds up nothing until
    /// then. What was tried already goes on.
    Hold {
        /// The key.
        key: PostKey,
        /// The time.
        until: Timestamp,
    },
    /// What is to be posted under this key is not posted any more, unless it was tried already.
    Withdraw(PostKey),
}

/// Signals that there is something new for a loop; each loop also polls.
#[derive(Debug, Default)]
pub struct Wakes {
    /// For the loop that handles events.
    pub inbox: Notify,
    /// For the worker.
    pub work: Notify,
    /// For the loop that sends.
    pub outbox: Notify,
}

/// Told of each commit: a test stands at these instants, which no kill from outside can aim at.
pub trait CommitObserver: Send + Sync {
    /// A transaction is complete and about to be committed. `false`: it is rolled back.
    fn before_commit(&self, operation: &'static str) -> bool;

    /// It was committed.
    fn after_commit(&self, operation: &'static str);
}

/// The database.
pub struct Store {
    db: Mutex<Connection>,
    observer: Option<Arc<dyn CommitObserver>>,
    /// Set once another database has taken over the account. A new start finds it by itself.
    replaced: OnceLock<DatabaseMark>,
    /// Signals to the loops.
    pub wakes: Wakes,
}

impl From<Append<job::State>> for Write {
    fn from(append: Append<job::State>) -> Self {
        Self::Job(append)
    }
}

impl From<Append<campaign::State>> for Write {
    fn from(append: Append<campaign::State>) -> Self {
        Self::Campaign(append)
    }
}

impl Store {
    /// Opens the database, creating or migrating it. Before a migration, a copy is made beside it.
    ///
    /// # Errors
    /// When the file is no database, cannot be written, or comes from a newer program.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = || path.display().to_string();
        let open = |source| StoreError::Open {
            path: shown(),
            source,
        };
        let mut db = Connection::open(path).map_err(open)?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(open)?;
        // Cannot be set inside a transaction, and so not by a migration.
        db.pragma_update(None, "journal_mode", "WAL")
            .map_err(open)?;
        // A commit that was reported is on the disk: P1 and P3 rest on it.
        db.pragma_update(None, "synchronous", "FULL")
            .map_err(open)?;
        db.pragma_update(None, "foreign_keys", "ON").map_err(open)?;
        let version = backup::version(&db).map_err(open)?;
        if (1..SCHEMA_VERSION).contains(&version) {
            backup::before_migration(&db, path)?;
        }
        MIGRATIONS
            .to_latest(&mut db)
            .map_err(|source| match source {
                rusqlite_migration::Error::MigrationDefinition(
                    rusqlite_migration::MigrationDefinitionError::DatabaseTooFarAhead,
                ) => StoreError::Newer { path: shown() },
                source => StoreError::Migrate {
                    path: shown(),
                    source: Box::new(source),
                },
            })?;
        Ok(Self {
            db: Mutex::new(db),
            observer: None,
            replaced: OnceLock::new(),
            wakes: Wakes::default(),
        })
    }

    /// The same store with somebody told of each commit.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn CommitObserver>) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Makes everything in the list true, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::ActiveJob`] and [`StoreError::Withdrawn`] are for the caller to decide again on fresh data; all others mean that the database cannot be written.
    pub fn commit(&self, now: Timestamp, writes: &[Write]) -> Result<()> {
        self.write("commit", |tx| {
            for write in writes {
                match write {
                    Write::Handled(event) => {
                        tx.execute(
                            "UPDATE inbox SET handled_at = ?2 WHERE event_id = ?1",
                            rusqlite::params![event.as_str(), now.as_millisecond()],
                        )?;
                    }
                    Write::Counts(event) => inbox::still_counts(tx, event)?,
                    Write::CreateJob(request) => jobs::create(tx, now, request)?,
                    Write::Job(append) => work::append(tx, now, append)?,
                    Write::CreateCampaign(request) => campaigns::create(tx, now, request)?,
                    Write::Campaign(append) => work::append(tx, now, append)?,
                    Write::Snapshot { job, snapshot } => jobs::put_snapshot(tx, *job, snapshot)?,
                    Write::MoveAdminRoom { from, to } => jobs::move_admin_room(tx, from, to)?,
                    Write::Follow {
                        job,
                        old_room,
                        new_room,
                        members,
                    } => members::follow(tx, now, *job, [old_room, new_room], members)?,
                    Write::Unfollow(job) => members::unfollow(tx, *job)?,
                    Write::Enqueue(out) => outbox::enqueue(tx, now, out)?,
                    Write::Revise(out) => outbox::revise(tx, now, out, now)?,
                    Write::Hold { key, until } => outbox::hold(tx, key, *until)?,
                    Write::Withdraw(key) => outbox::withdraw(tx, key)?,
                }
            }
            Ok(())
        })?;
        self.wakes.work.notify_one();
        self.wakes.outbox.notify_one();
        Ok(())
    }

    /// The id of the database: it tells databases apart that share an account.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn instance(&self) -> Result<String> {
        self.read("read the id of the database", |db| {
            Ok(db.query_row("SELECT id FROM instance", [], |row| row.get(0))?)
        })
    }

    /// Notes that another database has taken over the account, and wakes the loops that have to know.
    pub fn replace(&self, by: DatabaseMark) {
        if self.replaced.set(by).is_ok() {
            self.wakes.inbox.notify_waiters();
            self.wakes.work.notify_one();
        }
    }

    /// The database that has taken over the account: what is begun is finished, and nothing else begins.
    #[must_use]
    pub fn replaced(&self) -> Option<&DatabaseMark> {
        self.replaced.get()
    }

    /// How the database is: for `doctor`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn facts(&self) -> Result<DatabaseFacts> {
        self.read("check the database", |db| {
            let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let bytes = number("page_count")?.saturating_mul(number("page_size")?);
            let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            Ok(DatabaseFacts {
                schema: number("user_version")?,
                bytes: bytes.unsigned_abs(),
                damage: (check != "ok").then_some(check),
            })
        })
    }

    fn write<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        let run = |db: &mut Connection| -> Result<T> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = body(&tx)?;
            let observer = self.observer.as_ref();
            if observer.is_some_and(|observer| !observer.before_commit(operation)) {
                return Err(StoreError::RolledBack);
            }
            tx.commit()?;
            if let Some(observer) = observer {
                observer.after_commit(operation);
            }
            Ok(value)
        };
        run(&mut db).map_err(|error| error.during(operation))
    }

    fn read<T>(
        &self,
        operation: &'static str,
        body: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        body(&db).map_err(|error| error.during(operation))
    }
}

impl StoreError {
    fn during(self, operation: &'static str) -> Self {
        match self {
            Self::Statement(source) => Self::Sql { operation, source },
            other => other,
        }
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(StoreError::Encode)
}

fn unjson<T: DeserializeOwned>(column: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| StoreError::Corrupt {
        column,
        source: Box::new(source),
    })
}

fn parsed<T>(column: &'static str, text: &str) -> Result<T>
where
    T: for<'a> TryFrom<&'a str, Error = ruma::IdParseError>,
{
    T::try_from(text).map_err(|source| StoreError::Corrupt {
        column,
        source: Box::new(source),
    })
}

fn from_millis(column: &'static str, millis: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|source| StoreError::Corrupt {
        column,
        source: Box::new(source),
    })
}

/// When something is due, in whole milliseconds: never before its time, at which nothing could be done
/// about it yet.
fn due_millis(at: Timestamp) -> i64 {
    let millis = at.as_millisecond();
    let is_whole = Timestamp::from_millisecond(millis).is_ok_and(|whole| whole >= at);
    if is_whole {
        millis
    } else {
        millis.saturating_add(1)
    }
}

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T> {
    Ok(row.get(index)?)
}

#[cfg(test)]
mod tests;
