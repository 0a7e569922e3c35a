//! What a first start asks of a homeserver: whether there is one, and whether the login is right.
//!
//! Unlike on every other start, a homeserver that does not answer is an error: somebody is there to
//! correct its address. Left out: asking people (`init`).

use std::path::Path;
use std::time::Duration;

use matrix_sdk::Client;
use tokio_util::sync::CancellationToken;

use super::MatrixError;
use super::session::{self, Session};
use super::wire::once;
use crate::config::Account;

/// Longest wait for one answer of a homeserver that may be none.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait for a session. A homeserver that asks for a pause is given it.
const SIGN_IN_MAX: Duration = Duration::from_mins(2);

/// The address of the client API: what was typed if it is an address, or what the server of that
/// name says it is. Either way it has answered.
///
/// # Errors
/// When no homeserver answers there.
pub async fn discover(typed: &str) -> Result<String, MatrixError> {
    let failed = |source: super::Source| MatrixError::NoHomeserver {
        typed: typed.to_owned(),
        source,
    };
    let builder = Client::builder()
        .request_config(once(DISCOVERY_TIMEOUT))
        .respect_login_well_known(false);
    let builder = if typed.contains("://") {
        // The address that somebody typed counts, also where the server advertises another one.
        builder.homeserver_url(typed)
    } else {
        builder.server_name_or_homeserver_url(typed)
    };
    let client = builder
        .build()
        .await
        .map_err(|error| failed(error.into()))?;
    let asked = client.fetch_server_versions(Some(once(DISCOVERY_TIMEOUT)));
    asked.await.map_err(|error| failed(error.into()))?;
    let address = client.homeserver();
    Ok(address.as_str().trim_end_matches('/').to_owned())
}

/// Logs in, on the device of the session in `data_dir` if there is one, and keeps the session there
/// for the bot to go on with.
///
/// # Errors
/// When the account is not let in, or the files in `data_dir` do not fit it; each says what to do.
pub async fn sign_in(account: &Account, data_dir: &Path) -> Result<Session, MatrixError> {
    let stop = CancellationToken::new();
    let signed_in = session::begin(account, data_dir, &stop);
    let Ok(session) = tokio::time::timeout(SIGN_IN_MAX, signed_in).await else {
        return Err(MatrixError::Stopped);
    };
    session
}
