//! When people are pinged, as it is written: `now`, `off`, or lengths of time.

use std::time::Duration;

use super::{PingCommand, Problem, Shown};
use crate::model::{PING_AFTER, PINGS_MAX, Pings};

/// Reads what follows `!upgrade ping <id|room>`.
///
/// # Errors
///
/// [`Problem::BadDuration`], [`Problem::DurationOutOfBounds`] or [`Problem::TooManyPings`].
pub(super) fn command(words: &[String]) -> Result<PingCommand, Problem> {
    Ok(match words {
        [] => PingCommand::Show,
        [word] if word.eq_ignore_ascii_case("now") => PingCommand::Now,
        [word] if word.eq_ignore_ascii_case("off") => PingCommand::Off,
        words => PingCommand::After(durations(&words.join(","))?),
    })
}

/// Reads the value of `--ping`.
///
/// # Errors
///
/// As [`command`].
pub(super) fn option(word: &str) -> Result<Pings, Problem> {
    if word.eq_ignore_ascii_case("off") {
        return Ok(Pings::Off);
    }
    durations(word).map(Pings::After)
}

/// Lengths of time between commas, shortest first.
fn durations(list: &str) -> Result<Vec<Duration>, Problem> {
    let words = list
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let mut durations = words
        .map(|word| {
            let shown = Shown::from(word);
            match humantime::parse_duration(word) {
                Ok(duration) if PING_AFTER.contains(&duration) => Ok(duration),
                Ok(_) => Err(Problem::DurationOutOfBounds { word: shown }),
                Err(_) => Err(Problem::BadDuration { word: shown }),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    durations.sort_unstable();
    durations.dedup();
    match durations.len() {
        0 => Err(Problem::BadDuration {
            word: Shown::from(list),
        }),
        given if given > PINGS_MAX => Err(Problem::TooManyPings { given }),
        _ => Ok(durations),
    }
}
