//! The Python environment Synapse runs in: made on first use, shared by all test processes.
//!
//! Leaves out updating: another pinned version gets installed over the old one, nothing is ever
//! removed but by `cargo clean`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Synapse the tests run against.
pub(crate) const SYNAPSE_VERSION: &str = "1.163.2";

/// Holds the installed version; written last, so that its presence means a complete environment.
const MARKER: &str = "roomlift-testbed-synapse-version";

/// What Cargo puts into a target directory: the first only where it creates the directory itself.
const TARGET_DIR_MARKS: [&str; 2] = ["CACHEDIR.TAG", ".rustc_info.json"];

/// How many lines of a failed command's output are shown.
const OUTPUT_TAIL_LINES: usize = 30;

/// The environment's Python, after installing Synapse where that has not happened yet.
///
/// Blocks: other processes may be installing.
pub(crate) fn python() -> PathBuf {
    let testbed = target_dir().join("testbed");
    let venv = testbed.join("venv");
    let python = venv.join("bin").join("python");
    std::fs::create_dir_all(&testbed)
        .unwrap_or_else(|e| panic!("cannot create {}: {e}", testbed.display()));

    // Released when the file is closed, so also when the process dies.
    let lock = File::create(testbed.join("venv.lock")).expect("create the installation's lock");
    lock.lock().expect("lock the installation");
    let marker = venv.join(MARKER);
    let installed = std::fs::read_to_string(&marker).unwrap_or_default();
    if installed.trim() != SYNAPSE_VERSION || !runs(&python) {
        install(&venv, &python);
        std::fs::write(&marker, SYNAPSE_VERSION).expect("mark the installation as complete");
    }
    python
}

/// Makes the environment, or completes one that was left half made.
fn install(venv: &Path, python: &Path) {
    assert!(
        runs(Path::new("python3")),
        "the integration tests run a real Synapse, and there is no python3 to run it: \
         install it, for instance with: apt-get install python3 python3-venv"
    );
    let mut create = Command::new("python3");
    create.args(["-m", "venv"]);
    if !runs(python) {
        // Nothing there, or made by a Python that is gone.
        create.arg("--clear");
    }
    run(
        create.arg(venv),
        "python3 with the venv module is needed, for instance: apt-get install python3-venv",
    );
    run(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
            ])
            .arg(format!("matrix-synapse=={SYNAPSE_VERSION}")),
        "pip must be able to download matrix-synapse from the Python package index (or a mirror \
         set in pip's configuration), and have a ready-made wheel for this platform",
    );
}

/// Whether that Python starts.
fn runs(python: &Path) -> bool {
    Command::new(python)
        .args(["-c", ""])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command to its end; panics with its output and the remedy where it fails.
fn run(command: &mut Command, remedy: &str) {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {shown}: {e}\n{remedy}"));
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(OUTPUT_TAIL_LINES)..].join("\n");
        panic!("{shown} failed ({}):\n{end}\n{remedy}", output.status);
    }
}

/// Cargo's target directory: the marked directory this program lies in, which holds for every way
/// of configuring it; `target` next to the main package for a program that was moved.
fn target_dir() -> PathBuf {
    let program = std::env::current_exe().expect("find the running program");
    let marked = |dir: &&Path| TARGET_DIR_MARKS.iter().any(|mark| dir.join(mark).is_file());
    program.ancestors().find(marked).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        Path::to_owned,
    )
}
