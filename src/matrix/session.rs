//! The account's session: logging in once, staying the same device across restarts.
//!
//! The session file is written before the SDK's store is opened for its device, so that a kill in
//! between leaves a file that the next start continues with. Left out: sync, and refresh tokens (none
//! is ever asked for).

mod file;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use matrix_sdk::authentication::matrix::MatrixSession;
use matrix_sdk::encryption::{BackupDownloadStrategy, EncryptionSettings};
use matrix_sdk::store::RoomLoadSettings;
use matrix_sdk::{Client, ClientBuilder, HttpError, SessionMeta, SessionTokens};
use ruma::api::client::session::login;
use ruma::api::error::ErrorKind;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::file::{SESSION_FILE, Saved, read, set_aside, write};
use super::MatrixError;
use super::syncs::Syncs;
use super::wire::{SharedClient, failed, once, requests};
use crate::clock::{Clock, SystemClock};
use crate::config::{Account, Credentials, Secret};
use crate::homeserver::{Bucket, HomeserverError, REQUEST_TIMEOUT};
use crate::telemetry::chain;

/// How the SDK is to deal with encryption. What it would set up by itself is done here, where it can
/// fail with a word.
const ENCRYPTION_SETTINGS: EncryptionSettings = EncryptionSettings {
    auto_enable_cross_signing: false,
    backup_download_strategy: BackupDownloadStrategy::AfterDecryptionFailure,
    auto_enable_backups: false,
};

/// Folder of the SDK's store, in the data folder.
const SDK_STORE: &str = "matrix";

/// What the session is called in the account's list of devices.
const DEVICE_NAME: &str = "Roomlift";

/// First wait for a homeserver that cannot be reached; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest wait for a homeserver that cannot be reached.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// How often it is logged that the homeserver cannot be reached.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Longest wait for the SDK's own requests; a sync may take that long on top of being held.
const SDK_REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// A session of the account, ready to be used. Clones share everything.
#[derive(Clone, Debug)]
pub struct Session {
    client: SharedClient,
    user: OwnedUserId,
    device: OwnedDeviceId,
    credentials: Credentials,
    recovery_key: Option<Secret>,
    syncs: Arc<Syncs>,
}

impl Session {
    /// The bot's own account.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The device of this session.
    #[must_use]
    pub fn device(&self) -> &str {
        self.device.as_str()
    }

    pub(super) fn client(&self) -> &SharedClient {
        &self.client
    }

    pub(super) fn syncs(&self) -> &Arc<Syncs> {
        &self.syncs
    }

    /// The password, where that is how the account logs in.
    pub(super) fn password(&self) -> Option<&Secret> {
        match &self.credentials {
            Credentials::Password(password) => Some(password),
            Credentials::AccessToken(_) => None,
        }
    }

    /// What opens the account's secret storage.
    pub(super) fn recovery_key(&self) -> Option<&Secret> {
        self.recovery_key.as_ref()
    }
}

/// Goes on with the session in `data_dir`, or logs in. Waits for a homeserver that cannot be
/// reached, until `stop`.
///
/// # Errors
/// When the account is not let in, or the files in `data_dir` do not fit it; each says what to do.
/// [`MatrixError::Stopped`] after `stop`.
pub async fn connect(
    account: &Account,
    data_dir: &Path,
    stop: &CancellationToken,
) -> Result<Session, MatrixError> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir);
    made.map_err(|source| MatrixError::DataDir {
        path: data_dir.to_owned(),
        source,
    })?;
    let file = data_dir.join(SESSION_FILE);
    let sdk_store = data_dir.join(SDK_STORE);
    // Asks before there is a session: with a store of its own, in memory.
    let asking = Asking {
        client: build(account, client(account)).await?,
        account,
        stop,
    };
    let saved = if let Some(saved) = read(&file, account)? {
        asking.verified(saved, &file, &sdk_store).await?
    } else {
        let saved = match &account.credentials {
            Credentials::Password(_) => asking.log_in(None).await?,
            Credentials::AccessToken(token) => asking.adopt(token.expose()).await?,
        };
        write(&file, &saved)?;
        saved
    };
    restore(account, saved, sdk_store).await
}

/// Begins a session with the configured login, whether or not there is one in `data_dir`; if there
/// is, as the same device. Waits for a homeserver that cannot be reached, until `stop`.
pub(super) async fn begin(
    account: &Account,
    data_dir: &Path,
    stop: &CancellationToken,
) -> Result<Session, MatrixError> {
    let file = data_dir.join(SESSION_FILE);
    let asking = Asking {
        client: build(account, client(account)).await?,
        account,
        stop,
    };
    let known = read(&file, account)?.map(|saved| saved.device_id);
    let saved = match &account.credentials {
        Credentials::Password(_) => asking.log_in(known).await?,
        Credentials::AccessToken(token) => asking.adopt(token.expose()).await?,
    };
    write(&file, &saved)?;
    restore(account, saved, data_dir.join(SDK_STORE)).await
}

