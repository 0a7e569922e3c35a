//! Roomlift: a Matrix bot that upgrades rooms on command.
//!
//! Arrows between modules point one way only; `tests/it/arrows.rs` holds the order and reads the `use`
//! lines. `ARCHITECTURE.md` has the map and a walk through one upgrade.

pub mod announce;
pub mod app;
pub mod campaign;
pub mod census;
pub mod checkup;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod handlers;
pub mod health;
pub mod homeserver;
pub mod init;
pub mod job;
pub mod matrix;
pub mod message;
pub mod metrics;
pub mod model;
pub mod permissions;
pub mod picture;
pub mod room;
pub mod store;
pub mod survey;
pub mod telemetry;
pub mod work;
pub mod worker;
