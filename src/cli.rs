//! The command line: `run`, `check` and `doctor`, exit codes, signals.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
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
        /// The configuration.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Says how the bot is: server, limits, encryption, database, clock, power. Not while it runs.
    Doctor {
        /// The configuration.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Says whether the configuration is sound, without starting.
    Check {
        /// The configuration.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
}

/// Why the program ended with an error.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot write to standard output")]
    Output(#[source] std::io::Error),
    #[error(transparent)]
    App(#[from] app::AppError),
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
        Verb::Run { config } => run(&config),
        Verb::Doctor { config } => doctor(&config),
        Verb::Check { config } => check(&config),
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
    let config = Config::load(path, &|name| std::env::var(name).ok())?;
    for warning in &config.warnings {
        eprintln!("roomlift: warning: {warning}");
    }
    Ok(config)
}

fn check(path: &Path) -> Result<(), CliError> {
    load(path)?;
    eprintln!("roomlift: {} is sound", path.display());
    Ok(())
}

fn doctor(path: &Path) -> Result<(), CliError> {
    let config = load(path)?;
    telemetry::start(&config.log);
    let found = runtime()?.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(signals(stop.clone()));
        app::doctor(config, stop).await
    })?;
    match found {
        Some(found) => writeln!(std::io::stdout(), "{}", found.plain).map_err(CliError::Output),
        None => Ok(()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)
}

fn run(path: &Path) -> Result<(), CliError> {
    let config = load(path)?;
    telemetry::start(&config.log);
    Ok(runtime()?.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(signals(stop.clone()));
        app::run(config, stop).await
    })?)
}

/// Cancels the token when the process is asked to end.
async fn signals(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}