fn client(account: &Account) -> ClientBuilder {
    Client::builder()
        .homeserver_url(&account.homeserver)
        // The configured address counts, also where the server advertises another one.
        .respect_login_well_known(false)
        .request_config(once(SDK_REQUEST_TIMEOUT))
}

async fn build(account: &Account, builder: ClientBuilder) -> Result<Client, MatrixError> {
    builder.build().await.map_err(|source| MatrixError::Client {
        homeserver: account.homeserver.clone(),
        source: source.into(),
    })
}

async fn restore(
    account: &Account,
    saved: Saved,
    sdk_store: PathBuf,
) -> Result<Session, MatrixError> {
    let unusable = |source: super::Source| {
        let path = sdk_store.clone();
        if is_damage(&chain(&*source)) {
            MatrixError::SdkStore { path, source }
        } else {
            MatrixError::SdkStoreUnusable { path, source }
        }
    };
    let client = client(account)
        .sqlite_store(&sdk_store, None)
        .with_encryption_settings(ENCRYPTION_SETTINGS)
        .build()
        .await;
    let client = client.map_err(|source| match source {
        source @ matrix_sdk::ClientBuildError::SqliteStore(_) => unusable(source.into()),
        source => MatrixError::Client {
            homeserver: account.homeserver.clone(),
            source: source.into(),
        },
    })?;
    let session = MatrixSession {
        meta: SessionMeta {
            user_id: saved.user_id.clone(),
            device_id: saved.device_id.clone(),
        },
        tokens: SessionTokens {
            access_token: saved.access_token,
            refresh_token: None,
        },
    };
    client
        .matrix_auth()
        .restore_session(session, RoomLoadSettings::default())
        .await
        .map_err(|source| unusable(source.into()))?;
    Ok(Session {
        client: SharedClient::new(client),
        user: saved.user_id,
        device: saved.device_id,
        credentials: account.credentials.clone(),
        recovery_key: account.recovery_key.clone(),
        syncs: Arc::default(),
    })
}

/// Whether the failure of the SDK's store, in its own words, is certain to be damage, or the store of somebody
/// else. The advice for that destroys keys, so that in doubt it is not given.
/// Source: SQLite, `sqlite3_errstr` of `SQLITE_CORRUPT` and `SQLITE_NOTADB`; matrix-sdk-crypto,
/// `CryptoStoreError::MismatchedAccount`.
fn is_damage(words: &str) -> bool {
    [
        "malformed",
        "not a database",
        "account in the store doesn't match",
        "decrypt",
    ]
    .iter()
    .any(|sign| words.contains(sign))
}

/// A refusal, and what it means for the device.
type Refusal = (HomeserverError, Fate);

/// What became of a device whose token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is there, and a login goes on with it (soft logout).
    Kept,
    /// The server has deleted it with its keys.
    Gone,
}

impl Fate {
    fn of(error: &HttpError) -> Self {
        match error.client_api_error_kind() {
            Some(ErrorKind::UnknownToken(token)) if token.soft_logout => Self::Kept,
            _ => Self::Gone,
        }
    }
}

/// Asks the homeserver who the account is, before there is a session.
struct Asking<'a> {
    client: Client,
    account: &'a Account,
    stop: &'a CancellationToken,
}

