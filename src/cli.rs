//! The command line: `run`, `check` and what an operator needs beside them; exit codes, signals.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::health::{self, HealthError};
use crate::init::{self, Given, InitError};
use crate::model::Claim;
use crate::store::{self, StoreError};
use crate::telemetry::LogFormat;
use crate::{app, telemetry};

/// A Matrix bot that upgrades rooms on command.
#[derive(Debug, Parser)]
#[command(name = "roomlift", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the bot until it is told to stop.
    Run {
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        /// Works with this database from now on, where the account worked with another one. That one must not
        /// run any more.
        #[arg(long)]
        take_over: bool,
    },
    /// Diagnose the bot: server, rate limits, encryption, database, clock, power levels. The bot must be stopped.
    Doctor {
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Check the configuration without starting.
    Check {
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Writes the configuration of a new bot: asks for what is needed, checks it with the homeserver,
    /// and makes the room where the bot takes commands.
    Init {
        /// The configuration to be written.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
        #[command(flatten)]
        given: Given,
    },
    /// Asks the running bot whether it is well, by `listen`.
    Health {
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Copy the database to a new file. Safe while the bot runs.
    Backup {
        /// Target file; must not exist.
        file: PathBuf,
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Replace the database with a backup. The bot must be stopped.
    Restore {
        file: PathBuf,
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Prints a script that completes the words of this command line.
    Completions {
        /// The shell it is for.
        shell: Shell,
    },
    /// Prints the manual page.
    Man,
}

/// Why the program ended with an error.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    App(#[from] app::AppError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("`listen` is not set in the configuration, so there is nothing to ask")]
    NotListening,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot print")]
    Print(#[source] std::io::Error),
}

/// Runs the program with these arguments.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are errors to clap, but not to people.
            let code = if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
            let _ = error.print();
            return code;
        }
    };
    let result = match arguments.command {
        Verb::Run { config, take_over } => run(&config, take_over),
        Verb::Doctor { config } => doctor(&config),
        Verb::Check { config } => check(&config),
        Verb::Init { config, given } => init(&config, given),
        Verb::Health { config } => health(&config),
        Verb::Backup { file, config } => backup(&file, &config),
        Verb::Restore { file, config } => restore(&file, &config),
        Verb::Completions { shell } => completions(shell),
        Verb::Man => manual(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roomlift: {}", telemetry::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn load(path: &Path) -> Result<Config, CliError> {
    let config = Config::load(path, &env)?;
    for warning in &config.warnings {
        eprintln!("roomlift: warning: {warning}");
    }
    Ok(config)
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn check(path: &Path) -> Result<(), CliError> {
    load(path)?;
    eprintln!("roomlift: {} is sound", path.display());
    Ok(())
}

fn run(path: &Path, take_over: bool) -> Result<(), CliError> {
    let claim = if take_over {
        Claim::TakeOver
    } else {
        Claim::IfFree
    };
    let config = load(path)?;
    let format = config.log_format;
    telemetry::start(&config.log, format);
    let ended = runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let stopped = signals(stop.clone()).map_err(CliError::Signals)?;
        tokio::spawn(stopped);
        Ok::<_, CliError>(Box::pin(app::run(config, claim, stop)).await?)
    });
    // Who collects JSON gets the reason as such, too.
    if let (Err(error), LogFormat::Json) = (&ended, format) {
        tracing::error!(error = telemetry::chain(error), "cannot go on");
    }
    ended
}

fn init(path: &Path, given: Given) -> Result<(), CliError> {
    Ok(runtime()?.block_on(init::run(path, given, &env))?)
}

fn health(path: &Path) -> Result<(), CliError> {
    let address = load(path)?.listen.ok_or(CliError::NotListening)?;
    Ok(runtime()?.block_on(health::probe(address))?)
}

fn backup(file: &Path, config: &Path) -> Result<(), CliError> {
    let database = app::database(&load(config)?.data_dir);
    store::backup(&database, file)?;
    eprintln!("roomlift: the database is copied to {}", file.display());
    Ok(())
}

fn restore(file: &Path, config: &Path) -> Result<(), CliError> {
    let data_dir = load(config)?.data_dir;
    let _lock = app::lock(&data_dir)?;
    let kept = store::restore(file, &app::database(&data_dir))?;
    eprintln!(
        "roomlift: the database is the one of {}; what was there is kept as {}",
        file.display(),
        kept.display()
    );
    Ok(())
}

fn completions(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "roomlift", &mut script);
    print(&script)
}

fn manual() -> Result<(), CliError> {
    let mut page = Vec::new();
    let manual = clap_mangen::Man::new(Arguments::command());
    manual.render(&mut page).map_err(CliError::Print)?;
    print(&page)
}

fn print(text: &[u8]) -> Result<(), CliError> {
    std::io::stdout().write_all(text).map_err(CliError::Print)
}

fn doctor(path: &Path) -> Result<(), CliError> {
    let config = load(path)?;
    telemetry::start(&config.log, config.log_format);
    let found = runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let stopped = signals(stop.clone()).map_err(CliError::Signals)?;
        tokio::spawn(stopped);
        Ok::<_, CliError>(app::doctor(config, stop).await?)
    })?;
    found.map_or(Ok(()), |found| print((found.plain + "\n").as_bytes()))
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
}

/// Cancels the token when the process is asked to end. It is asked from here on; what is returned
/// waits for it.
fn signals(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
