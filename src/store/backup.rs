//! Copies of the database: made while the bot runs, put back while it does not, and one before each
//! migration.
//!
//! A copy is one consistent state, whatever is written meanwhile. Left out: the session and the
//! encryption keys, which are files of their own in the data folder.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, Result, SCHEMA_VERSION, StoreError};

/// What the copy before a migration is called, after the name of the database. The last one is kept.
const BEFORE_MIGRATION: &str = ".before-migration";

/// What a database is called, after its name, once another one was put in its place.
const BEFORE_RESTORE: &str = ".before-restore";

/// A copy in the making, after the name of the database.
const UNFINISHED: &str = ".new";

/// SQLite's log beside a database; it belongs to it, and follows it by its name.
const LOG: &str = "-wal";

/// SQLite's index into that log, which it makes anew.
const LOG_INDEX: &str = "-shm";

/// Copies are as private as the database: rooms, names and commands are in them.
#[cfg(unix)]
const MODE: u32 = 0o600;

/// Copies a database into a new file, also while the bot uses it.
///
/// # Errors
/// When there is no database of the bot, when the file exists, or when it cannot be written. Then
/// there is no file.
pub fn backup(database: &Path, to: &Path) -> Result<()> {
    let (db, _) = open(database)?;
    copy(&db, to)
}

/// Puts a copy in the place of the database, which is kept beside it under the name returned. The
/// bot must not be running.
///
/// # Errors
/// When the copy is damaged, no database of the bot, or of a newer version; then nothing is changed.
pub fn restore(from: &Path, database: &Path) -> Result<PathBuf> {
    let (db, version) = open(from)?;
    if version > SCHEMA_VERSION {
        return Err(StoreError::Newer {
            path: from.display().to_string(),
        });
    }
    let verdict: String = db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|source| StoreError::Sql {
            operation: "check the backup",
            source,
        })?;
    if verdict != "ok" {
        return Err(StoreError::Damaged {
            path: from.to_owned(),
            verdict,
        });
    }
    let new = beside(database, UNFINISHED);
    copy_over(&db, &new)?;
    let kept = beside(database, BEFORE_RESTORE);
    let moves = || -> io::Result<()> {
        // The log first: a database without its log is an older state of it, but a log without its
        // database would be taken for one of the next.
        move_away(&beside(database, LOG), &beside(&kept, LOG))?;
        move_away(&beside(database, LOG_INDEX), &beside(&kept, LOG_INDEX))?;
        move_away(database, &kept)?;
        std::fs::rename(&new, database)?;
        sync_folder(database)
    };
    moves().map_err(|source| StoreError::Copy {
        path: database.to_owned(),
        source,
    })?;
    Ok(kept)
}

/// Copies a database that is about to be migrated, over the copy of the migration before.
pub(super) fn before_migration(db: &Connection, database: &Path) -> Result<()> {
    let new = beside(database, UNFINISHED);
    copy_over(db, &new)?;
    let kept = beside(database, BEFORE_MIGRATION);
    std::fs::rename(&new, &kept)
        .and_then(|()| sync_folder(&kept))
        .map_err(|source| StoreError::Copy { path: kept, source })
}

/// A database of the bot, as it is, with its schema version.
fn open(path: &Path) -> Result<(Connection, usize)> {
    let failed = |source| StoreError::Open {
        path: path.display().to_string(),
        source,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let version = version(&db).map_err(failed)?;
    let instances = db.query_row("SELECT count(*) FROM instance", [], |row| {
        row.get::<_, i64>(0)
    });
    if version == 0 || instances.is_err() {
        return Err(StoreError::NotOurs {
            path: path.to_owned(),
        });
    }
    Ok((db, version))
}

/// The schema version that a database says it has.
pub(super) fn version(db: &Connection) -> rusqlite::Result<usize> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn copy_over(db: &Connection, to: &Path) -> Result<()> {
    match std::fs::remove_file(to) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Copy {
            path: to.to_owned(),
            source,
        }),
        _ => copy(db, to),
    }
}

/// Copies into a file that is not there yet.
fn copy(db: &Connection, to: &Path) -> Result<()> {
    let failed = |source| StoreError::Copy {
        path: to.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, MODE);
    // SQLite writes into a file that is there if it is empty, and leaves its mode as it is.
    let file = options.open(to).map_err(failed)?;
    let copied = db
        .execute("VACUUM INTO ?1", [to.display().to_string()])
        .map_err(|source| StoreError::Sql {
            operation: "copy the database",
            source,
        })
        .and_then(|_| file.sync_all().map_err(failed))
        .and_then(|()| sync_folder(to).map_err(failed));
    if copied.is_err() {
        // Half a copy is worse than none.
        let _ = std::fs::remove_file(to);
    }
    copied
}

/// A name is on the disk only once its folder is.
fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn move_away(from: &Path, to: &Path) -> io::Result<()> {
    let moved = std::fs::rename(from, to);
    match moved {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Nothing of an earlier one may stay in its place: names tie a log to its database.
            match std::fs::remove_file(to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        }
        moved => moved,
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