impl Asking<'_> {
    /// The saved session if it is still good, or a new one: of the same device where the server still
    /// knows that. A device that was logged out is gone with its keys, and the same name with other
    /// keys would be trusted by nobody.
    async fn verified(
        &self,
        saved: Saved,
        file: &Path,
        sdk_store: &Path,
    ) -> Result<Saved, MatrixError> {
        let refusal = match self.who_am_i(&saved.access_token).await? {
            Ok((user, _)) => {
                self.expect_account(user)?;
                return Ok(saved);
            }
            Err(refusal) => refusal,
        };
        let (refusal, fate) = refusal;
        let renewed = match &self.account.credentials {
            Credentials::Password(_) if fate == Fate::Gone => {
                set_aside(sdk_store)?;
                tracing::warn!(
                    device = %saved.device_id,
                    "the device was logged out; going on as a new one, without the old one's keys"
                );
                self.log_in(None).await?
            }
            Credentials::Password(_) => self.log_in(Some(saved.device_id)).await?,
            Credentials::AccessToken(token) if token.expose() == saved.access_token => {
                let user = self.account.user_id.clone();
                return Err(MatrixError::TokenRevoked {
                    user,
                    source: refusal,
                });
            }
            Credentials::AccessToken(token) => {
                let renewed = self.adopt(token.expose()).await?;
                if renewed.device_id != saved.device_id {
                    return Err(MatrixError::WrongDevice {
                        path: sdk_store.to_owned(),
                        found: renewed.device_id.to_string(),
                        expected: saved.device_id.to_string(),
                    });
                }
                renewed
            }
        };
        tracing::warn!(user = %renewed.user_id, "the old session had ended; went on with a new token");
        write(file, &renewed)?;
        Ok(renewed)
    }

    /// A session by the configured password.
    async fn log_in(&self, device: Option<OwnedDeviceId>) -> Result<Saved, MatrixError> {
        let user = &self.account.user_id;
        let Credentials::Password(password) = &self.account.credentials else {
            return Err(MatrixError::NoDevice { user: user.clone() });
        };
        let request = || {
            let info = login::v3::Password::new(user.into(), password.expose().to_owned());
            let mut request = login::v3::Request::new(login::v3::LoginInfo::Password(info));
            request.device_id.clone_from(&device);
            request.initial_device_display_name = Some(DEVICE_NAME.to_owned());
            request
        };
        let answer = self
            .until_reached("log in", async || {
                self.client
                    .send(request())
                    .with_request_config(once(REQUEST_TIMEOUT))
                    .await
            })
            .await?;
        let answer = answer.map_err(|(source, _)| match &source {
            HomeserverError::Refused { code, .. } if code == "M_FORBIDDEN" => {
                MatrixError::WrongPassword {
                    user: user.clone(),
                    source,
                }
            }
            _ => MatrixError::LoginRefused {
                user: user.clone(),
                source,
            },
        })?;
        self.expect_account(answer.user_id.clone())?;
        Ok(Saved {
            user_id: answer.user_id,
            device_id: answer.device_id,
            access_token: answer.access_token,
            homeserver: self.account.homeserver.clone(),
        })
    }

    /// The session that a configured token belongs to.
    async fn adopt(&self, token: &str) -> Result<Saved, MatrixError> {
        let expected = &self.account.user_id;
        let (user_id, device_id) =
            self.who_am_i(token)
                .await?
                .map_err(|(source, _)| MatrixError::TokenRevoked {
                    user: expected.clone(),
                    source,
                })?;
        self.expect_account(user_id.clone())?;
        Ok(Saved {
            user_id,
            device_id: device_id.ok_or(MatrixError::NoDevice {
                user: expected.clone(),
            })?,
            access_token: token.to_owned(),
            homeserver: self.account.homeserver.clone(),
        })
    }

    /// Whose token this is. The inner error says that it is no good any more.
    async fn who_am_i(
        &self,
        token: &str,
    ) -> Result<Result<(OwnedUserId, Option<OwnedDeviceId>), Refusal>, MatrixError> {
        let answer = self
            .until_reached("ask whose session this is", async || {
                let request = self.client.send(requests::whoami(token));
                request.with_request_config(once(REQUEST_TIMEOUT)).await
            })
            .await?;
        match answer {
            Ok(answer) => Ok(Ok((answer.user_id, answer.device_id))),
            Err(refusal) if refusal.0.is_unknown_token() => Ok(Err(refusal)),
            Err((source, _)) => Err(MatrixError::LoginRefused {
                user: self.account.user_id.clone(),
                source,
            }),
        }
    }

    fn expect_account(&self, found: OwnedUserId) -> Result<(), MatrixError> {
        let expected = &self.account.user_id;
        if found == *expected {
            return Ok(());
        }
        Err(MatrixError::WrongAccount {
            found,
            expected: expected.clone(),
        })
    }

    /// Asks until there is an answer: an acceptance or a refusal.
    async fn until_reached<T>(
        &self,
        what: &str,
        ask: impl AsyncFn() -> Result<T, HttpError>,
    ) -> Result<Result<T, Refusal>, MatrixError> {
        let mut wait = RETRY_FIRST;
        let mut logged: Option<Instant> = None;
        loop {
            let answer = tokio::select! {
                () = self.stop.cancelled() => return Err(MatrixError::Stopped),
                answer = ask() => answer,
            };
            let (error, fate) = match answer {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) => {
                    let fate = Fate::of(&error);
                    let (what, now) = (what.to_owned(), SystemClock.now());
                    (failed(what, Bucket::Everything, now, error), fate)
                }
            };
            let pause = match &error {
                HomeserverError::RateLimited { limit, .. } => wait.max(limit.retry_after),
                // An address that answers with something else than Matrix is a refusal, too.
                HomeserverError::Uncertain {
                    status: Some(..500),
                    ..
                } => return Ok(Err((error, fate))),
                error if error.is_transient() => wait,
                _ => return Ok(Err((error, fate))),
            };
            if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
                logged = Some(Instant::now());
                tracing::warn!(
                    homeserver = self.account.homeserver,
                    error = &error as &dyn std::error::Error,
                    "cannot reach the homeserver; trying on",
                );
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(MatrixError::Stopped),
                () = tokio::time::sleep(pause) => {}
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }
}

#[cfg(test)]
mod tests;
