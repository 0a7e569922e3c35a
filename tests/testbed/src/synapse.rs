//! A real Synapse on the loopback interface, with a directory and a database of its own.
//!
//! The first use installs Synapse into the target directory. A server is dead and its directory
//! gone once its [`Synapse`] is dropped or the test process has ended, whatever ended it.
//!
//! Servers federate with each other where [`SynapseOptions::federated`] says so. Leaves out workers
//! and Postgres.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use self::config::{CONFIG_FILE, DATABASE_FILE, LOG_FILE, Ports};
use crate::eventually::eventually_blocking;
use crate::process::{Guarded, Launch, tail};
use crate::user::User;
use crate::venv;

mod config;

/// How long a server may take until it answers.
pub const START_DEADLINE: Duration = Duration::from_mins(1);

/// How long the question whether the server answers may wait for the answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a start is tried anew, on another port, when another process took the port.
const PORT_ATTEMPTS: usize = 5;

/// The ports servers get. Below those the system gives to outgoing connections, so that a server
/// that is down finds its port free when it comes back.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many lines of its logs a panic about the server shows.
const LOG_TAIL_LINES: usize = 40;

/// How many servers [`Synapse::shared`] shares out.
const SHARED: usize = 2;

/// The password of every user registered here.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// What Synapse prints, which is next to nothing unless it fails early.
const OUTPUT_FILE: &str = "output.log";
/// How a server differs from the default one.
#[derive(Debug, Clone, Default)]
pub struct SynapseOptions {
    /// Top-level keys of `homeserver.yaml` to replace.
    pub overrides: Vec<(String, Value)>,
    /// Whether other servers reach this one.
    pub reach: Reach,
    /// What it takes of its clients.
    pub trust: Trust,
}

/// What a server takes of its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// What today's Synapse takes.
    #[default]
    Usual,
    /// See [`SynapseOptions::trusting`].
    Everything,
}

/// Who reaches a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reach {
    /// Its clients only.
    #[default]
    Clients,
    /// Other servers too, over TLS on a port of its own, with a certificate nobody vouches for.
    Servers,
}

impl SynapseOptions {
    /// With the other servers of this machine reaching it, and it them.
    #[must_use]
    pub fn federated(mut self) -> Self {
        self.reach = Reach::Servers;
        self
    }

    /// With that top-level key replaced.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.overrides.push((key.into(), value));
        self
    }

    /// Takes power levels that are no numbers, and addresses that do not lead to the room that shows
    /// them. Such rooms exist, made by older servers and by others; today's Synapse refuses both to
    /// its own clients.
    #[must_use]
    pub fn trusting(mut self) -> Self {
        self.trust = Trust::Everything;
        self
    }

    /// With a limit on that `rc_*` key, of the plain kind.
    #[must_use]
    pub fn with_limit(self, key: &str, per_second: f64, burst: u32) -> Self {
        self.with(
            key,
            json!({ "per_second": per_second, "burst_count": burst }),
        )
    }
}

/// A running server.
#[derive(Debug)]
pub struct Synapse {
    /// Dropped first: the server ends before its directory goes.
    process: Mutex<Guarded>,
    dir: TempDir,
    python: PathBuf,
    ports: Ports,
}

impl Synapse {
    /// Starts a server and waits until it answers.
    pub async fn start(options: SynapseOptions) -> Self {
        blocking(move || Self::start_blocking(&options)).await
    }

    /// Starts a server that federates, see [`SynapseOptions::federated`].
    pub async fn start_federated() -> Self {
        Self::start(SynapseOptions::default().federated()).await
    }

