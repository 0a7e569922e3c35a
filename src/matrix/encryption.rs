//! The account's own encryption: its identity (cross-signing), the backup of its keys, and the
//! secrets that it keeps on the server to get both back.
//!
//! Runs once the first sync has shown this device to the server, since only a known device can be
//! signed. Nothing is ever reset: an identity that somebody else made, and whose secrets are not to
//! be had, is left alone and told of. Left out: verifying other people.

use matrix_sdk::encryption::Encryption;
use matrix_sdk::encryption::recovery::{RecoveryError, RecoveryState};
use matrix_sdk::encryption::secret_storage::SecretStorageError;
use ruma::api::client::uiaa;

use super::MatrixError;
use super::session::Session;
use crate::config::Secret;

/// Sees to it that this device is signed by its account, and that keys are backed up where there is
/// a recovery key. What is done already is left as it is.
///
/// # Errors
/// [`MatrixError::RecoveryKey`] if that key opens nothing: somebody has to correct it.
/// [`MatrixError::Encryption`] for what may work another time.
pub(super) async fn set_up(session: &Session) -> Result<(), MatrixError> {
    let encryption = session.client().encryption();
    encryption.wait_for_e2ee_initialization_tasks().await;
    let storage = encryption.secret_storage().is_enabled().await;
    let has_storage = storage.map_err(|source| later(source.into()))?;
    if let Some(key) = session.recovery_key().filter(|_| has_storage) {
        recover(session, &encryption, key).await?;
    }
    sign(session, &encryption).await?;
    if let Some(key) = session.recovery_key().filter(|_| !has_storage) {
        keep_secrets(session, &encryption, key).await?;
    }
    Ok(())
}

/// Fetches the identity and the backup's key from the account's secret storage.
async fn recover(
    session: &Session,
    encryption: &Encryption,
    key: &Secret,
) -> Result<(), MatrixError> {
    let recovery = encryption.recovery();
    if recovery.state() == RecoveryState::Enabled {
        return Ok(());
    }
    match recovery.recover(key.expose()).await {
        Ok(()) => {
            tracing::info!("the secrets of the account were restored");
            Ok(())
        }
        Err(RecoveryError::SecretStorage(
            source @ (SecretStorageError::SecretStorageKey(_)
            | SecretStorageError::Decryption(_)
            | SecretStorageError::MissingKeyInfo { .. }),
        )) => Err(MatrixError::RecoveryKey {
            user: session.user().to_owned(),
            source: source.into(),
        }),
        Err(RecoveryError::SecretStorage(source @ SecretStorageError::Sdk(_))) => {
            Err(later(source.into()))
        }
        Err(RecoveryError::Sdk(source)) => Err(later(source.into())),
        // What is in the storage does not fit: nothing that trying again mends, or that stops us.
        Err(source) => {
            let error = &source as &dyn std::error::Error;
            tracing::error!(
                error,
                "the account's secret storage is damaged; repair it with another client"
            );
            Ok(())
        }
    }
}

/// Makes the account's identity if it has none, and signs this device with it.
async fn sign(session: &Session, encryption: &Encryption) -> Result<(), MatrixError> {
    if let Err(error) = encryption.bootstrap_cross_signing_if_needed(None).await {
        let Some(asked) = error.as_uiaa_response() else {
            return Err(later(error.into()));
        };
        // Some servers want the password even for an account that has no identity yet.
        let Some(password) = session.password() else {
            tracing::warn!(
                "the server wants the account's password to make its cross-signing identity; start \
                 once with `account.password`, or make the identity with another client and set \
                 `account.recovery_key_file`"
            );
            return Ok(());
        };
        let user = uiaa::UserIdentifier::Matrix(uiaa::MatrixUserIdentifier::new(
            session.user().to_string(),
        ));
        let mut proof = uiaa::Password::new(user, password.expose().to_owned());
        proof.session.clone_from(&asked.session);
        encryption
            .bootstrap_cross_signing(Some(uiaa::AuthData::Password(proof)))
            .await
            .map_err(|source| later(source.into()))?;
    }
    // Asks the server, so that signatures of a moment ago, or of a run that was killed, are known.
    let identity = encryption.request_user_identity(session.user()).await;
    identity.map_err(|source| later(source.into()))?;
    let device = encryption.get_own_device().await;
    let Some(device) = device.map_err(|source| later(source.into()))? else {
        return Ok(());
    };
    if device.is_cross_signed_by_owner() {
        return Ok(());
    }
    let keys = encryption.cross_signing_status().await;
    if !keys.is_some_and(|keys| keys.has_self_signing) {
        tracing::warn!(
            "the account has a cross-signing identity that this device does not have the keys of, \
             so people see it as not verified; set `account.recovery_key_file`"
        );
        return Ok(());
    }
    device
        .verify()
        .await
        .map_err(|source| later(source.into()))?;
    tracing::info!("this device is signed by its account now");
    Ok(())
}

/// Makes a secret storage that the key opens, with the identity and the key of a new backup in it.
async fn keep_secrets(
    session: &Session,
    encryption: &Encryption,
    key: &Secret,
) -> Result<(), MatrixError> {
    let recovery = encryption.recovery();
    match recovery.enable().with_passphrase(key.expose()).await {
        // Its own recovery key is not kept: the one in the file opens the storage as well.
        Ok(_) => {
            tracing::info!(user = %session.user(), "a secret storage and a key backup were made");
            Ok(())
        }
        Err(RecoveryError::BackupExistsOnServer) => {
            tracing::warn!(
                "the account has a key backup, but no secret storage with its key; set both up \
                 with another client"
            );
            Ok(())
        }
        Err(source) => Err(later(source.into())),
    }
}

fn later(source: super::Source) -> MatrixError {
    MatrixError::Encryption(source)
}
