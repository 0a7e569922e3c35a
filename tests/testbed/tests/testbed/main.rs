//! The testbed itself, tried on real Synapses.
//!
//! One binary for all of it, so that the servers start once.

mod community;
mod federation;
mod play;
mod works;
