//! Every text a person reads. Pure: data in, both forms of a text out.
//!
//! `plan`, `review`, `progress`, `report`, `follow_up`, `answer`, `inventory`, `invitation` and `tombstone`
//! each hold the texts of one moment; `finding` and `todo` are sentences they share. Texts that people may
//! change are templates (`member`, `ping`); `pin` repeats what others said, `record` is a job's whole story as files.
//! Left out: when a text is sent, and where.

pub mod answer;
pub mod campaign;
pub mod doc;
pub mod doctor;
mod finding;
pub mod follow_up;
pub mod inventory;
pub mod invitation;
pub mod member;
pub mod moment;
pub mod pin;
pub mod ping;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
pub mod review;
mod todo;
pub mod tombstone;

use std::time::Duration;

use jiff::Timestamp;

/// Emoji of the reactions. They never carry a meaning alone: a text says the same.
pub mod emoji {
    /// A command is being worked on.
    pub const WORKING: &str = "⏳";
    /// It is done; on a plan: yes.
    pub const YES: &str = "✅";
    /// It was refused or failed; on a plan: no.
    pub const NO: &str = "❌";
}

/// A length of time as people say it, rounded to what matters.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let rounded = match seconds {
        0..=59 => seconds.max(1),
        60..=3599 => seconds.div_ceil(60) * 60,
        _ => seconds.div_ceil(600) * 600,
    };
    humantime::format_duration(Duration::from_secs(rounded)).to_string()
}

/// How long it is until a moment.
#[must_use]
pub fn until(then: Timestamp, now: Timestamp) -> String {
    duration(u64::try_from(then.duration_since(now).as_secs()).unwrap_or(0))
}

/// A number with its noun.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {many}")
    }
}
