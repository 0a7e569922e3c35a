//! Who may do what: (sender, admin room, command, target) to allow or deny, with the reason (P5).
//!
//! Pure. The facts are read by `survey` at the moment of the question: when a command is read,
//! when it is confirmed, and when the job starts.

use ruma::{RoomId, UserId};
use wildmatch::WildMatch;

use crate::command::Need;
use crate::config::{AdminRoomRules, TargetPower, VerifiedDevice};
use crate::model::Device;
use crate::room::level::{Allowance, Power};

/// An admin room of the configuration under the id it has now.
#[derive(Debug, Clone)]
pub(crate) struct AdminRoom {
    pub room_id: ruma::OwnedRoomId,
    /// What the configuration says of it.
    pub rules: AdminRoomRules,
}

/// The admin room with an id.
pub(crate) fn admin_room<'a>(admin_rooms: &'a [AdminRoom], room: &RoomId) -> Option<&'a AdminRoom> {
    admin_rooms.iter().find(|known| known.room_id == room)
}

/// Whether a room is one that may be touched from an admin room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// It is in the scope.
    Scope,
    Outside,
    /// The command is about no room.
    NoRoom,
}

/// What is known about a sender and what they ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Their power in the admin room.
    pub power: Power,
    /// Whether the room they mean is in the scope.
    pub within: Within,
    /// Whether they could send the tombstone themselves; read only where the rules ask for it.
    pub target: Option<Allowance>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny(Denial),
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial {
    /// Too little power in the admin room.
    Level { needed: i64 },
    /// The room is not among those of this admin room.
    OutOfScope,
    /// Too little power in the room to be upgraded.
    TargetPower {
        /// What it takes there.
        needed: i64,
    },
    /// Too little power in one of the rooms of a campaign.
    CampaignPower {
        /// What it takes there.
        needed: i64,
    },
    /// The message came from a device that is not verified, or was not encrypted.
    Device,
}

/// Whether a power level in an admin room is enough to change anything.
pub(crate) fn may_command(rules: &AdminRoomRules, power: Power) -> bool {
    power >= Power::Level(rules.command_level)
}

/// Whether somebody is on a list of user ids, in which `*` stands for anything and `?` for any one
/// character.
pub(crate) fn is_listed(patterns: &[String], user: &UserId) -> bool {
    patterns
        .iter()
        .any(|pattern| WildMatch::new(pattern).matches(user.as_str()))
}

/// Decides by the device that a message came from.
pub(crate) fn decide_by_device(rules: &AdminRoomRules, need: Need, device: Device) -> Decision {
    let enough = need == Need::Ask
        || rules.verified_device == VerifiedDevice::NotNeeded
        || device == Device::Verified;
    if enough {
        Decision::Allow
    } else {
        Decision::Deny(Denial::Device)
    }
}

pub(crate) fn decide(rules: &AdminRoomRules, need: Need, facts: &Facts) -> Decision {
    let needed = match need {
        Need::Ask => rules.read_level,
        Need::Change => rules.command_level,
    };
    if facts.power < Power::Level(needed) {
        return Decision::Deny(Denial::Level { needed });
    }
    if facts.within == Within::Outside {
        return Decision::Deny(Denial::OutOfScope);
    }
    if need == Need::Change
        && rules.target_power == TargetPower::Needed
        && let Some(Allowance::Short { needed, .. }) = facts.target
    {
        return Decision::Deny(Denial::TargetPower { needed });
    }
    Decision::Allow
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scope;

    fn rules(target_power: TargetPower) -> AdminRoomRules {
        AdminRoomRules {
            room: "#mods:x".try_into().unwrap(),
            command_level: 50,
            read_level: 10,
            scope: Scope::Everything,
            target_power,
            verified_device: VerifiedDevice::NotNeeded,
        }
    }

    #[test]
    fn lists_of_people() {
        let cases = [
            (&["@a:b"][..], "@a:b", true),
            (&["@a:b"], "@ab:b", false),
            (&["@x:y", "@*:b"], "@a:b", true),
            (&["@?:b"], "@aa:b", false),
            (&["@*:b"], "@a:b.evil", false),
            (&[], "@a:b", false),
        ];
        for (patterns, user, expected) in cases {
            let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            let user = <&UserId>::try_from(user).unwrap();
            assert_eq!(is_listed(&patterns, user), expected, "{patterns:?} {user}");
        }
    }

    #[test]
    fn the_table_of_devices() {
        use Decision::{Allow, Deny};
        let free = rules(TargetPower::NotNeeded);
        let strict = AdminRoomRules {
            verified_device: VerifiedDevice::Needed,
            ..free.clone()
        };
        for (rules, need, device, expected) in [
            (&free, Need::Change, Device::Unknown, Allow),
            (&strict, Need::Ask, Device::Unknown, Allow),
            (&strict, Need::Change, Device::Unknown, Deny(Denial::Device)),
            (&strict, Need::Change, Device::Verified, Allow),
        ] {
            assert_eq!(decide_by_device(rules, need, device), expected);
        }
    }

    #[test]
    fn the_table_of_permissions() {
        use Decision::{Allow, Deny};
        let short = Some(Allowance::Short {
            needed: 100,
            have: 0,
        });
        let ok = Some(Allowance::Allowed);
        let level = |level| Power::Level(level);
        let (free, strict) = (TargetPower::NotNeeded, TargetPower::Needed);
        for (power, within, target, wanted, need, expected) in [
            (
                level(9),
                Within::NoRoom,
                None,
                free,
                Need::Ask,
                Deny(Denial::Level { needed: 10 }),
            ),
            (level(10), Within::NoRoom, None, free, Need::Ask, Allow),
            (
                level(10),
                Within::Outside,
                None,
                free,
                Need::Ask,
                Deny(Denial::OutOfScope),
            ),
            (
                level(49),
                Within::Scope,
                ok,
                free,
                Need::Change,
                Deny(Denial::Level { needed: 50 }),
            ),
            (level(50), Within::Scope, short, free, Need::Change, Allow),
            (
                level(50),
                Within::Outside,
                ok,
                free,
                Need::Change,
                Deny(Denial::OutOfScope),
            ),
            (
                level(50),
                Within::Scope,
                short,
                strict,
                Need::Change,
                Deny(Denial::TargetPower { needed: 100 }),
            ),
            (level(50), Within::Scope, ok, strict, Need::Change, Allow),
            (level(50), Within::Scope, short, strict, Need::Ask, Allow),
            (
                Power::Creator,
                Within::Scope,
                ok,
                strict,
                Need::Change,
                Allow,
            ),
        ] {
            let facts = Facts {
                power,
                within,
                target,
            };
            assert_eq!(
                decide(&rules(wanted), need, &facts),
                expected,
                "{facts:?} {need:?}"
            );
        }
    }
}
