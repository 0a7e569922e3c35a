//! Roomlift: a Matrix bot that upgrades rooms on command.
//!
//! Arrows between modules point one way only; `tests/it/arrows.rs` holds the order and reads the `use`
//! lines. `ARCHITECTURE.md` has the map and a walk through one upgrade.

mod announce;
pub mod app;
pub mod campaign;
mod census;
pub mod checkup;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
mod handlers;
mod health;
pub mod homeserver;
mod init;
pub mod job;
pub mod matrix;
mod message;
mod metrics;
pub mod model;
mod permissions;
mod picture;
pub mod room;
pub mod store;
pub mod survey;
pub mod telemetry;
pub mod work;
mod worker;
