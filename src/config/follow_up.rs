//! The table `[follow_up]`.

use std::time::Duration;

use super::section::Section;
use super::{Finding, values};
use crate::clock::quiet_hours::{QuietHours, QuietHoursError};
use crate::model::{Mention, PING_AFTER, PINGS_MAX};

const DEFAULT_AFTER_DAYS: [u64; 3] = [1, 3, 7];
const DEFAULT_UNTIL_MOVED: f64 = 0.95;

/// How people who did not come are followed up, where a command says nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUpSettings {
    /// When they are pinged, counted from the switch, shortest first; never if empty.
    pub after: Vec<Duration>,
    /// The part of those who could come that is enough, 0 to 1.
    pub until_moved: f64,
    /// Whom a ping notifies.
    pub mention: Mention,
    /// When nobody is pinged.
    pub quiet_hours: Option<QuietHours>,
    /// What the bot does with the old room in the end.
    pub old_room: OldRoom,
}

/// What the bot does with the old room when the follow-up is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldRoom {
    /// It stays there.
    Stay,
    /// It leaves, unless something needs it there.
    Leave,
}

impl Default for FollowUpSettings {
    fn default() -> Self {
        let after = DEFAULT_AFTER_DAYS.map(|days| Duration::from_hours(24 * days));
        Self {
            after: after.into(),
            until_moved: DEFAULT_UNTIL_MOVED,
            mention: Mention::Stragglers,
            quiet_hours: None,
            old_room: OldRoom::Stay,
        }
    }
}

pub(super) fn read(mut section: Section, findings: &mut Vec<Finding>) -> FollowUpSettings {
    let default = FollowUpSettings::default();
    let after = section.parsed_list("after", |text| values::duration(text, PING_AFTER));
    if after.as_ref().is_some_and(|after| after.len() > PINGS_MAX) {
        section.report("after", format!("has too many pings; at most {PINGS_MAX}"));
    }
    let mut after = after.unwrap_or(default.after);
    after.sort_unstable();
    let settings = FollowUpSettings {
        after,
        until_moved: section
            .number("until_moved", 0.0..=1.0)
            .unwrap_or(default.until_moved),
        mention: section
            .choice(
                "mention",
                &[
                    ("stragglers", Mention::Stragglers),
                    ("room", Mention::Room),
                    ("none", Mention::Nobody),
                ],
            )
            .unwrap_or(default.mention),
        quiet_hours: section.parsed("quiet_hours", quiet_hours),
        old_room: match section.flag("leave_old_room") {
            Some(true) => OldRoom::Leave,
            Some(false) | None => default.old_room,
        },
    };
    findings.extend(section.finish());
    settings
}

fn quiet_hours(text: &str) -> Result<QuietHours, String> {
    text.parse().map_err(|error| {
        let shown = values::shown(text);
        match error {
            QuietHoursError::Form => {
                format!("{shown} is not understood; write `\"22:00-08:00 Europe/Berlin\"`")
            }
            QuietHoursError::Empty => format!(
                "{shown} begins and ends at the same time; leave the key out if there are no quiet hours"
            ),
            QuietHoursError::Zone => format!(
                "{shown} names a time zone that I do not know; write one such as `Europe/Berlin` or `UTC`"
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(toml: &str) -> Result<FollowUpSettings, Vec<String>> {
        let mut root = Section::root(toml.parse().unwrap());
        let mut findings = Vec::new();
        let settings = read(root.child("follow_up"), &mut findings);
        if findings.is_empty() {
            return Ok(settings);
        }
        Err(findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_said_means_pings_after_one_three_and_seven_days() {
        let hours = |hours: u64| Duration::from_hours(hours);
        let settings = parsed("").unwrap();
        assert_eq!(settings.after, [hours(24), hours(72), hours(168)]);
        assert_eq!(settings.mention, Mention::Stragglers);
        assert_eq!(settings.old_room, OldRoom::Stay);
        let other = parsed(
            "[follow_up]\nafter = [\"2h\", \"1h\"]\nuntil_moved = 1\nmention = \"room\"\n\
             quiet_hours = \"22:00-08:00 Europe/Berlin\"\nleave_old_room = true\n",
        )
        .unwrap();
        assert_eq!(other.after, [hours(1), hours(2)]);
        assert!((other.until_moved - 1.0).abs() < f64::EPSILON);
        assert_eq!(other.mention, Mention::Room);
        assert!(other.quiet_hours.is_some());
        assert_eq!(other.old_room, OldRoom::Leave);
        let never = parsed("[follow_up]\nafter = []").unwrap();
        assert!(never.after.is_empty());
    }

    #[test]
    fn mistakes_are_told_with_what_to_write() {
        let many: Vec<_> = (1..=21).map(|hour| format!("\"{hour}h\"")).collect();
        let many = format!("after = [{}]", many.join(", "));
        let wrong = [
            "after = [\"1x\"]",
            "after = [\"-3d\"]",
            "after = [\"999999d\"]",
            "after = [\"0s\"]",
            "after = \"1d\"",
            &many,
            "until_moved = 1.5",
            "until_moved = nan",
            "until_moved = \"most\"",
            "mention = \"all\"",
            "quiet_hours = \"22:00\"",
            "quiet_hours = \"08:00-08:00 UTC\"",
            "quiet_hours = \"22:00-08:00 Europe/Atlantis\"",
        ];
        let told: Vec<_> = wrong
            .iter()
            .map(|line| {
                parsed(&format!("[follow_up]\n{line}"))
                    .unwrap_err()
                    .join(" / ")
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r##"
        follow_up.after[0]: `1x` is not a duration; write `"90s"`, `"10m"`, `"2h"` or `"3d"`
        follow_up.after[0]: `-3d` is not a duration; write `"90s"`, `"10m"`, `"2h"` or `"3d"`
        follow_up.after[0]: `999999d` is out of bounds; from 1s to 1year
        follow_up.after[0]: `0s` is out of bounds; from 1s to 1year
        follow_up.after: is text; write a list, such as `["…", "…"]`
        follow_up.after: has too many pings; at most 20
        follow_up.until_moved: must be from 0 to 1
        follow_up.until_moved: must be from 0 to 1
        follow_up.until_moved: is text; write a number without quotation marks
        follow_up.mention: `all` is not possible; possible: `"stragglers"`, `"room"`, `"none"`
        follow_up.quiet_hours: `22:00` is not understood; write `"22:00-08:00 Europe/Berlin"`
        follow_up.quiet_hours: `08:00-08:00 UTC` begins and ends at the same time; leave the key out if there are no quiet hours
        follow_up.quiet_hours: `22:00-08:00 Europe/Atlantis` names a time zone that I do not know; write one such as `Europe/Berlin` or `UTC`
        "##);
    }
}
