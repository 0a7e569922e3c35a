//! Every text a person reads. Pure: data in, both forms of a text out.
//!
//! `plan`, `review`, `progress`, `report`, `follow_up`, `answer`, `inventory`, `invitation` and `tombstone`
//! each hold the texts of one moment; `finding` and `todo` are sentences they share. Texts that people may
//! change are templates (`member`, `ping`); `pin` repeats what others said, `record` is a job's whole story as files.
//! Left out: when a text is sent, and where.

pub(crate) mod answer;
pub(crate) mod campaign;
pub(crate) mod doc;
pub(crate) mod doctor;
mod finding;
pub(crate) mod follow_up;
pub(crate) mod inventory;
pub(crate) mod invitation;
pub(crate) mod member;
pub(crate) mod moment;
pub(crate) mod pin;
pub(crate) mod ping;
pub(crate) mod plan;
pub(crate) mod problem;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod review;
mod todo;
pub(crate) mod tombstone;

use jiff::Timestamp;

/// Emoji of the reactions. They never carry a meaning alone: a text says the same.
pub(crate) mod emoji {
    /// A command is being worked on.
    pub(crate) const WORKING: &str = "⏳";
    /// It is done; on a plan: yes.
    pub(crate) const YES: &str = "✅";
    /// It was refused or failed; on a plan: no.
    pub(crate) const NO: &str = "❌";
}

/// A length of time as people say it, rounded up to what matters.
pub(crate) fn duration(seconds: u64) -> String {
    let unit = match seconds {
        0..=59 => 1,
        60..=3599 => 60,
        3600..=86_399 => 600,
        _ => 3600,
    };
    let seconds = seconds.max(1).div_ceil(unit) * unit;
    let days = usize::try_from(seconds / 86_400).unwrap_or(usize::MAX);
    let of = |number: u64, unit: &str| (number > 0).then(|| format!("{number}{unit}"));
    let parts = [
        (days > 0).then(|| count(days, "day", "days")),
        of(seconds / 3600 % 24, "h"),
        of(seconds / 60 % 60, "m"),
        of(seconds % 60, "s"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// How long it is until a moment.
pub(crate) fn until(then: Timestamp, now: Timestamp) -> String {
    duration(u64::try_from(then.duration_since(now).as_secs()).unwrap_or(0))
}

/// A number with its noun.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up() {
        for (seconds, said) in [
            (0, "1s"),
            (59, "59s"),
            (61, "2m"),
            (3_599, "1h"),
            (3_601, "1h 10m"),
            (86_399, "1 day"),
            (86_400, "1 day"),
            (90_001, "1 day 2h"),
            (40 * 86_400, "40 days"),
        ] {
            assert_eq!(duration(seconds), said, "{seconds}");
        }
    }
}