    /// A server that the tests of this process share, started by the first that asks. There are
    /// [`SHARED`], as each of them is busy on one core only; a thread, and so a test, gets the same one
    /// whenever it asks.
    pub async fn shared() -> &'static Self {
        static SERVERS: [OnceLock<Synapse>; SHARED] = [const { OnceLock::new() }; SHARED];
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARED;
        }
        let server = &SERVERS[MINE.with(|mine| *mine)];
        blocking(|| server.get_or_init(|| Self::start_blocking(&SynapseOptions::default()))).await
    }

    /// The one server for tests of rooms that today's clients cannot make, see
    /// [`SynapseOptions::trusting`].
    pub async fn shared_trusting() -> &'static Self {
        static SERVER: OnceLock<Synapse> = OnceLock::new();
        let options = || SynapseOptions::default().trusting();
        blocking(move || SERVER.get_or_init(|| Self::start_blocking(&options()))).await
    }

    /// [`Synapse::start`] for code outside a runtime.
    #[must_use]
    pub fn start_blocking(options: &SynapseOptions) -> Self {
        let python = venv::python();
        for _ in 0..PORT_ATTEMPTS {
            let dir = tempfile::Builder::new()
                .prefix("roomlift-synapse-")
                .tempdir()
                .expect("create the server's directory");
            let ports = Ports {
                client: free_port(),
                federation: (options.reach == Reach::Servers).then(free_port),
            };
            config::write(dir.path(), ports, options, &python);
            let process = Mutex::new(launch(&python, &dir));
            let synapse = Self {
                process,
                dir,
                python: python.clone(),
                ports,
            };
            match synapse.until_it_answers() {
                Ok(()) => return synapse,
                Err(why) if why.contains("CannotListenError") => {}
                Err(why) => panic!("{why}"),
            }
        }
        panic!("Synapse found its port taken {PORT_ATTEMPTS} times in a row");
    }

    /// The address clients use, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.client)
    }

    /// The part of ids after the colon.
    #[must_use]
    pub fn server_name(&self) -> String {
        self.ports.server_name()
    }

    /// The server's database, for what no client can do. Only while the server is down.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.dir.path().join(DATABASE_FILE)
    }

    /// The end of what the server logged and printed.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let part = |file| tail(&self.dir.path().join(file), LOG_TAIL_LINES);
        format!("{}\n{}", part(LOG_FILE), part(OUTPUT_FILE))
    }

    /// SIGKILL; returns once the server is gone. Its data stay.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Whether the server was killed, or ended by itself.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.process().ended().is_some()
    }

    /// Starts the server again, on the same port and with the same data, and waits until it
    /// answers.
    pub async fn start_again(&self) {
        let (python, port) = (&self.python, self.ports.client);
        {
            let mut process = self.process();
            assert!(
                process.ended().is_some(),
                "the server on port {port} still runs"
            );
            *process = launch(python, &self.dir);
        }
        let start = async || match self.probe_once().await {
            Probe::Answers => Some(Ok(())),
            Probe::Ended => Some(Err(())),
            Probe::NotYet => None,
        };
        let what = "Synapse to answer again";
        if crate::eventually(what, START_DEADLINE, start)
            .await
            .is_err()
        {
            panic!(
                "Synapse did not come back; its log ends\n{}",
                self.log_tail()
            );
        }
    }

    /// [`Synapse::kill`], then [`Synapse::start_again`].
    pub async fn restart(&self) {
        self.kill();
        self.start_again().await;
    }

    /// Registers a user whose name begins with `localpart`, and is new.
    pub async fn register(&self, localpart: &str) -> User {
        self.register_exact(&unique(localpart)).await
    }

    /// Registers a user of exactly that name.
    pub async fn register_exact(&self, localpart: &str) -> User {
        User::register(&self.base_url(), localpart, PASSWORD).await
    }

    /// Registers a server administrator whose name begins with `localpart`, and is new.
    pub async fn register_admin(&self, localpart: &str) -> User {
        let name = unique(localpart);
        let mut command = Command::new(&self.python);
        command
            .args(["-m", "synapse._scripts.register_new_matrix_user", "--admin"])
            .args(["--user", &name, "--password", PASSWORD, "--config"])
            .arg(self.dir.path().join(CONFIG_FILE))
            .arg(self.base_url());
        let output = blocking(move || command.output().expect("run Synapse's script")).await;
        assert!(
            output.status.success(),
            "cannot register the administrator {name}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        User::login(&self.base_url(), &name, PASSWORD).await
    }

    /// Waits for the server's first answer; says why where there is none.
    fn until_it_answers(&self) -> Result<(), String> {
        let probe = || {
            if probe(self.ports.client) {
                Some(true)
            } else {
                self.process().ended().map(|_| false)
            }
        };
        match eventually_blocking(START_DEADLINE, probe) {
            Some(true) => Ok(()),
            Some(false) => Err(format!("Synapse ended at its start:\n{}", self.log_tail())),
            None => Err(format!(
                "Synapse did not answer within {START_DEADLINE:?}:\n{}",
                self.log_tail()
            )),
        }
    }

    /// Where the start stands.
    async fn probe_once(&self) -> Probe {
        let port = self.ports.client;
        if blocking(move || probe(port)).await {
            Probe::Answers
        } else if self.process().ended().is_some() {
            Probe::Ended
        } else {
            Probe::NotYet
        }
    }

    /// The process, also after a panic elsewhere while it was held: its state is the system's.
    fn process(&self) -> MutexGuard<'_, Guarded> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a start stands.
enum Probe {
    Answers,
    NotYet,
    Ended,
}

/// Whether a homeserver answers on that port. By hand, as it serves code without a runtime.
fn probe(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        stream.write_all(
            b"GET /_matrix/client/versions HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| {
        answer
            .lines()
            .next()
            .is_some_and(|status| status.contains(" 200 "))
            && answer.contains("\"versions\"")
    })
}

/// Starts the server's process.
fn launch(python: &std::path::Path, dir: &TempDir) -> Guarded {
    let config = dir.path().join(CONFIG_FILE);
    Guarded::start(&Launch {
        command: vec![
            python.into(),
            "-m".into(),
            "synapse.app.homeserver".into(),
            "--config-path".into(),
            config.into(),
        ],
        dir: dir.path(),
        output: &dir.path().join(OUTPUT_FILE),
        without_env: Some("SYNAPSE_"),
        with_env: &[],
        remove: Some(dir.path()),
    })
}

/// A port of [`PORTS`] nothing listens on. Processes begin at different places of the range.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let size = PORTS.end - PORTS.start;
    // Spreads neighbouring process ids over the range; the remainder fits.
    let begin = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(size))
        .expect("a remainder is smaller than the divisor");
    for _ in 0..size {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % size;
        let port = PORTS.start + (begin + step) % size;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// The name with a number of its own in this process.
fn unique(localpart: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{localpart}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs blocking work off the test's thread, and passes its panic on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}
