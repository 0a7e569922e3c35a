//! The bot as a process of its own against a real Synapse, one file per promise or topic.
//!
//! One binary for all of them, so that the bot is linked once and the server starts once.

mod scene;

mod admin_room;
mod adopt;
mod authority;
mod bad_ends;
mod campaign;
mod commands;
mod crowded;
mod federated;
mod follow_up;
mod kill;
mod naming;
mod odd_rooms;
mod plan;
mod report;
mod rooms;
mod servers;
mod staged;
mod state_table;
mod strange;
mod trouble;
mod twice;
mod upgrade;
