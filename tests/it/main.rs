//! The bot as a process of its own against a real Synapse, one file per promise or topic; the module
//! `matrix` alone; and what the code must be like (`arrows`) and the documents must say (`docs`).
//!
//! One binary for all of them, so that the bot is linked once and the servers start once.

mod scene;
mod sdk;

mod admin_room;
mod adopt;
mod arrows;
mod authority;
mod backup;
mod bad_ends;
mod bad_input;
mod campaign;
mod campaign_trouble;
mod chat;
mod command_line;
mod commands;
mod crowded;
mod docs;
mod doctor;
mod encrypted;
mod federated;
mod follow_up;
mod health;
mod init;
mod invitations;
mod kill;
mod matrix;
mod naming;
mod odd_rooms;
mod plan;
mod report;
mod rooms;
mod schedule;
mod servers;
mod staged;
mod state_table;
mod stop;
mod strange;
mod trouble;
mod twice;
mod upgrade;
mod versions;
