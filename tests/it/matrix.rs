//! The module `matrix` on a real Synapse: session, port, receiving and sending.
#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::items_after_statements,
    reason = "in a test, an unwrap is an assertion, and a scene is told from beginning to end"
)]

mod port;
mod receive;
mod send;
mod session;

use std::sync::Arc;
use std::time::Duration;

use roomlift::clock::{Clock, SystemClock};
use roomlift::config::{Account, Credentials, Secret};
use roomlift::homeserver::gate::Gate;
use roomlift::matrix::{self, ForUs, MatrixError, Port, Readiness, Receiver, Session};
use roomlift::model::Claim;
use roomlift::store::{Lane, Received, ReceivedKind, Store, Write};
use roomlift_testbed::User;
use ruma::OwnedRoomId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "correct horse battery staple";

fn account(base: &str, user: &User) -> Account {
    Account {
        homeserver: base.to_owned(),
        user_id: user.user_id.parse().unwrap(),
        credentials: Credentials::Password(Secret::new(PASSWORD.to_owned())),
        recovery_key: None,
        accept_invites_from: vec![],
    }
}

async fn connect(account: &Account, dir: &tempfile::TempDir) -> Result<Session, MatrixError> {
    matrix::connect(account, &dir.path().join("data"), &CancellationToken::new()).await
}

async fn signed_in(base: &str, user: &User, dir: &tempfile::TempDir) -> Session {
    connect(&account(base, user), dir).await.unwrap()
}

fn store_in(dir: &tempfile::TempDir) -> Arc<Store> {
    Arc::new(Store::open(&dir.path().join("s.db")).unwrap())
}

fn port(session: &Session) -> Port {
    Port::new(session, Arc::new(Gate::default()), Arc::new(SystemClock))
}

fn id(room: &str) -> OwnedRoomId {
    room.parse().unwrap()
}

fn concerns(body: &str) -> bool {
    body.starts_with("!upgrade")
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), MatrixError>>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn receive(session: &Session, store: &Arc<Store>, room: &str) -> Running {
    let (ready, mut is_ready) = watch::channel(Readiness::Starting);
    let stop = CancellationToken::new();
    let receiver = Receiver {
        source: Arc::new(session.clone()),
        store: Arc::clone(store),
        admin_rooms: Arc::new(vec![room.parse().unwrap()]),
        clock: Arc::new(SystemClock),
        max_age: Duration::from_hours(1),
        for_us: ForUs {
            body: concerns,
            addressed: |_, _, _, _| None,
            reaction: |_| true,
        },
        claim: Claim::TakeOver,
        ready,
    };
    let task = tokio::spawn(receiver.run(stop.clone()));
    is_ready
        .wait_for(|ready| *ready == Readiness::Ready)
        .await
        .unwrap();
    Running { stop, task }
}

fn drain(store: &Store) -> Vec<Received> {
    let mut all = Vec::new();
    let lanes = [Lane::Commands, Lane::Invitations];
    while let Some(next) = lanes
        .iter()
        .find_map(|lane| store.received(*lane, 1).unwrap().pop())
    {
        store
            .commit(SystemClock.now(), &[Write::Handled(next.event_id.clone())])
            .unwrap();
        all.push(next);
    }
    all
}

fn bodies(events: &[Received]) -> Vec<String> {
    events
        .iter()
        .map(|event| match &event.kind {
            ReceivedKind::Message { body, .. } => body.clone(),
            ReceivedKind::Reaction { key, .. } => key.clone(),
            ReceivedKind::Tombstone { .. } => format!("{} is closed", event.room_id),
            ReceivedKind::Invitation => format!("{} invites", event.sender),
            ReceivedKind::Edited => format!("{} was edited", event.event_id),
            ReceivedKind::Removed => format!("{} was removed", event.event_id),
            ReceivedKind::TakenBack { event, .. } => format!("{event} was taken back"),
            ReceivedKind::Unreadable { event } => format!("{event} cannot be read"),
        })
        .collect()
}
