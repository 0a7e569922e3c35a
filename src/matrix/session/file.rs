//! The session file, and setting the SDK's store aside.

use std::io::{self, Write as _};
use std::path::Path;

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::super::MatrixError;
use crate::config::Account;

/// The session file, in the data folder.
pub(super) const SESSION_FILE: &str = "session.json";

/// Only the owner reads the session file: it holds the access token.
#[cfg(unix)]
const SESSION_FILE_MODE: u32 = 0o600;

/// What the session file holds. No `Debug`: the token is a secret.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) user_id: OwnedUserId,
    pub(super) device_id: OwnedDeviceId,
    pub(super) access_token: String,
    pub(super) homeserver: String,
}

/// Moves the SDK's store of a device that is gone out of the way, for the operator to delete.
pub(super) fn set_aside(sdk_store: &Path) -> Result<(), MatrixError> {
    let failed = |source| MatrixError::DataDir {
        path: sdk_store.to_owned(),
        source,
    };
    let aside = sdk_store.with_extension("gone");
    match std::fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    match std::fs::rename(sdk_store, &aside) {
        // A start that was killed here did it already.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

pub(super) fn read(file: &Path, account: &Account) -> Result<Option<Saved>, MatrixError> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(MatrixError::SessionFile {
                path: file.to_owned(),
                source,
            });
        }
    };
    let saved: Saved =
        serde_json::from_slice(&text).map_err(|source| MatrixError::SessionDamaged {
            path: file.to_owned(),
            source,
        })?;
    if saved.user_id != account.user_id {
        return Err(MatrixError::ForeignSession {
            path: file.to_owned(),
            found: saved.user_id,
            expected: account.user_id.clone(),
        });
    }
    Ok(Some(saved))
}

/// Writes beside the file and renames: a kill leaves the old session or the new one.
pub(super) fn write(file: &Path, saved: &Saved) -> Result<(), MatrixError> {
    let replace = || -> io::Result<()> {
        let beside = file.with_extension("json.new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, SESSION_FILE_MODE);
        // One of a start that was killed here would keep its own mode.
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut new = options.open(&beside)?;
        new.write_all(&serde_json::to_vec_pretty(saved)?)?;
        new.sync_all()?;
        std::fs::rename(&beside, file)?;
        #[cfg(unix)]
        if let Some(folder) = file.parent() {
            std::fs::File::open(folder)?.sync_all()?;
        }
        Ok(())
    };
    replace().map_err(|source| MatrixError::SessionFile {
        path: file.to_owned(),
        source,
    })
}
