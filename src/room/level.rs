//! How much power somebody has, and whether it is enough. What a room's power levels say is read in `power`.

use serde::{Deserialize, Serialize};

/// The highest number canonical JSON allows, 2^53-1; its negative is the lowest.
/// Source: Matrix specification, appendices, "Canonical JSON".
pub(crate) const LEVEL_MAX: i64 = 9_007_199_254_740_991;

/// How much power somebody has; creators stand above every level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    Level(i64),
    /// Created a room of version 12 or later (MSC4289).
    Creator,
}

/// Whether somebody may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    Allowed,
    Short {
        /// The level it takes.
        needed: i64,
        /// The level they have.
        have: i64,
    },
}

impl Allowance {
    /// That of everybody in a room whose power levels cannot be read.
    pub const UNKNOWN: Self = Self::Short {
        needed: 100,
        have: 0,
    };
}
