//! The account's session: the same device over restarts, and what is said when it cannot be.

use std::time::Duration;

use roomlift::config::{Account, Credentials, Secret};
use roomlift::homeserver::Homeserver as _;
use roomlift::matrix::{self, MatrixError};
use roomlift_testbed::{Proxy, Synapse, SynapseOptions, eventually};
use tokio_util::sync::CancellationToken;

use super::{account, connect, port};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_the_same_device() {
    let synapse = Synapse::shared().await;
    let bot = synapse.register("bot").await;
    let dir = tempfile::tempdir().unwrap();
    let account = account(&synapse.base_url(), &bot);
    let first = connect(&account, &dir).await.unwrap();
    let device = first.device().to_owned();
    drop(first);
    let again = connect(&account, &dir).await.unwrap();
    assert_eq!(again.device(), device);
    drop(again);

    // Logged out from elsewhere: that device is gone with its keys, so there is a new one.
    let file = dir.path().join("data/session.json");
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let http = reqwest::Client::new();
    let out = http
        .post(format!("{}/_matrix/client/v3/logout", synapse.base_url()))
        .bearer_auth(saved["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert!(out.status().is_success());
    let by_token = Account {
        credentials: Credentials::AccessToken(Secret::new(
            saved["access_token"].as_str().unwrap().to_owned(),
        )),
        ..account.clone()
    };
    let error = connect(&by_token, &dir).await.unwrap_err();
    assert!(matches!(error, MatrixError::TokenRevoked { .. }), "{error}");
    let again = connect(&account, &dir).await.unwrap();
    assert_ne!(again.device(), device);
    assert!(dir.path().join("data/matrix.gone").is_dir());
    port(&again).joined_rooms().await.unwrap();
    drop(again);
    let again = connect(&account, &dir).await.unwrap();
    port(&again).joined_rooms().await.unwrap();
    drop(again);

    // Wrong password, foreign and damaged files.
    let wrong = Account {
        credentials: Credentials::Password(Secret::new("nonsense".to_owned())),
        ..account.clone()
    };
    let empty = tempfile::tempdir().unwrap();
    let error = connect(&wrong, &empty).await.unwrap_err();
    assert!(error.to_string().contains("account.password"), "{error}");
    let other = synapse.register("other").await;
    let foreign = Account {
        user_id: other.user_id.parse().unwrap(),
        ..account.clone()
    };
    let error = connect(&foreign, &dir).await.unwrap_err();
    assert!(
        matches!(error, MatrixError::ForeignSession { .. }),
        "{error}"
    );
    let before = std::fs::read(&file).unwrap();
    std::fs::write(&file, "{").unwrap();
    let error = connect(&account, &dir).await.unwrap_err();
    assert!(
        matches!(error, MatrixError::SessionDamaged { .. }),
        "{error}"
    );
    std::fs::write(&file, before).unwrap();

    // A token whose owner is somebody else; a fresh token of its own.
    let token = Account {
        credentials: Credentials::AccessToken(Secret::new(other.access_token.clone())),
        ..account.clone()
    };
    let error = connect(&token, &tempfile::tempdir().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, MatrixError::WrongAccount { .. }), "{error}");
    let token = Account {
        user_id: other.user_id.parse().unwrap(),
        ..token
    };
    let by_token = connect(&token, &tempfile::tempdir().unwrap())
        .await
        .unwrap();
    assert_eq!(by_token.device(), other.device_id);

    // The session file is lost, the store is not.
    std::fs::remove_file(&file).unwrap();
    let error = connect(&account, &dir).await.unwrap_err();
    assert!(matches!(error, MatrixError::SdkStore { .. }), "{error}");
    std::fs::remove_dir_all(dir.path().join("data/matrix")).unwrap();
    connect(&account, &dir).await.unwrap();
    // A damaged store. Put in place, not written into it: the SDK may still be closing a file that it has
    // in its memory, and would be killed for reading what is not there any more.
    let garbage = dir.path().join("garbage");
    for entry in std::fs::read_dir(dir.path().join("data/matrix")).unwrap() {
        std::fs::write(&garbage, "garbage garbage garbage").unwrap();
        std::fs::rename(&garbage, entry.unwrap().path()).unwrap();
    }
    let error = connect(&account, &dir).await.unwrap_err();
    assert!(matches!(error, MatrixError::SdkStore { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_waits_for_the_homeserver() {
    let synapse = Synapse::start(SynapseOptions::default()).await;
    let bot = synapse.register("bot").await;
    let proxy = Proxy::start(&synapse.base_url());
    let account = account(&proxy.base_url(), &bot);
    synapse.kill();
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let (answer, ()) = tokio::join!(matrix::connect(&account, dir.path(), &stop), async {
        eventually("a second try", Duration::from_secs(20), async || {
            (proxy.log().len() >= 2).then_some(())
        })
        .await;
        stop.cancel();
    });
    assert!(matches!(answer, Err(MatrixError::Stopped)));
    let stop = CancellationToken::new();
    let (answer, ()) = tokio::join!(
        matrix::connect(&account, dir.path(), &stop),
        synapse.start_again()
    );
    answer.unwrap();
}
