//! A child process that never outlives the test process, however that one ends.
//!
//! Two pieces make it so without `unsafe`. The child starts as a shell that waits for one line on
//! its standard input and then `exec`s the program, so the process id is the program's own and
//! signals reach it directly. A guard shell, in a process group of its own, waits on a pipe the
//! test process holds: end of file there means the test process is gone, and the guard kills the
//! child. The child gets its line only once the guard watches, so there is no moment without one.
//!
//! Leaves out grandchildren: only the process itself is killed, not what it may have started.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

/// Waits for the word to go, then becomes the program given as arguments.
const LAUNCH: &str = r#"read -r go && exec "$@" </dev/null"#;

/// Ends quietly on a line; on end of file kills process `$1` and removes directory `$2`, if given.
const GUARD: &str = r#"read -r done || { kill -9 "$1"; [ -z "$2" ] || rm -rf "$2"; }"#;

/// What to start, and how.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Its working directory.
    pub(crate) dir: &'a Path,
    /// Where standard output and standard error are appended.
    pub(crate) output: &'a Path,
    /// Variables to take out of the environment: those whose name starts with this.
    pub(crate) without_env: Option<&'a str>,
    /// Variables to add to the environment.
    pub(crate) with_env: &'a [(String, String)],
    /// A directory to remove if the test process ends without stopping the child.
    pub(crate) remove: Option<&'a Path>,
}

/// A running child with its guard. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
    guard: Child,
    /// The guard's pipe; taken when the guard is dismissed.
    leash: Option<ChildStdin>,
}

impl Guarded {
    /// Starts the program; returns once it is guarded and on its way.
    pub(crate) fn start(launch: &Launch<'_>) -> Self {
        let name = launch.command[0].display().to_string();
        let output = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(launch.output)
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", launch.output.display()));
        let errors = output.try_clone().expect("duplicate a file handle");

        let mut command = Command::new("sh");
        command
            .args(["-c", LAUNCH, "launch"])
            .args(&launch.command)
            .current_dir(launch.dir)
            .envs(launch.with_env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0);
        if let Some(prefix) = launch.without_env {
            for (name, _) in std::env::vars_os() {
                let given = launch
                    .with_env
                    .iter()
                    .any(|(given, _)| name == given.as_str());
                if !given && name.to_string_lossy().starts_with(prefix) {
                    command.env_remove(name);
                }
            }
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));

        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(child.id().to_string())
            .args(launch.remove)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start the guard of {name}: {e}"));
        let leash = guard.stdin.take();

        let mut start = child
            .stdin
            .take()
            .expect("the child's standard input is piped");
        start
            .write_all(b"go\n")
            .unwrap_or_else(|e| panic!("{name} ended before it began: {e}"));
        Self {
            child,
            guard,
            leash,
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.try_wait().expect("look after the child");
        if ended.is_some() {
            self.dismiss_guard();
        }
        ended
    }

    /// SIGKILL; returns once the process is gone.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        // An error means it has ended already, which is what is wanted.
        let _ = self.child.kill();
        let status = self.child.wait().expect("wait for a killed child");
        self.dismiss_guard();
        status
    }

    /// Sends the signal of that name (`TERM`, `STOP`, …), unless the process has ended.
    pub(crate) fn signal(&mut self, signal: &str) {
        if self.ended().is_some() {
            return;
        }
        // Not reaped, so the id is still this process's.
        let sent = Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "signal", signal])
            .arg(self.child.id().to_string())
            .status()
            .expect("run a shell to send a signal");
        assert!(sent.success(), "cannot send SIG{signal}: {sent}");
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells the guard that there is nothing left to kill: the id may soon be another process's.
    fn dismiss_guard(&mut self) {
        if let Some(mut leash) = self.leash.take() {
            // A guard that is gone already needs no telling.
            let _ = leash.write_all(b"done\n");
            let _ = self.guard.wait();
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of a file; a word about the reason where it cannot be read.
#[must_use]
pub fn tail(file: &Path, lines: usize) -> String {
    match std::fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(e) => format!("({} cannot be read: {e})", file.display()),
    }
}
