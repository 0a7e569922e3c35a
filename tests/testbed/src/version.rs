//! What tests have to know of room versions.

/// Versions of rooms whose creators have no power but what is listed. All later ones, whatever they
/// will be called, have creators above everyone.
const WITHOUT_CREATORS: [&str; 11] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];

/// Whether the creators of rooms of that version stand above everyone, and may not be listed in the
/// power levels.
pub(crate) fn has_creators(version: &str) -> bool {
    !WITHOUT_CREATORS.contains(&version)
}
