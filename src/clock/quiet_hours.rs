//! Hours of the day in which nobody is to be disturbed. Pure: the time is a parameter.

use std::fmt;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// Every day from one time to another, in a time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct QuietHours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

/// Why a text is not one of quiet hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuietHoursError {
    /// Not two times and a zone.
    #[error("not written as two times and a zone")]
    Form,
    /// Both times are the same.
    #[error("from a time to the same time")]
    Empty,
    /// The zone is not known.
    #[error("the time zone is not known")]
    Zone,
}

impl std::str::FromStr for QuietHours {
    type Err = QuietHoursError;

    /// Reads `22:00-08:00 Europe/Berlin`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (times, zone) = text.trim().split_once(' ').ok_or(QuietHoursError::Form)?;
        let (from, to) = times.split_once('-').ok_or(QuietHoursError::Form)?;
        let time = |text: &str| Time::strptime("%H:%M", text).map_err(|_| QuietHoursError::Form);
        let (from, to) = (time(from)?, time(to)?);
        if from == to {
            return Err(QuietHoursError::Empty);
        }
        let zone = TimeZone::get(zone.trim()).map_err(|_| QuietHoursError::Zone)?;
        Ok(Self { from, to, zone })
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.strftime("%H:%M"), self.to.strftime("%H:%M"));
        let zone = self.zone.iana_name().unwrap_or("UTC");
        write!(f, "{from}-{to} {zone}")
    }
}

impl QuietHours {
    /// When the quiet hours that a moment lies in are over; the moment itself outside of them.
    #[must_use]
    pub fn after(&self, moment: Timestamp) -> Timestamp {
        let local = moment.to_zoned(self.zone.clone());
        let time = local.time();
        let over_night = self.from > self.to;
        let is_quiet = if over_night {
            time >= self.from || time < self.to
        } else {
            time >= self.from && time < self.to
        };
        if !is_quiet {
            return moment;
        }
        let mut day = local.date();
        if over_night && time >= self.from {
            day = day.saturating_add(1.day());
        }
        // Where the clocks are changed at that very time, a little later.
        day.to_datetime(self.to)
            .to_zoned(self.zone.clone())
            .map_or(moment, |end| end.timestamp().max(moment))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quiet(text: &str) -> QuietHours {
        text.parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_ping_waits_for_the_morning_of_its_zone() {
        let berlin = "22:00-08:00 Europe/Berlin";
        for (hours, moment, after) in [
            (berlin, "2026-01-10T12:00:00Z", "2026-01-10T12:00:00Z"),
            (berlin, "2026-01-10T20:59:59Z", "2026-01-10T20:59:59Z"),
            (berlin, "2026-01-10T21:00:00Z", "2026-01-11T07:00:00Z"),
            (berlin, "2026-01-11T06:59:59Z", "2026-01-11T07:00:00Z"),
            (berlin, "2026-01-11T07:00:00Z", "2026-01-11T07:00:00Z"),
            // The clocks go forward in the night of 29 March, and back in that of 25 October.
            (berlin, "2026-03-28T23:00:00Z", "2026-03-29T06:00:00Z"),
            (berlin, "2026-10-24T22:00:00Z", "2026-10-25T07:00:00Z"),
            // The hour in which they end does not exist on that day.
            (
                "22:00-02:30 Europe/Berlin",
                "2026-03-29T00:30:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                "12:00-14:00 UTC",
                "2026-01-10T13:00:00Z",
                "2026-01-10T14:00:00Z",
            ),
            (
                "12:00-14:00 UTC",
                "2026-01-10T11:00:00Z",
                "2026-01-10T11:00:00Z",
            ),
        ] {
            assert_eq!(
                quiet(hours).after(at(moment)),
                at(after),
                "{hours} {moment}"
            );
        }
    }

    #[test]
    fn nonsense_is_told_apart() {
        use QuietHoursError::{Empty, Form, Zone};
        for (text, error) in [
            ("", Form),
            ("22:00-08:00", Form),
            ("22-8 Europe/Berlin", Form),
            ("25:00-08:00 Europe/Berlin", Form),
            ("22:00 08:00 Europe/Berlin", Form),
            ("08:00-08:00 Europe/Berlin", Empty),
            ("22:00-08:00 Europe/Atlantis", Zone),
            ("22:00-08:00 +02", Zone),
            ("22:00-08:00 UTC+2", Zone),
            ("22:00-08:00 CET-1", Zone),
            ("22:00-08:00 CET-1CEST,M3.5.0,M10.5.0", Zone),
        ] {
            assert_eq!(text.parse::<QuietHours>(), Err(error), "{text}");
        }
        assert_eq!(
            quiet("22:00-08:00 Europe/Berlin").to_string(),
            "22:00-08:00 Europe/Berlin"
        );
    }

    proptest! {
        /// Whatever the clock says: never back, never more than about a day, and then it is quiet no
        /// more.
        #[test]
        fn quiet_hours_end(second in -300_000_000_000_i64..250_000_000_000, from in 0..24, to in 0..24) {
            prop_assume!(from != to);
            let hours = quiet(&format!("{from:02}:00-{to:02}:00 Europe/Berlin"));
            let moment = Timestamp::from_second(second).unwrap();
            let after = hours.after(moment);
            prop_assert!(after >= moment);
            prop_assert!(after.duration_since(moment).as_hours() <= 25);
            prop_assert_eq!(hours.after(after), after);
        }
    }
}
