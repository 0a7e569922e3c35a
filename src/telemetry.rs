//! Logging: plain lines on standard error. Left out: metrics.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What the SDK says below a warning is of no use to an operator.
const QUIET: [&str; 5] = [
    "matrix_sdk=warn",
    "matrix_sdk::http_client=off",
    "matrix_sdk_base=warn",
    "matrix_sdk_crypto=warn",
    "hyper=warn",
];

/// Starts logging with the directives of the configuration. They were checked there.
pub fn start(directives: &str) {
    let mut filter = EnvFilter::builder().parse_lossy(directives);
    // A target that the operator named is left as they want it.
    for quiet in QUIET {
        let target = quiet.split('=').next().unwrap_or(quiet);
        if !directives.contains(target)
            && let Ok(directive) = quiet.parse()
        {
            filter = filter.add_directive(directive);
        }
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start in one process (tests) keeps the first.
    let _ = lines.try_init();
}

/// An error with all that caused it, in one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
