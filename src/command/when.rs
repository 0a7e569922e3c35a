//! Times as people write them: a moment and its zone, or how long from now.
//!
//! In two halves, since what the words mean depends on the time: [`at`] and [`within`] read them,
//! [`When::resolve`] makes a moment of them. Nothing is guessed: a time without a zone, one that does
//! not exist and one that exists twice are refused, with what to write instead.

use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

use super::Problem;
use crate::model::Start;

/// How far ahead something can be scheduled: beyond, nobody remembers what they said yes to.
pub(crate) const AHEAD_MAX: Duration = Duration::from_hours(366 * 24);

/// The zone of moments that somebody gave without one, by a duration.
const UTC: &str = "UTC";

/// The farthest from UTC that a place is; there are such west of the date line.
const OFFSET_HOURS_MAX: i16 = 14;

/// A time as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// `--at`.
    At(Written),
    /// `--in`.
    In(Duration),
}

/// What stands behind `--at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Absent: the next day on which it is that time.
    date: Option<Date>,
    time: Time,
    /// How far from UTC, where that was written.
    offset: Option<Offset>,
    /// A name such as `Europe/Berlin`, where one was written.
    zone: Option<String>,
}

/// Why a time that was understood cannot be used. The `Display` is the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeProblem {
    /// No zone, and none is configured.
    #[error(
        "Which time zone do you mean? Write it behind the time, for example \
         `--at \"{written} Europe/Berlin\"`. Whoever runs me can also set one for all \
         (`time_zone` in the configuration)."
    )]
    NoZone {
        /// The time, to be written again.
        written: String,
    },
    #[error("That time is in the past. Please give one that is still to come.")]
    Past,
    /// Later than [`AHEAD_MAX`].
    #[error("That is too far ahead; at most {} days are possible.", AHEAD_MAX.as_secs() / 86_400)]
    TooFar,
    /// The clocks are put forward over it.
    #[error(
        "There is no {time} in {zone} on that day, since the clocks are put forward. Please give \
         another time."
    )]
    Skipped {
        /// What does not exist.
        time: String,
        zone: String,
    },
    /// The clocks are put back over it.
    #[error(
        "It is {time} twice in {zone} on that day, since the clocks are put back. Write \
         `--at {first}` for the first time, or `--at {second}` for the second."
    )]
    Twice {
        time: String,
        zone: String,
        /// The first, with its offset.
        first: String,
        /// The second, with its offset.
        second: String,
    },
    /// The offset is not that of the zone.
    #[error("{zone} is not at {offset} at that time. Please leave out one of the two.")]
    WrongOffset { offset: String, zone: String },
}

/// The time zone with a name such as `Europe/Berlin`, or an offset such as `+01:00` or `UTC+1`. A rule in
/// the notation of POSIX is none.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    match offset(name) {
        Some(offset) => Some(offset.to_time_zone()),
        None => TimeZone::get(name).ok(),
    }
}

