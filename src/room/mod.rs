//! What a room is and what it should become. Pure: no clock, no network, no database.
//!
//! The idea that carries the whole bot is in two functions: [`target::target`] says what the new
//! room and its surroundings should be, [`diff::diff`] says what is still to be changed to get
//! there. Plan, steps, recovery and verification all ask these two, at different moments.
//!
//! Left out on purpose: how a change is sent (`homeserver`), when (`job`), and how it is told to
//! people (`message`).

pub mod addresses;
pub mod authority;
pub mod change;
pub mod creation;
pub mod diff;
pub mod finding;
pub mod intent;
pub mod inventory;
pub mod invitation;
pub mod join_rules;
pub mod level;
pub mod method;
pub mod moves;
pub mod policy;
pub mod power;
pub mod predict;
pub mod since;
pub mod state;
pub mod target;
pub mod transfer;
pub mod versions;
