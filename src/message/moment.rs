//! Moments as people say them: with the day, and in a zone.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::count;
use crate::command::when::zone;
use crate::model::Start;

/// `Tuesday, 1 December 2026, 20:00 (Europe/Berlin)`.
pub(crate) fn start(start: &Start) -> String {
    moment(start.at, &start.zone)
}

/// A moment in a zone; in UTC where there is none of that name any more.
pub(crate) fn moment(at: Timestamp, name: &str) -> String {
    let (place, name) = match zone(name) {
        Some(place) => (place, name),
        None => (TimeZone::UTC, "UTC"),
    };
    let local = at
        .to_zoned(place)
        .strftime("%A, %-d %B %Y, %H:%M")
        .to_string();
    format!("{local} ({name})")
}

/// How long it is until something, as one says it to people: in the largest unit that fits.
pub(crate) fn rest(wait: SignedDuration) -> String {
    let minutes = usize::try_from(wait.as_secs().max(0))
        .unwrap_or(usize::MAX)
        .div_ceil(60);
    // Rounded: it is never said to the minute when it is posted.
    match minutes {
        0..=59 => count(minutes.max(1), "minute", "minutes"),
        60..=2159 => count((minutes + 30) / 60, "hour", "hours"),
        _ => count((minutes + 720) / 1440, "day", "days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_local() {
        let at: Timestamp = "2026-12-01T19:00:00Z".parse().unwrap();
        for (zone, expected) in [
            (
                "Europe/Berlin",
                "Tuesday, 1 December 2026, 20:00 (Europe/Berlin)",
            ),
            (
                "Pacific/Auckland",
                "Wednesday, 2 December 2026, 08:00 (Pacific/Auckland)",
            ),
            ("-05:30", "Tuesday, 1 December 2026, 13:30 (-05:30)"),
            ("UTC", "Tuesday, 1 December 2026, 19:00 (UTC)"),
            ("Gone/Away", "Tuesday, 1 December 2026, 19:00 (UTC)"),
        ] {
            assert_eq!(moment(at, zone), expected);
        }
    }

    #[test]
    fn rests_are_rounded() {
        for (seconds, expected) in [
            (-5, "1 minute"),
            (0, "1 minute"),
            (59, "1 minute"),
            (3_600, "1 hour"),
            (3_541, "1 hour"),
            (7_200, "2 hours"),
            (3 * 86_400, "3 days"),
            (3 * 86_400 - 40, "3 days"),
        ] {
            assert_eq!(
                rest(SignedDuration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }
}