/// Reads what stands behind `--at`.
///
/// # Errors
/// [`Problem::BadTime`] and [`Problem::UnknownZone`].
pub(super) fn at(text: &str) -> Result<When, Problem> {
    let bad = || Problem::BadTime { word: text.into() };
    let (rest, named) = match text.trim().strip_suffix(']') {
        Some(text) => {
            let (rest, zone) = text.split_once('[').ok_or_else(bad)?;
            (rest, Some(zone))
        }
        None => (text.trim(), None),
    };
    let mut words: Vec<&str> = rest.split_whitespace().collect();
    let is_zone =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '+' || c == '-');
    let named = match (named, words.last().copied().filter(is_zone)) {
        (Some(_), Some(_)) => return Err(bad()),
        (None, Some(zone)) => {
            words.pop();
            Some(zone)
        }
        (named, None) => named,
    };
    let (date, time) = match words[..] {
        [time] => match time.split_once(['T', 't']) {
            Some((date, time)) => (Some(date), time),
            None => (None, time),
        },
        [date, time] => (Some(date), time),
        _ => return Err(bad()),
    };
    let (time, offset) = match time.find(['+', '-', 'Z', 'z']) {
        Some(place) => {
            let (time, offset) = time.split_at(place);
            (time, Some(self::offset(offset).ok_or_else(bad)?))
        }
        None => (time, None),
    };
    let (named, offset) = match (named, offset, named.and_then(self::offset)) {
        (Some(_), Some(_), Some(_)) => return Err(bad()),
        (_, None, Some(offset)) => (None, Some(offset)),
        (named, offset, _) => (named, offset),
    };
    let named = match named {
        Some(name) => {
            let word = name.into();
            let zone = zone(name).ok_or(Problem::UnknownZone { word })?;
            // As its own people write it: any case is understood.
            Some(zone.iana_name().unwrap_or(name).to_owned())
        }
        None => None,
    };
    Ok(When::At(Written {
        date: date
            .map(|date| self::date(date).ok_or_else(bad))
            .transpose()?,
        time: self::time(time).ok_or_else(bad)?,
        offset,
        zone: named,
    }))
}

/// Reads what stands behind `--in`.
///
/// # Errors
/// [`Problem::BadDuration`].
pub(super) fn within(text: &str) -> Result<When, Problem> {
    let word = text.into();
    let wait = humantime::parse_duration(text).map_err(|_| Problem::BadDuration { word })?;
    Ok(When::In(wait))
}

/// Whether a word goes on with a time that was begun: behind `--at` come a date, a time and a zone, and
/// quotation marks are easily forgotten.
pub(super) fn goes_on(time: &str, word: &str) -> bool {
    let is_over = time.split(' ').next_back().is_some_and(is_zone);
    !is_over && (is_time(word) || is_zone(word))
}

fn is_time(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.contains(':')
}

/// Also of a zone that nobody knows: it is told so, and not that it is no room version.
fn is_zone(word: &str) -> bool {
    let is_named = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !word.contains([':', '.'])
        && (word.contains(['/', '+', '-']) || !word.contains(|c: char| c.is_ascii_digit()));
    is_named || zone(word).is_some()
}

fn date(text: &str) -> Option<Date> {
    let [year, month, day] = <[&str; 3]>::try_from(text.split('-').collect::<Vec<_>>()).ok()?;
    if year.len() != 4 {
        return None;
    }
    Date::new(
        number(year)?,
        i8::try_from(number(month)?).ok()?,
        i8::try_from(number(day)?).ok()?,
    )
    .ok()
}

fn time(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let mut part = || i8::try_from(number(parts.next()?)?).ok();
    let (hour, minute) = (part()?, part()?);
    let second = if text.matches(':').count() > 1 {
        part()?
    } else {
        0
    };
    if text.matches(':').count() > 2 {
        return None;
    }
    Time::new(hour, minute, second, 0).ok()
}

