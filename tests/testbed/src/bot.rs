//! The bot under test as a process of its own, to be killed and started again at will.
//!
//! Leaves out the bot's configuration: the caller writes it and passes the arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::eventually::eventually;
use crate::process::{Guarded, Launch, tail};

/// The prefix of the environment variables that would configure the bot behind the test's back.
const BOT_ENV_PREFIX: &str = "ROOMLIFT_";

/// The name of the file, in the bot's directory, that collects what all its runs print.
pub const LOG_FILE: &str = "bot.log";

/// How many lines of the log a panic shows.
const LOG_TAIL_LINES: usize = 60;

/// A bot process. Dropping it kills it, and so does the end of the test process.
#[derive(Debug)]
pub struct Bot {
    command: Vec<OsString>,
    dir: PathBuf,
    env: Vec<(String, String)>,
    process: Arc<Mutex<Guarded>>,
}

impl Bot {
    /// Starts `binary` with `args` in `dir`; its output is appended to [`LOG_FILE`] there.
    pub fn start(
        binary: &Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        dir: &Path,
    ) -> Self {
        Self::start_with_env(binary, args, dir, &[])
    }

    /// [`Bot::start`] with additional environment variables.
    pub fn start_with_env(
        binary: &Path,
        args: impl IntoIterator<Item = impl Into<OsString>>,
        dir: &Path,
        env: &[(&str, &str)],
    ) -> Self {
        assert!(binary.is_file(), "there is no program {}", binary.display());
        let command: Vec<OsString> = std::iter::once(binary.into())
            .chain(args.into_iter().map(Into::into))
            .collect();
        let env: Vec<(String, String)> = env
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let process = Arc::new(Mutex::new(launch(&command, dir, &env)));
        Self {
            command,
            dir: dir.to_owned(),
            env,
            process,
        }
    }

    /// Starts it again, as it was started first, after killing it where it still runs.
    pub fn start_again(&self) {
        let mut process = lock(&self.process);
        process.kill();
        *process = launch(&self.command, &self.dir, &self.env);
    }

    /// SIGKILL; returns once the process is gone.
    pub fn kill(&self) {
        lock(&self.process).kill();
    }

    /// A function that does what [`Bot::kill`] does, for the proxy's actions. It outlives restarts:
    /// what it kills is the process that runs when it is called.
    pub fn killer(&self) -> impl Fn() + Clone + Send + Sync + 'static + use<> {
        let process = Arc::clone(&self.process);
        move || {
            lock(&process).kill();
        }
    }

    /// SIGTERM; does not wait.
    pub fn terminate(&self) {
        lock(&self.process).signal("TERM");
    }

    /// Whether the process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        lock(&self.process).ended().is_none()
    }

    /// The process id of the present or last run.
    #[must_use]
    pub fn id(&self) -> u32 {
        lock(&self.process).id()
    }

    /// Waits for the process to end by itself; panics with its log when it has not by then.
    pub async fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let what = "the bot process to end";
        let end = async || lock(&self.process).ended();
        let Ok(status) = tokio::time::timeout(deadline, eventually(what, Duration::MAX, end)).await
        else {
            panic!(
                "after {deadline:?} the bot still runs; its log ends\n{}",
                self.tail()
            );
        };
        status
    }

    /// Waits until the log holds `needle`; panics with the log's end when it does not by then, or
    /// when the process ends without having written it.
    pub async fn until_logged(&self, needle: &str, deadline: Duration) {
        let look = async || {
            // In this order: what an ended process wrote is all there.
            let running = self.is_running();
            let found = self.log().contains(needle);
            assert!(
                found || running,
                "the bot ended without logging {needle:?}; its log ends\n{}",
                self.tail()
            );
            found.then_some(())
        };
        let wait = eventually("a line of the bot's log", Duration::MAX, look);
        assert!(
            tokio::time::timeout(deadline, wait).await.is_ok(),
            "after {deadline:?} the bot has not logged {needle:?}; its log ends\n{}",
            self.tail()
        );
    }

    /// All that the runs of this bot printed.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.dir.join(LOG_FILE), usize::MAX)
    }

    /// The last lines of [`Bot::log`].
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.dir.join(LOG_FILE), LOG_TAIL_LINES)
    }
}

/// Starts one run of the bot.
fn launch(command: &[OsString], dir: &Path, env: &[(String, String)]) -> Guarded {
    Guarded::start(&Launch {
        command: command.to_vec(),
        dir,
        output: &dir.join(LOG_FILE),
        without_env: Some(BOT_ENV_PREFIX),
        with_env: env,
        remove: None,
    })
}

/// The process, also after a panic elsewhere while it was held: its state is the system's.
fn lock(process: &Mutex<Guarded>) -> MutexGuard<'_, Guarded> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}
