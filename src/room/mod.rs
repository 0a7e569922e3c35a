//! What a room is and what it should become. Pure: no clock, no network, no database.
//!
//! The idea that carries the whole bot is in two functions: [`target::target`] says what the new
//! room and its surroundings should be, [`diff::diff`] says what is still to be changed to get
//! there. Plan, steps, recovery and verification all ask these two, at different moments.
//!
//! Left out on purpose: how a change is sent (`homeserver`), when (`job`), and how it is told to
//! people (`message`).

pub(crate) mod addresses;
pub(crate) mod authority;
pub(crate) mod change;
pub mod creation;
pub(crate) mod diff;
pub(crate) mod finding;
pub(crate) mod intent;
pub(crate) mod inventory;
pub(crate) mod invitation;
pub(crate) mod join_rules;
pub(crate) mod level;
pub(crate) mod method;
pub mod moves;
pub(crate) mod policy;
pub(crate) mod power;
pub(crate) mod predict;
pub(crate) mod since;
pub mod state;
pub(crate) mod target;
pub(crate) mod transfer;
pub(crate) mod versions;