fn number(text: &str) -> Option<i16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// `Z`, `+01:00`, `+0100`, `+01` or `+1`, with `UTC` or `GMT` before it or without. East of Greenwich is
/// plus (ISO 8601), unlike in the notation of POSIX.
fn offset(text: &str) -> Option<Offset> {
    if text.eq_ignore_ascii_case("z") {
        return Some(Offset::UTC);
    }
    let prefix = text.get(..UTC.len());
    let has_name = prefix.is_some_and(|name| {
        ["UTC", "GMT"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    });
    let signed = if has_name { &text[UTC.len()..] } else { text };
    let (sign, digits) = match signed.strip_prefix('+') {
        Some(digits) => (1, digits),
        None => (-1, signed.strip_prefix('-')?),
    };
    let (hours, minutes) = match (digits.split_once(':'), digits.len()) {
        (Some((hours, minutes)), _) if minutes.len() == 2 => (hours, minutes),
        (None, 4) => digits.split_at_checked(2)?,
        (None, 1 | 2) => (digits, "0"),
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if hours > OFFSET_HOURS_MAX || minutes > 59 {
        return None;
    }
    let seconds = (i32::from(hours) * 60 + i32::from(minutes)) * 60;
    Offset::from_seconds(sign * seconds).ok()
}

impl When {
    /// The moment that is meant, seen from `now`; `default` is the zone of times without one.
    ///
    /// # Errors
    /// When there is no such moment, more than one, or none that can be waited for.
    pub fn resolve(&self, now: Timestamp, default: Option<&str>) -> Result<Start, TimeProblem> {
        let (at, zone) = match self {
            Self::In(wait) => {
                let at = now.checked_add(*wait).map_err(|_| TimeProblem::TooFar)?;
                (at, default.unwrap_or(UTC).to_owned())
            }
            Self::At(written) => written.moment(now, default)?,
        };
        if at <= now {
            return Err(TimeProblem::Past);
        }
        if at.duration_since(now).unsigned_abs() > AHEAD_MAX {
            return Err(TimeProblem::TooFar);
        }
        Ok(Start { at, zone })
    }
}

impl Written {
    fn moment(
        &self,
        now: Timestamp,
        default: Option<&str>,
    ) -> Result<(Timestamp, String), TimeProblem> {
        let name = match (&self.zone, self.offset) {
            (Some(zone), _) => zone.clone(),
            (None, Some(offset)) if offset == Offset::UTC => UTC.to_owned(),
            (None, Some(offset)) => written(offset),
            (None, None) => default
                .map(ToOwned::to_owned)
                .ok_or_else(|| self.without_zone())?,
        };
        let place = zone(&name).ok_or_else(|| self.without_zone())?;
        let at = if let Some(date) = self.date {
            self.on(date, &place, &name)?
        } else {
            let today = now.to_zoned(place.clone()).date();
            match self.on(today, &place, &name) {
                Ok(at) if at <= now => {
                    let next = today
                        .checked_add(1.day())
                        .map_err(|_| TimeProblem::TooFar)?;
                    self.on(next, &place, &name)?
                }
                today => today?,
            }
        };
        Ok((at, name))
    }

    /// The time on a day, if it is there once.
    fn on(&self, date: Date, place: &TimeZone, zone: &str) -> Result<Timestamp, TimeProblem> {
        let civil = date.to_datetime(self.time);
        let too_far = |_| TimeProblem::TooFar;
        if let Some(offset) = self.offset {
            let at = offset.to_timestamp(civil).map_err(too_far)?;
            let is_right = place.to_offset(at) == offset;
            let zone = zone.to_owned();
            return if is_right {
                Ok(at)
            } else {
                Err(TimeProblem::WrongOffset {
                    offset: written(offset),
                    zone,
                })
            };
        }
        let (time, zone) = (short(self.time), zone.to_owned());
        match place.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).map_err(too_far),
            AmbiguousOffset::Gap { .. } => Err(TimeProblem::Skipped { time, zone }),
            AmbiguousOffset::Fold { before, after } => {
                let [first, second] =
                    [before, after].map(|offset| format!("{date}T{time}{}", written(offset)));
                Err(TimeProblem::Twice {
                    time,
                    zone,
                    first,
                    second,
                })
            }
        }
    }

    fn without_zone(&self) -> TimeProblem {
        let date = self.date.map(|date| format!("{date} ")).unwrap_or_default();
        TimeProblem::NoZone {
            written: format!("{date}{}", short(self.time)),
        }
    }
}

/// A time as it is typed.
fn short(time: Time) -> String {
    let seconds = match time.second() {
        0 => String::new(),
        second => format!(":{second:02}"),
    };
    format!("{:02}:{:02}{seconds}", time.hour(), time.minute())
}

/// An offset as it is typed.
fn written(offset: Offset) -> String {
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests;
