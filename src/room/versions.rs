//! What is known of room versions. They are opaque strings: never ordered, never counted.
//!
//! Source: Matrix specification, "Room versions". Which of them a server offers is asked of the
//! server; this table only says what a version can do.

use ruma::RoomVersionId;

/// Whether a room version has a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    Present,
    Absent,
}

/// What a room version can do, as far as an upgrade cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Creators stand above all power levels (MSC4289).
    pub creators: Feature,
    /// Join rule `knock` (MSC2403).
    pub knock: Feature,
    /// Join rule `restricted` (MSC3083).
    pub restricted: Feature,
    /// Join rule `knock_restricted` (MSC3787).
    pub knock_restricted: Feature,
    /// Power levels must be integers (MSC3667); events must be canonical JSON long before (v6).
    pub canonical_json: Feature,
}

/// Properties of a version, or `None` for one this program does not know.
pub(crate) fn properties(version: &RoomVersionId) -> Option<Properties> {
    let number = match version.as_str() {
        "1" => 1,
        "2" => 2,
        "3" => 3,
        "4" => 4,
        "5" => 5,
        "6" => 6,
        "7" => 7,
        "8" => 8,
        "9" => 9,
        "10" => 10,
        "11" => 11,
        "12" => 12,
        _ => return None,
    };
    let since = |first: u8| {
        if number >= first {
            Feature::Present
        } else {
            Feature::Absent
        }
    };
    Some(Properties {
        creators: since(12),
        knock: since(7),
        restricted: since(8),
        knock_restricted: since(10),
        canonical_json: since(6),
    })
}

/// Whether a version has creators; unknown versions have none.
pub(crate) fn has_creators(version: &RoomVersionId) -> bool {
    properties(version).is_some_and(|known| known.creators == Feature::Present)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_follows_the_specification() {
        let row = |version: &str| {
            let p = properties(&version.try_into().unwrap()).unwrap();
            [
                p.canonical_json,
                p.knock,
                p.restricted,
                p.knock_restricted,
                p.creators,
            ]
            .map(|feature| {
                if feature == Feature::Present {
                    'x'
                } else {
                    '-'
                }
            })
            .iter()
            .collect::<String>()
        };
        for (version, expected) in [
            ("1", "-----"),
            ("2", "-----"),
            ("3", "-----"),
            ("4", "-----"),
            ("5", "-----"),
            ("6", "x----"),
            ("7", "xx---"),
            ("8", "xxx--"),
            ("9", "xxx--"),
            ("10", "xxxx-"),
            ("11", "xxxx-"),
            ("12", "xxxxx"),
        ] {
            assert_eq!(row(version), expected, "version {version}");
        }
        assert_eq!(properties(&"org.matrix.hydra.11".try_into().unwrap()), None);
        assert_eq!(properties(&"13".try_into().unwrap()), None);
    }
}
